"""The account a bar: what equity did from close to close, whatever the trades were. NumPy and pandas only.

Its twin, the account a trade, is `jtf.results.trade_account`. A ratio that is not defined on the data is None.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from jtf.results.metrics import annualisation, bar_returns, max_drawdown, sharpe, sortino, total_return
from jtf_env.assets import ASSETS
from jtf_env.bars import Bars
from jtf_env.mirror.backtest import Backtest
from jtf_env.sessions import DAY, DAYS_PER_YEAR, exchange_schedule, nanoseconds


@dataclass(frozen=True)
class Drawdown:
    """The deepest fall from a peak; times are bar starts, ISO UTC."""

    depth: float
    """Fraction of the peak, 0..1."""
    peak: str
    trough: str
    recovery: str | None
    """First bar that closes at the peak again; None where none does."""
    bars: int
    """From the peak to the recovery, or to the last bar."""


@dataclass(frozen=True)
class BarAccount:
    """A backtest bar by bar. Fractions are plain numbers (0.01 = 1 %)."""

    total_return: float
    annual_return: float | None
    """Compound growth a year; None where equity is gone."""
    volatility: float | None
    """Standard deviation (ddof 1) of the returns a bar, annualised."""
    sharpe: float | None
    """Of the returns a bar, annualised."""
    sharpe_daily: float | None
    """Of the returns a trading day, annualised: last close to last close, from the first mark on."""
    sortino: float | None
    """Of the returns a bar, annualised."""
    calmar: float | None
    """Annual return over the deepest drawdown (Young 1991)."""
    drawdown: Drawdown
    exposure: float
    """Mean size of the position at the closes, as a fraction of equity."""
    turnover: float
    """Traded notional over mean equity, a year; buying and selling all of equity once is 2."""
    fees: float
    """USD."""
    slippage: float
    """USD."""
    break_even_bp: float | None
    """Cost a side, in basis points of the traded notional, at which the fills would have earned nothing."""


@dataclass(frozen=True, eq=False)
class TradingDays:
    """Which trading day every bar belongs to, and how many a year has."""

    ids: np.ndarray
    """``[T]`` int64, days since 1970 on the exchange's clock."""
    per_year: float
    """Days in an average year: those the calendar schedules (24/7: 365) times the share of them that is present."""


def trading_days(bars: Bars) -> TradingDays:
    """Return the trading days of `bars`: the local date of equity bars, the UTC day of bars that trade 24/7."""
    local = bars.timestamps.tz_convert(bars.timezone)
    ids = nanoseconds(local.tz_localize(None)) // DAY
    present = len(np.unique(ids))
    if ASSETS[bars.asset_class].calendar is None:
        return TradingDays(ids, DAYS_PER_YEAR * present / float(ids[-1] - ids[0] + 1))
    years = local[0].year, local[-1].year
    days = exchange_schedule(*years).days
    scheduled = int(np.sum((days >= ids[0]) & (days <= ids[-1])))
    return TradingDays(ids, len(days) / (years[1] - years[0] + 1) * present / scheduled)


def daily_equity(equity: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return equity at the last of the marks ``[N + 1]`` of each day, the first mark before them where it is not one.

    `days` ``[N + 1]`` are the days of the marks.
    """
    last = np.flatnonzero(np.append(days[1:] != days[:-1], True))
    return equity[last] if last[0] == 0 else np.append(equity[0], equity[last])


def find_drawdown(equity: np.ndarray, times: pd.DatetimeIndex) -> Drawdown:
    """Return the deepest drawdown of ``equity [N + 1]`` at bars that start at ``times [N + 1]``."""
    trough = int(np.argmax(1.0 - equity / np.maximum.accumulate(equity)))
    peak = trough - int(np.argmax(equity[trough::-1]))
    back = np.flatnonzero(equity[trough:] >= equity[peak])
    recovery = trough + int(back[0]) if len(back) else None
    return Drawdown(
        depth=max_drawdown(equity),
        peak=times[peak].isoformat(),
        trough=times[trough].isoformat(),
        recovery=None if recovery is None else times[recovery].isoformat(),
        bars=(len(equity) - 1 if recovery is None else recovery) - peak,
    )


def volatility(equity: np.ndarray, bars_per_year: float) -> float | None:
    """Return ``std(r, ddof 1) * sqrt(bars_per_year)`` of the returns of ``equity [N + 1]``; None for fewer than two."""
    returns = bar_returns(equity)
    return float(returns.std(ddof=1) * annualisation(bars_per_year)) if len(returns) > 1 else None


def annual_return(equity: np.ndarray, bars_per_year: float) -> float | None:
    """Return ``(equity[N] / equity[0])^(bars_per_year / N) - 1``; None where equity is gone or the power overflows."""
    growth = float(equity[-1] / equity[0])
    power = math.log(growth) * bars_per_year / (len(equity) - 1) if growth > 0 and len(equity) > 1 else math.inf
    return math.expm1(power) if power < 700 else None


def bar_account(backtest: Backtest, bars: Bars, days: TradingDays) -> BarAccount:
    """Return the account a bar of a backtest over `bars`, whose trading days are `days`."""
    equity, per_year = backtest.equity, bars.bars_per_year
    yearly = annual_return(equity, per_year)
    drawdown = find_drawdown(equity, bars.timestamps[backtest.bars])
    columns = np.array([(fill.units * fill.price, fill.fee, fill.cost) for fill in backtest.fills]).reshape(-1, 3)
    traded, fees, costs = columns.sum(axis=0).tolist()
    return BarAccount(
        total_return=total_return(equity),
        annual_return=yearly,
        volatility=volatility(equity, per_year),
        sharpe=sharpe(equity, per_year),
        sharpe_daily=sharpe(daily_equity(equity, days.ids[backtest.bars]), days.per_year),
        sortino=sortino(equity, per_year),
        calmar=None if yearly is None or drawdown.depth == 0 else yearly / drawdown.depth,
        drawdown=drawdown,
        exposure=float(np.mean(np.abs(backtest.positions[1:]))) if len(equity) > 1 else 0.0,
        turnover=traded / float(equity.mean()) * per_year / max(1, len(equity) - 1),
        fees=fees,
        slippage=costs - fees,
        break_even_bp=1e4 * float(equity[-1] - equity[0] + costs) / traded if traded > 0 else None,
    )
