"""The phases of one training iteration as separately compiled functions, on the built-in market."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.floors import Sizes, Work, env_work, epochs_work, policy_table_work, rollout_work
from benchmarks.measure import Measurement, measure
from jtf.data.synthetic import synthetic_bars
from jtf.environment import TradingData, make_environment, on_device
from jtf_env.market import Market, build_market, scale_market
from jtf_env.params import make_params
from jtf_env.scaler import fit_scaler
from jtf_ppo.config import PPOConfig, resolve
from jtf_ppo.engine import Engine
from jtf_ppo.rows import evaluate_rows
from jtf_ppo.sampling import draw_bits, mix_bits
from jtf_ppo.types import Environment, PyTree
from jtf_ppo.update import TrainState, make_engine, make_state, make_update

CRYPTO_BARS_PER_YEAR = 35_040


@dataclass(frozen=True, eq=False)
class Iteration:
    """A fresh run, ready for its first update, and the parts it is made of."""

    env: Environment
    data: TradingData
    config: PPOConfig
    engine: Engine
    graph: Any
    state: TrainState
    sizes: Sizes


@dataclass(frozen=True)
class Phase:
    """One part of an iteration, measured beside its floor."""

    name: str
    measurement: Measurement
    work: Work


def synthetic_problem(num_bars: int, window: int = 100, layout: str = "v5.6.0") -> TradingData:
    """Return the standardised market of the last `num_bars` built-in BTC/USD bars, and its default parameters."""
    bars = synthetic_bars("BTC/USD", years=num_bars / CRYPTO_BARS_PER_YEAR + 0.1)[-num_bars:]
    natural = build_market(bars, layout, window=window, dtype=jnp.float64)
    scaler = fit_scaler(np.asarray(natural.features), np.asarray(natural.context), natural.layout.warmup)
    return scale_market(natural, scaler), on_device(make_params("crypto"))


def resolve_for(market: Market, config: PPOConfig) -> PPOConfig:
    """Return `config` with what is left open decided for this device and market."""
    return resolve(config, jax.default_backend(), market.layout.address_only, market.num_bars - market.first_bar)


def start_iteration(data: TradingData, config: PPOConfig) -> Iteration:
    """Return a fresh run of a resolved `config`."""
    market, _ = data
    env = make_environment(market)
    graph, state = make_state(env, data, config)
    sizes = Sizes(
        market.num_bars - market.first_bar,
        market.window,
        market.features.shape[1],
        market.context.shape[1],
        env.num_actions,
    )
    return Iteration(env, data, config, make_engine(env, config, graph, data), graph, state, sizes)


def measure_phases(data: TradingData, config: PPOConfig, **timing: Any) -> Iterator[Phase]:
    """Measure env-only, policy table (bars), rollout, epochs and the whole iteration; `timing` goes to `measure`."""
    it = start_iteration(data, config)
    key = jax.random.key(0)
    env_state = it.state.rollout_state.env_state
    random_steps = partial(step_randomly, it.env, config)
    yield Phase("env only", measure(random_steps, env_state, key, data, carry=True, **timing), env_work(config))
    if config.engine == "rows":
        table = measure(_policy_table(it), it.state.params, data, **timing)
        yield Phase("policy table", table, policy_table_work(config, it.sizes))
    rollout = rollout_work(config, it.sizes)
    rollout_args = (it.state.params, it.state.rollout_state, key, data)
    yield Phase("rollout", measure(it.engine.collect, *rollout_args, **timing), rollout)
    _, batch, _ = jax.jit(it.engine.collect)(*rollout_args)
    epochs = epochs_work(config, it.sizes)
    yield Phase("epochs", measure(epochs_only(it), it.state, (data, batch), carry=True, **timing), epochs)
    update = make_update(it.env, config, it.engine)
    whole = Work(rollout.flops + epochs.flops, rollout.bytes + epochs.bytes)
    yield Phase("iteration", measure(update, it.state, data, carry=True, **timing), whole)


def step_randomly(env: Environment, config: PPOConfig, state: PyTree, key: Array, data: PyTree) -> tuple[PyTree, Array]:
    """Step all environments `num_steps` times with uniformly random actions: ``(state, sum of rewards)``."""

    def step(state: PyTree, key: Array) -> tuple[PyTree, Array]:
        bits = draw_bits(key, config.num_envs or 0)
        action = (bits % jnp.uint32(env.num_actions)).astype(jnp.int32)
        state, timestep = env.step(mix_bits(bits), state, action, data)
        return state, timestep.reward.sum()

    state, rewards = jax.lax.scan(step, state, jax.random.split(key, config.num_steps))
    return state, rewards.sum()


def epochs_only(it: Iteration) -> Callable[[TrainState, tuple[PyTree, PyTree]], tuple[TrainState, PyTree]]:
    """Return the update without its rollout: ``(state, (data, batch)) -> (state, metrics)``."""
    assert it.env.table is not None
    table = it.env.table
    engine = it.engine._replace(collect=lambda params, rollout_state, key, both: (rollout_state, both[1], {}))
    return make_update(replace(it.env, table=lambda both: table(both[0])), it.config, engine)


def _policy_table(it: Iteration) -> Callable[[PyTree, PyTree], tuple[Array, Array]]:
    assert it.env.table is not None
    table, env, method = it.env.table, it.env, it.config.first_layer
    return lambda params, data: evaluate_rows(it.graph, params, table(data), env.first_row, env.window, method)
