"""Orders, fills, stops and money: pure functions from one account to the next."""

from dataclasses import replace
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jtf_env.actions import LEVELS
from jtf_env.params import EnvParams
from jtf_env.state import EnvState

TOUCH = 1e-6
"""A price this close to a trigger (fraction) touches it, so that float32 and float64 agree on exact ties."""

Tree = TypeVar("Tree")


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

    The same level trades nothing at all. The average entry price changes when units are added, never when
    they are reduced. Crossing zero closes the round trip and opens the next at the same price.
    """
    price = fill_price(raw, jnp.sign(target - state.level).astype(raw.dtype), params.slippage)
    kept, added = trade_units(state, target, raw, price, params)
    cash_closed, notional_closed, cost_closed = settle(state.cash, kept - state.units, raw, price, params)
    cash, notional_opened, cost_opened = settle(cash_closed, added, raw, price, params)
    same_side = target * state.level > 0
    closed = (state.level != 0) & ~same_side
    units = kept + added
    average = (kept * state.entry_price + added * price) / jnp.where(units == 0, 1.0, units)
    filled = replace(
        state,
        level=target,
        cash=cash,
        units=units,
        entry_price=jnp.where(same_side & (added == 0), state.entry_price, average),
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

    Triggers are measured from the average entry price. A bar that opens beyond a trigger fills at its open,
    else at the trigger. When one bar touches both, the stop is taken.
    """
    side = jnp.sign(state.level).astype(bar.open.dtype)
    stop = state.entry_price * (1.0 - side * params.stop_loss)
    take = state.entry_price * (1.0 + side * params.take_profit)
    worst = jnp.where(side > 0, bar.low, bar.high)
    best = jnp.where(side > 0, bar.high, bar.low)
    stop_hit = (params.stop_loss > 0) & (side * (worst - stop) <= TOUCH * state.entry_price)
    take_hit = (params.take_profit > 0) & (side * (best - take) >= -TOUCH * state.entry_price) & ~stop_hit
    at_stop = side * jnp.minimum(side * bar.open, side * stop)
    at_take = side * jnp.maximum(side * bar.open, side * take)
    return stop_hit, take_hit, jnp.where(stop_hit, at_stop, at_take)


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
        state, cash=cash, units=zero, level=jnp.zeros_like(state.level), entry_price=zero, cash_at_entry=cash
    )
    fill = Fill(price, notional, cost, hit, cash - state.cash_at_entry)
    none = Fill(zero, zero, zero, hit, zero)
    return select(hit, flat, state), select(hit, fill, none), stop_hit, take_hit
