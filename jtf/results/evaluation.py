"""Backtests on the NumPy mirror, measured. No JAX."""

import numpy as np
import pandas as pd

from jtf.results.metrics import Metrics, bar_returns, compute_metrics
from jtf.results.provenance import LABELS
from jtf.results.trades import Trade, backtest_trades
from jtf.splits import Segment
from jtf_env.mirror.backtest import Backtest, Decide, run_backtest
from jtf_env.mirror.market import Market
from jtf_env.params import EnvParams


def evaluate(
    decide: Decide, market: Market, params: EnvParams, segment: Segment, bars_per_year: float
) -> tuple[Metrics, Backtest]:
    """Let `decide` trade over a segment, once through, and measure it."""
    backtest = run_backtest(market, decide, params, segment.start, segment.stop)
    return backtest_metrics(backtest, params, bars_per_year), backtest


def backtest_metrics(backtest: Backtest, params: EnvParams, bars_per_year: float) -> Metrics:
    """Return the metrics of a backtest that was run with `params`."""
    everything = np.ones(len(backtest.actions), bool)
    return steps_metrics(backtest, backtest_trades(backtest, params), params, bars_per_year, everything)


def label_metrics(
    backtest: Backtest, params: EnvParams, bars_per_year: float, labels: np.ndarray
) -> dict[str, Metrics]:
    """Return the metrics of the steps of each label of `LABELS` that the decisions of a backtest have.

    ``labels [T]`` are those of the market's bars. A trade counts where it was entered. One plus the return of the
    whole is the product of one plus the returns of the parts.
    """
    trades = backtest_trades(backtest, params)
    decided = labels[backtest.bars[:-1]]
    return {
        name: steps_metrics(backtest, trades, params, bars_per_year, decided == name)
        for name in LABELS
        if (decided == name).any()
    }


def steps_metrics(
    backtest: Backtest, trades: list[Trade], params: EnvParams, bars_per_year: float, steps: np.ndarray
) -> Metrics:
    """Return the metrics of the steps ``steps [N]`` (bool) of a backtest; equity is chained over them."""
    entered = set((backtest.bars[1:] if params.fill == "next_open" else backtest.bars[:-1])[steps].tolist())
    growth = np.concatenate([[1.0], 1.0 + bar_returns(backtest.equity)[steps]])
    return compute_metrics(
        equity=backtest.equity if steps.all() else np.cumprod(growth),
        held=backtest.positions[:-1][steps],
        positions=backtest.positions[1:][steps],
        moves=np.diff(backtest.closes)[steps],
        actions=backtest.actions[steps],
        traded=filled_decisions(backtest, params)[steps],
        trade_pnl=np.array([trade.net for trade in trades if not trade.open_at_end and trade.entry_bar in entered]),
        bars_per_year=bars_per_year,
    )


def filled_decisions(backtest: Backtest, params: EnvParams) -> np.ndarray:
    """Return ``[N]`` bool: whether the order of each decision filled; stops are no decisions."""
    filled = [fill.bar for fill in backtest.fills if fill.reason == "signal"]
    bars = backtest.bars[1:] if params.fill == "next_open" else backtest.bars[:-1]
    return np.isin(bars, filled)


def ruin_note(backtest: Backtest, params: EnvParams, timestamps: pd.DatetimeIndex) -> str | None:
    """Return a sentence where ruin ended a backtest before its last bar, else None; `timestamps` ``[T]``."""
    if not backtest.terminated:
        return None
    time = timestamps[int(backtest.bars[-1])]
    return (
        f"ruined at {time:%Y-%m-%d %H:%M} UTC, {params.max_drawdown:.0%} below the peak; nothing was traded after "
        "it, and its metrics end there, while those of the baselines go on."
    )


def open_note(trade: Trade, timestamps: pd.DatetimeIndex) -> str:
    """Return a sentence on a position still open at the end; `timestamps` ``[T]``."""
    side = "long" if trade.direction > 0 else "short"
    entered = f"{timestamps[trade.entry_bar]:%Y-%m-%d %H:%M} UTC"
    return (
        f"a {side} position of {trade.open_units:,.6g} units, entered {entered}, is still open at the end: "
        f"{trade.net:+,.2f} USD so far at the last close; closing there would cost "
        f"{trade.closing_cost:,.2f} USD."
    )
