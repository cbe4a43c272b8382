"""How an epoch of the row engine cuts the rows that a rollout visited: into blocks, and blocks into minibatches.

Only rows with samples have weight in the loss (`jtf_ppo.losses.row_loss`), so blocks are laid over those rows alone.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jtf_ppo.config import PPOConfig
from jtf_ppo.window_dense import block_length

SLACK = 1.05
"""Blocks that a minibatch has room for, as a multiple of those expected: resets inside a rollout add some."""


class Partition(NamedTuple):
    """Sizes of the blocks and minibatches of an epoch."""

    length: int
    """Rows of a block."""
    num_blocks: int
    """Most blocks an epoch can hold."""
    size: int
    """Most blocks a minibatch can hold."""
    few: bool
    """Whether rollouts are expected to leave blocks out, so that the number of minibatches is counted afresh in every
    epoch. Else it is always `num_minibatches`, a number the compiler knows."""

    @property
    def num_minibatches(self) -> int:
        """Most minibatches an epoch can hold."""
        return -(-self.num_blocks // self.size)


def partition(num_rows: int, window: int, config: PPOConfig) -> Partition:
    """Return the partition of `num_rows` rows, padding included, for a resolved `config`.

    A minibatch is the whole blocks, at least one, that come nearest to ``config.minibatch_size`` rows and share the
    blocks that are expected evenly.
    """
    assert config.minibatch_size is not None, "config must be resolved"
    length = block_length(window, config.first_layer)
    num_blocks = -(-num_rows // length) + 1  # One more than the rows fill: a random offset shifts the first one.
    expected = SLACK * expected_blocks(num_rows, length, config)
    few = expected < num_rows / length
    blocks = math.ceil(expected) if few else num_blocks
    wanted = max(1, (config.minibatch_size + length // 2) // length)
    num_minibatches = 1 if config.minibatch_size >= num_rows else max(1, round(blocks / wanted))
    return Partition(length, num_blocks, -(-blocks // num_minibatches), few)


def expected_blocks(num_rows: int, length: int, config: PPOConfig) -> float:
    """Return about how many blocks cover the rows that a rollout visits.

    `B` environments that start anywhere in `T` rows and walk `N` of them merge into about ``B exp(-BN/T)`` runs of
    ``(exp(BN/T) - 1) T/B`` rows each (Hall 1988, "Introduction to the Theory of Coverage Processes", 2.1); a run ends
    in half a block on average.
    """
    num_envs, density = config.num_envs or 0, config.batch_size / num_rows
    runs = num_envs * math.exp(-density)
    rows = num_rows * -math.expm1(-density)
    return rows / length + runs / 2


def cover(visited: Array, offset: Array, cut: Partition) -> tuple[Array, Array]:
    """Return ``(starts [num_blocks], count)`` of the fewest blocks that hold every row of ``visited [T]``, in order.

    Each block begins at the first visited row behind the one before it; the first begins `offset` rows before the
    first visited row (``0 <= offset < length``), so that blocks meet elsewhere in every epoch. Every visited row is in
    one block only. Entries from `count` on are `T`.
    """
    num_rows = visited.shape[0]
    rows = jnp.arange(num_rows + 1, dtype=jnp.int32)
    at_or_after = jax.lax.cummin(jnp.where(jnp.append(visited, True), rows, num_rows), reverse=True)
    first = at_or_after[0]
    follower = at_or_after[jnp.minimum(rows + cut.length, num_rows)]
    second = at_or_after[jnp.minimum(first - offset + cut.length, num_rows)]
    starts = jnp.concatenate([(first - offset)[None], chain(second, follower, cut.num_blocks - 1)])
    return starts, jnp.sum(starts < num_rows, dtype=jnp.int32)


def chain(first: Array, follower: Array, length: int) -> Array:
    """Return `first`, ``follower[first]``, ``follower[follower[first]]`` and so on, ``[length]``."""
    links = first[None]
    # Doubling: `follower` is the link as many further on as there are links already.
    while links.shape[0] < length:
        links = jnp.concatenate([links, follower[links]])
        follower = follower[follower]
    return links[:length]


def deal(key: Array, starts: Array, count: Array, num_minibatches: Array | int, cut: Partition, nothing: int) -> Array:
    """Deal the first `count` of ``starts [num_blocks]`` out in random order: ``[cut.num_minibatches, size]``.

    The first `num_minibatches` rows share them as evenly as whole blocks can; whatever else is `nothing`. Consumes
    `key`; entries from `count` on, so padding rows too, do not move the order.
    """
    index = jnp.arange(cut.num_blocks, dtype=jnp.int32)
    draws = jax.random.bits(key, (cut.num_blocks,), jnp.uint32)
    order = jnp.argsort(jnp.where(index < count, draws, jnp.uint32(2**32 - 1)), stable=True)
    minibatch = jnp.arange(cut.num_minibatches, dtype=jnp.int32)[:, None]
    begin, end = (jnp.minimum((minibatch + i) * count // num_minibatches, count) for i in (0, 1))
    place = begin + jnp.arange(cut.size, dtype=jnp.int32)[None, :]
    return jnp.where(place < end, starts[order[jnp.minimum(place, cut.num_blocks - 1)]], nothing)
