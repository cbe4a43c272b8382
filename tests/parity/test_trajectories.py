"""Whole trajectories: 10 000 random action paths through the JAX environment and through the mirror."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_env import environment
from jtf_env.actions import NUM_ACTIONS
from jtf_env.mirror import environment as mirror_environment
from jtf_env.params import REWARD_PRESETS, TRACED_FIELDS, EnvParams
from tests.contract.helpers import make_markets, random_prices

pytestmark = pytest.mark.quick

PATHS, STEPS = 2_500, 48
EXACT = ("bar", "steps", "level", "num_trades", "dropped_orders")
FLAGS = ("trades_closed", "stop_hit", "take_profit_hit", "order_dropped")
MONEY = ("cash", "equity", "peak_equity")
INFO_MONEY = ("traded_notional", "cost", "trade_pnl")


def random_params(rng: np.random.Generator, fill: str, allow_short: bool) -> EnvParams:
    """Costs, stops, leverage and episode lengths that make every branch common."""
    return EnvParams(
        fee=float(rng.choice([0.0, 0.0025])),
        slippage=float(rng.choice([0.0, 2e-4, 2e-3])),
        initial_equity=float(rng.choice([1.0, 100_000.0])),
        max_position=float(rng.choice([0.5, 1.0, 2.5])),
        max_drawdown=float(rng.uniform(0.02, 0.3)),
        stop_loss=float(rng.choice([0.0, 0.01, 0.03])),
        take_profit=float(rng.choice([0.0, 0.01, 0.03])),
        episode_bars=int(rng.choice([0, 17, 40])),
        reward=REWARD_PRESETS["composite"],
        fill=fill,
        allow_short=allow_short,
    )


def jax_paths(market, params: list[EnvParams], starts, restarts, actions):
    stacked = replace(
        params[0],
        **{
            name: jnp.asarray(np.array([getattr(p, name) for p in params]))
            for name in TRACED_FIELDS
            if name != "reward"
        },
        reward=jax.tree.map(lambda x: jnp.full(len(params), x), params[0].reward),
    )

    def play(market, params, start, restarts, actions):
        def one(state, inputs):
            restart, action = inputs
            state, result, final = environment.autoreset_step_at(restart, state, action, market, params)
            return state, (result, final)

        return jax.lax.scan(one, environment.reset_at(start, market, params), (restarts, actions))[1]

    return jax.device_get(jax.jit(jax.vmap(play, (None, 0, 0, 0, 0)))(market, stacked, starts, restarts, actions))


def mirror_path(market, params: EnvParams, start: int, restarts: list[int], actions: list[int]) -> list[tuple]:
    state, rows = mirror_environment.reset_at(start, market, params), []
    for restart, action in zip(restarts, actions, strict=True):
        state, result, final = mirror_environment.autoreset_step_at(restart, state, action, market, params)
        info = result.info
        rows.append(
            (
                *(getattr(final, name) for name in EXACT),
                *(getattr(info, name) for name in FLAGS),
                result.terminated,
                result.truncated,
                *(getattr(final, name) for name in MONEY),
                *(getattr(info, name) for name in INFO_MONEY),
                final.units * market.close.item(final.bar),
                final.entry_price,
                info.fill_price,
                result.reward,
                final.num_wins,
            )
        )
    return rows


COMBINATIONS = list(itertools.product(("next_open", "close"), (True, False)))


@pytest.mark.parametrize(("fill", "allow_short"), COMBINATIONS)
def test_same_trades_and_the_same_money_on_random_action_paths_terminal_step_included(fill, allow_short):
    rng = np.random.default_rng([fill == "close", allow_short])
    market, mirrored = make_markets(random_prices(400, seed=7, volatility=0.008, untradable=0.1))
    params = [random_params(rng, fill, allow_short) for _ in range(PATHS)]
    starts = rng.integers(market.first_bar, market.num_bars - 1, PATHS)
    restarts = rng.integers(market.first_bar, market.num_bars - 1, (PATHS, STEPS))
    actions = rng.integers(0, NUM_ACTIONS, (PATHS, STEPS))

    result, final = jax_paths(market, params, starts, restarts, actions)
    expected = np.array(
        [
            mirror_path(mirrored, p, s, r, a)
            for p, s, r, a in zip(params, starts.tolist(), restarts.tolist(), actions.tolist(), strict=True)
        ]
    )
    columns = iter(np.moveaxis(expected, -1, 0))
    for name in EXACT:
        np.testing.assert_array_equal(getattr(final, name), next(columns), name)
    for name in FLAGS:
        np.testing.assert_array_equal(getattr(result.info, name), next(columns), name)
    for name in ("terminated", "truncated"):
        flags = next(columns)
        np.testing.assert_array_equal(getattr(result, name), flags, name)
        assert flags.sum() > 500, f"{name} is too rare to be tested"
    scale = np.array([p.initial_equity for p in params])[:, None]
    for tree, names in ((final, MONEY), (result.info, INFO_MONEY)):
        for name in names:
            np.testing.assert_allclose(getattr(tree, name) / scale, next(columns) / scale, 1e-5, 1e-5, err_msg=name)
    notional = final.units * np.asarray(market.close)[final.bar]
    np.testing.assert_allclose(notional / scale, next(columns) / scale, 1e-5, 1e-5)
    np.testing.assert_array_equal(final.entry_price, next(columns))
    np.testing.assert_allclose(result.info.fill_price, next(columns), 1e-6)
    np.testing.assert_allclose(result.reward, next(columns), 1e-3, 1e-3)
    # A profit that is break-even up to float32 rounding may count as a win on one side only.
    assert (final.num_wins != next(columns)).mean() < 1e-3
