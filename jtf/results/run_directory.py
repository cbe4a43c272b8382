"""The directory a run leaves behind: where each file lies and how it is written. No JAX."""

import json
import math
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jtf.errors import UserError

CONFIG = "config.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
BACKTESTS = "backtests"
LOCK = "lock"
CELLS = "cells"
"""Folder of the cells of all experiments, beside those of the symbols' runs."""

LIBRARIES = ("jtf", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")


def create_run(out: Path, symbol: str) -> Path:
    """Make and return ``<out>/<symbol>/<UTC time>-<short id>``; slashes of the symbol are left out."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = out / symbol.replace("/", "") / f"{stamp}-{secrets.token_hex(3)}"
    path.mkdir(parents=True)
    return path


def read_config(run: Path) -> dict[str, Any]:
    """Return ``config.json`` of a run, or one such file; raise `UserError` where `run` is neither."""
    return _read_json(run if run.is_file() else run / CONFIG, run, ("config", "data", "segments"))


def read_summary(run: Path) -> dict[str, Any]:
    """Return ``summary.json`` of a run; raise `UserError` where there is none."""
    if (run / CONFIG).is_file() and not (run / SUMMARY).is_file():
        raise UserError(f"{run} has no results yet; {how_to_finish(run)}.")
    return _read_json(run / SUMMARY, run, ("status",))


def is_cell(run: Path) -> bool:
    """Whether a run directory, by where it lies, is a cell of experiments: ``<out>/cells/<symbol>/<key>``."""
    return run.absolute().parent.parent.name == CELLS


def how_to_finish(run: Path) -> str:
    """Return what to do about an unfinished run, as the end of a sentence without its full stop."""
    if is_cell(run):
        return "it is a cell of an experiment, so start the command of the experiment again"
    return f"finish it with python -m jtf.train --resume {run}"


def last_checkpoint(run: Path) -> Path | None:
    """Return the newest whole checkpoint of a run, None where there is none."""
    folder = run / CHECKPOINTS
    steps = [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()] if folder.is_dir() else []
    return folder / str(max(steps)) if steps else None


def say(sentence: str) -> None:
    """Print a note on stderr."""
    print(f"note: {sentence}", file=sys.stderr)


@contextmanager
def run_lock(run: Path, say: Callable[[str], None] = say) -> Iterator[None]:
    """Hold ``<run>/lock``, so that one process at a time writes `run`; raise `UserError` where another one does.

    The lock is the operating system's (``flock``): it ends with its owner, however that ends. The file names the
    owner's process id; one left behind by an owner that was killed is taken over, and `say` is told.
    """
    path = run / LOCK
    descriptor = _locked_file(path)
    try:
        owner = _owner(descriptor)
        if owner:
            say(f"process {owner}, which wrote {run}, ended without finishing; its lock was taken over.")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # While the lock is held: whoever waits with the old file looks again.
        os.close(descriptor)


def is_locked(run: Path) -> bool:
    """Whether a process holds the lock of `run` now."""
    import fcntl

    try:
        with (run / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _locked_file(path: Path) -> int:
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            owner = f"process {pid}" if (pid := _owner(descriptor)) else "another process"
            os.close(descriptor)
            raise UserError(f"{path.parent} is being written by {owner}; wait for it or stop it.") from None
        os.close(descriptor)  # Its owner removed the file between our open and our lock.


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode(errors="replace").strip()


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON atomically; numbers that are not finite become null."""
    write_atomically(path, json.dumps(json_ready(value), indent=2, allow_nan=False) + "\n")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the whole new one; text is UTF-8."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the records of ``metrics.jsonl``, none where there is no such file.

    A last line that was cut off while it was written is left out; any other that is no record raises `UserError`.
    """
    path = run / METRICS
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    records = []
    for number, line in enumerate(lines, start=1):
        record = _record(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):
            raise UserError(f"{path} line {number} is no record of this run; delete that line.")
    return records


def _record(line: str) -> dict[str, Any] | None:
    """Return the record on a line, None where it holds none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("update"), (int, float)) else None


def json_ready(value: Any) -> Any:
    """Return `value` with NumPy numbers, paths and tuples as plain JSON types and NaN or infinity as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return json_ready(vars(value))
    if isinstance(value, dict):
        return {str(name): json_ready(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, np.generic):
        return json_ready(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def library_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the installed version of each library."""
    return {name: metadata.version(name) for name in names}


def git_revision() -> str | None:
    """Return the commit this package was run from, None where it is not run from its own git checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class MetricsLog:
    """``metrics.jsonl`` and the TensorBoard events of a run, one record per update and per validation.

    A resumed run continues the file: records from the first repeated update on, written after the last checkpoint
    of the interrupted run, are dropped.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._file: Any = None
        self._events: Any = None

    def write(self, records: list[dict[str, Any]]) -> None:
        """Append one record a member; each has ``seed`` and ``update`` (int)."""
        if self._file is None:
            self._open(min(int(record["update"]) for record in records))
        self._file.write("".join(map(_line, records)))
        self._file.flush()
        for record in records:
            for name, value in record.items():
                if name not in ("seed", "update") and value is not None and math.isfinite(value):
                    self._events.add_scalar(f"{name}/seed_{record['seed']}", value, int(record["update"]))

    def close(self) -> None:
        """Flush and close both files."""
        if self._file is not None:
            self._file.close()
            self._events.close()

    def _open(self, update: int) -> None:
        from tensorboardX import SummaryWriter

        path = self._run / METRICS
        kept = [record for record in read_metrics(self._run) if record["update"] < update]
        write_atomically(path, "".join(map(_line, kept)))
        self._file = path.open("a")
        self._events = SummaryWriter(str(self._run), purge_step=update)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(json_ready(record), allow_nan=False) + "\n"


def _read_json(path: Path, run: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{run} is not a run directory: it has no {path.name}.")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); the run cannot be used.") from None
    if not isinstance(values, dict) or not set(needed) <= set(values):
        raise UserError(f"{path} was not written by jtf (it needs {', '.join(needed)}); name another run.")
    return values
