"""What the commands that run experiments share: settings, the cells on this machine, how they end."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import tyro
from rich.console import Console

from jtf.config import RunConfig
from jtf.errors import EXIT_INTERRUPTED
from jtf.experiment.executor import LocalExecutor, Outcome
from jtf.experiment.experiment import Experiment, run_experiment
from jtf.experiment.progress import ExperimentTable
from jtf.task import SymbolData
from jtf.train import StopRequest

EXIT_FAILED = 1


@dataclass(frozen=True)
class ExperimentConfig(RunConfig):
    """Settings of every cell; a run is neither resumed nor lengthened, the same command goes on by itself."""

    members: int = 5
    """Policies to train in every fold, with seeds SEED, SEED + 1, ...; together they are the fold's ensemble."""
    resume: tyro.conf.Suppress[Path | None] = None
    """The same command goes on with what was broken off."""
    continue_from: tyro.conf.Suppress[Path | None] = None
    """Folds are not lengthened."""

    def of_symbol(self, symbol: str) -> RunConfig:
        """Return the settings of a run of `symbol`."""
        values = {item.name: getattr(self, item.name) for item in fields(RunConfig)}
        return RunConfig(**values | {"symbol": symbol})


def run_here(experiment: Experiment, symbols: dict[str, SymbolData], console: Console) -> int:
    """Compute the cells that were not computed before; return the exit code, which is 0 where all have results."""
    table = ExperimentTable(console, experiment.out)
    with StopRequest() as stop:
        executor = LocalExecutor(experiment.out, symbols, table.cell_reporter, stop)
        outcomes = run_experiment(experiment, executor, table)
    return exit_code(outcomes, console)


def exit_code(outcomes: Sequence[Outcome], console: Console) -> int:
    """Say how an experiment ended where it did not finish, and return the exit code."""
    if any(outcome.state == "interrupted" for outcome in outcomes):
        console.print("interrupted; the same command goes on where it stopped.", style="bold")
        return EXIT_INTERRUPTED
    if failed := sum(outcome.state == "failed" for outcome in outcomes):
        console.print(f"{failed} of {len(outcomes)} cells failed; the same command tries them again.", style="bold")
        return EXIT_FAILED
    return 0
