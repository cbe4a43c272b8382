"""``python -m jtf.walkforward``: train fold after fold, judge what no fold had seen, stitch it together."""

import io
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd
from rich.console import Console

from jtf.config import MODE_STEPS, parse_new
from jtf.console import Terminal, print_verdict
from jtf.data.check import is_synthetic
from jtf.errors import run_command
from jtf.experiment.cells import plan_cells
from jtf.experiment.choice import Choice, judge_choice
from jtf.experiment.command import ExperimentConfig, run_here
from jtf.experiment.experiment import Experiment, results
from jtf.experiment.paths import paths_record, put_together
from jtf.experiment.stitched import STITCHED, Stitched, stitch, stitched_record
from jtf.experiment.tables import print_paths, print_walkforward
from jtf.report import write_report
from jtf.results.folds import FoldsJudged, judge_folds
from jtf.results.results import RunResult
from jtf.results.run_directory import SUMMARY, read_summary, write_atomically, write_json
from jtf.results.trials import trial_sharpes
from jtf.splits import Combination, combinatorial, walk_forward
from jtf.task import SymbolData, load_symbol

KIND = "walkforward"


@dataclass(frozen=True)
class WalkforwardConfig(ExperimentConfig):
    """Train several folds of a symbol's history and judge the bars that no fold had seen."""

    folds: int = 6
    """Test segments, end to end up to the last bar; of cpcv the groups that the bars are cut into."""
    scheme: Literal["rolling", "expanding", "cpcv"] = "rolling"
    """rolling: every fold trains on as many bars. expanding: on all bars before those it holds out. cpcv: combinatorial
    purged cross-validation, which learns from bars after the tested ones too, and tests every bar in several paths."""
    tested: int = 2
    """Groups that each fit of cpcv holds out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run(sys.argv[1:] if argv is None else argv, Terminal()))


def run(argv: Sequence[str], console: Console) -> int:
    """Compute the folds that were not computed before, put them together and print. Return the exit code."""
    config = parse_new(WalkforwardConfig, argv, "jtf walkforward")
    settings = config.of_symbol(config.symbol)
    data = load_symbol(settings)
    sizes = (len(data.bars), data.first_bar, config.window, config.split)
    combinations: tuple[Combination, ...] = ()
    if config.scheme == "cpcv":
        combinations = combinatorial(*sizes, config.folds, config.tested, data.bars.bar_minutes)
        folds = tuple(combination.fold for combination in combinations)
    else:
        folds = walk_forward(*sizes, config.folds, config.scheme, data.bars.bar_minutes)
    name = f"{config.symbol.replace('/', '')}-{config.scheme}"
    experiment = Experiment(KIND, name, config.out, plan_cells(settings, data, folds))
    if code := run_here(experiment, {config.symbol: data}, console):
        return code
    if combinations:
        conclude_paths(config, experiment, combinations, data, console)
    else:
        conclude_folds(experiment, data, console)
    console.print(f"walk-forward: {experiment.directory}", soft_wrap=True, highlight=False)
    if config.report:
        console.print(f"report: {write_report(experiment.directory)}", soft_wrap=True, highlight=False)
    return 0


def conclude_folds(experiment: Experiment, data: SymbolData, console: Console) -> None:
    """Stitch, judge, write and print."""
    found, per_year = results(experiment), data.bars.bars_per_year
    stitched = stitch(found, per_year)
    judged = judge_symbol(experiment, found, data.bars.symbol, per_year)
    choice = judge_choice(experiment.directory, data.bars.symbol, stitched.curves)
    summary = write(experiment, found, stitched.curves, judged_record(judged, stitched, choice))
    print_walkforward(console, summary)
    print_verdict(console, judged.verdict)


def judge_symbol(experiment: Experiment, found: Sequence[RunResult], symbol: str, bars_per_year: float) -> FoldsJudged:
    """Return the verdict on the folds of one symbol, counted among all trials of it on disk."""
    smoke = experiment.cells[0].config.ppo.total_steps <= MODE_STEPS["smoke"]
    return judge_folds(found, bars_per_year, trial_sharpes(experiment.directory, symbol), smoke=smoke)


def judged_record(judged: FoldsJudged, stitched: Stitched, choice: Choice) -> dict[str, Any]:
    """Return what ``summary.json`` says of folds that follow one another."""
    return {**asdict(judged), "stitched": stitched_record(stitched), "overfitting": asdict(choice)}


def conclude_paths(
    config: WalkforwardConfig,
    experiment: Experiment,
    combinations: Sequence[Combination],
    data: SymbolData,
    console: Console,
) -> None:
    """Put the paths together, write and print.

    There is no verdict: these fits knew what came after the bars they are tested on.
    """
    found = results(experiment)
    paths = put_together(found, combinations, config.folds, config.tested, data.bars.bars_per_year)
    record = {"metrics": {"test": asdict(paths.metrics[paths.middle])}, "verdict": None, "paths": paths_record(paths)}
    print_paths(console, write(experiment, found, paths.curves, record))


def write(
    experiment: Experiment, found: Sequence[RunResult], curves: pd.DataFrame, record: dict[str, Any]
) -> dict[str, Any]:
    """Write the curves, and last the summary, which is returned."""
    parquet = io.BytesIO()
    curves.to_parquet(parquet, index=False)
    write_atomically(experiment.directory / STITCHED, parquet.getvalue())
    summary = {
        "status": "finished",
        "kind": experiment.kind,
        "name": experiment.name,
        "symbol": found[0].symbol,
        "synthetic": any(is_synthetic(result.summary["data"]) for result in found),
        "common": common_record(found[0]),
        **record,
        "folds": [fold_record(result) for result in found],
    }
    write_json(experiment.directory / SUMMARY, summary)
    return read_summary(experiment.directory)


def common_record(result: RunResult) -> dict[str, Any]:
    """Return what the summary says once of all folds of a symbol: bars, costs, seeds, how they were trained."""
    shared = {name: result.summary[name] for name in ("data", "mode", "layout", "device", "steps")}
    return shared | {"env_params": result.derived["env_params"], "seeds": result.seeds}


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
