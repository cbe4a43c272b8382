"""The environment: account state, orders, stops, rewards, endings, as pure functions of one environment.

``state, action, market, params`` go in, a new state and a `StepResult` come out; `jax.vmap` makes batches.
A state is 56 bytes and holds the bar *index*, never a window; a step gathers 17 bytes of the market and does
about 150 arithmetic operations, so on an accelerator it is bound by the 112 bytes of state read and written.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jtf_env.account import account_columns
from jtf_env.actions import LEVELS, NUM_ACTIONS, next_level_table
from jtf_env.constants import BREAK_EVEN
from jtf_env.market import Market
from jtf_env.orders import BarPrices, Fill, apply_order, check_stops, select
from jtf_env.params import EnvParams, RewardWeights
from jtf_env.rewards import (
    RewardComponents,
    clipped_return,
    differential_sharpe,
    direction_reward,
    drawdown_reward,
    log_growth,
    magnitude_reward,
    slippage_reward,
    stop_tp_reward,
    weighted_reward,
)
from jtf_env.state import EnvState, StepInfo, StepResult

__all__ = [
    "EnvParams",
    "EnvState",
    "RewardWeights",
    "StepInfo",
    "StepResult",
    "autoreset_step",
    "autoreset_step_at",
    "draw_start_bar",
    "observe",
    "reset",
    "reset_at",
    "restart",
    "start_row",
    "step",
    "step_to",
]


class Fills(NamedTuple):
    """The fills of one step and what the reward needs to know about them."""

    order: Fill
    stop: Fill
    raw: jax.Array
    """Price of the order's fill before slippage, USD; the price move of the reward starts here."""
    level: jax.Array
    """int32, level held after the order, before the stops."""
    stop_hit: jax.Array
    take_profit_hit: jax.Array
    dropped: jax.Array


def _read(array: jax.Array, *index: jax.Array) -> jax.Array:
    # Bars and levels are in bounds by construction; saying so spares the bounds arithmetic of every gather.
    return array.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def reset_at(bar: jax.Array | int, market: Market, params: EnvParams) -> EnvState:
    """Return a flat account at the close of bar `bar`: the deterministic reset."""
    dtype = market.close.dtype
    money = jnp.asarray(params.initial_equity, dtype)
    zero = jnp.zeros((), dtype)
    count = jnp.zeros((), jnp.int32)
    return EnvState(
        bar=jnp.asarray(bar, jnp.int32),
        steps=count,
        level=count,
        cash=money,
        units=zero,
        entry_price=jnp.zeros((), jnp.float32),
        cash_at_entry=money,
        equity=money,
        peak_equity=money,
        dsr_mean=zero,
        dsr_square=zero,
        num_trades=count,
        num_wins=count,
        dropped_orders=count,
    )


def draw_start_bar(key: jax.Array, market: Market) -> jax.Array:
    """Draw the start bar (int32) uniformly from the market's start rows. Consumes `key`."""
    return _read(market.start_rows, jax.random.randint(key, (), 0, market.num_starts, jnp.int32))


def start_row(bits: jax.Array, market: Market) -> jax.Array:
    """Return the start row (int32) of random `bits` (uint32): ``start_rows[bits % num_starts]``.

    2^32 is not a multiple of `num_starts`: the probabilities of two rows differ by a part in ``2^32 / num_starts``.
    """
    return _read(market.start_rows, (bits % market.num_starts.astype(jnp.uint32)).astype(jnp.int32))


def reset(key: jax.Array, market: Market, params: EnvParams) -> EnvState:
    """Return a flat account at a uniformly drawn start bar. Consumes `key`."""
    return reset_at(draw_start_bar(key, market), market, params)


def step(state: EnvState, action: jax.Array, market: Market, params: EnvParams) -> tuple[EnvState, StepResult]:
    """Execute the decision `action` (int32, 0..7) taken at the close of ``state.bar``; end one bar later.

    Pure. Order of events: the order fills (open of the next bar, or the close just seen), stops are checked
    on the next bar, equity is marked at its close. A step from the last row of a stretch stays there.
    """
    bar = state.bar + (state.bar < _read(market.segment_end, state.bar)).astype(jnp.int32)
    return step_to(bar, state, action, market, params)


def step_to(
    bar: jax.Array, state: EnvState, action: jax.Array, market: Market, params: EnvParams
) -> tuple[EnvState, StepResult]:
    """`step`, where it is known that the step ends at `bar` (int32): the row after ``state.bar`` in its stretch."""
    prices = BarPrices(*(_read(column, bar) for column in (market.open, market.high, market.low, market.close)))
    after, fills = execute(state, action, bar, prices, market, params)
    final, info = mark(state, after, fills, bar, prices.close, params)
    terminated, truncated = endings(final, market, params)
    return final, StepResult(weighted_reward(info.components, params.reward), terminated, truncated, info)


def execute(
    state: EnvState, action: jax.Array, bar: jax.Array, prices: BarPrices, market: Market, params: EnvParams
) -> tuple[EnvState, Fills]:
    """Fill the order, then check the stops on `bar`, unless its own open is where the position came from."""
    bar_tradable = _read(market.tradable, bar)
    if params.fill == "next_open":
        raw, fill_tradable = prices.open, bar_tradable
    else:
        raw, fill_tradable = _read(market.close, state.bar), _read(market.tradable, state.bar)
    table = next_level_table(params.allow_short)
    # Read by one index: a gather by two is a kernel of its own on a GPU.
    wanted = _read(jnp.asarray(table.ravel()), (state.level + LEVELS) * NUM_ACTIONS + action)
    target = jnp.where(fill_tradable, wanted, state.level)
    held, order = apply_order(state, target, raw, params)
    armed = bar_tradable
    if params.fill == "next_open":
        armed &= target * state.level > 0
    after, stop, stop_hit, take_hit = check_stops(held, armed, prices, params)
    return after, Fills(order, stop, raw, target, stop_hit, take_hit, wanted != target)


def mark(
    state: EnvState, after: EnvState, fills: Fills, bar: jax.Array, close: jax.Array, params: EnvParams
) -> tuple[EnvState, StepInfo]:
    """Mark the account `after` the fills at `close`: the final state, and what happened since `state`."""
    order, stop = fills.order, fills.stop
    equity = after.cash + after.units * close
    growth = log_growth(equity, state.equity)
    dsr, dsr_mean, dsr_square = differential_sharpe(growth, state.dsr_mean, state.dsr_square, params.dsr_decay)
    closed = order.closed.astype(jnp.int32) + stop.closed.astype(jnp.int32)
    least = BREAK_EVEN * state.equity
    wins = (order.pnl > least).astype(jnp.int32) + (stop.pnl > least).astype(jnp.int32)
    final = replace(
        after,
        bar=bar,
        steps=state.steps + 1,
        equity=equity,
        peak_equity=jnp.maximum(state.peak_equity, equity),
        dsr_mean=dsr_mean,
        dsr_square=dsr_square,
        num_trades=state.num_trades + closed,
        num_wins=state.num_wins + wins,
        dropped_orders=state.dropped_orders + fills.dropped.astype(jnp.int32),
    )
    cost = order.cost + stop.cost
    exposure = fills.level.astype(equity.dtype) / LEVELS
    move = (close - fills.raw) / fills.raw
    components = RewardComponents(
        pnl=params.reward_scale * growth,
        direction=direction_reward(exposure, move),
        dsr=dsr,
        stop_tp=stop_tp_reward(fills.stop_hit, fills.take_profit_hit, equity.dtype),
        slippage=slippage_reward(cost, state.equity, params.reward_scale),
        magnitude=magnitude_reward(exposure, move, params.reward_scale),
        drawdown=drawdown_reward(equity, final.peak_equity),
        clipped_pnl=clipped_return(growth, params.reward_scale),
    )
    info = StepInfo(
        equity=equity,
        position=after.units * close / equity,
        traded_notional=order.notional + stop.notional,
        cost=cost,
        fill_price=order.price,
        trades_closed=closed,
        trade_pnl=order.pnl + stop.pnl,
        stop_hit=fills.stop_hit,
        take_profit_hit=fills.take_profit_hit,
        order_dropped=fills.dropped,
        components=components,
    )
    return final, info


def endings(state: EnvState, market: Market, params: EnvParams) -> tuple[jax.Array, jax.Array]:
    """Return ``(terminated, truncated)``: ruin, else the end of the episode length or of the stretch."""
    terminated = state.equity <= state.peak_equity * (1.0 - params.max_drawdown)
    out_of_steps = (params.episode_bars > 0) & (state.steps >= params.episode_bars)
    out_of_data = state.bar >= _read(market.segment_end, state.bar)
    return terminated, ~terminated & (out_of_steps | out_of_data)


def autoreset_step_at(
    start_bar: jax.Array, state: EnvState, action: jax.Array, market: Market, params: EnvParams
) -> tuple[EnvState, StepResult, EnvState]:
    """Step, and restart at `start_bar` if the episode ended: ``(next_state, result, final_state)``.

    ``final_state`` is the state the step ended in, before any restart; its ``bar`` is the final address.
    """
    final, result = step(state, action, market, params)
    return restart(start_bar, final, result, market, params), result, final


def restart(start_bar: jax.Array, final: EnvState, result: StepResult, market: Market, params: EnvParams) -> EnvState:
    """Return `final`, or a flat account at `start_bar` if the episode ended with `result`."""
    return select(result.terminated | result.truncated, reset_at(start_bar, market, params), final)


def autoreset_step(
    key: jax.Array, state: EnvState, action: jax.Array, market: Market, params: EnvParams
) -> tuple[EnvState, StepResult, EnvState]:
    """`autoreset_step_at` with a start bar drawn from `key` (consumed whether or not the episode ended)."""
    return autoreset_step_at(draw_start_bar(key, market), state, action, market, params)


def observe(market: Market, state: EnvState, params: EnvParams) -> jax.Array:
    """Return the observation ``[W, F + C + E]`` at the state's bar, oldest row first, columns in the layout's order.

    The `C` context columns and the `E` account columns (`account_columns`) are the same in every row.
    """
    features = jax.lax.dynamic_slice_in_dim(market.features, state.bar - (market.window - 1), market.window)
    account = account_columns(state, market.layout, params).astype(features.dtype)
    constant = jnp.concatenate([_read(market.context, state.bar), account])
    built = jnp.concatenate([features, jnp.broadcast_to(constant, (market.window, constant.shape[0]))], axis=1)
    order = market.layout.observation_order
    return built if order == tuple(range(len(order))) else built[:, jnp.array(order)]
