"""The results of an experiment as a person reads them, from its ``summary.json``. No JAX."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jtf.console import number, print_luck
from jtf.experiment.stitched import EQUITY, HELD


def print_walkforward(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a line a fold and one for the stitched curve."""
    console.print("out of sample: the test segment of every fold, after costs", style="bold")
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    for name in ("fold", "test from", "return", "members", "held", "Sharpe", "drawdown", "trades"):
        table.add_column(name, justify="right", no_wrap=True)
    folds, stitched = summary["folds"], summary["stitched"]
    for index, fold in enumerate(folds):
        test, held = fold["metrics"]["test"], fold["buy_and_hold"]["total_return"]
        alone = [member["test"]["total_return"] for member in fold["members"]]
        begin = fold["segments"]["test"]["start"][:10]
        table.add_row(str(index), begin, *curve_cells(test, alone, held), str(test["num_trades"]))
    curves = stitched["metrics"]
    alone = [metrics["total_return"] for name, metrics in curves.items() if name not in (EQUITY, HELD)]
    trades = sum(fold["metrics"]["test"]["num_trades"] for fold in folds)
    table.add_section()
    table.add_row("all", "stitched", *curve_cells(curves[EQUITY], alone, curves[HELD]["total_return"]), str(trades))
    console.print(table)
    for line in (
        f"folds with a profit: {stitched['folds_with_profit']:.0%}; above buying and holding: "
        f"{stitched['folds_above_holding']:.0%}",
        f"training Sharpe less test Sharpe, mean of the folds: {number(stitched['sharpe_gap'], '+.2f')}",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    print_luck(console, summary["luck"])
    print_overfitting(console, summary.get("overfitting"))


def print_overfitting(console: Console, found: Mapping[str, Any] | None) -> None:
    """Print what a choice among the settings that were tried is worth; nothing where there is only one."""
    if found is None or found["probability"] is None:
        return
    console.print(
        f"  probability of backtest overfitting {found['probability']:.0%}: how often the best of "
        f"{found['num_settings']} walk-forwards of these bars is below the median on bars that did not choose it",
        highlight=False,
        soft_wrap=True,
    )


def curve_cells(metrics: Mapping[str, Any], alone: Sequence[float], held: float) -> tuple[str, ...]:
    """Return return, members, buying and holding, Sharpe and drawdown as cells of a table."""
    return (
        number(metrics["total_return"], "+.1%"),
        f"{100 * min(alone):+.1f} to {100 * max(alone):+.1f}" if len(alone) > 1 else "-",
        number(held, "+.1%"),
        number(metrics["sharpe"], ".2f"),
        number(metrics["max_drawdown"], ".1%"),
    )


def print_paths(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a line a path of combinatorial cross-validation, and how their Sharpe ratios are distributed."""
    paths = summary["paths"]
    console.print(f"{len(summary['folds'])} fits, every bar tested in each of several paths, after costs", style="bold")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("", "return", "Sharpe", "drawdown"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, metrics in paths["metrics"].items():
        label = "buying and holding" if name == HELD else name.replace("_", " ")
        specs = {"total_return": "+.1%", "sharpe": ".2f", "max_drawdown": ".1%"}
        table.add_row(label, *(number(metrics[key], spec) for key, spec in specs.items()))
    console.print(table)
    middle = number(paths["metrics"][paths["middle"]]["sharpe"], ".2f")
    console.print(
        f"  Sharpe ratio, median of the paths: {middle}; paths with a profit: {paths['share_with_profit']:.0%}",
        highlight=False,
    )
    console.print("  no verdict: these fits knew what came after the bars they are tested on.", highlight=False)


def print_evaluation(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a line a symbol: what its folds earned out of sample, beside the baselines, and its verdict."""
    console.print("out of sample, after costs: medians of the folds, ranges in per cent", style="bold")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("symbol", "return", "folds", "members", "Sharpe", "luck", "verdict"):
        table.add_column(name, justify="left" if name in ("symbol", "verdict") else "right", no_wrap=True)
    for symbol, record in summary["symbols"].items():
        found = record["spread"]
        table.add_row(
            symbol,
            number(found["folds"]["median"], "+.1%"),
            ranged(found["folds"]),
            ranged(found["members"]),
            number(record["metrics"]["test"]["sharpe"], ".2f"),
            number(record["luck"]["deflated_sharpe"], ".2f"),
            record["verdict"]["status"],
        )
    console.print(table)
    console.print(
        "  luck: probability that the Sharpe ratio is above what the luckiest of the trials is expected to show"
    )
    print_baselines(console, {symbol: record["spread"] for symbol, record in summary["symbols"].items()})


def print_baselines(console: Console, spreads: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line a symbol: its return beside that of every baseline, medians of the folds."""
    rows = {symbol: baseline_cells(found) for symbol, found in spreads.items()}
    console.print("beside the baselines: returns after costs, medians of the folds", style="bold")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("symbol", no_wrap=True)
    for name in next(iter(rows.values())):
        table.add_column(name, justify="right", no_wrap=True)
    for symbol, cells in rows.items():
        table.add_row(symbol, *cells.values())
    console.print(table)
    console.print("  random: the same positions at random times, median of the draws and their 95th percentile")


def baseline_cells(found: Mapping[str, Any]) -> dict[str, str]:
    """Return column -> text: the median return of the folds, of every baseline and of random timing."""
    baselines, random = found["baselines"], found["random"]
    columns = {
        "policy": found["folds"],
        "held": baselines["buy_and_hold"],
        "flat": baselines["flat"],
        "cross": baselines["moving_average_cross"],
        "random": random["percentile_50"],
        "random 95 %": random["percentile_95"],
        "foresight": baselines["perfect_foresight"],
    }
    return {name: number(one["median"], "+.1%") for name, one in columns.items()}


def ranged(found: Mapping[str, Any]) -> str:
    """Return the range in per cent, e.g. ``-2.0 to +3.1``."""
    return f"{100 * found['least']:+.1f} to {100 * found['most']:+.1f}"
