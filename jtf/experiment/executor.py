"""Where cells are computed: the interface, and this machine's own process."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from jtf.errors import UserError, user_errors
from jtf.experiment.cells import Cell, cell_directory
from jtf.reporter import Reporter
from jtf.results.results import read_result
from jtf.results.run_directory import CONFIG, LOCK, SUMMARY, json_ready, last_checkpoint, read_summary, run_lock
from jtf.run import Interrupted, run_task
from jtf.splits import Fold
from jtf.task import SymbolData, make_task


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    cell: Cell
    state: str
    """finished, failed or interrupted."""
    seconds: float
    error: str = ""
    """One sentence where it failed."""


class Executor(Protocol):
    """Computes cells; a finished cell leaves its run directory under `cell_directory`."""

    slots: int
    """Cells worth submitting at once."""

    def submit(self, cell: Cell) -> "Future[Outcome]":
        """Begin a cell, or go on with it where it was broken off; errors a user can cause are part of the outcome."""


class LocalExecutor:
    """Computes one cell after another in this process, where equal shapes share one compiled program.

    Parameters
    ----------
    out: folder of the cells.
    symbols: symbol -> its data, loaded once.
    reporter: the reporter of a cell's training.
    should_stop: asked between updates; True ends the cell with a checkpoint.
    """

    slots = 1

    def __init__(
        self,
        out: Path,
        symbols: dict[str, SymbolData],
        reporter: Callable[[Cell], Reporter],
        should_stop: Callable[[], bool],
    ) -> None:
        self._out = out
        self._symbols = symbols
        self._reporter = reporter
        self._should_stop = should_stop

    def submit(self, cell: Cell) -> "Future[Outcome]":
        """Compute the cell; the future is done when this returns."""
        future: Future[Outcome] = Future()
        started = time.perf_counter()
        state, error = "finished", ""
        try:
            directory = cell_directory(self._out, cell)
            done = compute(cell, self._symbols[cell.symbol], directory, self._reporter(cell), self._should_stop)
            state = "interrupted" if isinstance(done, Interrupted) else state
        except user_errors() as caught:
            state, error = "failed", str(caught)
        future.set_result(Outcome(cell, state, time.perf_counter() - started, error))
        return future


def compute(
    cell: Cell, data: SymbolData, directory: Path, reporter: Reporter, should_stop: Callable[[], bool]
) -> object:
    """Train a cell into its run directory, from its last checkpoint where it was broken off."""
    task = make_task(cell.config, data, cell.fold, cell.lengths)
    if last_checkpoint(directory) is not None and (directory / CONFIG).is_file():
        task = replace(task, config=replace(task.config, resume=directory))
    else:
        clear(directory)
    return run_task(task, reporter, should_stop, directory=directory)


def clear(directory: Path) -> None:
    """Remove what a cell left that was broken off before its first checkpoint."""
    if not directory.exists():
        return
    with run_lock(directory):
        for path in (path for path in directory.iterdir() if path.name != LOCK):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_finished(directory: Path, fold: Fold) -> bool:
    """Whether a cell of `fold` was computed before; raise `UserError` where its files are not what was computed."""
    if not (directory / SUMMARY).is_file() or read_summary(directory)["status"] != "finished":
        return False
    try:
        if read_result(directory).summary.get("fold") != json_ready(asdict(fold)):
            raise UserError(f"{directory / SUMMARY} is not of the fold of its cell.")
    except UserError as error:
        raise UserError(f"{error} Remove {directory} to compute that cell again.") from None
    return True
