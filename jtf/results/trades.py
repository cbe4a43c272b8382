"""Round trips, built from fills alone. No JAX.

A trade runs from flat to flat, or to a flip. It may be entered and left in several fills.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jtf_env.mirror.backtest import Backtest, Fill
from jtf_env.params import EnvParams


class Trade(NamedTuple):
    """One round trip, or the position still open at the last bar."""

    entry_bar: int
    """Bar of the first fill."""
    exit_bar: int
    """Bar of the last fill; the last bar of the backtest where the position is still open."""
    direction: int
    """1 long, -1 short."""
    units: float
    """Largest position, units, positive."""
    entry_price: float
    """Mean price of the fills that added, weighted by units, after slippage, USD."""
    exit_price: float
    """Mean price of the fills that reduced, weighted by units, after slippage, USD; units still held at the end
    count at the last close."""
    gross: float
    """Profit before fees and slippage, USD."""
    costs: float
    """Fees plus slippage paid, USD."""
    net: float
    """``gross - costs``, USD."""
    bars_held: int
    """``exit_bar - entry_bar``."""
    reason: str
    """Of the last fill: ``signal``, ``stop`` or ``take_profit``; ``end`` where the position is still open."""
    open_at_end: bool
    """True where the position is still open at the last bar; nothing was sold and nothing paid for it there."""
    open_units: float
    """Units still held, positive; 0 where closed."""
    closing_cost: float
    """What closing at the last close would cost, fee plus slippage, USD; 0 where closed."""


def trades_from_fills(fills: Iterable[Fill], last_bar: int, last_close: float, params: EnvParams) -> list[Trade]:
    """Return the trades that `fills` make, in order of time; the last one may be open.

    `last_close` (USD) marks what is still held at `last_bar`; `params` price the closing that did not happen.
    """
    columns = dict(zip(Fill._fields, zip(*fills, strict=True), strict=False))
    if not columns:
        return []
    names = ("side", "units", "price", "fee", "cost", "units_after")
    side, units, price, fee, cost, after = (np.array(columns[name], np.float64) for name in names)
    # A trade ends with the fill that leaves nothing; the last one may not.
    last = np.union1d(np.flatnonzero(after == 0), len(after) - 1)
    first = np.concatenate([[0], last[:-1] + 1])

    def total(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, first)

    held = after[last]
    direction = side[first]
    adds = side == np.repeat(direction, last - first + 1)
    costs = total(cost)
    net = held * last_close - total(side * units * price + fee)
    bars = np.array(columns["bar"])
    exit_bar = np.where(held != 0, last_bar, bars[last])
    numbers = {
        "entry_bar": bars[first],
        "exit_bar": exit_bar,
        "direction": direction.astype(np.int64),
        "units": np.maximum.reduceat(np.abs(after), first),
        "entry_price": total(units * price * adds) / total(units * adds),
        "exit_price": (total(units * price * ~adds) + np.abs(held) * last_close)
        / (total(units * ~adds) + np.abs(held)),
        "gross": net + costs,
        "costs": costs,
        "net": net,
        "bars_held": exit_bar - bars[first],
        "reason": np.where(held != 0, "end", np.array(columns["reason"], dtype=str)[last]),
        "open_at_end": held != 0,
        "open_units": np.abs(held),
        "closing_cost": _closing_cost(held, last_close, params),
    }
    return list(map(Trade._make, zip(*(numbers[name].tolist() for name in Trade._fields), strict=True)))


def backtest_trades(backtest: Backtest, params: EnvParams) -> list[Trade]:
    """Return the trades of a backtest that was run with `params`."""
    return trades_from_fills(backtest.fills, int(backtest.bars[-1]), float(backtest.closes[-1]), params)


def _closing_cost(held: np.ndarray, close: float, params: EnvParams) -> np.ndarray:
    slipped = close * (1.0 - np.sign(held) * params.slippage)
    return np.abs(held) * (params.fee * slipped + np.abs(close - slipped))
