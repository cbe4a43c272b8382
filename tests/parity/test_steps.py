"""Single steps from injected states: JAX (float32 and float64) against the mirror on random valid states."""

import itertools
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_env import environment
from jtf_env.actions import LEVELS
from jtf_env.mirror import environment as mirror_environment
from jtf_env.mirror.backtest import replay, run_backtest
from jtf_env.params import REWARD_PRESETS, EnvParams
from tests.contract.helpers import make_markets, random_prices

pytestmark = pytest.mark.quick

COUNT = 1_250
MONEY = 100_000.0
COMBINATIONS = list(itertools.product(("next_open", "close"), (True, False)))
EXACT = (
    "bar", "steps", "level", "num_trades", "num_wins", "dropped_orders", "trades_closed", "stop_hit",
    "take_profit_hit", "order_dropped", "terminated", "truncated", "entry_price",
)  # fmt: skip
USD = ("cash", "cash_at_entry", "equity", "peak_equity", "traded_notional", "cost", "trade_pnl")
PRICES = ("fill_price",)
UNITS = ("units",)


def random_states(rng: np.random.Generator, market, allow_short: bool) -> dict[str, np.ndarray]:
    """``[COUNT]`` valid accounts: equity positive, units of the level's sign, entry near the price."""
    bar = rng.integers(market.first_bar, market.num_bars, COUNT)
    price = market.close[bar]
    level = rng.integers(-LEVELS if allow_short else 0, LEVELS + 1, COUNT)
    equity = MONEY * rng.uniform(0.5, 1.5, COUNT)
    units = level / LEVELS * rng.uniform(0.7, 1.3, COUNT) * equity / price
    cash = equity - units * price
    return {
        "bar": bar,
        "steps": rng.integers(0, 30, COUNT),
        "level": level,
        "cash": cash,
        "units": units,
        "entry_price": np.where(level == 0, 0.0, price * rng.uniform(0.95, 1.05, COUNT)).astype(np.float32),
        "cash_at_entry": np.where(level == 0, cash, equity * rng.uniform(0.95, 1.05, COUNT)),
        "equity": equity,
        "peak_equity": equity * rng.uniform(1.0, 1.3, COUNT),
        "dsr_mean": rng.normal(0, 1e-3, COUNT),
        "dsr_square": rng.uniform(0, 1e-5, COUNT),
        "num_trades": rng.integers(0, 9, COUNT),
        "num_wins": rng.integers(0, 9, COUNT),
        "dropped_orders": rng.integers(0, 9, COUNT),
    }


def flat(state, result) -> dict:
    """Every number of a step by name: state, info, reward components, reward, endings."""
    info = {f.name: getattr(result.info, f.name) for f in fields(result.info) if f.name != "components"}
    return {
        **{f.name: getattr(state, f.name) for f in fields(state)},
        **info,
        **{f"reward_{f.name}": getattr(result.info.components, f.name) for f in fields(result.info.components)},
        **{name: getattr(result, name) for name in ("reward", "terminated", "truncated")},
    }


SCALES = {
    **dict.fromkeys(USD, MONEY),
    **dict.fromkeys(PRICES, 100.0),
    **dict.fromkeys(UNITS, 1_000.0),
    "dsr_mean": 1e-2,
    "dsr_square": 1e-4,
    # float32 equity gives a log return to 1e-7; the Sharpe ratio divides that by 5e-4, the reward multiplies by 100.
    "reward_dsr": 1_000.0,
    "reward_pnl": 100.0,
    "reward_clipped_pnl": 100.0,
    "reward": 100.0,
}
"""Size that parity is relative to; 1 for the rest."""


@pytest.mark.parametrize(("fill", "allow_short"), COMBINATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_step_from_an_injected_state_is_the_same_on_both_sides(fill, allow_short, dtype):
    rng = np.random.default_rng([fill == "close", allow_short])
    market, mirrored = make_markets(random_prices(300, seed=5, volatility=0.01, untradable=0.1))
    params = EnvParams(
        fee=0.001, slippage=0.001, stop_loss=0.03, take_profit=0.03, episode_bars=25, max_drawdown=0.2,
        max_position=1.2, fill=fill, allow_short=allow_short, reward=REWARD_PRESETS["composite"],
    )  # fmt: skip
    injected = random_states(rng, mirrored, allow_short)
    actions = rng.integers(0, 8, COUNT)
    with jax.enable_x64(dtype == "float64"):
        kinds = {np.dtype("int64"): "int32", np.dtype("float64"): dtype}
        state = environment.EnvState(**{k: jnp.asarray(v, kinds.get(v.dtype)) for k, v in injected.items()})
        prices = {name: jnp.asarray(getattr(mirrored, name), dtype) for name in ("open", "high", "low", "close")}
        step = jax.jit(jax.vmap(environment.step, (0, 0, None, None)))
        final, result = step(state, jnp.asarray(actions, jnp.int32), replace(market, **prices), params)
        found = jax.device_get(flat(final, result))

    rows = zip(*(column.tolist() for column in injected.values()), strict=True)
    states = [mirror_environment.EnvState(**dict(zip(injected, row, strict=True))) for row in rows]
    steps = [mirror_environment.step(s, a, mirrored, params) for s, a in zip(states, actions.tolist(), strict=True)]
    expected = [flat(*outcome) for outcome in steps]
    tolerance = 1e-5 if dtype == "float32" else 1e-11
    for name, values in found.items():
        wanted = np.array([row[name] for row in expected])
        if name in EXACT:
            np.testing.assert_array_equal(values, wanted, name)
        else:
            scale = SCALES.get(name, 1.0)
            np.testing.assert_allclose(values / scale, wanted / scale, tolerance, tolerance, err_msg=name)
    for name in ("stop_hit", "take_profit_hit", "order_dropped", "terminated", "truncated"):
        assert found[name].sum() >= 20, f"{name} is too rare to be tested"


@pytest.mark.parametrize(("fill", "allow_short"), COMBINATIONS)
def test_the_one_pass_backtest_is_the_mirror_stepped_bar_by_bar(fill, allow_short):
    market = make_markets(random_prices(1_000, seed=9, untradable=0.05))[1]
    params = EnvParams(
        fee=0.001,
        stop_loss=0.01,
        take_profit=0.02,
        episode_bars=0,
        fill=fill,
        allow_short=allow_short,
        max_drawdown=1.0,
    )
    actions = np.random.default_rng(1).integers(0, 8, 1_000)
    backtest = run_backtest(market, replay(actions), params, start=100, stop=900)
    state = mirror_environment.reset_at(100, market, params)
    states, costs = [state], []
    for bar in range(100, 899):
        state, result = mirror_environment.step(state, int(actions[bar]), market, params)
        states.append(state)
        costs.append(result.info.cost)
    np.testing.assert_array_equal(backtest.bars, [s.bar for s in states])
    np.testing.assert_array_equal(backtest.equity, [s.equity for s in states])
    np.testing.assert_array_equal(backtest.levels, [s.level for s in states])
    assert backtest.dropped_orders == state.dropped_orders > 10
    assert sum(fill.units_after == 0 for fill in backtest.fills) == state.num_trades > 50
    np.testing.assert_array_equal(backtest.costs[1:], costs)
