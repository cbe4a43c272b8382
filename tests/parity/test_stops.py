"""Stops at a touch: both sides compare the same float32 numbers, so no trade ever differs (contract, sentence 10)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtf_env import environment
from jtf_env.actions import BUY_75, HOLD, NUM_ACTIONS, SELL_75
from jtf_env.layouts import get_layout
from jtf_env.market import Market, device_rows
from jtf_env.mirror import environment as mirror_environment
from jtf_env.mirror.market import Market as MirrorMarket
from jtf_env.params import EnvParams
from jtf_env.stretches import stretch_rows

SEEDS, STEPS = 20, 20_000
PRICES = ("open", "high", "low", "close")
PARAMS = EnvParams(fee=25e-4, slippage=2e-4, stop_loss=0.01, take_profit=0.015, episode_bars=0, max_drawdown=1.0)


def bare_markets(prices: dict[str, np.ndarray]) -> tuple[Market, MirrorMarket]:
    """Markets of prices alone, without columns, every bar tradable."""
    num_bars = len(prices["close"])
    rows = stretch_rows([(0, num_bars)], num_bars)
    static = {"layout": get_layout("v5.6.0"), "window": 1, "first_bar": 0}
    arrays = {name: np.zeros((num_bars, 0)) for name in ("features", "context")}
    arrays |= {name: np.asarray(prices[name], np.float64) for name in PRICES}
    device = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
    tradable = np.ones(num_bars, bool)
    return (
        Market(**device, tradable=jnp.asarray(tradable), **device_rows(rows), **static),
        MirrorMarket(**arrays, tradable=tradable, **rows._asdict(), **static),
    )


@pytest.fixture(scope="module")
def bitcoin(real_data) -> tuple[Market, MirrorMarket]:
    bars = pd.read_parquet(real_data / "BTCUSDT_15Min.parquet")
    return bare_markets({name: bars[name].to_numpy() for name in PRICES})


@jax.jit
def device_paths(market, params, starts, actions):
    """``[B, N]`` trades of ``actions [B, N]`` from ``starts [B]``."""

    def one(state, action):
        state, result = environment.step(state, action, market, params)
        info = result.info
        return state, (state.level, info.trades_closed, info.stop_hit, info.take_profit_hit, state.entry_price)

    def play(start, path):
        return jax.lax.scan(one, environment.reset_at(start, market, params), path)[1]

    return jax.vmap(play)(starts, actions)


def mirror_path(market, params, start, actions):
    state, rows = mirror_environment.reset_at(start, market, params), []
    for action in actions:
        state, result = mirror_environment.step(state, action, market, params)
        info = result.info
        rows.append((state.level, info.trades_closed, info.stop_hit, info.take_profit_hit, state.entry_price))
    return rows


def assert_same_trades(markets, params, starts, actions):
    """Every level, closed trade, stop flag and entry price is the same number on both sides; return them."""
    found = jax.device_get(device_paths(markets[0], params, jnp.asarray(starts), jnp.asarray(actions)))
    for i, (start, path) in enumerate(zip(starts.tolist(), actions.tolist(), strict=True)):
        expected = np.array(mirror_path(markets[1], params, start, path)).T
        for values, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(values[i], wanted)
    return found


@pytest.mark.parametrize(("fill", "slippage"), [("next_open", 2e-4), ("close", 0.0)])
def test_real_bars_and_random_actions_make_the_same_trades_without_exception(bitcoin, fill, slippage):
    rng = np.random.default_rng([fill == "close", slippage > 0])
    starts = rng.integers(0, bitcoin[0].num_bars - STEPS - 1, SEEDS, np.int32)
    actions = rng.integers(0, NUM_ACTIONS, (SEEDS, STEPS), np.int32)
    params = replace(PARAMS, slippage=slippage, fill=fill)
    _, _, stops, takes, _ = assert_same_trades(bitcoin, params, starts, actions)
    assert stops.sum() > 1_000 and takes.sum() > 500


def random_accounts(count: int):
    """``[count]`` flat or holding accounts after 12 random actions each, and one more random action."""
    rng = np.random.default_rng(12)
    prices = {name: np.round(100 * np.exp(0.02 * rng.standard_normal(400)), 2) for name in ("open", "close")}
    prices["high"] = np.maximum(prices["open"], prices["close"]) * 1.01
    prices["low"] = np.minimum(prices["open"], prices["close"]) / 1.01
    market = bare_markets(prices)[0]
    step = jax.jit(jax.vmap(environment.step, (0, 0, None, None)))
    starts = jnp.asarray(rng.integers(0, 380, count), jnp.int32)
    states = jax.vmap(environment.reset_at, (0, None, None))(starts, market, PARAMS)
    for actions in rng.integers(0, NUM_ACTIONS, (12, count), np.int32):
        states, _ = step(states, jnp.asarray(actions), market, PARAMS)
    return states, jnp.asarray(rng.integers(0, NUM_ACTIONS, count, np.int32)), market


def test_entry_prices_and_stop_flags_are_the_same_bits_eager_jitted_and_vmapped():
    states, actions, market = random_accounts(4_000)

    def decided(state, action):
        after, result = environment.step(state, action, market, PARAMS)
        return after.entry_price, after.level, result.info.stop_hit, result.info.take_profit_hit

    # Eager, every operation is a program of its own: nothing can be contracted.
    eager = jax.device_get(jax.vmap(decided)(states, actions))
    jitted = jax.device_get(jax.jit(jax.vmap(decided))(states, actions))
    alone = jax.device_get(jax.lax.map(lambda inputs: decided(*inputs), (states, actions)))
    for values, *others in zip(eager, jitted, alone, strict=True):
        for other in others:
            np.testing.assert_array_equal(values, other)
    assert len(np.unique(eager[0])) > 500 and eager[2].sum() > 20 and eager[3].sum() > 20


TOUCHES = {
    "long_stop": (BUY_75, "low", -1, "stop_hit"),
    "long_target": (BUY_75, "high", 1, "take_profit_hit"),
    "short_stop": (SELL_75, "high", 1, "stop_hit"),
    "short_target": (SELL_75, "low", -1, "take_profit_hit"),
}


@pytest.mark.parametrize(("action", "extreme", "side", "flag"), TOUCHES.values(), ids=TOUCHES)
@pytest.mark.parametrize("steps", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("x64", [False, True])
def test_a_price_touches_its_trigger_from_the_very_float32_number_on(action, extreme, side, flag, steps, x64):
    entry = np.float32(43_217.31) * (np.float32(1) + np.float32(2e-4) * (1 if action == BUY_75 else -1))
    share = np.float32(PARAMS.stop_loss if flag == "stop_hit" else PARAMS.take_profit)
    reached = entry * (np.float32(1) + side * share)
    for _ in range(abs(steps)):
        reached = np.nextafter(reached, np.float32(np.inf if steps * side > 0 else 0))
    prices = {name: np.full(4, 43_217.31) for name in PRICES}
    prices[extreme][2] = reached
    market, mirrored = bare_markets(prices)
    state, other = environment.reset_at(0, market, PARAMS), mirror_environment.reset_at(0, mirrored, PARAMS)
    with jax.enable_x64(x64):
        if x64:
            wide = {name: jnp.asarray(prices[name]) for name in PRICES}
            market, state = replace(market, **wide), environment.reset_at(0, replace(market, **wide), PARAMS)
        for code in (action, HOLD):
            state, result = jax.jit(environment.step)(state, jnp.int32(code), market, PARAMS)
            other, expected = mirror_environment.step(other, code, mirrored, PARAMS)
        assert float(result.info.stop_hit + result.info.take_profit_hit) == (steps >= 0)
    assert bool(getattr(result.info, flag)) == getattr(expected.info, flag) == (steps >= 0)
