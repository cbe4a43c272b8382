"""One jitted update: rollout, epochs of minibatches, optimiser steps; nothing returns to Python inside."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from jtf_ppo.config import PPOConfig
from jtf_ppo.engine import Engine, RolloutState
from jtf_ppo.networks import make_network
from jtf_ppo.optimiser import apply_gradient, learning_rate, make_optimiser
from jtf_ppo.rows import row_engine
from jtf_ppo.samples import sample_engine
from jtf_ppo.types import Environment, PyTree, RowTable

MAX_SKIPS = 3
"""Optimiser steps in a row with a non-finite loss or gradient after which a run has diverged."""


class TrainState(NamedTuple):
    """Everything a run needs to go on bit for bit, beside its configuration and data."""

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


class Progress(NamedTuple):
    """What the minibatches of one update hand on."""

    params: nnx.State
    opt_state: optax.OptState
    skipped: Array
    streak: Array
    done: Array
    """float32, minibatches applied in this update."""
    stop: Array
    """bool: the KL bound was passed in an earlier epoch."""


Update = Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Array]]]


def make_state(env: Environment, data: PyTree, config: PPOConfig) -> tuple[nnx.GraphDef, TrainState]:
    """Return ``(graph, state)`` of a fresh run; the seed's key is split for network, environments and the rest."""
    network_key, reset_key, key = jax.random.split(jax.random.key(config.seed), 3)
    table = env.table(data) if env.table is not None else None
    graph, params = make_network(env, table, config, network_key)
    assert config.num_envs is not None, "config must be resolved"
    env_state, observation = jax.jit(env.reset, static_argnums=1)(reset_key, config.num_envs, data)
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        params,
        make_optimiser(config).init(params),
        jax.random.key_data(key),
        RolloutState(env_state, observation),
        update=zero,
        skipped=zero,
        streak=zero,
    )
    # Copies: a donated state must not hold one buffer twice, nor one that the caller still owns.
    return graph, jax.tree.map(lambda x: jnp.array(x, copy=True), state)


def make_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef, data: PyTree) -> Engine:
    """Return the engine a resolved `config` names."""
    if config.engine == "samples":
        return sample_engine(env, config, graph)
    assert env.table is not None
    num_rows = jax.eval_shape(env.table, data).features.shape[0]
    return row_engine(env, config, graph, num_rows)


def make_update(env: Environment, config: PPOConfig, engine: Engine) -> Update:
    """Return ``update(state, data) -> (state, metrics)``, pure, to be jitted with the state donated."""
    optimiser = make_optimiser(config)
    steps_per_update = config.update_epochs * engine.num_minibatches

    def minibatch(
        progress: Progress, inputs: tuple[PyTree, Array], state: TrainState, batch: PyTree, table: RowTable | None
    ) -> tuple[Progress, dict[str, Array]]:
        indices, key = inputs
        (loss, metrics), gradient = jax.value_and_grad(engine.loss, has_aux=True)(
            progress.params, state.params, batch, indices, key, table
        )
        share = (state.update + progress.done / steps_per_update) / config.total_updates
        rate = learning_rate(share, config)
        params, opt_state, norm, skip = apply_gradient(
            optimiser,
            progress.params,
            progress.opt_state,
            gradient,
            loss,
            rate,
            config.max_grad_norm,
            env.window,
        )
        streak = jnp.where(progress.streak >= MAX_SKIPS, progress.streak, jnp.where(skip, progress.streak + 1, 0))
        metrics = {**metrics, "train/grad_norm": norm, "train/learning_rate": rate}
        return Progress(params, opt_state, progress.skipped + skip, streak, progress.done + 1.0, progress.stop), metrics

    def epoch(
        progress: Progress, key: Array, state: TrainState, batch: PyTree, table: RowTable | None
    ) -> tuple[Progress, dict[str, Array]]:
        indices_key, loss_key = jax.random.split(key)
        inputs = (engine.epoch_indices(indices_key), jax.random.split(loss_key, engine.num_minibatches))

        def run(progress: Progress) -> tuple[Progress, dict[str, Array]]:
            progress, metrics = jax.lax.scan(lambda p, x: minibatch(p, x, state, batch, table), progress, inputs)
            return progress, jax.tree.map(jnp.sum, metrics)

        if not config.target_kl:
            return run(progress)
        shapes = jax.eval_shape(run, progress)[1]
        nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        progress, sums = jax.lax.cond(progress.stop, lambda p: (p, nothing), run, progress)
        passed = sums["train/kl"] / engine.num_minibatches > config.target_kl
        return progress._replace(stop=progress.stop | passed), sums

    def update(state: TrainState, data: PyTree) -> tuple[TrainState, dict[str, Array]]:
        key, collect_key, epochs_key = jax.random.split(jax.random.wrap_key_data(state.key), 3)
        rollout_state, batch, rollout_metrics = engine.collect(state.params, state.rollout_state, collect_key, data)
        table = env.table(data) if env.table is not None else None
        progress = Progress(
            state.params, state.opt_state, state.skipped, state.streak, jnp.zeros(()), jnp.zeros((), bool)
        )
        progress, sums = jax.lax.scan(
            lambda p, k: epoch(p, k, state, batch, table),
            progress,
            jax.random.split(epochs_key, config.update_epochs),
        )
        metrics = {name: value.sum() / progress.done for name, value in sums.items()}
        metrics |= rollout_metrics
        metrics["train/skipped"] = progress.skipped
        metrics["train/skip_streak"] = progress.streak
        metrics["train/epochs"] = progress.done / engine.num_minibatches
        state = TrainState(
            progress.params,
            progress.opt_state,
            jax.random.key_data(key),
            rollout_state,
            state.update + 1,
            progress.skipped,
            progress.streak,
        )
        return state, metrics

    return update
