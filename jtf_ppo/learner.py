"""The learner as pure functions: a fresh state, one update (rollout, epochs, optimiser steps), and the network.

Nothing here returns to Python inside an update, and nothing depends on how many members train side by side
(`jtf_ppo.members`).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from jtf_ppo.config import PPOConfig
from jtf_ppo.engine import Engine, RolloutState, is_noisy, noise_by_column
from jtf_ppo.flat import Arrangement, arrange
from jtf_ppo.hyper import Hyper, make_hyper, structure
from jtf_ppo.networks import make_network, network_graph
from jtf_ppo.optimiser import apply_gradient, make_optimiser
from jtf_ppo.rows import evaluate_rows, policy_on, row_engine
from jtf_ppo.samples import sample_engine
from jtf_ppo.schedules import learning_rate
from jtf_ppo.types import Environment, PolicyFunctions, PyTree, RowTable

MAX_SKIPS = 3
"""Optimiser steps in a row with a non-finite loss or gradient after which a run has diverged."""


OPTIMISER_METRICS = ("train/grad_norm", "train/learning_rate")


class TrainState(NamedTuple):
    """Everything a member needs to go on bit for bit, beside its configuration and data."""

    params: nnx.State
    opt_state: optax.OptState
    key: Array
    """``[2]`` uint32 data of the random key all later randomness comes from."""
    rollout_state: RolloutState
    update: Array
    """int32, updates done."""
    skipped: Array
    """int32, optimiser steps skipped so far for a non-finite loss or gradient."""
    streak: Array
    """int32, of these the last ones in a row; stays once it reaches MAX_SKIPS."""


class Learner(NamedTuple):
    """One way to train, for any data of the environment; equal settings give the same object, traced once a shape."""

    init: Callable[[Array, PyTree], TrainState]
    """``(key, data) -> state`` of a fresh member; consumes the key."""
    update: Callable[[TrainState, Hyper, PyTree], tuple[TrainState, dict[str, Array]]]
    """``(state, hyper, data) -> (state, metrics)``: one rollout and its epochs."""
    evaluate: Callable[[nnx.State], PolicyFunctions]
    """``params -> functions`` of the network with these parameters, in float32 whatever precision it learns in: what is
    validated decides as what is deployed."""


def make_learner(env: Environment, config: PPOConfig) -> Learner:
    """Return the learner of a resolved `config`; settings that are not shapes reach it through `make_hyper`."""
    return _make_learner(env, structure(config))


@lru_cache(maxsize=32)
def _make_learner(env: Environment, config: PPOConfig) -> Learner:
    graph = network_graph(env, config)
    return Learner(
        partial(_init, env, config),
        partial(_update, env, config, graph),
        partial(_evaluate, env, config, network_graph(env, replace(config, precision="float32"))),
    )


def make_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef, data: PyTree) -> Engine:
    """Return the engine a resolved `config` names, for the table of `data`."""
    num_rows = jax.eval_shape(env.table, data).features.shape[0] if env.table is not None else 0
    make = sample_engine if config.engine == "samples" else row_engine
    return make(env, config, graph, num_rows)


def _init(env: Environment, config: PPOConfig, key: Array, data: PyTree) -> TrainState:
    """The key is split for network, environments and the rest."""
    assert config.num_envs is not None, "config must be resolved"
    network_key, reset_key, key = jax.random.split(key, 3)
    _, params = make_network(env, config, network_key)
    env_state, observation = env.reset(reset_key, config.num_envs, data)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        params,
        make_optimiser(config, make_hyper(config)).init(params),
        jax.random.key_data(key),
        RolloutState(env_state, observation),
        update=zero,
        skipped=zero,
        streak=zero,
    )


def _evaluate(env: Environment, config: PPOConfig, graph: nnx.GraphDef, params: nnx.State) -> PolicyFunctions:
    def on(table: RowTable | None) -> Callable[[PyTree], tuple[Array, Array]]:
        return policy_on(env, graph, params, table, config.first_layer)

    def rows(table: RowTable) -> tuple[Array, Array]:
        return evaluate_rows(graph, params, table, env.first_row, env.window, config.first_layer)

    return PolicyFunctions(on, rows)


class Epochs(NamedTuple):
    """What the minibatches of one update share."""

    env: Environment
    config: PPOConfig
    engine: Engine
    hyper: Hyper
    behaviour: TrainState
    """The state whose parameters collected the batch."""
    batch: PyTree
    table: RowTable | None


class EpochState(NamedTuple):
    """What the minibatches of one update hand on."""

    params: PyTree
    """As the `Arrangement` of the update holds them; so `opt_state`."""
    opt_state: PyTree
    skipped: Array
    streak: Array
    steps: Array
    """float32, optimiser steps of this update."""
    epochs: Array
    """float32, epochs of this update."""
    stop: Array
    """bool: the KL bound was passed in an earlier epoch."""


def _update(
    env: Environment, config: PPOConfig, graph: nnx.GraphDef, state: TrainState, hyper: Hyper, data: PyTree
) -> tuple[TrainState, dict[str, Array]]:
    data, scheduled = env.schedule(data, state.update / hyper.total_updates) if env.schedule else (data, {})
    engine = make_engine(env, config, graph, data)
    key, collect_key, epochs_key = jax.random.split(jax.random.wrap_key_data(state.key), 3)
    rollout_state, batch, metrics = engine.collect(state.params, state.rollout_state, collect_key, hyper, data)
    table = env.table(data) if env.table is not None else None
    if table is not None and is_noisy(config):
        hyper = noise_by_column(hyper, table)
    last, learnt = optimise(Epochs(env, config, engine, hyper, state, batch, table), epochs_key)
    after = TrainState(
        last.params,
        last.opt_state,
        jax.random.key_data(key),
        rollout_state,
        state.update + 1,
        last.skipped,
        last.streak,
    )
    return after, metrics | learnt | scheduled


def optimise(epochs: Epochs, key: Array) -> tuple[EpochState, dict[str, Array]]:
    """Run all epochs of an update. Consumes `key`.

    Metrics of the loss are means over the samples and the epochs, those of the optimiser over its steps.
    """
    state = epochs.behaviour
    held = arrange(epochs.config, epochs.hyper, state.params, state.opt_state)
    fresh = EpochState(
        held.params,
        held.opt_state,
        state.skipped,
        state.streak,
        jnp.zeros(()),
        jnp.zeros(()),
        jnp.zeros((), jnp.bool_),
    )
    keys = jax.random.split(key, epochs.config.update_epochs)
    last, sums = jax.lax.scan(partial(_epoch, epochs, held), fresh, keys)
    means = {
        name: value.sum() / (last.steps if name in OPTIMISER_METRICS else last.epochs) for name, value in sums.items()
    }
    last = last._replace(params=held.unpack(last.params), opt_state=held.unpack_state(last.opt_state))
    return last, {
        **means,
        "train/skipped": last.skipped,
        "train/skip_streak": last.streak,
        "train/epochs": last.epochs,
    }


def _epoch(epochs: Epochs, held: Arrangement, state: EpochState, key: Array) -> tuple[EpochState, dict[str, Array]]:
    """One pass over the batch and the sums of its metrics; nothing once the KL bound was passed. Consumes `key`."""
    engine = epochs.engine
    indices_key, loss_key = jax.random.split(key)
    indices, count = engine.epoch_indices(indices_key, epochs.batch)
    keys = jax.random.split(loss_key, engine.num_minibatches)

    def step(i: Array | int, so_far: tuple[EpochState, Array]) -> tuple[EpochState, Array]:
        state, sums = so_far
        done = (state.epochs + i / count) / epochs.config.update_epochs
        state, metrics = _minibatch(epochs, held, state, indices[i], keys[i], done)
        return state, sums + jnp.stack([metrics[name] for name in names])

    names = sorted(jax.eval_shape(partial(_minibatch, epochs, held), state, indices[0], keys[0], state.epochs)[1])
    nothing = dict.fromkeys(names, jnp.zeros(()))

    def run(state: EpochState) -> tuple[EpochState, dict[str, Array]]:
        # One array of all sums: a GPU pays for every number by itself.
        state, sums = jax.lax.fori_loop(0, count, step, (state, jnp.zeros(len(names))))
        return state._replace(epochs=state.epochs + 1.0), dict(zip(names, sums, strict=True))

    if not epochs.config.target_kl:
        return run(state)
    state, sums = jax.lax.cond(state.stop, lambda s: (s, nothing), run, state)
    return state._replace(stop=state.stop | (sums["train/kl"] > epochs.hyper.target_kl)), sums


def _minibatch(
    epochs: Epochs, held: Arrangement, state: EpochState, indices: PyTree, key: Array, done: Array
) -> tuple[EpochState, dict[str, Array]]:
    """One optimiser step; `done` is the share of the update that lies behind it. Consumes `key`."""
    hyper, behaviour = epochs.hyper, epochs.behaviour
    (loss, metrics), gradient = jax.value_and_grad(epochs.engine.loss, has_aux=True)(
        held.unpack(state.params), behaviour.params, epochs.batch, indices, key, hyper, epochs.table
    )
    rate = learning_rate((behaviour.update + done) / hyper.total_updates, hyper)
    params, opt_state, norm, skip = apply_gradient(
        held.optimiser,
        state.params,
        state.opt_state,
        gradient,
        loss,
        rate,
        hyper.max_grad_norm,
        epochs.env.window,
        held.pack,
    )
    streak = jnp.where(state.streak >= MAX_SKIPS, state.streak, jnp.where(skip, state.streak + 1, 0))
    metrics = {**metrics, **dict(zip(OPTIMISER_METRICS, (norm, rate), strict=True))}
    after = state._replace(
        params=params, opt_state=opt_state, skipped=state.skipped + skip, streak=streak, steps=state.steps + 1.0
    )
    return after, metrics
