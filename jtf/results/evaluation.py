"""Backtests of a policy and of the baselines on the NumPy mirror. No JAX: `jtf.train` and `jtf.backtest` share it."""

from dataclasses import replace

import numpy as np
import pandas as pd

from jtf.results.metrics import Metrics, compute_metrics
from jtf.splits import Segment
from jtf_env.actions import BUY_75, HOLD
from jtf_env.mirror.backtest import Backtest, Trade, run_backtest
from jtf_env.mirror.market import Market
from jtf_env.params import EnvParams

BASELINE_ACTIONS = {"buy_and_hold": BUY_75, "flat": HOLD}
"""One action repeated: BUY_75 reaches the maximum in two fills, and from then on trades nothing."""


def closed_trades(backtest: Backtest) -> list[Trade]:
    """Return the finished round trips; a position still open at the last bar is no trade."""
    return [trade for trade in backtest.trades if trade.exit_reason != "end"]


def backtest_metrics(backtest: Backtest, actions: np.ndarray, market: Market, bars_per_year: float) -> Metrics:
    """Return the metrics of a backtest that played ``actions [T]`` on `market`."""
    decided, marked = backtest.bars[:-1], backtest.bars[1:]
    return compute_metrics(
        equity=backtest.equity,
        positions=backtest.positions[1:],
        closes=market.close[marked],
        actions=actions[decided],
        trade_pnl=np.array([trade.pnl for trade in closed_trades(backtest)]),
        bars_per_year=bars_per_year,
    )


def evaluate(
    actions: np.ndarray, market: Market, params: EnvParams, segment: Segment, bars_per_year: float
) -> tuple[Metrics, Backtest]:
    """Play ``actions [T]`` over a segment, once through, and measure it."""
    backtest = run_backtest(market, actions, params, segment.start, segment.stop)
    return backtest_metrics(backtest, actions, market, bars_per_year), backtest


def ruin_note(backtest: Backtest, params: EnvParams, timestamps: pd.DatetimeIndex) -> str | None:
    """Return a sentence where ruin ended a backtest before its last bar, else None; `timestamps` ``[T]``."""
    if not backtest.terminated:
        return None
    time = timestamps[int(backtest.bars[-1])]
    return (
        f"ruined at {time:%Y-%m-%d %H:%M} UTC, {params.max_drawdown:.0%} below the peak; nothing was traded after it."
    )


def evaluate_baselines(market: Market, params: EnvParams, segment: Segment, bars_per_year: float) -> dict[str, Metrics]:
    """Return the metrics of `BASELINE_ACTIONS` on the same bars, fills and costs, without stops and without ruin.

    Buying and holding is a baseline only while it holds; a stop would make it another strategy.
    """
    plain = replace(params, stop_loss=0.0, take_profit=0.0, max_drawdown=1.0)
    results = {}
    for name, action in BASELINE_ACTIONS.items():
        actions = np.full(market.num_bars, action)
        results[name], _ = evaluate(actions, market, plain, segment, bars_per_year)
    return results
