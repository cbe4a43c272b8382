"""Orders, fills, stops and money in plain Python floats: a broker's rules, one case after the other.

Entry prices and stop triggers alone are `np.float32`, with the few operations of `jtf_env.orders`: both sides compare
the same numbers.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from jtf_env.actions import LEVELS, next_level_table
from jtf_env.params import EnvParams


class Account(NamedTuple):
    """Money and position."""

    cash: float
    """USD."""
    units: float = 0.0
    """Units held, negative when short."""
    level: int = 0
    """Position in quarters of the maximum, -4..4."""
    entry_price: float = 0.0
    """Average fill price of the position, weighted by levels, USD, a float32 number; 0 when flat."""
    cash_at_entry: float = 0.0
    """Cash just before the open trade began, USD; when flat, cash."""


class Leg(NamedTuple):
    """One fill that either opens or adds to a position, or reduces or closes it. A flip has two legs."""

    units: float
    """Units traded, negative when sold."""
    price: float
    """After slippage, USD."""
    cost: float
    """Fee and slippage, USD."""
    adds: bool
    """True for opening or adding."""
    closes: bool
    """True when a round trip ends with this leg."""
    pnl: float
    """Of that round trip, after costs, USD; 0 otherwise."""
    reason: str
    """``signal``, ``stop`` or ``take_profit``."""


class BarView(NamedTuple):
    """What a step may touch: the bar it ends at, and the close it was decided at. Prices in USD."""

    open: float
    high: float
    low: float
    close: float
    tradable: bool
    close_before: float
    tradable_before: bool


class Execution(NamedTuple):
    """The fills of one step."""

    account: Account
    legs: tuple[Leg, ...]
    dropped: bool
    """The order met an untradable bar."""
    raw: float
    """Price of the order before slippage, USD."""
    held_level: int
    """Level after the order, before the stops."""


ONE, TWO = np.float32(1), np.float32(2)


def moved(price: float, side: int, fraction: float) -> np.float32:
    """Return `price` in float32, moved by `fraction` of itself: up for `side` 1, down for -1."""
    step = np.float32(fraction)
    return np.float32(price) * (ONE + step if side > 0 else ONE - step)


def weighed(price: np.float32, levels: int) -> np.float32:
    """Return ``levels * price`` in float32."""
    return TWO * price + price if levels == 3 else np.float32(levels) * price


def entry_after_adding(account: Account, price: np.float32, target: int) -> float:
    """Return the average of the fill prices, weighted by levels, when levels filled at `price` raise it to `target`."""
    held, size = abs(account.level), abs(target)
    if held == 0:
        return float(price)
    total = weighed(np.float32(account.entry_price), held) + weighed(price, size - held)
    return float(total * (ONE / np.float32(size)))


@cache
def level_table(allow_short: bool) -> list[list[int]]:
    """Return `next_level_table` as lists: ``table[level + LEVELS][action]``."""
    return next_level_table(allow_short).tolist()


def pay(account: Account, units: float, price: float, raw: float, params: EnvParams) -> tuple[float, float]:
    """Return ``(cash, cost)`` after buying `units` (negative: selling) at `price` where the market quoted `raw`."""
    fee = params.fee * price * abs(units)
    slipped = (price - raw) * units
    return account.cash - price * units - fee, fee + slipped


def reduce_position(
    account: Account, target: int, price: float, raw: float, params: EnvParams, reason: str
) -> tuple[Account, Leg]:
    """Go down to level `target` of the same side, or to flat: the share of units kept is that of the levels."""
    if target == 0:
        cash, cost = pay(account, -account.units, price, raw, params)
        leg = Leg(-account.units, price, cost, False, True, cash - account.cash_at_entry, reason)
        return Account(cash, cash_at_entry=cash), leg
    sold = account.units * (account.level - target) / account.level
    cash, cost = pay(account, -sold, price, raw, params)
    leg = Leg(-sold, price, cost, False, False, 0.0, reason)
    return account._replace(cash=cash, units=account.units - sold, level=target), leg


def add_position(
    account: Account, target: int, price: float, raw: float, equity: float, params: EnvParams
) -> tuple[Account, Leg]:
    """Go up to level `target` of the same side, or open it from flat, spending at most what the maximum leaves."""
    maximum = params.max_position * equity
    budget = maximum * abs(target - account.level) / LEVELS
    room = maximum - abs(account.units) * raw
    budget = max(0.0, min(budget, room))
    bought = budget / (price + price * params.fee)
    if target < 0:
        bought = -bought
    cash, cost = pay(account, bought, price, raw, params)
    cash_at_entry = account.cash_at_entry if account.level != 0 else account.cash
    entry_price = entry_after_adding(account, moved(raw, target, params.slippage), target)
    after = Account(cash, account.units + bought, target, entry_price, cash_at_entry)
    return after, Leg(bought, price, cost, True, False, 0.0, "signal")


def apply_order(account: Account, target: int, raw: float, params: EnvParams) -> tuple[Account, tuple[Leg, ...]]:
    """Go from the level held to `target` at one price: first what is given up, then what is added."""
    level = account.level
    if target == level:
        return account, ()
    price = raw + raw * params.slippage if target > level else raw - raw * params.slippage
    equity = account.cash + account.units * raw
    if level == 0 or (target * level > 0 and abs(target) > abs(level)):
        account, added = add_position(account, target, price, raw, equity, params)
        return account, (added,)
    if target * level >= 0:
        account, reduced = reduce_position(account, target, price, raw, params, "signal")
        return account, (reduced,)
    account, closed = reduce_position(account, 0, price, raw, params, "signal")
    account, opened = add_position(account, target, price, raw, equity, params)
    return account, (closed, opened)


def stop_fill(account: Account, bar: BarView, params: EnvParams) -> tuple[str, float] | None:
    """Return ``(reason, raw price)`` of the stop-loss or take-profit that `bar` touches; the stop comes first.

    A price touches a trigger when the two are equal in float32.
    """
    side = 1 if account.level > 0 else -1
    worst, best = (bar.low, bar.high) if side > 0 else (bar.high, bar.low)
    worse, better = (min, max) if side > 0 else (max, min)
    if params.stop_loss > 0:
        stop = moved(account.entry_price, -side, params.stop_loss)
        if side * np.float32(worst) <= side * stop:
            return "stop", worse(bar.open, float(stop))
    if params.take_profit > 0:
        take = moved(account.entry_price, side, params.take_profit)
        if side * np.float32(best) >= side * take:
            return "take_profit", better(bar.open, float(take))
    return None


def execute(account: Account, action: int, bar: BarView, params: EnvParams) -> Execution:
    """Fill the order of `action`, then check the stops on `bar`."""
    next_open = params.fill == "next_open"
    raw = bar.open if next_open else bar.close_before
    tradable = bar.tradable if next_open else bar.tradable_before
    before = account.level
    target = level_table(params.allow_short)[before + LEVELS][action]
    dropped = target != before and not tradable
    legs: tuple[Leg, ...] = ()
    if not dropped:
        account, legs = apply_order(account, target, raw, params)
    held = account.level
    just_opened = next_open and before * held <= 0
    if held == 0 or just_opened or not bar.tradable:
        return Execution(account, legs, dropped, raw, held)
    hit = stop_fill(account, bar, params)
    if hit is not None:
        reason, trigger = hit
        price = trigger * (1.0 - params.slippage if held > 0 else 1.0 + params.slippage)
        account, leg = reduce_position(account, 0, price, trigger, params, reason)
        legs = (*legs, leg)
    return Execution(account, legs, dropped, raw, held)
