"""Account columns: by hand, on both sides, and in the observations of a toy layout."""

from dataclasses import replace

import gymnasium.utils.env_checker
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_env import environment, mirror
from jtf_env.account import ACCOUNT_GROUPS, account_columns
from jtf_env.actions import BUY_50, CLOSE, HOLD, SELL_25
from jtf_env.adapters.gymnasium import TradingEnv
from jtf_env.layouts import GROUPS, Layout, get_layout
from jtf_env.market import build_market
from jtf_env.mirror import account as mirror_account
from jtf_env.mirror import environment as mirror_environment
from jtf_env.params import EnvParams
from tests.contract.helpers import bar_prices, make_markets, random_prices
from tests.env.helpers import random_bars

pytestmark = pytest.mark.quick

TOY = Layout("toy", tuple(GROUPS[name] for name in ("base6", "account3", "position3")))
FREE = EnvParams(fee=0.0, slippage=0.0, episode_bars=0, max_drawdown=1.0)
START = 2


def play(market, *actions, params=FREE):
    """The state after `actions` from a flat account at START."""
    state = environment.reset_at(START, market, params)
    for action in actions:
        state, _ = environment.step(state, jnp.int32(action), market, params)
    return state


def test_a_fresh_account_has_no_return_an_even_win_rate_and_all_cash():
    market = make_markets(random_prices(10, seed=0), layout=TOY)[0]
    columns = account_columns(environment.reset_at(START, market, FREE), TOY, FREE)
    np.testing.assert_array_equal(columns, [0, 0.5, 0, 0, 1, 0])


def test_account_columns_by_hand():
    rows = [(100, 100, 100, 100)] * 4 + [(100, 120, 100, 120), (120, 120, 90, 90), (90, 90, 90, 90)]
    market = make_markets(bar_prices(rows), layout=TOY)[0]
    # 500 units at 100: equity 110 000 at 120, 95 000 at 90, cash 50 000.
    state = play(market, BUY_50, HOLD, HOLD)
    expected = [np.tanh(10 * -0.05), 0.5, 1 - 95 / 110, 0.5, 50 / 95, np.log10(0.95)]
    np.testing.assert_allclose(account_columns(state, TOY, FREE), expected, 1e-5)
    # Sold at 90 without costs: one lost trade, 95 000 in cash.
    state = play(market, BUY_50, HOLD, HOLD, CLOSE)
    expected = [np.tanh(10 * -0.05), 0.0, 1 - 95 / 110, 0.0, 1.0, np.log10(0.95)]
    np.testing.assert_allclose(account_columns(state, TOY, FREE), expected, 1e-5)
    # 250 short from 100 to 120: equity 95 000, cash 125 000.
    state = play(market, SELL_25, HOLD)
    np.testing.assert_allclose(account_columns(state, TOY, FREE)[3:5], [-0.25, 125 / 95], 1e-6)


def test_a_ruined_account_has_finite_columns_within_the_clip():
    rows = [(100, 100, 100, 100)] * 4 + [(100, 900, 100, 900)]
    market, mirrored = make_markets(bar_prices(rows), layout=TOY)
    state = play(market, SELL_25, HOLD)
    assert state.equity < 0
    expected = [-1.0, 0.5, 1.0, -0.25, 10.0, -3.0]
    np.testing.assert_allclose(account_columns(state, TOY, FREE), expected, 1e-5)
    other = mirror_environment.reset_at(START, mirrored, FREE)
    for action in (SELL_25, HOLD):
        other, _ = mirror_environment.step(other, action, mirrored, FREE)
    np.testing.assert_allclose(mirror.account_columns(other, TOY, FREE), expected, 1e-9)


@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_account_columns_are_the_same_on_both_sides_on_random_paths(fill):
    market, mirrored = make_markets(random_prices(300, seed=6, volatility=0.02), layout=TOY)
    params = EnvParams(fee=0.001, stop_loss=0.03, max_position=1.5, episode_bars=0, max_drawdown=1.0, fill=fill)
    actions = np.random.default_rng(fill == "close").integers(0, 8, (16, 200))

    def one(state, action):
        state, _ = environment.step(state, action, market, params)
        return state, account_columns(state, TOY, params)

    start = environment.reset_at(START, market, params)
    found = jax.jit(jax.vmap(lambda path: jax.lax.scan(one, start, path)[1]))(jnp.asarray(actions, jnp.int32))
    for path, columns in zip(actions.tolist(), found, strict=True):
        state, expected = mirror_environment.reset_at(START, mirrored, params), []
        for action in path:
            state, _ = mirror_environment.step(state, action, mirrored, params)
            expected.append(mirror.account_columns(state, TOY, params))
        np.testing.assert_allclose(columns, np.array(expected), 1e-4, 1e-4)
    assert np.asarray(found).std(axis=(0, 1)).min() > 0.01, "a column that hardly moves is not tested"


def test_the_observation_ends_with_the_account_columns_in_every_row():
    market, mirrored = make_markets(random_prices(20, seed=2), layout=TOY)
    state = play(market, BUY_50, HOLD)
    observation = environment.observe(market, state, FREE)
    assert observation.shape == (3, 12) and observation.dtype == jnp.float32
    np.testing.assert_array_equal(observation[:, :6], market.features[2:5])
    np.testing.assert_array_equal(observation[:, 6:], np.tile(account_columns(state, TOY, FREE), (3, 1)))
    other = mirror_environment.reset_at(START, mirrored, FREE)
    for action in (BUY_50, HOLD):
        other, _ = mirror_environment.step(other, action, mirrored, FREE)
    np.testing.assert_allclose(observation, mirror_environment.observe(mirrored, other, FREE), 1e-5, 1e-6)


def test_an_observation_has_all_columns_in_the_order_of_the_layout():
    # As in v5.3.0, whose account stands before the last bar group.
    turned = Layout("turned", tuple(GROUPS[name] for name in ("position3", "base6", "account3")))
    straight, other = make_markets(random_prices(20, seed=2), layout=TOY)
    state = play(straight, BUY_50, HOLD)
    seen = environment.observe(straight, state, FREE)
    expected = jnp.hstack([seen[:, 9:], seen[:, :9]])
    np.testing.assert_array_equal(environment.observe(replace(straight, layout=turned), state, FREE), expected)
    mirrored = mirror_environment.reset_at(START, other, FREE)
    for action in (BUY_50, HOLD):
        mirrored, _ = mirror_environment.step(mirrored, action, other, FREE)
    found = mirror_environment.observe(replace(other, layout=turned), mirrored, FREE)
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


def test_the_columns_follow_the_order_of_the_layout():
    turned = Layout("turned", tuple(GROUPS[name] for name in ("position3", "base6", "account3")))
    market, mirrored = make_markets(random_prices(20, seed=2), layout=TOY)
    state = play(market, BUY_50, HOLD)
    straight = account_columns(state, TOY, FREE)
    np.testing.assert_array_equal(account_columns(state, turned, FREE), np.r_[straight[3:], straight[:3]])
    other = mirror_environment.reset_at(START, mirrored, FREE)
    expected = mirror.account_columns(other, TOY, FREE)
    np.testing.assert_array_equal(mirror.account_columns(other, turned, FREE), np.r_[expected[3:], expected[:3]])


def test_a_layout_without_state_groups_has_no_account_columns():
    layout = get_layout("v5.6.0")
    market, mirrored = make_markets(random_prices(20, seed=2))
    assert account_columns(environment.reset_at(START, market, FREE), layout, FREE).shape == (0,)
    assert mirror.account_columns(mirror_environment.reset_at(START, mirrored, FREE), layout, FREE).shape == (0,)


def test_every_state_group_has_a_builder_on_both_sides_that_makes_its_columns():
    names = {name for name, group in GROUPS.items() if group.source == "state"}
    assert names == set(ACCOUNT_GROUPS) == set(mirror_account.ACCOUNT_GROUPS) == {"account3", "position3"}
    market = make_markets(random_prices(10, seed=0), layout=TOY)[0]
    state = environment.reset_at(START, market, FREE)
    for name in names:
        assert len(ACCOUNT_GROUPS[name](state, FREE)) == len(GROUPS[name].columns)


def test_a_layout_with_account_columns_builds_scales_and_steps():
    bars = random_bars(400)
    natural = build_market(bars, TOY, dtype=jnp.float64)
    assert natural.features.shape == (400, 6) and natural.context.shape == (400, 0)
    scaler = mirror.fit_scaler(np.asarray(natural.features), np.asarray(natural.context), TOY.warmup)
    market, mirrored = build_market(bars, TOY, scaler), mirror.build_market(bars, TOY, scaler)
    np.testing.assert_allclose(market.features, mirrored.features, 1e-4, 1e-4)
    env = TradingEnv(market, replace(FREE, episode_bars=5), seed=0)
    assert env.observation_space.shape == (TOY.obs_dim(100),)
    gymnasium.utils.env_checker.check_env(env, skip_render_check=True)
