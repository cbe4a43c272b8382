"""The paths of combinatorial cross-validation: whole out-of-sample histories, each put together from several fits."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from jtf.experiment.stitched import EQUITY, HELD, CurveMetrics, chained, curve_metrics
from jtf.results.metrics import sharpe_or_zero
from jtf.results.results import RunResult
from jtf.splits import Combination, combined_paths

PATH = "path_"
"""What the names of the paths' columns begin with; the number of the path follows."""


@dataclass(frozen=True, eq=False)
class Paths:
    """Every bar of the history, tested in each of several paths."""

    curves: pd.DataFrame
    """``time, group, buy_and_hold, path_<p>...``, a row per bar; equity 1 at the start. Each group begins flat."""
    metrics: dict[str, CurveMetrics]
    """By path, and ``buy_and_hold``."""

    @property
    def middle(self) -> str:
        """The path with the median Sharpe ratio (the lower one of two)."""
        ranked = self.ranked
        return ranked[(len(ranked) - 1) // 2]

    @property
    def ranked(self) -> list[str]:
        """The paths in order of their Sharpe ratios."""
        paths = [name for name in self.metrics if name.startswith(PATH)]
        return sorted(paths, key=lambda name: sharpe_or_zero(self.metrics[name].sharpe))


def put_together(
    results: Sequence[RunResult], combinations: Sequence[Combination], groups: int, tested: int, bars_per_year: float
) -> Paths:
    """Return the paths of the `combinations`, whose results are in the same order."""
    table = pd.concat([_group(results, combinations, groups, tested, group) for group in range(groups)])
    curves = table.reset_index(drop=True)
    columns = [name for name in map(str, curves) if name not in ("time", "group")]
    curves[columns] = chained(curves, columns, "group")
    return Paths(curves, curve_metrics(curves, columns, "group", bars_per_year))


def _group(
    results: Sequence[RunResult], combinations: Sequence[Combination], groups: int, tested: int, group: int
) -> pd.DataFrame:
    """Return the bars of one group, with the equity of every path."""
    columns: dict[str, Any] = {}
    for number, path in enumerate(combined_paths(groups, tested)):
        curves = results[path[group]].curves
        part = curves[curves["segment"] == combinations[path[group]].segment_of(group)]
        if not columns:
            columns = {"time": part["time"].to_numpy(), "group": group, HELD: part[HELD].to_numpy()}
        columns[f"{PATH}{number}"] = part[EQUITY].to_numpy()
    return pd.DataFrame(columns)


def paths_record(paths: Paths) -> dict[str, Any]:
    """Return what ``summary.json`` says of the paths."""
    earned = [paths.metrics[name].total_return > 0 for name in paths.ranked]
    return {
        "metrics": {name: asdict(metrics) for name, metrics in paths.metrics.items()},
        "ranked": paths.ranked,
        "middle": paths.middle,
        "share_with_profit": sum(earned) / len(earned),
    }
