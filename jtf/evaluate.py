"""``python -m jtf.evaluate``: walk-forwards of several symbols, beside every baseline, with one verdict on them all."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import tyro
from rich.console import Console

from jtf.config import check_run_config, parse_unchecked
from jtf.console import Terminal, print_verdict
from jtf.data.check import is_synthetic
from jtf.errors import UserError, run_command
from jtf.experiment.cells import plan_cells
from jtf.experiment.choice import judge_choice
from jtf.experiment.command import ExperimentConfig, run_here
from jtf.experiment.experiment import Experiment, results
from jtf.experiment.stitched import stitch
from jtf.experiment.tables import print_evaluation
from jtf.report import write_report
from jtf.results.luck import spread
from jtf.results.results import RunResult
from jtf.results.run_directory import SUMMARY, read_summary, write_json
from jtf.results.verdict import Verdict, judge_symbols
from jtf.splits import walk_forward
from jtf.task import SymbolData, load_symbol
from jtf.walkforward import common_record, fold_record, judge_symbol, judged_record

KIND = "evaluate"


@dataclass(frozen=True)
class EvaluateConfig(ExperimentConfig):
    """Walk forward through the history of several symbols and judge them together."""

    symbols: str = ""
    """Symbols, with commas between them, e.g. SPY,NVDA,BTCUSDT. Default: none, they must be named."""
    symbol: tyro.conf.Suppress[str] = ""
    """Each of `symbols` in turn."""
    folds: int = 4
    """Test segments of every symbol, end to end up to its last bar."""
    scheme: Literal["rolling", "expanding"] = "rolling"
    """rolling: every fold trains on as many bars. expanding: on all bars before those it holds out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run(sys.argv[1:] if argv is None else argv, Terminal()))


def run(argv: Sequence[str], console: Console) -> int:
    """Compute the cells that were not computed before, judge, write and print. Return the exit code."""
    config = parse_unchecked(EvaluateConfig, argv, "jtf evaluate")
    symbols = read_symbols(config.symbols)
    settings = {symbol: check_run_config(config.of_symbol(symbol)) for symbol in symbols}
    data = {symbol: load_symbol(settings[symbol]) for symbol in symbols}
    cells = {symbol: plan_cells(settings[symbol], data[symbol], folds_of(config, data[symbol])) for symbol in symbols}
    name = f"{len(symbols)}-symbols-{config.scheme}"
    experiment = Experiment(KIND, name, config.out, tuple(cell for some in cells.values() for cell in some))
    if code := run_here(experiment, data, console):
        return code
    summary, verdict = conclude(experiment, data)
    print_evaluation(console, summary)
    print_verdict(console, verdict)
    console.print(f"evaluation: {experiment.directory}", soft_wrap=True, highlight=False)
    if config.report:
        console.print(f"report: {write_report(experiment.directory)}", soft_wrap=True, highlight=False)
    return 0


def read_symbols(text: str) -> tuple[str, ...]:
    """Return the symbols of ``SPY,NVDA``; raise `UserError` where there is none, or one twice."""
    symbols = tuple(part.strip() for part in text.split(",") if part.strip())
    if not symbols:
        raise UserError("--symbols is missing; name symbols with commas between them, e.g. --symbols SPY,NVDA,BTCUSDT.")
    if twice := sorted({symbol for symbol in symbols if symbols.count(symbol) > 1}):
        raise UserError(f"--symbols names {', '.join(twice)} twice; name each symbol once.")
    return symbols


def folds_of(config: EvaluateConfig, data: SymbolData) -> Sequence[Any]:
    """Return the folds of a symbol; an error names it."""
    try:
        return walk_forward(
            len(data.bars), data.first_bar, config.window, config.split, config.folds, config.scheme,
            data.bars.bar_minutes,
        )  # fmt: skip
    except UserError as error:
        raise UserError(f"{data.bars.symbol}: {error}") from None


def conclude(experiment: Experiment, data: dict[str, SymbolData]) -> tuple[dict[str, Any], Verdict]:
    """Judge every symbol and all of them, and write the summary, which is returned with the verdict on all."""
    found: dict[str, list[RunResult]] = {symbol: [] for symbol in data}
    for cell, result in zip(experiment.cells, results(experiment), strict=True):
        found[cell.symbol].append(result)
    records, verdicts = {}, {}
    for symbol, parts in found.items():
        per_year = data[symbol].bars.bars_per_year
        judged = judge_symbol(experiment, parts, symbol, per_year)
        verdicts[symbol] = judged.verdict
        stitched = stitch(parts, per_year)
        records[symbol] = {
            "asset_class": data[symbol].bars.asset_class,
            "common": common_record(parts[0]),
            **judged_record(judged, stitched, judge_choice(experiment.directory, symbol, stitched.curves)),
            "spread": spreads(parts),
            "folds": [fold_record(result) for result in parts],
        }
    verdict = judge_symbols(verdicts, {symbol: data[symbol].bars.asset_class for symbol in data})
    summary = {
        "status": "finished",
        "kind": experiment.kind,
        "name": experiment.name,
        "synthetic": any(is_synthetic(record["common"]["data"]) for record in records.values()),
        "verdict": asdict(verdict),
        "symbols": records,
    }
    write_json(experiment.directory / SUMMARY, summary)
    return read_summary(experiment.directory), verdict


def spreads(parts: Sequence[RunResult]) -> dict[str, Any]:
    """Return median and spread of the test returns over folds, over members of all folds, and of every baseline.

    Of random timing they are those of two percentiles of each fold's draws.
    """
    members = [member.metrics["test"].total_return for result in parts for member in result.members]
    baselines = {
        name: spread([result.baselines["test"][name].total_return for result in parts])
        for name in parts[0].baselines["test"]
    }
    folds = spread([result.metrics["test"].total_return for result in parts])
    random = {
        f"percentile_{percent}": spread([one.random.percentile(percent) for one in parts]) for percent in (50, 95)
    }
    return {"folds": folds, "members": spread(members), "baselines": baselines, "random": random}


if __name__ == "__main__":
    sys.exit(main())
