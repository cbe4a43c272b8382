"""Kills a walk-forward without warning at random moments, and says what must not depend on them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.app.conftest import TINY

PATIENCE = 120.0
"""Seconds a start may need to what it first logs."""
STARTING, WORKING = 4.0, 2.0
"""Seconds: a kill falls within the first of a process's start, or within the second of what it first logs."""
OWN = ("perf", "last_checkpoint", "run")
"""How the names begin of what a summary says of its own process: speed and paths."""
KEPT = "cells/*/*"


def walk_command(folder: Path, out: Path, *more: str) -> list[str]:
    flags = ["--symbol", "AAAUSDT", "--data", str(folder), *TINY, "--members", "2", *more]
    return [sys.executable, "-m", "jtf.walkforward", *flags, "--out", str(out)]


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(command: list[str]) -> None:
    with start(command) as process:
        error = process.communicate()[1].decode()
    assert process.returncode == 0, error


def kill(command: list[str], out: Path, rng: np.random.Generator, working: bool) -> dict[str, Any] | None:
    """Start, kill at a random moment, and return where it was; None where it had ended before."""
    seconds = rng.uniform(0.0, WORKING if working else STARTING)
    before, began = newest(out), time.monotonic()
    with start(command) as process:
        while working and newest(out) == before and process.poll() is None:
            assert time.monotonic() < began + PATIENCE
            time.sleep(0.01)
        time.sleep(seconds)
        ended = process.poll() is not None
        os.kill(process.pid, signal.SIGKILL)
    return None if ended else found(out) | {"seconds after the start": round(time.monotonic() - began, 1)}


def newest(out: Path) -> int:
    """The latest change of a file that is written once training goes on; a cell may be cleared while one looks."""
    names = ("metrics.jsonl", "summary.json")
    return max((changed(path) for name in names for path in out.glob(f"{KEPT}/{name}")), default=0)


def changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def found(out: Path) -> dict[str, Any]:
    """What a kill left behind."""
    cells = list(out.glob(KEPT))
    finished = [cell for cell in cells if (cell / "summary.json").exists()]
    broken = [cell for cell in cells if cell not in finished]
    logged = sum(
        len((cell / "metrics.jsonl").read_text().splitlines()) for cell in broken if (cell / "metrics.jsonl").exists()
    )
    kept = [path.name for cell in broken for path in cell.glob("checkpoints/*")]
    return {
        "cells finished": len(finished),
        "lines logged of the broken cell": logged,
        "checkpoints of it": len([name for name in kept if name.isdigit()]),
        "half-written": len([name for name in kept if not name.isdigit()]) + len(list(out.rglob(".*.[0-9]*"))),
    }


def numbers(out: Path) -> dict[str, Any]:
    """Everything the summaries say but of their own process: metrics, records, and hashes of tables and parameters."""
    paths = [*out.glob(f"{KEPT}/summary.json"), *out.glob("walkforward/*/summary.json")]
    return {path.parent.name: untimed(json.loads(path.read_text())) for path in paths}


def untimed(value: Any) -> Any:
    if isinstance(value, list):
        return [untimed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: untimed(item) for name, item in value.items() if not name.startswith(OWN)}
