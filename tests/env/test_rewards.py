"""Reward components against hand numbers and against their definitions."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_env import actions as codes
from jtf_env import environment, rewards
from jtf_env.constants import DSR_CLIP, MAGNITUDE_CLIP
from jtf_env.params import REWARD_PRESETS, EnvParams, RewardWeights
from jtf_env.rewards import RewardComponents
from tests.contract.helpers import bar_prices, make_markets, random_prices

pytestmark = pytest.mark.quick

step = jax.jit(environment.step)
COMPONENTS = tuple(f.name for f in fields(RewardComponents))
NONE = RewardWeights(**dict.fromkeys(COMPONENTS, 0.0))
PARAMS = EnvParams(fee=0.0, slippage=0.0, episode_bars=0)
ROWS = [(100, 100, 100, 100)] * 3 + [(100, 102, 97, 101), (101, 110, 90, 99), (99, 99, 99, 99)]
"""Three calm bars, then the bars the tests trade on."""


def first_components(action: int, params: EnvParams = PARAMS) -> RewardComponents:
    market = make_markets(bar_prices(ROWS))[0]
    return step(environment.reset_at(2, market, params), jnp.int32(action), market, params)[1].info.components


def test_components_and_weights_have_the_same_names():
    assert set(COMPONENTS) == {f.name for f in fields(RewardWeights)}


def test_pnl_is_the_scaled_log_return_of_equity():
    # Half the equity long over +1 %: 100 ln 1.005.
    np.testing.assert_allclose(first_components(codes.BUY_50).pnl, 100 * np.log(1.005), 1e-4)


@pytest.mark.parametrize(("action", "value"), [(codes.BUY_50, 0.5), (codes.SELL_25, -0.25), (codes.HOLD, 0.0)])
def test_direction_is_exposure_times_the_sign_of_the_move(action, value):
    np.testing.assert_allclose(first_components(action).direction, value)


def test_magnitude_is_exposure_times_the_scaled_move():
    np.testing.assert_allclose(first_components(codes.BUY_75).magnitude, 0.75 * 1.0, 1e-5)


def test_magnitude_is_clipped():
    assert rewards.magnitude_reward(jnp.float32(0.5), jnp.float32(0.3), 100.0) == 0.5 * MAGNITUDE_CLIP


@pytest.mark.parametrize(("growth", "value"), [(2e-3, 0.2), (0.03, 0.5), (-0.03, -0.5)])
def test_the_clipped_log_return_counts_half_a_per_cent_at_most(growth, value):
    np.testing.assert_allclose(rewards.clipped_return(jnp.float32(growth), 100.0), value, 1e-6)


def test_the_move_that_direction_and_magnitude_reward_starts_at_the_fill():
    rows = [*ROWS[:3], (110, 110, 105, 105), *ROWS[4:]]
    market = make_markets(bar_prices(rows))[0]
    state = environment.reset_at(2, market, PARAMS)
    by_fill = {
        fill: step(state, jnp.int32(codes.BUY_25), market, replace(PARAMS, fill=fill))[1].info.components
        for fill in ("next_open", "close")
    }
    # Bought at the open of 110, closed at 105: a loss; bought at the close of 100: a gain.
    assert by_fill["next_open"].direction == -0.25 and by_fill["close"].direction == 0.25


@pytest.mark.parametrize(("stop_loss", "take_profit", "value"), [(0.05, 0.0, -1.0), (0.0, 0.05, 1.0), (0.0, 0.0, 0.0)])
def test_stop_tp_is_plus_one_for_a_take_profit_and_minus_one_for_a_stop(stop_loss, take_profit, value):
    params = replace(PARAMS, stop_loss=stop_loss, take_profit=take_profit)
    market = make_markets(bar_prices(ROWS))[0]
    state, _ = step(environment.reset_at(2, market, params), jnp.int32(codes.BUY_25), market, params)
    assert step(state, jnp.int32(codes.HOLD), market, params)[1].info.components.stop_tp == value


def test_slippage_is_minus_the_scaled_cost_share_of_equity():
    # Half the equity at 0.1 % fee, inside the budget: 100 x 0.5 x 0.001 / 1.001.
    found = first_components(codes.BUY_50, replace(PARAMS, fee=0.001)).slippage
    np.testing.assert_allclose(found, -100 * 0.5 * 0.001 / 1.001, 1e-4)


def test_drawdown_is_minus_the_distance_from_the_peak():
    np.testing.assert_allclose(rewards.drawdown_reward(jnp.float32(90), jnp.float32(120)), -0.25)


def test_the_differential_sharpe_ratio_is_the_derivative_of_the_moving_sharpe_ratio():
    # Moody and Saffell (2001): D_t = dS_t / d eta at eta = 0, with S = A / sqrt(B - A^2).
    mean, square, growth, eta = 4e-4, 2e-6, 3e-3, 1e-6
    with jax.enable_x64(True):
        ratio, new_mean, new_square = map(
            float, rewards.differential_sharpe(*(jnp.float64(x) for x in (growth, mean, square, eta)))
        )
    derivative = (new_mean / np.sqrt(new_square - new_mean**2) - mean / np.sqrt(square - mean**2)) / eta
    np.testing.assert_allclose(ratio, derivative, 1e-4)


def test_the_differential_sharpe_ratio_is_zero_on_the_first_step():
    zero = jnp.float32(0)
    assert rewards.differential_sharpe(jnp.float32(0.02), zero, zero, 0.01)[0] == 0


def test_the_differential_sharpe_ratio_stays_bounded_after_a_flat_stretch():
    mean, square, largest = jnp.float32(0), jnp.float32(0), 0.0
    for growth in (0.01, *[0.0] * 300, 0.03, 0.03, -0.03):
        ratio, mean, square = rewards.differential_sharpe(jnp.float32(growth), mean, square, 0.05)
        largest = max(largest, abs(float(ratio)))
    assert 0 < largest <= DSR_CLIP


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_weight_selects_its_component_alone(name):
    components = RewardComponents(**{other: jnp.float32(i + 1) for i, other in enumerate(COMPONENTS)})
    found = rewards.weighted_reward(components, replace(NONE, **{name: 2.0}))
    assert found == 2.0 * (COMPONENTS.index(name) + 1)


def test_the_log_return_preset_sums_to_the_scaled_log_return_of_the_path():
    params = replace(PARAMS, fee=0.001, reward=REWARD_PRESETS["log_return"])
    market = make_markets(random_prices(50, seed=2))[0]
    state, total = environment.reset_at(2, market, params), 0.0
    for action in np.random.default_rng(0).integers(0, 8, 40):
        state, result = step(state, jnp.int32(action), market, params)
        total += float(result.reward)
    np.testing.assert_allclose(total, 100 * np.log(float(state.equity) / 100_000), 0, 1e-3)


def test_ruin_costs_a_finite_reward():
    assert np.isfinite(rewards.log_growth(jnp.float32(-5), jnp.float32(100)))
