"""Round trips, built from fills alone. No JAX.

A trade runs from flat to flat, or to a flip. It may be entered and left in several fills.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

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
    return [_trade(group, last_bar, last_close, params) for group in _round_trips(fills)]


def backtest_trades(backtest: Backtest, params: EnvParams) -> list[Trade]:
    """Return the trades of a backtest that was run with `params`."""
    return trades_from_fills(backtest.fills, int(backtest.bars[-1]), float(backtest.closes[-1]), params)


def _round_trips(fills: Iterable[Fill]) -> Iterator[list[Fill]]:
    group: list[Fill] = []
    for fill in fills:
        group.append(fill)
        if fill.units_after == 0:
            yield group
            group = []
    if group:
        yield group


def _trade(fills: Sequence[Fill], last_bar: int, last_close: float, params: EnvParams) -> Trade:
    direction = fills[0].side
    added = [(fill.units, fill.price) for fill in fills if fill.side == direction]
    reduced = [(fill.units, fill.price) for fill in fills if fill.side != direction]
    held = fills[-1].units_after
    is_open = held != 0
    if is_open:
        reduced.append((abs(held), last_close))
    costs = sum(fill.cost for fill in fills)
    net = held * last_close - sum(fill.side * fill.units * fill.price + fill.fee for fill in fills)
    exit_bar = last_bar if is_open else fills[-1].bar
    return Trade(
        entry_bar=fills[0].bar,
        exit_bar=exit_bar,
        direction=direction,
        units=max(abs(fill.units_after) for fill in fills),
        entry_price=_mean_price(added),
        exit_price=_mean_price(reduced),
        gross=net + costs,
        costs=costs,
        net=net,
        bars_held=exit_bar - fills[0].bar,
        reason="end" if is_open else fills[-1].reason,
        open_at_end=is_open,
        open_units=abs(held),
        closing_cost=_closing_cost(held, last_close, params),
    )


def _mean_price(parts: Sequence[tuple[float, float]]) -> float:
    return sum(units * price for units, price in parts) / sum(units for units, _ in parts)


def _closing_cost(held: float, close: float, params: EnvParams) -> float:
    slipped = close - close * params.slippage if held > 0 else close + close * params.slippage
    return abs(held) * (params.fee * slipped + abs(close - slipped))
