"""An experiment: cells that are computed where they were not before, a folder that says which, and their results."""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from jtf.errors import UserError
from jtf.experiment.cells import KEY_LENGTH, Cell, cell_directory, versions
from jtf.experiment.executor import Executor, Outcome, is_finished
from jtf.results.catalogue import EXPERIMENT
from jtf.results.results import RunResult, read_result
from jtf.results.run_directory import json_ready, run_lock, write_json

PROGRESS = "progress.jsonl"


class Watcher(Protocol):
    """What is told of an experiment while it runs."""

    def started(self, cells: Sequence[Cell], done: Sequence[bool]) -> None:
        """Called once; `done` says which cells were computed before."""

    def begun(self, cell: Cell) -> None:
        """Called when a cell is submitted."""

    def ended(self, outcome: Outcome) -> None:
        """Called when a cell has ended, however it ended."""

    def finished(self) -> None:
        """Called when nothing runs any more."""


@dataclass(frozen=True)
class Experiment:
    """A question to several cells."""

    kind: str
    """walkforward or evaluate: what its results are put together to."""
    name: str
    """Readable part of its folder's name, e.g. ``SPY-rolling``."""
    out: Path
    """Folder of all experiments, cells and runs."""
    cells: tuple[Cell, ...]

    @property
    def record(self) -> dict[str, Any]:
        """Content of ``experiment.json``: what was asked, cell by cell."""
        cells = [
            {"key": cell.key, "symbol": cell.symbol, "fold_index": cell.fold_index, "fold": asdict(cell.fold)}
            for cell in self.cells
        ]
        record = {"kind": self.kind, "name": self.name, "versions": versions(), "cells": cells}
        return record | {"sha256": hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()}

    @property
    def directory(self) -> Path:
        """Its folder; the same question has the same one."""
        return self.out / self.kind / f"{self.name}-{self.record['sha256'][: KEY_LENGTH // 2]}"

    def cell_directories(self) -> list[Path]:
        """Run directory of every cell."""
        return [cell_directory(self.out, cell) for cell in self.cells]


def run_experiment(experiment: Experiment, executor: Executor, watcher: Watcher) -> list[Outcome]:
    """Compute the cells that were not computed before and return what became of these.

    Killed at any moment and started again it goes on where it was. Raises `UserError` where another process runs it,
    or a file of it was edited.
    """
    directory = experiment.directory
    directory.mkdir(parents=True, exist_ok=True)
    with run_lock(directory):
        refuse_edited(experiment)
        write_json(directory / EXPERIMENT, experiment.record)
        places = zip(experiment.cell_directories(), experiment.cells, strict=True)
        done = [is_finished(path, cell.fold) for path, cell in places]
        watcher.started(experiment.cells, done)
        todo = [cell for cell, known in zip(experiment.cells, done, strict=True) if not known]
        try:
            return list(_submit(todo, executor, watcher, lambda event: _append(directory / PROGRESS, event)))
        finally:
            watcher.finished()


def _submit(
    todo: Sequence[Cell], executor: Executor, watcher: Watcher, log: Callable[[dict[str, Any]], None]
) -> list[Outcome]:
    """Keep the executor's slots full until every cell has ended, or one was interrupted."""
    waiting, outcomes = list(todo), []
    running: set[Future[Outcome]] = set()
    while waiting or running:
        while waiting and len(running) < executor.slots:
            cell = waiting.pop(0)
            watcher.begun(cell)
            log({"key": cell.key, "state": "begun"})
            running.add(executor.submit(cell))
        ended, running = wait(running, return_when=FIRST_COMPLETED)
        for outcome in (future.result() for future in ended):
            watcher.ended(outcome)
            log({"key": outcome.cell.key, "state": outcome.state, "seconds": outcome.seconds, "error": outcome.error})
            outcomes.append(outcome)
            if outcome.state == "interrupted":
                waiting.clear()
    return outcomes


def results(experiment: Experiment) -> list[RunResult]:
    """Return the result of every cell, in order; raise `UserError` where one has none."""
    return [read_result(path) for path in experiment.cell_directories()]


def read_experiment(directory: Path) -> dict[str, Any]:
    """Return ``experiment.json`` of an experiment; raise `UserError` where there is none, or it was edited."""
    path = directory / EXPERIMENT
    if not path.is_file():
        raise UserError(f"{directory} is no experiment: it has no {EXPERIMENT}.")
    try:
        record = json.loads(path.read_text())
        found = record.pop("sha256")
    except (ValueError, KeyError, AttributeError):
        raise UserError(
            f"{path} is not one that jtf wrote; remove {directory} and start the experiment again."
        ) from None
    if found != hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest():
        raise UserError(f"{path} was edited; remove {directory} and start the experiment again.")
    return record


def refuse_edited(experiment: Experiment) -> None:
    """Raise `UserError` where the folder of an experiment says something else than the experiment."""
    if (experiment.directory / EXPERIMENT).exists():
        read_experiment(experiment.directory)


def _append(path: Path, event: dict[str, Any]) -> None:
    """Append one event with its time, on a line of its own whatever a kill left before it."""
    line = json.dumps(json_ready({"time": datetime.now(UTC).isoformat(), **event})) + "\n"
    torn = path.is_file() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" + line if torn else line)
