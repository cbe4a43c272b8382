"""The folds of a walk-forward as one record, and the verdict on it. No JAX.

Every fold begins with the same equity, so that the trades of all can be counted together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jtf.data.check import is_synthetic
from jtf.results.luck import SharpeLuck, sharpe_luck
from jtf.results.metrics import (
    Metrics,
    bar_returns,
    max_drawdown,
    profit_factor,
    sharpe,
    sharpe_or_zero,
    sortino,
    total_return,
    win_rate,
)
from jtf.results.results import RunResult
from jtf.results.verdict import Evidence, Verdict, judge

WEIGHED = ("exposure", "traded_share", "hold_share")
"""Metrics that are means over decisions."""


@dataclass(frozen=True)
class FoldsJudged:
    """What the folds together show out of sample."""

    metrics: dict[str, Metrics]
    """By segment, over the folds."""
    luck: SharpeLuck
    random_return: float
    """95th percentile of the total return over all folds of the same positions at random times."""
    verdict: Verdict


def judge_folds(
    results: Sequence[RunResult],
    bars_per_year: float,
    trials: Sequence[float],
    *,
    smoke: bool,
) -> FoldsJudged:
    """Return the verdict on folds, whose results are in order of time.

    `trials` are the annualised out-of-sample Sharpe ratios of all other trials of the symbol (`trials.trial_sharpes`),
    `smoke` says whether training was no longer than a smoke test.
    """
    metrics = {name: pool_folds(results, name, bars_per_year) for name in ("train", "validation", "test")}
    test = metrics["test"]
    luck = sharpe_luck(_returns(results, "test", "equity"), bars_per_year, [*trials, sharpe_or_zero(test.sharpe)])
    random_return, held = random_percentile(results, 95), _chained(_returns(results, "test", "buy_and_hold"))
    evidence = Evidence(
        held_sharpe=sharpe(held, bars_per_year),
        held_return=total_return(held),
        synthetic=any(is_synthetic(result.summary["data"]) for result in results),
        smoke=smoke,
        deflated_sharpe=luck.deflated_sharpe,
        random_return=random_return,
        fold_returns=tuple(result.metrics["test"].total_return for result in results),
    )
    return FoldsJudged(metrics, luck, random_return, judge(metrics, evidence))


def pool_folds(results: Sequence[RunResult], segment: str, bars_per_year: float) -> Metrics:
    """Return the metrics of a segment over all folds.

    Equity is chained and trades are counted together. The training segments of rolling folds overlap, and weigh as
    often as they were played.
    """
    parts = [result.metrics[segment] for result in results]
    equity = _chained(_returns(results, segment, "equity"))
    net = np.concatenate([_closed_net(result, segment) for result in results])
    sizes = [int((result.curves["segment"] == segment).sum()) - 1 for result in results]
    means = {name: float(np.average([getattr(part, name) for part in parts], weights=sizes)) for name in WEIGHED}
    judged = [part.direction_accuracy for part in parts if part.direction_accuracy is not None]
    return Metrics(
        total_return=total_return(equity),
        sharpe=sharpe(equity, bars_per_year),
        sortino=sortino(equity, bars_per_year),
        max_drawdown=max_drawdown(equity),
        profit_factor=profit_factor(net),
        win_rate=win_rate(net),
        num_trades=len(net),
        open_position=parts[-1].open_position,
        direction_accuracy=float(np.mean(judged)) if judged else None,
        **means,
    )


def random_percentile(results: Sequence[RunResult], percent: float) -> float:
    """Return a percentile (0..100) of the total return over all folds of random timing, fold by fold independent."""
    growth = np.prod([1.0 + np.array(result.random.total_returns) for result in results], axis=0)
    return float(np.percentile(growth, percent)) - 1.0


def _returns(results: Sequence[RunResult], segment: str, column: str) -> np.ndarray:
    curves = [result.curves.loc[result.curves["segment"] == segment, column].to_numpy() for result in results]
    return np.concatenate([bar_returns(curve) for curve in curves])


def _chained(returns: np.ndarray) -> np.ndarray:
    return np.cumprod(np.concatenate([[1.0], 1.0 + returns]))


def _closed_net(result: RunResult, segment: str) -> np.ndarray:
    trades = result.trades
    return trades.loc[(trades["segment"] == segment) & ~trades["open_at_end"], "net"].to_numpy()
