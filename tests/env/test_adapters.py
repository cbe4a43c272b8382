"""The environment behind Gymnasium's and gymnax's interfaces."""

from dataclasses import replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnax.environments.spaces import Discrete
from gymnax.wrappers import FlattenObservationWrapper, LogWrapper

from jtf_env import environment
from jtf_env.actions import BUY_75, HOLD, NUM_ACTIONS
from jtf_env.adapters.gymnasium import TradingEnv
from jtf_env.adapters.gymnax import TradingEnv as GymnaxTradingEnv
from jtf_env.errors import InputError
from jtf_env.params import EnvParams
from tests.contract.helpers import bar_prices, make_markets, random_prices

PARAMS = EnvParams(episode_bars=5)
OBS_DIM = 3 * 58


@pytest.fixture(scope="module")
def market():
    return make_markets(random_prices(60, seed=1))[0]


@pytest.fixture
def env(market) -> TradingEnv:
    return TradingEnv(market, PARAMS, seed=0)


def test_gymnasium_check_env_finds_nothing(env):
    check_env(env, skip_render_check=True)


def test_stable_baselines3_check_env_finds_nothing(env):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(env)


def test_gymnasium_spaces_are_a_flat_float32_box_and_eight_actions(env):
    assert env.observation_space.shape == (OBS_DIM,) and env.observation_space.dtype == np.float32
    assert env.action_space == gymnasium.spaces.Discrete(NUM_ACTIONS)


def test_gymnasium_steps_like_the_environment_and_says_what_happened(env, market):
    observation, info = env.reset(options={"start_bar": 20})
    state = environment.reset_at(20, market, PARAMS)
    np.testing.assert_array_equal(observation, np.ravel(environment.observe(market, state, PARAMS)))
    assert info == {"bar": 20, "equity": 100_000.0}
    observation, reward, _, _, info = env.step(np.int64(BUY_75))
    state, result = environment.step(state, jnp.int32(BUY_75), market, PARAMS)
    np.testing.assert_array_equal(observation, np.ravel(environment.observe(market, state, PARAMS)))
    np.testing.assert_allclose(reward, result.reward, 1e-5)
    assert info["equity"] == pytest.approx(float(result.info.equity)) and info["bar"] == 21
    assert info["reward/pnl"] == pytest.approx(float(result.info.components.pnl), rel=1e-4)


def test_gymnasium_reports_terminated_and_truncated_apart():
    prices = bar_prices([(100, 100, 100, 100)] * 4 + [(100, 100, 50, 50)] * 4)
    ruin = TradingEnv(make_markets(prices)[0], replace(PARAMS, max_drawdown=0.2))
    for action, endings in ((BUY_75, (True, False)), (HOLD, (False, True))):
        ruin.reset(options={"start_bar": 2})
        done = [False, False]
        while not any(done):
            _, _, *done, _ = ruin.step(np.int64(action))
        assert tuple(done) == endings


def test_gymnasium_start_bars_follow_the_seed(market):
    def bars(seed):
        env = TradingEnv(market, PARAMS, seed=seed)
        return [env.reset()[1]["bar"] for _ in range(8)]

    assert bars(3) == bars(3) != bars(4)


def test_gymnasium_refuses_a_start_bar_without_a_full_window(env):
    with pytest.raises(InputError, match="start_bar 1 is no bar index"):
        env.reset(options={"start_bar": 1})


@pytest.mark.parametrize("options", [{"start_bar": 20.7}, {"start_bar": "x"}, {"start": 20}])
def test_gymnasium_refuses_options_it_does_not_know(env, options):
    with pytest.raises(InputError, match=r"no bar index|is unknown"):
        env.reset(options=options)


@pytest.mark.parametrize("action", [-1, NUM_ACTIONS, 1.5])
def test_gymnasium_refuses_an_action_that_is_no_code(env, action):
    env.reset()
    with pytest.raises(InputError, match=r"none of the codes 0\.\.7"):
        env.step(action)


def test_gymnax_steps_and_resets_through_the_base_class(market):
    env = GymnaxTradingEnv(market, PARAMS)
    params = env.default_params
    _, state = env.reset(jax.random.key(0), params)
    for i in range(1, 6):
        observation, after, reward, terminated, truncated, info = env.step(jax.random.key(i), state, BUY_75, params)
        final, result = environment.step(state, jnp.int32(BUY_75), market, PARAMS)
        np.testing.assert_allclose(reward, result.reward, 1e-4, 1e-4)
        np.testing.assert_array_equal(info["final_observation"], environment.observe(market, final, PARAMS))
        state = after
    assert bool(truncated) and not bool(terminated) and int(state.steps) == 0
    np.testing.assert_array_equal(observation, environment.observe(market, state, PARAMS))


def test_gymnax_truncation_gives_way_to_ruin(market):
    env = GymnaxTradingEnv(market, PARAMS)
    state = replace(environment.reset_at(10, market, PARAMS), steps=jnp.int32(5), equity=jnp.float32(1.0))
    assert bool(env.is_terminated(state, env.default_params)) and not bool(env.is_truncated(state, env.default_params))


def test_the_market_is_an_argument_of_the_compiled_gymnax_step_and_no_constant_of_it(market):
    env = GymnaxTradingEnv(market, PARAMS)
    params = env.default_params
    _, state = env.reset(jax.random.key(0), params)
    program = jax.jit(env.step).lower(jax.random.key(0), state, jnp.int32(0), params).as_text()
    main = next(line for line in program.splitlines() if "@main(" in line)
    assert "tensor<60x51xf32>" in main
    assert 'dense<"0x' not in program


def test_a_purejaxrl_style_rollout_runs_unmodified(market):
    env = GymnaxTradingEnv(market, PARAMS)
    params = env.default_params
    wrapped = LogWrapper(FlattenObservationWrapper(env))
    assert isinstance(wrapped.action_space(params), Discrete)
    assert wrapped.observation_space(params).shape == (OBS_DIM,)

    @jax.jit
    def rollout(key, params):
        key, start = jax.random.split(key)
        observations, states = jax.vmap(wrapped.reset, (0, None))(jax.random.split(start, 4), params)

        def one(carry, key):
            states, observations = carry
            choose, advance = jax.random.split(key)
            actions = jax.random.randint(choose, (4,), 0, wrapped.action_space(params).n)
            observations, states, reward, _, truncated, info = jax.vmap(wrapped.step, (0, 0, 0, None))(
                jax.random.split(advance, 4), states, actions, params
            )
            return (states, observations), (reward, truncated, info["returned_episode"])

        return jax.lax.scan(one, (states, observations), jax.random.split(key, 12))[1]

    reward, truncated, returned = rollout(jax.random.key(0), params)
    assert reward.shape == (12, 4) and np.isfinite(reward).all()
    assert truncated.sum() >= 8 and (returned >= truncated).all()


@pytest.fixture(scope="module")
def classic(market) -> GymnaxTradingEnv:
    return GymnaxTradingEnv(market, PARAMS, api="classic")


def test_a_classic_step_is_the_five_tuple_whose_done_is_either_ending(classic, market):
    params = classic.default_params
    _, state = classic.reset(jax.random.key(0), params)
    for i in range(1, 6):
        final, result = environment.step(state, jnp.int32(BUY_75), market, PARAMS)
        observation, state, reward, done, info = classic.step(jax.random.key(i), state, BUY_75, params)
        np.testing.assert_allclose(reward, result.reward, 1e-4, 1e-4)
        assert bool(done) == (i == 5) == bool(info["truncated"])
        assert not info["terminated"] and info["bar"] == final.bar
    assert int(state.steps) == 0
    np.testing.assert_array_equal(observation, environment.observe(market, state, PARAMS))


def test_ruin_is_done_and_terminated_in_the_classic_interface():
    ruinous = make_markets(bar_prices([(100, 100, 100, 100)] * 4 + [(100, 100, 50, 50)] * 4))[0]
    env = GymnaxTradingEnv(ruinous, replace(PARAMS, max_drawdown=0.2), api="classic")
    state = environment.reset_at(3, ruinous, PARAMS)
    *_, done, info = env.step(jax.random.key(0), state, BUY_75, env.default_params)
    assert done and info["terminated"] and not info["truncated"]
    *_, done, info = env.step_env(jax.random.key(0), state, BUY_75, env.default_params)
    assert done and info["terminated"]


def test_a_classic_trainer_that_stacks_every_info_stores_no_observation(classic):
    # PureJaxRL keeps the info of every step of the whole training.
    _, state = classic.reset(jax.random.key(0), classic.default_params)
    *_, info = jax.eval_shape(classic.step, jax.random.key(0), state, jnp.int32(0), classic.default_params)
    assert {leaf.shape for leaf in jax.tree.leaves(info)} == {()}


def test_both_gymnax_interfaces_make_the_same_step(classic, market):
    env = GymnaxTradingEnv(market, PARAMS)
    params = env.default_params
    # The age makes this the last step, so the restart is compared too.
    state = replace(environment.reset_at(20, market, PARAMS), steps=jnp.int32(4))
    *step, terminated, truncated, info = env.step(jax.random.key(1), state, BUY_75, params)
    *classic_step, done, classic_info = classic.step(jax.random.key(1), state, BUY_75, params)
    del info["final_observation"]
    jax.tree.map(np.testing.assert_array_equal, (step, info), (classic_step, classic_info))
    assert done == terminated | truncated


def test_the_longest_episode_is_its_limit_or_else_the_bars_of_the_market(market):
    endless = GymnaxTradingEnv(market, replace(PARAMS, episode_bars=0)).default_params
    limited = GymnaxTradingEnv(market, PARAMS).default_params
    assert (endless.max_steps_in_episode, limited.max_steps_in_episode) == (60, 5)
    traced = jax.jit(lambda params: params.max_steps_in_episode)
    assert (int(traced(endless)), int(traced(limited))) == (60, 5)


def test_a_time_limit_is_terminal_in_the_classic_interface_only(classic, market):
    late = replace(environment.reset_at(10, market, PARAMS), steps=jnp.int32(5))
    assert classic.is_terminal(late, classic.default_params)
    assert not GymnaxTradingEnv(market, PARAMS).is_terminal(late, classic.default_params)


def test_an_unknown_interface_is_refused(market):
    with pytest.raises(InputError, match="api='gym' is not one of gymnax, classic"):
        GymnaxTradingEnv(market, api="gym")
