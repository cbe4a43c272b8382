"""Orders, fills, stops and money in plain Python floats: a broker's rules, one case after the other."""

from functools import cache
from typing import NamedTuple

from jtf_env.actions import LEVELS, next_level_table
from jtf_env.params import EnvParams

TOUCH = 1e-6


class Account(NamedTuple):
    """Money and position."""

    cash: float
    """USD."""
    units: float = 0.0
    """Units held, negative when short."""
    level: int = 0
    """Position in quarters of the maximum, -4..4."""
    entry_price: float = 0.0
    """Average entry price of the units held, USD; 0 when flat."""
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
    units = account.units + bought
    cash_at_entry = account.cash_at_entry if account.level != 0 else account.cash
    entry_price = account.entry_price
    if bought != 0:
        entry_price = (account.units * account.entry_price + bought * price) / units
    return Account(cash, units, target, entry_price, cash_at_entry), Leg(
        bought, price, cost, True, False, 0.0, "signal"
    )


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
    """Return ``(reason, raw price)`` of the stop-loss or take-profit that `bar` touches; the stop comes first."""
    entry = account.entry_price
    touch = TOUCH * entry
    if account.level > 0:
        stop, take = entry - entry * params.stop_loss, entry + entry * params.take_profit
        if params.stop_loss > 0 and bar.low <= stop + touch:
            return "stop", min(bar.open, stop)
        if params.take_profit > 0 and bar.high >= take - touch:
            return "take_profit", max(bar.open, take)
    else:
        stop, take = entry + entry * params.stop_loss, entry - entry * params.take_profit
        if params.stop_loss > 0 and bar.high >= stop - touch:
            return "stop", max(bar.open, stop)
        if params.take_profit > 0 and bar.low <= take + touch:
            return "take_profit", min(bar.open, take)
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
