"""``python -m jtf.walkforward``: train fold after fold, judge what no fold had seen, stitch it together."""

import io
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from jtf.config import MODE_STEPS, RunConfig, parse_new
from jtf.console import Terminal, print_verdict
from jtf.errors import EXIT_INTERRUPTED, run_command
from jtf.experiment.cells import plan_cells
from jtf.experiment.executor import LocalExecutor
from jtf.experiment.experiment import Experiment, results, run_experiment
from jtf.experiment.progress import ExperimentTable
from jtf.experiment.stitched import STITCHED, Stitched, stitch, stitched_record
from jtf.experiment.tables import print_walkforward
from jtf.results.folds import FoldsJudged, judge_folds
from jtf.results.results import RunResult
from jtf.results.run_directory import SUMMARY, read_summary, write_atomically, write_json
from jtf.results.trials import trial_sharpes
from jtf.splits import walk_forward
from jtf.task import load_symbol
from jtf.train import StopRequest

EXIT_FAILED = 1


@dataclass(frozen=True)
class WalkforwardConfig(RunConfig):
    """Train several folds of a symbol's history, one after another in time, and judge the bars no fold had seen."""

    members: int = 5
    """Policies to train in every fold, with seeds SEED, SEED + 1, ...; together they are the fold's ensemble."""
    folds: int = 6
    """Test segments, end to end up to the last bar."""
    scheme: Literal["rolling", "expanding"] = "rolling"
    """rolling: every fold trains on as many bars. expanding: on all bars before those it holds out."""
    resume: tyro.conf.Suppress[Path | None] = None
    """The same command goes on with what was broken off."""
    continue_from: tyro.conf.Suppress[Path | None] = None
    """Folds are not lengthened."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run(argv, Terminal()))


def run(argv: Sequence[str] | None, console: Console) -> int:
    """Compute the folds that were not computed before, stitch and print. Return the exit code."""
    config = parse_new(WalkforwardConfig, sys.argv[1:] if argv is None else argv, "jtf walkforward")
    settings = RunConfig(**{item.name: getattr(config, item.name) for item in fields(RunConfig)})
    data = load_symbol(settings)
    folds = walk_forward(
        len(data.bars), data.first_bar, config.window, config.split, config.folds, config.scheme, data.bars.bar_minutes
    )
    cells = plan_cells(settings, data, folds)
    name = f"{config.symbol.replace('/', '')}-{config.scheme}"
    experiment = Experiment("walkforward", name, config.out, cells)
    table = ExperimentTable(console, config.out)
    with StopRequest() as stop:
        executor = LocalExecutor(config.out, {config.symbol: data}, table.cell_reporter, stop)
        outcomes = run_experiment(experiment, executor, table)
    if any(outcome.state == "interrupted" for outcome in outcomes):
        console.print("interrupted; the same command goes on where it stopped.", style="bold")
        return EXIT_INTERRUPTED
    if failed := [outcome for outcome in outcomes if outcome.state == "failed"]:
        console.print(f"{len(failed)} of {len(cells)} folds failed; the same command tries them again.", style="bold")
        return EXIT_FAILED
    found = results(experiment)
    smoke = cells[0].config.ppo.total_steps <= MODE_STEPS["smoke"]
    trials = trial_sharpes(experiment.directory, config.symbol)
    judged = judge_folds(found, data.bars.bars_per_year, trials, smoke=smoke)
    summary = write(experiment, found, stitch(found, data.bars.bars_per_year), judged)
    print_walkforward(console, summary)
    print_verdict(console, judged.verdict)
    console.print(f"walk-forward: {experiment.directory}", soft_wrap=True, highlight=False)
    return 0


def write(
    experiment: Experiment, found: Sequence[RunResult], stitched: Stitched, judged: FoldsJudged
) -> dict[str, Any]:
    """Write the stitched curve, and last the summary, which is returned."""
    parquet = io.BytesIO()
    stitched.curves.to_parquet(parquet, index=False)
    write_atomically(experiment.directory / STITCHED, parquet.getvalue())
    summary = {
        "status": "finished",
        "kind": experiment.kind,
        "name": experiment.name,
        "symbol": found[0].symbol,
        **asdict(judged),
        "folds": [fold_record(result) for result in found],
        "stitched": stitched_record(stitched),
    }
    write_json(experiment.directory / SUMMARY, summary)
    return read_summary(experiment.directory)


def fold_record(result: RunResult) -> dict[str, Any]:
    """Return what the summary says of a fold."""
    return {
        "run": result.directory,
        "segments": result.derived["segments"],
        "metrics": {name: asdict(metrics) for name, metrics in result.metrics.items()},
        "buy_and_hold": asdict(result.baselines["test"]["buy_and_hold"]),
        "members": [{"seed": member.seed, "test": asdict(member.metrics["test"])} for member in result.members],
    }


if __name__ == "__main__":
    sys.exit(main())
