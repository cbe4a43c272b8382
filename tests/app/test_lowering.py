"""Every compiled program lowers for CUDA and TPU: nothing in it is only for a CPU. No accelerator is needed.

Lowering stops before XLA's own compiler: `benchmarks.compiled_for` goes through that, for one named GPU.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks.phases import step_randomly
from jtf.environment import TradingData, make_environment, make_validation, on_device, validate
from jtf_env.features import bar_inputs
from jtf_env.layouts import GROUPS, Layout, get_layout
from jtf_env.market import _standardise, _tables
from jtf_env.params import make_params
from jtf_ppo.config import PPOConfig, resolve
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import make_learner
from jtf_ppo.members import over_members, select_members
from tests.contract.helpers import make_markets, random_prices
from tests.env.helpers import random_bars

PLATFORMS = ("cuda", "tpu")
BARS, WINDOW = 300, 8
ADDRESS_ONLY = get_layout("v5.6.0")
WITH_ACCOUNT = Layout("with_account", (*ADDRESS_ONLY.groups, GROUPS["account3"], GROUPS["position3"]))


def trading_data(layout: Layout) -> TradingData:
    market, _ = make_markets(random_prices(BARS, seed=0), window=WINDOW, layout=layout)
    return market, on_device(make_params("crypto"))


def gpu_config(data: TradingData, **changes: Any) -> PPOConfig:
    """Small settings, all else as a GPU resolves it, every switch on."""
    settings = {
        "num_envs": 16, "num_steps": 4, "update_epochs": 2, "minibatch_size": 64, "hidden_sizes": (8, 8),
        "target_kl": 0.1, "context_noise": 0.1, "dropout": 0.1, "weight_decay": 0.1,
    } | changes  # fmt: skip
    layout = data[0].layout
    return resolve(PPOConfig(**settings), "gpu", layout.address_only, BARS - WINDOW)


def lower(function: Callable[..., Any], *args: Any) -> jax.export.Exported:
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*args)
    assert exported.platforms == PLATFORMS
    return exported


def exported_update(data: TradingData, config: PPOConfig, members: int = 1) -> jax.export.Exported:
    learner = make_learner(make_environment(data[0]), config)
    state = jax.eval_shape(learner.init, jax.random.key(0), data)
    hyper = jax.eval_shape(partial(make_hyper, config))

    def update(state: Any, hyper: Any, active: Any, data: TradingData) -> Any:
        after, metrics = learner.update(state, hyper, data)
        return select_members(active, after, state), metrics

    def stacked(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), tree)

    program = over_members(update, jax.devices()[:1], members)
    return lower(program, stacked(state), stacked(hyper), jax.ShapeDtypeStruct((members,), jnp.bool_), data)


@pytest.mark.parametrize("layout", [ADDRESS_ONLY, WITH_ACCOUNT], ids=["address", "account"])
def test_random_steps_of_the_environment_lower(layout: Layout) -> None:
    data = trading_data(layout)
    env, config = make_environment(data[0]), gpu_config(data)
    state, _ = jax.eval_shape(partial(env.reset, num_envs=config.num_envs), jax.random.key(0), data=data)
    lower(partial(step_randomly, env, config), state, jax.random.key(0), data)


@pytest.mark.parametrize("first_layer", ["auto", "gather", "conv", "fft"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_update_of_the_row_engine_lowers(first_layer: str, precision: str) -> None:
    data = trading_data(ADDRESS_ONLY)
    exported_update(data, gpu_config(data, first_layer=first_layer, precision=precision))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", [ADDRESS_ONLY, WITH_ACCOUNT], ids=["address", "account"])
def test_an_update_of_the_sample_engine_lowers(layout: Layout, precision: str) -> None:
    data = trading_data(layout)
    exported_update(data, gpu_config(data, engine="samples", precision=precision))


@pytest.mark.parametrize("engine", ["rows", "samples"])
def test_an_update_of_members_in_one_batch_lowers(engine: str) -> None:
    data = trading_data(ADDRESS_ONLY)
    exported = exported_update(data, gpu_config(data, engine=engine), members=3)
    assert all(aval.shape[:1] == (3,) for aval in exported.out_avals)


@pytest.mark.parametrize("layout", [ADDRESS_ONLY, WITH_ACCOUNT], ids=["address", "account"])
def test_a_fresh_member_lowers(layout: Layout) -> None:
    data = trading_data(layout)
    lower(make_learner(make_environment(data[0]), gpu_config(data)).init, jax.random.key(0), data)


@pytest.mark.parametrize("layout", [ADDRESS_ONLY, WITH_ACCOUNT], ids=["address", "account"])
def test_a_validation_lowers(layout: Layout) -> None:
    data = trading_data(layout)
    learner = make_learner(make_environment(data[0]), gpu_config(data))
    params = jax.eval_shape(learner.init, jax.random.key(0), data).params
    validation = make_validation(*data, annualisation=1.0)
    lower(lambda params, data: validate(learner.evaluate(params), data), params, validation.data)


def test_the_decisions_of_a_validation_lower() -> None:
    data = trading_data(ADDRESS_ONLY)
    learner = make_learner(make_environment(data[0]), gpu_config(data))
    params = jax.eval_shape(learner.init, jax.random.key(0), data).params
    validation = make_validation(*data, annualisation=1.0)
    lower(lambda params, data: validation.parts.decide(learner.evaluate(params), data), params, validation.data)


def test_the_two_parts_of_a_validation_are_the_whole() -> None:
    data = trading_data(ADDRESS_ONLY)
    learner = make_learner(make_environment(data[0]), gpu_config(data, precision="float32"))
    policy = learner.evaluate(jax.jit(learner.init)(jax.random.key(0), data).params)
    validation = make_validation(*data, annualisation=1.0)
    decisions = jax.jit(lambda data: validation.parts.decide(policy, data))(validation.data)
    played = jax.jit(validation.parts.replay)(decisions, validation.data)
    whole = jax.jit(lambda data: validation.run(policy, data))(validation.data)
    for name, value in whole.items():
        assert float(played[name]) == pytest.approx(float(value), rel=1e-5, nan_ok=True), name
    assert int(whole["num_trades"]) > 0


def test_account_columns_leave_a_validation_in_one_part() -> None:
    assert make_validation(*trading_data(WITH_ACCOUNT), annualisation=1.0).parts is None


def test_a_market_build_lowers() -> None:
    with jax.enable_x64(True):
        inputs = bar_inputs(random_bars(2_000), ADDRESS_ONLY.hour_visibility)
        lower(partial(_tables, groups=ADDRESS_ONLY.groups, bars_per_hour=4), inputs)
        tables = jnp.zeros((BARS, len(ADDRESS_ONLY.bar_columns))), jnp.zeros((BARS, len(ADDRESS_ONLY.context_columns)))
        moments = jnp.zeros(tables[0].shape[1] + tables[1].shape[1])
        lower(_standardise, *tables, moments, moments)
