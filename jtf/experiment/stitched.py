"""The folds of a walk-forward put together: one out-of-sample equity curve, and what the folds say of one another."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jtf.errors import UserError
from jtf.results.luck import share_above
from jtf.results.metrics import bar_returns, max_drawdown, sharpe, total_return
from jtf.results.results import RunResult
from jtf.results.tables import MEMBER_EQUITY

STITCHED = "stitched.parquet"
EQUITY, HELD = "equity", "buy_and_hold"


@dataclass(frozen=True)
class CurveMetrics:
    """What an equity curve alone says."""

    total_return: float
    sharpe: float | None
    """Annualised, of the returns a bar."""
    max_drawdown: float


@dataclass(frozen=True, eq=False)
class Stitched:
    """The out-of-sample bars of all folds, in order of time."""

    curves: pd.DataFrame
    """``time, fold, equity, buy_and_hold, equity_<seed>...``, a row per bar; equity 1 at the start. Each fold begins
    flat: a position open at the end of one is neither closed at a cost nor carried into the next."""
    metrics: dict[str, CurveMetrics]
    """By curve."""
    folds_above_holding: float
    """Share of the folds whose test return is above that of buying and holding."""
    folds_with_profit: float
    """Share of the folds with a test return above 0."""
    sharpe_gap: float | None
    """Mean over the folds of the training Sharpe ratio less the test one; None where one is undefined."""


def read_stitched(directory: Path) -> pd.DataFrame:
    """Return the curves that lie in the folder of an experiment; raise `UserError` where they are absent or damaged."""
    path = directory / STITCHED
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):  # pyarrow says what is no parquet file by a ValueError.
        raise UserError(f"{path} is missing or damaged; start the command of the experiment again.") from None


def stitch(results: Sequence[RunResult], bars_per_year: float) -> Stitched:
    """Return the test segments of folds, whose results are in order of time, as one."""
    curves = pd.concat([_test_curve(index, result) for index, result in enumerate(results)], ignore_index=True)
    columns = [name for name in map(str, curves) if name in (EQUITY, HELD) or name.startswith(MEMBER_EQUITY)]
    curves[columns] = chained(curves, columns, "fold")
    tests = [result.metrics["test"] for result in results]
    held = [result.baselines["test"]["buy_and_hold"].total_return for result in results]
    gaps = [
        result.metrics["train"].sharpe - test.sharpe
        for test, result in zip(tests, results, strict=True)
        if test.sharpe is not None and result.metrics["train"].sharpe is not None
    ]
    return Stitched(
        curves=curves,
        metrics=curve_metrics(curves, columns, "fold", bars_per_year),
        folds_above_holding=share_above([test.total_return for test in tests], held),
        folds_with_profit=float(np.mean([test.total_return > 0 for test in tests])),
        sharpe_gap=float(np.mean(gaps)) if len(gaps) == len(results) else None,
    )


def chained(curves: pd.DataFrame, columns: Sequence[str], by: str) -> pd.DataFrame:
    """Return the equity `columns`, every part (rows of one value of `by`) begun at what the one before it left.

    The first one begins at 1.
    """
    level = np.ones(len(columns))
    parts = []
    for _, part in curves.groupby(by, sort=True):
        growth = part[list(columns)] / part[list(columns)].iloc[0] * level
        level = growth.iloc[-1].to_numpy()
        parts.append(growth)
    return pd.concat(parts)


def curve_metrics(
    curves: pd.DataFrame, columns: Sequence[str], by: str, bars_per_year: float
) -> dict[str, CurveMetrics]:
    """Return the metrics of chained equity `columns`. Nothing is held between two parts, so that is no return."""
    inside = curves[by].to_numpy()[1:] == curves[by].to_numpy()[:-1]

    def measured(name: str) -> CurveMetrics:
        equity = np.cumprod(np.append(1.0, 1.0 + bar_returns(curves[name].to_numpy())[inside]))
        return CurveMetrics(total_return(equity), sharpe(equity, bars_per_year), max_drawdown(equity))

    return {name: measured(name) for name in columns}


def stitched_record(stitched: Stitched) -> dict[str, Any]:
    """Return what ``summary.json`` says of the stitched curve."""
    return {
        "metrics": {name: asdict(metrics) for name, metrics in stitched.metrics.items()},
        "folds_above_holding": stitched.folds_above_holding,
        "folds_with_profit": stitched.folds_with_profit,
        "sharpe_gap": stitched.sharpe_gap,
    }


def _test_curve(index: int, result: RunResult) -> pd.DataFrame:
    curves = result.curves[result.curves["segment"] == "test"]
    members = [name for name in map(str, curves) if name.startswith(MEMBER_EQUITY)]
    chosen = curves[["time", EQUITY, HELD, *members]].reset_index(drop=True)
    chosen.insert(1, "fold", index)
    return chosen
