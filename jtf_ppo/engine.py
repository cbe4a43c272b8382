"""What the two engines share: the interface the learner drives, the rollout, and the minibatches of an epoch."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jtf_ppo.config import PPOConfig
from jtf_ppo.hyper import Hyper
from jtf_ppo.loops import joined, scan_blocks
from jtf_ppo.networks import Dropout
from jtf_ppo.sampling import bits_to_uniform, draw_bits, mix_bits
from jtf_ppo.types import Environment, PyTree, RowTable, Timestep


class RolloutState(NamedTuple):
    """Where the rollout stands."""

    env_state: PyTree
    observation: PyTree
    """``[B, ...]``"""


Carry = tuple[RolloutState, dict[str, Array]]
"""Where a rollout stands, and the sum of each metric over the steps so far: ``[B]``, or of its means ``[]``."""


class Engine(NamedTuple):
    """One way to turn a rollout into optimiser steps, as pure functions of pytrees."""

    collect: Callable[[nnx.State, RolloutState, Array, Hyper, PyTree], tuple[RolloutState, PyTree, dict[str, Array]]]
    """``(params, rollout_state, key, hyper, data) -> (rollout_state, batch, metrics)``: one rollout with advantages."""
    num_minibatches: int
    """Most optimiser steps of an epoch, `M`."""
    epoch_indices: Callable[[Array, PyTree], tuple[Array, Array | int]]
    """``(key, batch) -> (indices [M, ...], count)``: an epoch in the first `count` minibatches: every sample, or
    visited row, once, padding masked. `count` is a Python int where it never varies."""
    loss: Callable[
        [nnx.State, nnx.State, PyTree, PyTree, Array, Hyper, RowTable | None], tuple[Array, dict[str, Array]]
    ]
    """``(params, behaviour_params, batch, indices, key, hyper, table) -> (loss, metrics)`` of a minibatch.

    `behaviour_params` are the parameters that collected the batch; the key is for noise and dropout. Each metric is the
    minibatch's part of the mean over all samples: over an epoch they add up to it.
    """


def roll_out(
    env: Environment,
    config: PPOConfig,
    rollout_state: RolloutState,
    key: Array,
    data: PyTree,
    act: Callable[[PyTree, Array], tuple[Array, dict[str, PyTree]]],
    bootstrap: Callable[[PyTree], dict[str, PyTree]],
) -> tuple[RolloutState, dict[str, PyTree]]:
    """Take `num_steps` steps of every environment and return where they stand and what was stored, ``[N, B, ...]``.

    One random word a step and environment: it draws the action, and mixed once more it serves the environment. Of the
    environment's metrics only means are stored, whose mean is that of all. Consumes `key`.

    Parameters
    ----------
    act: ``(observation, uniform) -> (action, stored)``.
    bootstrap: ``final observation -> stored``, for the value after the step.
    """
    num_envs, at_once = config.num_envs or 0, config.steps_at_once or 1
    env_step = jax.jit(env.step, inline=True)  # Traced once for its shapes and for the loop.

    def draw(keys: Array) -> tuple[Array, Array]:
        bits = jax.vmap(draw_bits, in_axes=(0, None))(keys, num_envs)
        return bits_to_uniform(bits), mix_bits(bits)

    def summed(timestep: Timestep) -> dict[str, Array]:
        # A mean over environments is several kernels of a GPU, and part of the step on a CPU.
        return timestep.metrics if at_once > 1 else jax.tree.map(jnp.mean, timestep.metrics)

    def step(carry: Carry, drawn: tuple[Array, Array]) -> tuple[Carry, dict[str, PyTree]]:
        (rollout_state, sums), (uniform, bits) = carry, drawn
        action, stored = act(rollout_state.observation, uniform)
        env_state, timestep = env_step(bits, rollout_state.env_state, action, data)
        stored = {
            **stored,
            **bootstrap(timestep.final_observation),
            "reward": timestep.reward,
            "terminated": timestep.terminated,
            "truncated": timestep.truncated,
        }
        sums = jax.tree.map(jnp.add, sums, summed(timestep))
        after = RolloutState(env_state, timestep.observation), sums
        # Without the barrier a GPU computes the step again for every array it stores of several steps.
        return (after, stored) if at_once == 1 else jax.lax.optimization_barrier((after, stored))

    def first_sums(state: PyTree) -> dict[str, Array]:
        return summed(env_step(jnp.zeros(num_envs, jnp.uint32), state, jnp.zeros(num_envs, jnp.int32), data)[1])

    shapes = jax.eval_shape(first_sums, rollout_state.env_state)
    start = rollout_state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    keys = jax.random.split(key, config.num_steps)
    (rollout_state, sums), blocks = scan_blocks(step, start, keys, at_once, prepare=draw)
    metrics = jax.tree.map(lambda x: x / config.num_steps, sums)
    return rollout_state, {**joined(blocks), "metrics": metrics}


def is_noisy(config: PPOConfig) -> bool:
    """Whether training passes differ from the rollout's by noise or dropout.

    The probability ratio must then compare both policies under the *same* noise: against the noiseless probabilities of
    the rollout most ratios leave the clip range by noise alone, and the policy stops sharpening (normalised
    score 0.66 instead of 0.91 where a slow drift shows through noise).
    """
    return bool(config.feature_noise or config.context_noise or config.dropout)


def shuffled_minibatches(key: Array, num_items: int, size: int) -> Array:
    """Return ``[M, size]`` int32 indices, ``M = ceil(num_items / size)``, in random order; padding is `num_items`."""
    num_minibatches = -(-num_items // size)
    padding = jnp.full(num_minibatches * size - num_items, num_items, jnp.int32)
    order = jax.random.permutation(key, jnp.arange(num_items, dtype=jnp.int32))
    return jnp.concatenate([order, padding]).reshape(num_minibatches, size)


class TrainingNoise(NamedTuple):
    """Noise and dropout of one training pass; nothing is drawn for a switch that is off.

    The noise scales of `hyper` are one number, or one a column (`noise_by_column`).
    """

    config: PPOConfig
    hyper: Hyper
    key: Array
    """Split into one key each for features, context and dropout."""

    def features(self, rows: Array) -> Array:
        """Add noise to windowed columns."""
        return _noisy(rows, self.config.feature_noise, self.hyper.feature_noise, self._keys()[0])

    def context(self, rows: Array) -> Array:
        """Add noise to broadcast columns."""
        return _noisy(rows, self.config.context_noise, self.hyper.context_noise, self._keys()[1])

    def dropout(self) -> Dropout | None:
        """Return the dropout of the first layer's activations."""
        return Dropout(self.hyper.dropout, self._keys()[2]) if self.config.dropout else None

    def _keys(self) -> Array:
        return jax.random.split(self.key, 3)


def _noisy(rows: Array, switch: float, scale: Array, key: Array) -> Array:
    if not switch or not rows.size:
        return rows
    return rows + jnp.broadcast_to(scale, rows.shape) * jax.random.normal(key, rows.shape, rows.dtype)


def noise_by_column(hyper: Hyper, table: RowTable) -> Hyper:
    """Return `hyper` with noise scales ``[F]`` and ``[C]``: 0 for columns that never change over the usable rows.

    Such a column tells nothing, so noise there regularises nothing; it drowns the columns that do tell something, and
    the policy under noise drifts away from the clean one that acts. Columns that change get the same noise whatever
    their deviation: how large a column is beside the noise is decided by whoever standardises it.
    """

    def changes(columns: Array) -> Array:
        usable = table.usable[:, None]
        highest = jnp.max(columns, axis=0, where=usable, initial=-jnp.inf)
        lowest = jnp.min(columns, axis=0, where=usable, initial=jnp.inf)
        return (highest > lowest).astype(columns.dtype)

    return hyper._replace(
        feature_noise=hyper.feature_noise * changes(table.features),
        context_noise=hyper.context_noise * changes(table.context),
    )


def rollout_metrics(rollout: dict[str, PyTree], values: Array, advantages: Array, num_actions: int) -> dict[str, Array]:
    """Metrics of one rollout from what `roll_out` stored; `values` and `advantages` are ``[N, B]``.

    Explained variance is ``1 - var(target - value) / var(target)`` with the target ``advantage + value``.
    """
    shares = action_shares(rollout["action"], num_actions)
    unexplained = advantages.var() / jnp.maximum((advantages + values).var(), 1e-12)
    return {
        "train/reward": rollout["reward"].mean(),
        "train/explained_variance": 1.0 - unexplained,
        **{f"train/action_share_{a}": shares[a] for a in range(num_actions)},
        **{f"train/{name}": value.mean() for name, value in rollout["metrics"].items()},
    }


def action_shares(actions: Array, num_actions: int) -> Array:
    """Return ``[A]``: how often each action stands in `actions`, as a share of all.

    A CPU counts by address. On a GPU that is millions of atomic additions to a few numbers, so it compares.
    """

    def count(actions: Array) -> Array:
        return jnp.bincount(actions.reshape(-1).astype(jnp.int32), length=num_actions) / actions.size

    def compare(actions: Array) -> Array:
        return jnp.stack([jnp.mean(actions == action) for action in range(num_actions)])

    return jax.lax.platform_dependent(actions, cpu=count, default=compare)
