"""``python -m jtf.compare A B``: what two runs or walk-forwards earned out of sample, and if it is chance. No JAX."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jtf.console import Terminal, number
from jtf.errors import UserError, run_command
from jtf.experiment.stitched import read_stitched
from jtf.flags import parse_flags
from jtf.results.catalogue import entry_at
from jtf.results.luck import Interval, bootstrap_values, percentile_interval
from jtf.results.metrics import bar_returns, max_drawdown, returns_sharpe, sharpe_or_zero
from jtf.results.results import read_result
from jtf.results.run_directory import write_json

FEWEST_BARS = 50
"""Returns below which an interval says nothing."""


@dataclass(frozen=True)
class CompareConfig:
    """Compare two finished runs or walk-forwards on the bars that neither learnt from."""

    a: tyro.conf.Positional[Path]
    """Directory of a run or an experiment."""
    b: tyro.conf.Positional[Path]
    """Directory of the other one."""
    paired: bool = False
    """Compare bar by bar on the bars both were tested on: what moved both drops out of the difference."""
    draws: int = 1000
    """Draws of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""
    json: Path | None = None
    """File to write the comparison to. Default: none."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Returns out of sample."""

    times: pd.DatetimeIndex
    """``[N]`` bar at whose close each return ends."""
    returns: np.ndarray
    """``[N]`` simple returns a bar."""
    bars_per_year: float


@dataclass(frozen=True)
class Difference:
    """One number of both, and A less B."""

    name: str
    a: float
    b: float
    difference: float
    interval: Interval
    """Of the difference, 95 %, by the stationary bootstrap."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run(parse_flags(CompareConfig, argv, "jtf compare", description=__doc__), Terminal()))


def run(config: CompareConfig, console: Console) -> None:
    """Compare, print, and write where asked."""
    if config.draws < 100:
        raise UserError(f"--draws {config.draws} must be at least 100.")
    a, b = read_curve(config.a), read_curve(config.b)
    differences = compare(a, b, paired=config.paired, draws=config.draws, seed=config.seed)
    print_differences(console, config, differences, (a, b))
    if config.json is not None:
        write_json(config.json, {"a": config.a, "b": config.b, "paired": config.paired, "differences": differences})


def read_curve(path: Path) -> Curve:
    """Return the out-of-sample returns of a run or an experiment; raise `UserError` where there are none."""
    entry = entry_at(path)
    if entry.kind == "experiment":
        summary = entry.summary
        if summary["status"] != "finished":
            raise UserError(f"{path} has not finished ({summary['status']}); start its command again.")
        if "stitched" not in summary:
            raise UserError(f"{path} has several paths and no single curve; compare walk-forwards or runs.")
        return stitched_curve(path, summary)
    result = read_result(path)
    tested = result.curves[result.curves["segment"] == "test"]
    return _curve(tested, float(result.summary["data"]["bars_per_year"]))


def stitched_curve(path: Path, summary: dict[str, Any]) -> Curve:
    """Return the returns of a stitched curve, without the seams between its folds."""
    curves = read_stitched(path)
    return _curve(curves, float(summary["common"]["data"]["bars_per_year"]), curves["fold"].to_numpy())


def _curve(table: pd.DataFrame, bars_per_year: float, folds: np.ndarray | None = None) -> Curve:
    inside = np.ones(len(table) - 1, bool) if folds is None else folds[1:] == folds[:-1]
    times = pd.DatetimeIndex(table["time"])[1:][inside]
    return Curve(times, bar_returns(table["equity"].to_numpy())[inside], bars_per_year)


def compare(a: Curve, b: Curve, *, paired: bool, draws: int = 1_000, seed: int = 0) -> list[Difference]:
    """Return the differences of yearly log growth, Sharpe ratio and deepest drawdown, with their intervals."""
    if paired:
        a, b = common(a, b)
    for curve in (a, b):
        if len(curve.returns) < FEWEST_BARS:
            raise UserError(f"{len(curve.returns)} bars are too few to compare; at least {FEWEST_BARS} are needed.")
    statistics: dict[str, tuple[Callable[[np.ndarray], float], ...]] = {
        "log growth a year": (lambda r: growth(r, a.bars_per_year), lambda r: growth(r, b.bars_per_year)),
        "Sharpe ratio": (lambda r: ratio(r, a.bars_per_year), lambda r: ratio(r, b.bars_per_year)),
        "deepest drawdown": (drawdown, drawdown),
    }
    return [
        _difference(name, a.returns, b.returns, of_a, of_b, paired, draws, seed)
        for name, (of_a, of_b) in statistics.items()
    ]


def common(a: Curve, b: Curve) -> tuple[Curve, Curve]:
    """Return both on the bars they share; raise `UserError` where these are too few."""
    both = a.times.intersection(b.times)
    if len(both) < FEWEST_BARS:
        raise UserError(
            f"A and B were tested on {len(both)} bars in common, at least {FEWEST_BARS} are needed; leave out --paired."
        )
    return on_bars(a, both), on_bars(b, both)


def on_bars(curve: Curve, times: pd.DatetimeIndex) -> Curve:
    """Return `curve` on some of its bars."""
    return Curve(times, curve.returns[curve.times.get_indexer(times)], curve.bars_per_year)


def growth(returns: np.ndarray, bars_per_year: float) -> float:
    """Return the logarithm of the growth of equity a year."""
    return float(np.log(np.maximum(1.0 + returns, 1e-12)).mean() * bars_per_year)


def ratio(returns: np.ndarray, bars_per_year: float) -> float:
    """Return the annualised Sharpe ratio; 0 where nothing moves."""
    return sharpe_or_zero(returns_sharpe(returns, bars_per_year))


def drawdown(returns: np.ndarray) -> float:
    """Return the deepest fall from a peak, as a fraction of it."""
    return max_drawdown(equity_of(returns))


def equity_of(returns: np.ndarray) -> np.ndarray:
    """Return the equity ``[N + 1]`` of ``returns [N]``, 1 at the start."""
    return np.cumprod(np.append(1.0, 1.0 + returns))


def _difference(
    name: str,
    a: np.ndarray,
    b: np.ndarray,
    of_a: Callable[[np.ndarray], float],
    of_b: Callable[[np.ndarray], float],
    paired: bool,
    draws: int,
    seed: int,
) -> Difference:
    if paired:
        both = np.stack([a, b], axis=1)
        values = bootstrap_values(both, lambda r: of_a(r[:, 0]) - of_b(r[:, 1]), seed, draws)
    else:
        values = bootstrap_values(a, of_a, seed, draws) - bootstrap_values(b, of_b, seed + 1, draws)
    return Difference(name, of_a(a), of_b(b), of_a(a) - of_b(b), percentile_interval(values))


def print_differences(
    console: Console, config: CompareConfig, differences: Sequence[Difference], curves: tuple[Curve, Curve]
) -> None:
    """Print both directories, a line a number, and what may be concluded."""
    for label, path, curve in zip("AB", (config.a, config.b), curves, strict=True):
        span = f"{curve.times[0]:%Y-%m-%d} to {curve.times[-1]:%Y-%m-%d}"
        console.print(f"{label}: {path} ({len(curve.times):,} bars, {span})", soft_wrap=True, highlight=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("", "A", "B", "A - B", "95 % interval"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for item in differences:
        interval = f"{item.interval.low:+.3f} to {item.interval.high:+.3f}"
        table.add_row(item.name, *(number(x, ".3f") for x in (item.a, item.b)), f"{item.difference:+.3f}", interval)
    console.print(table)
    sure = [item.name for item in differences if item.interval.low > 0 or item.interval.high < 0]
    text = f"differ beyond chance in {', '.join(sure)}" if sure else "do not differ beyond chance"
    console.print(
        f"  A and B {text} (bootstrap{' of pairs' if config.paired else ''}).", highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
    sys.exit(main())
