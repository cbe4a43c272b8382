"""The phases of one training iteration as separately compiled functions, on the built-in market."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.floors import Sizes, Work, env_work, epochs_work, policy_table_work, rollout_work
from benchmarks.measure import Measurement, measure
from jtf.data.synthetic import synthetic_bars
from jtf.environment import TradingData, make_environment
from jtf.problem import make_problem
from jtf.splits import Fold, Segment
from jtf_env.market import Market, build_market
from jtf_env.params import make_params
from jtf_ppo.config import PPOConfig, resolve
from jtf_ppo.engine import Engine
from jtf_ppo.hyper import Hyper, make_hyper
from jtf_ppo.learner import Epochs, TrainState, make_engine, make_learner, optimise
from jtf_ppo.loops import scan_blocks
from jtf_ppo.networks import network_graph
from jtf_ppo.rows import evaluate_rows
from jtf_ppo.sampling import draw_bits, mix_bits
from jtf_ppo.types import Environment, PyTree

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
    hyper: Hyper
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
    everything = Segment(natural.first_bar, natural.num_bars)
    fold = Fold((everything,), everything, everything)
    return make_problem(natural, fold, make_params("crypto"), CRYPTO_BARS_PER_YEAR).data


def resolve_for(market: Market, config: PPOConfig) -> PPOConfig:
    """Return `config` with what is left open decided for this device and market."""
    return resolve(config, jax.default_backend(), market.layout.address_only, market.num_bars - market.first_bar)


def start_iteration(data: TradingData, config: PPOConfig) -> Iteration:
    """Return a fresh run of a resolved `config`."""
    market, _ = data
    env = make_environment(market)
    learner, graph = make_learner(env, config), network_graph(env, config)
    state = jax.jit(learner.init)(jax.random.key(config.seed), data)
    sizes = Sizes(
        market.num_bars - market.first_bar,
        market.window,
        market.features.shape[1],
        market.context.shape[1],
        env.num_actions,
        env.num_account,
    )
    return Iteration(env, data, config, make_engine(env, config, graph, data), graph, state, make_hyper(config), sizes)


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
    rollout_args = (it.state.params, it.state.rollout_state, key, it.hyper, data)
    yield Phase("rollout", measure(it.engine.collect, *rollout_args, **timing), rollout)
    _, batch, _ = jax.jit(it.engine.collect)(*rollout_args)
    epochs = epochs_work(config, it.sizes)
    yield Phase("epochs", measure(epochs_only(it), it.state, (data, batch), carry=True, **timing), epochs)
    update = make_learner(it.env, config).update
    whole = Work(rollout.flops + epochs.flops, rollout.bytes + epochs.bytes)
    yield Phase("iteration", measure(update, it.state, it.hyper, data, carry=True, **timing), whole)


def step_randomly(env: Environment, config: PPOConfig, state: PyTree, key: Array, data: PyTree) -> tuple[PyTree, Array]:
    """Step all environments `num_steps` times with uniformly random actions: ``(state, sum of rewards)``."""
    num_envs, at_once = config.num_envs or 0, config.steps_at_once or 1

    def draw(keys: Array) -> Array:
        return jax.vmap(draw_bits, in_axes=(0, None))(keys, num_envs)

    def step(carry: tuple[PyTree, Array], bits: Array) -> tuple[tuple[PyTree, Array], None]:
        state, rewards = carry
        action = (bits % jnp.uint32(env.num_actions)).astype(jnp.int32)
        state, timestep = env.step(mix_bits(bits), state, action, data)
        after = (state, rewards + (timestep.reward if at_once > 1 else timestep.reward.sum()))
        return (after if at_once == 1 else jax.lax.optimization_barrier(after)), None

    keys = jax.random.split(key, config.num_steps)
    none = jnp.zeros(num_envs if at_once > 1 else ())
    (state, rewards), _ = scan_blocks(step, (state, none), keys, at_once, prepare=draw)
    return state, rewards.sum()


def epochs_only(it: Iteration) -> Callable[[TrainState, tuple[PyTree, PyTree]], tuple[TrainState, PyTree]]:
    """Return the update without its rollout: ``(state, (data, batch)) -> (state, metrics)``."""
    table = it.env.table
    assert table is not None

    def run(state: TrainState, both: tuple[PyTree, PyTree]) -> tuple[TrainState, PyTree]:
        data, batch = both
        key, epochs_key = jax.random.split(jax.random.wrap_key_data(state.key))
        epochs = Epochs(it.env, it.config, it.engine, it.hyper, state, batch, table(data))
        last, metrics = optimise(epochs, epochs_key)
        return state._replace(params=last.params, opt_state=last.opt_state, key=jax.random.key_data(key)), metrics

    return run


def _policy_table(it: Iteration) -> Callable[[PyTree, PyTree], tuple[Array, Array]]:
    assert it.env.table is not None
    table, env, method = it.env.table, it.env, it.config.first_layer
    return lambda params, data: evaluate_rows(it.graph, params, table(data), env.first_row, env.window, method)
