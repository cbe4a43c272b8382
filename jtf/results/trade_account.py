"""The account a trade: what closed round trips earned, and which of them. NumPy and pandas only.

Its twin, the account a bar, is `jtf.results.bar_account`. A number that is not defined on the data is None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jtf.results.metrics import profit_factor, win_rate
from jtf.results.trades import Trade
from jtf_env.bars import Bars

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class TradeAccount:
    """Closed round trips, after costs. Fractions are plain numbers (0.01 = 1 %)."""

    num_trades: int
    net: float
    """Sum, USD."""
    win_rate: float | None
    payoff: float | None
    """Mean win over mean loss; None without a win or without a loss."""
    profit_factor: float | None
    """Gross wins over gross losses; None without a loss."""
    expectancy: float | None
    """Mean net a trade, USD."""
    bars_held: float | None
    """Mean."""
    mae: float | None
    """Mean of the maximum adverse excursions: the worst price while held against the entry price, as a fraction."""
    mfe: float | None
    """Mean of the maximum favourable excursions."""


@dataclass(frozen=True)
class TradeAccounts:
    """All closed trades together, and apart; groups without a trade are left out."""

    total: TradeAccount
    by_direction: dict[str, TradeAccount]
    """``long``, ``short``."""
    by_reason: dict[str, TradeAccount]
    """Of the exit: ``signal``, ``stop``, ``take_profit``."""
    by_hour: dict[str, TradeAccount]
    """Hour of the entry on the exchange's clock, ``00`` to ``23``."""
    by_weekday: dict[str, TradeAccount]
    """Of the entry on the exchange's clock."""


@dataclass(frozen=True, eq=False)
class TradeColumns:
    """Closed trades as columns ``[trades]``."""

    net: np.ndarray
    bars_held: np.ndarray
    mae: np.ndarray
    mfe: np.ndarray

    def account(self, chosen: np.ndarray | slice = slice(None)) -> TradeAccount:
        """Return the account of the trades `chosen` (a mask ``[trades]``)."""
        net = self.net[chosen]
        wins, losses = net[net > 0], net[net < 0]
        some = len(net) > 0
        return TradeAccount(
            num_trades=len(net),
            net=float(net.sum()),
            win_rate=win_rate(net),
            payoff=float(wins.mean() / -losses.mean()) if len(wins) and len(losses) else None,
            profit_factor=profit_factor(net),
            expectancy=float(net.mean()) if some else None,
            bars_held=float(self.bars_held[chosen].mean()) if some else None,
            mae=float(self.mae[chosen].mean()) if some else None,
            mfe=float(self.mfe[chosen].mean()) if some else None,
        )


def trade_accounts(trades: Sequence[Trade], bars: Bars, fill: str) -> TradeAccounts:
    """Return the accounts of those of `trades` that are closed; they are of `bars`, whose orders filled at `fill`."""
    closed = [trade for trade in trades if not trade.open_at_end]
    mae, mfe = excursions(closed, bars.high, bars.low, fill)
    columns = TradeColumns(_column(closed, "net"), _column(closed, "bars_held"), mae, mfe)
    entered = bars.timestamps[_column(closed, "entry_bar").astype(np.int64)].tz_convert(bars.timezone)

    def apart(keys: np.ndarray, name: Callable[[int], str]) -> dict[str, TradeAccount]:
        return {name(key): columns.account(keys == key) for key in np.unique(keys).tolist()}

    return TradeAccounts(
        total=columns.account(),
        by_direction=apart(-_column(closed, "direction"), lambda key: "long" if key < 0 else "short"),
        by_reason=apart(np.array([trade.reason for trade in closed], dtype=str), str),
        by_hour=apart(np.asarray(entered.hour), "{:02d}".format),
        by_weekday=apart(np.asarray(entered.day_of_week), WEEKDAYS.__getitem__),
    )


def excursions(trades: Sequence[Trade], high: np.ndarray, low: np.ndarray, fill: str) -> tuple[np.ndarray, np.ndarray]:
    """Return maximum adverse and favourable excursion ``[trades]`` as fractions of the entry price, both at least 0.

    The prices are the highs and lows ``[T]`` of the bars that were held whole, and the exit price. The bar of a stop is
    not held whole; nor, where orders fill at the open, is that of any exit.
    """
    if not trades:
        return np.zeros(0), np.zeros(0)
    at_open = fill == "next_open"
    starts = _column(trades, "entry_bar").astype(np.int64) + (0 if at_open else 1)
    whole = np.array([trade.open_at_end or not (at_open or trade.reason != "signal") for trade in trades])
    stops = _column(trades, "exit_bar").astype(np.int64) + whole
    entry, exit_price, sign = (_column(trades, name) for name in ("entry_price", "exit_price", "direction"))
    highest = np.maximum(_reduce(np.maximum, high, starts, stops, exit_price), exit_price)
    lowest = np.minimum(_reduce(np.minimum, low, starts, stops, exit_price), exit_price)
    up, down = highest / entry - 1.0, 1.0 - lowest / entry
    adverse, favourable = np.where(sign > 0, down, up), np.where(sign > 0, up, down)
    return np.maximum(adverse, 0.0), np.maximum(favourable, 0.0)


def _column(trades: Sequence[Trade], name: str) -> np.ndarray:
    return np.array([getattr(trade, name) for trade in trades], dtype=np.float64)


def _reduce(
    function: np.ufunc, values: np.ndarray, starts: np.ndarray, stops: np.ndarray, empty: np.ndarray
) -> np.ndarray:
    """Return ``[trades]`` `function` over each ``values[start:stop]``, `empty` where that holds nothing."""
    bounds = np.stack([starts, np.maximum(stops, starts)], axis=1).ravel()
    # A value at the end lets a trade reach the last bar; even entries are the ranges, odd ones the gaps between.
    reduced = function.reduceat(np.append(values, values[-1]), bounds)[::2]
    return np.where(stops > starts, reduced, empty)
