"""What lies on disk: runs, the cells of experiments, and experiments. No JAX."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from jtf.errors import UserError
from jtf.results.run_directory import (
    CELLS,
    CONFIG,
    LOCK,
    SUMMARY,
    is_cell,
    is_locked,
    read_config,
    read_summary,
    run_lock,
)

EXPERIMENT = "experiment.json"
Kind = Literal["run", "cell", "experiment"]


@dataclass(frozen=True)
class Entry:
    """One finished or unfinished thing under the folder of runs."""

    path: Path
    kind: Kind
    changed: datetime
    """UTC, of its newest file at the top."""
    summary: dict[str, Any]
    """``summary.json``; without one ``{"status": ...}``: running, unfinished or damaged."""

    @property
    def verdict(self) -> str:
        """APPROVED, REVIEW, DROP, or a dash where none was reached."""
        return (self.summary.get("verdict") or {}).get("status", "-")


def find_entries(out: Path) -> list[Entry]:
    """Return every run, cell and experiment under `out`, newest first; raise `UserError` where there is no folder."""
    if not out.is_dir():
        raise UserError(f"there is no folder {out}; name the one that runs were written to with --out.")
    return sorted((_entry(path) for path in _directories(out)), key=lambda entry: entry.changed, reverse=True)


def entry_at(path: Path) -> Entry:
    """Return what lies at `path`; raise `UserError` where it is neither a run nor an experiment."""
    if not (path / CONFIG).is_file() and not (path / EXPERIMENT).is_file():
        raise UserError(f"{path} is neither a run nor an experiment; python -m jtf.runs list shows what there is.")
    return _entry(path)


def remove(path: Path) -> None:
    """Remove a run or an experiment; raise `UserError` where it is none, or a process writes it."""
    entry_at(path)
    with run_lock(path):
        for part in path.iterdir():
            # What makes it a run goes last: a removal that was broken off is finished by the next one.
            if part.name not in (CONFIG, EXPERIMENT, LOCK):
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        shutil.rmtree(path)


def _directories(out: Path) -> Iterator[Path]:
    """Runs lie two levels under `out`, cells three, experiments two."""
    for pattern in (f"*/*/{CONFIG}", f"{CELLS}/*/*/{CONFIG}", f"*/*/{EXPERIMENT}"):
        yield from (path.parent for path in out.glob(pattern))


def _entry(path: Path) -> Entry:
    changed = max(part.stat().st_mtime for part in path.iterdir())
    kind: Kind = "experiment" if (path / EXPERIMENT).is_file() else "run"
    if kind == "run" and is_cell(path):
        kind = "cell"
    return Entry(path, kind, datetime.fromtimestamp(changed, UTC), _summary(path))


def _summary(path: Path) -> dict[str, Any]:
    try:
        if (path / CONFIG).is_file():
            read_config(path)
        if is_locked(path):
            return {"status": "running"}
        return read_summary(path) if (path / SUMMARY).is_file() else {"status": "unfinished"}
    except UserError:
        return {"status": "damaged"}
