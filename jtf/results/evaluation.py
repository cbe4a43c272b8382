"""Backtests of a policy and of the baselines on the NumPy mirror. No JAX: `jtf.train` and `jtf.backtest` share it."""

from dataclasses import replace

import numpy as np
import pandas as pd

from jtf.results.metrics import Metrics, compute_metrics
from jtf.results.trades import Trade, backtest_trades
from jtf.splits import Segment
from jtf_env.actions import BUY_75, HOLD
from jtf_env.mirror.backtest import Backtest, Decide, replay, run_backtest
from jtf_env.mirror.market import Market
from jtf_env.params import EnvParams

BASELINE_ACTIONS = {"buy_and_hold": BUY_75, "flat": HOLD}
"""One action repeated: BUY_75 reaches the maximum in two fills, and from then on trades nothing."""


def backtest_metrics(backtest: Backtest, trades: list[Trade], bars_per_year: float) -> Metrics:
    """Return the metrics of a backtest and its trades; a position still open at the last bar is no trade."""
    return compute_metrics(
        equity=backtest.equity,
        positions=backtest.positions[1:],
        closes=backtest.closes[1:],
        actions=backtest.actions,
        trade_pnl=np.array([trade.net for trade in trades if not trade.open_at_end]),
        bars_per_year=bars_per_year,
    )


def evaluate(
    decide: Decide, market: Market, params: EnvParams, segment: Segment, bars_per_year: float
) -> tuple[Metrics, Backtest]:
    """Let `decide` trade over a segment, once through, and measure it."""
    backtest = run_backtest(market, decide, params, segment.start, segment.stop)
    return backtest_metrics(backtest, backtest_trades(backtest, params), bars_per_year), backtest


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
        always = replay(np.full(market.num_bars, action))
        results[name], _ = evaluate(always, market, plain, segment, bars_per_year)
    return results
