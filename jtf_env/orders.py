"""Orders, fills, stops and money: pure functions from one account to the next.

Entry prices and stop triggers are float32 whatever the precision of the market, and made of operations whose float32
result is one number: exact products, one addition, products rounded once. No compiler may change them by contracting
a multiplication and an addition, so the mirror compares the same numbers and makes the same trades.
"""

from dataclasses import replace
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jtf_env.actions import LEVELS
from jtf_env.params import EnvParams
from jtf_env.state import EnvState

Tree = TypeVar("Tree")

RECIPROCAL = np.array([0.0, 1.0, 1 / 2, 1 / 3, 1 / 4], np.float32)
"""One over a number of levels."""


class BarPrices(NamedTuple):
    """Prices of the bar a step ends at, USD."""

    open: jax.Array
    high: jax.Array
    low: jax.Array
    close: jax.Array


class Fill(NamedTuple):
    """What one fill did. All zero when nothing was traded."""

    price: jax.Array
    """After slippage, USD."""
    notional: jax.Array
    """Traded, USD."""
    cost: jax.Array
    """Fee and slippage, USD."""
    closed: jax.Array
    """bool, a round trip ended."""
    pnl: jax.Array
    """Of that round trip, after costs, USD."""


def select(condition: jax.Array, yes: Tree, no: Tree) -> Tree:
    """Return the tree `yes` where the scalar `condition` holds, else `no`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def fill_price(raw: jax.Array, direction: jax.Array, slippage: jax.Array | float) -> jax.Array:
    """Return `raw` moved against the trader: up for a buy (`direction` 1), down for a sale (-1)."""
    return raw * (1.0 + direction * slippage)


def single(value: jax.Array | float) -> jax.Array:
    """Return `value` rounded to float32."""
    return jnp.asarray(value, jnp.float32)


def move_price(price: jax.Array, side: jax.Array, fraction: jax.Array | float) -> jax.Array:
    """Return the float32 `price` moved by `fraction` of itself, up for `side` 1, down for -1: one rounded product."""
    return price * (1.0 + side.astype(jnp.float32) * single(fraction))


def weigh(price: jax.Array, levels: jax.Array) -> jax.Array:
    """Return ``price * levels`` in float32 for 0..4 levels: exact but for 3, where ``2 price + price`` is rounded once.

    A product in its place would be contracted into the addition that follows, which skips the rounding.
    """
    return jnp.where(levels == 3, 2.0 * price + price, price * levels.astype(jnp.float32))


def average_entry(entry: jax.Array, old_size: jax.Array, price: jax.Array, new_size: jax.Array) -> jax.Array:
    """Return the average entry price after a fill at `price`: of the fills that made the position, weighted by levels.

    All prices are float32. `old_size` and `new_size` are levels of one side, 0..4. A reduced position keeps its
    average, a position from flat has the fill price, flat is 0.
    """
    total = weigh(entry, old_size) + weigh(price, jnp.maximum(new_size - old_size, 0))
    # A GPU divides to within two units in the last place; the product with a rounded constant is one number everywhere.
    average = total * jnp.asarray(RECIPROCAL).at[new_size].get(mode="promise_in_bounds")
    kept = jnp.where(new_size > old_size, average, entry)
    return jnp.where(new_size == 0, 0.0, jnp.where(old_size == 0, price, kept))


def trade_units(
    state: EnvState, target: jax.Array, raw: jax.Array, price: jax.Array, params: EnvParams
) -> tuple[jax.Array, jax.Array]:
    """Return ``(kept, added)``: signed units kept of the old position, and new ones, to reach level `target`.

    Reducing keeps ``|target| / |level|`` of the units and crossing zero keeps none. Adding `k` levels spends
    ``k / 4 * max_position * equity`` (fee included) at `price`, but no more than what the units kept leave of
    ``max_position * equity``; equity is marked at the raw fill price before costs.
    """
    same_side = target * state.level > 0
    old_size = jnp.where(same_side, jnp.abs(state.level), 0)
    new_size = jnp.abs(target)
    share = jnp.minimum(new_size, old_size).astype(raw.dtype) / jnp.maximum(old_size, 1).astype(raw.dtype)
    kept = state.units * share
    limit = params.max_position * (state.cash + state.units * raw)
    wanted = jnp.maximum(new_size - old_size, 0).astype(raw.dtype) / LEVELS * limit
    budget = jnp.maximum(jnp.minimum(wanted, limit - jnp.abs(kept) * raw), 0.0)
    return kept, jnp.sign(target).astype(raw.dtype) * budget / (price * (1.0 + params.fee))


def settle(
    cash: jax.Array, units: jax.Array, raw: jax.Array, price: jax.Array, params: EnvParams
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pay for `units` (negative: sold) at `price`; return ``(cash, notional, cost)``.

    No other code moves money.
    """
    size = jnp.abs(units)
    notional = size * price
    fee = notional * params.fee
    # raw * slippage is |price - raw| without the cancellation.
    return cash - units * price - fee, notional, fee + size * raw * params.slippage


def apply_order(state: EnvState, target: jax.Array, raw: jax.Array, params: EnvParams) -> tuple[EnvState, Fill]:
    """Go from the level held to level `target` in one fill at the raw price `raw`, moved by slippage.

    The same level trades nothing at all. The average entry price changes when levels are added, never when
    they are reduced (`average_entry`). Crossing zero closes the round trip and opens the next at the same price.
    """
    direction = jnp.sign(target - state.level)
    price = fill_price(raw, direction.astype(raw.dtype), params.slippage)
    kept, added = trade_units(state, target, raw, price, params)
    cash_closed, notional_closed, cost_closed = settle(state.cash, kept - state.units, raw, price, params)
    cash, notional_opened, cost_opened = settle(cash_closed, added, raw, price, params)
    same_side = target * state.level > 0
    closed = (state.level != 0) & ~same_side
    old_size = jnp.where(same_side, jnp.abs(state.level), 0)
    # The select keeps the product of `move_price` from being contracted into the sum of the average.
    entry = jnp.where(direction == 0, single(raw), move_price(single(raw), direction, params.slippage))
    filled = replace(
        state,
        level=target,
        cash=cash,
        units=kept + added,
        entry_price=average_entry(state.entry_price, old_size, entry, jnp.abs(target)),
        cash_at_entry=jnp.where(same_side, state.cash_at_entry, cash_closed),
    )
    fill = Fill(
        price=jnp.where(target == state.level, 0.0, price),
        notional=notional_closed + notional_opened,
        cost=cost_closed + cost_opened,
        closed=closed,
        pnl=jnp.where(closed, cash_closed - state.cash_at_entry, 0.0),
    )
    return filled, fill


def trigger(state: EnvState, bar: BarPrices, params: EnvParams) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ``(stop_hit, take_profit_hit, raw)`` for the position held through `bar`.

    Triggers are measured from the average entry price and compared in float32: a price equal to one touches it.
    A bar that opens beyond a trigger fills at its open, else at the trigger. When one bar touches both, the stop
    is taken.
    """
    long = state.level > 0
    side = jnp.sign(state.level)
    stop = move_price(state.entry_price, -side, params.stop_loss)
    take = move_price(state.entry_price, side, params.take_profit)
    low, high = single(bar.low), single(bar.high)
    stop_hit = (params.stop_loss > 0) & jnp.where(long, low <= stop, high >= stop)
    take_hit = (params.take_profit > 0) & jnp.where(long, high >= take, low <= take) & ~stop_hit
    # A long stop and a short target fill at the lower of open and trigger, the other two at the higher.
    at = jnp.where(stop_hit, stop, take).astype(bar.open.dtype)
    raw = jnp.where(long == stop_hit, jnp.minimum(bar.open, at), jnp.maximum(bar.open, at))
    return stop_hit, take_hit, raw


def check_stops(
    state: EnvState, armed: jax.Array, bar: BarPrices, params: EnvParams
) -> tuple[EnvState, Fill, jax.Array, jax.Array]:
    """Close an `armed` position whose stop-loss or take-profit `bar` touched: state, fill, both flags."""
    armed = armed & (state.level != 0)
    stop_hit, take_hit, raw = trigger(state, bar, params)
    stop_hit, take_hit = stop_hit & armed, take_hit & armed
    hit = stop_hit | take_hit
    price = fill_price(raw, -jnp.sign(state.level).astype(raw.dtype), params.slippage)
    cash, notional, cost = settle(state.cash, -state.units, raw, price, params)
    zero = jnp.zeros_like(cash)
    flat = replace(
        state,
        cash=cash,
        units=zero,
        level=jnp.zeros_like(state.level),
        entry_price=jnp.zeros_like(state.entry_price),
        cash_at_entry=cash,
    )
    fill = Fill(price, notional, cost, hit, cash - state.cash_at_entry)
    none = Fill(zero, zero, zero, hit, zero)
    return select(hit, flat, state), select(hit, fill, none), stop_hit, take_hit
