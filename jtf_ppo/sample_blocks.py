"""How an epoch of the sample engine cuts the samples of a rollout over a row table: into blocks of few rows.

The first layer's part of a row is the same for every sample there, so that a minibatch pays it once a row. That needs
the samples of a row side by side: they are sorted by row, and a minibatch is blocks of consecutive ones.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jtf_ppo.blocks import Partition, chain, deal
from jtf_ppo.config import PPOConfig
from jtf_ppo.window_dense import block_length

FILL = 0.75
"""Most samples of a block, as a multiple of what its rows hold on average.

Lower, and blocks end before their rows do, whose first layer was computed in vain; higher, and more of the room for
samples stays empty."""
HELD = 0.9
"""Share of that room that is filled: a minibatch has as many blocks as hold its samples then."""


class SamplePartition(NamedTuple):
    """Sizes of the blocks of samples of an epoch, and of the minibatches they are dealt to."""

    blocks: Partition
    most: int
    """Most samples of a block; its rows are at most ``blocks.length``."""


def sample_partition(num_rows: int, window: int, config: PPOConfig) -> SamplePartition:
    """Return the partition of a rollout over `num_rows` rows for a resolved `config`."""
    assert config.minibatch_size is not None, "config must be resolved"
    length, samples = block_length(window, config.first_layer), config.batch_size
    visited = num_rows * -math.expm1(-samples / num_rows)
    most = math.ceil(FILL * length * samples / visited)
    # A block ends at `most` samples, or where its rows end, or with the last sample.
    num_blocks = -(-samples // most) + -(-num_rows // length) + 2
    size = num_blocks if config.minibatch_size >= samples else max(1, round(config.minibatch_size / (HELD * most)))
    return SamplePartition(Partition(length, num_blocks, min(size, num_blocks), few=True), most)


def cover_samples(rows: Array, num_rows: int, offset: Array, cut: SamplePartition) -> tuple[Array, Array, Array]:
    """Return ``(first samples [num_blocks], first rows [num_blocks], count)`` of the blocks of ``rows [S]``, sorted.

    Each block begins with the first sample behind the one before it; the first begins `offset` rows before its sample
    (``0 <= offset < length``), so that blocks meet elsewhere in every epoch. Every sample is in one block only. Entries
    from `count` on are `S`.
    """
    num_samples, length = rows.shape[0], cut.blocks.length
    at_or_after = jnp.searchsorted(rows, jnp.arange(num_rows + 1, dtype=rows.dtype)).astype(jnp.int32)
    ends = at_or_after[jnp.minimum(rows + length, num_rows)]
    follower = jnp.minimum(jnp.arange(num_samples, dtype=jnp.int32) + cut.most, ends)
    second = jnp.minimum(cut.most, at_or_after[jnp.clip(rows[0] - offset + length, 0, num_rows)])
    follower = jnp.append(follower, num_samples)
    starts = jnp.concatenate([jnp.zeros(1, jnp.int32), chain(second, follower, cut.blocks.num_blocks - 1)])
    first_rows = rows[jnp.minimum(starts, num_samples - 1)].at[0].add(-offset)
    return starts, first_rows, jnp.sum(starts < num_samples, dtype=jnp.int32)


def deal_samples(key: Array, rows: Array, num_rows: int, cut: SamplePartition) -> tuple[Array, Array]:
    """Return an epoch over the samples of ``rows [S]``: ``(blocks [M, size, 2], count)`` in random order.

    A block is its first sample and its first row; what a minibatch lacks begins at sample `S`. Consumes `key`.
    """
    offset_key, order_key = jax.random.split(key)
    offset = jax.random.randint(offset_key, (), 0, cut.blocks.length, jnp.int32)
    starts, first_rows, count = cover_samples(rows, num_rows, offset, cut)
    minibatches = -(-count // cut.blocks.size)
    numbers = jnp.arange(cut.blocks.num_blocks, dtype=jnp.int32)
    dealt = deal(order_key, numbers, count, minibatches, cut.blocks, cut.blocks.num_blocks)
    blocks = jnp.stack([jnp.append(starts, rows.shape[0]), jnp.append(first_rows, 0)], axis=1)
    return blocks[dealt], minibatches


def samples_in(blocks: Array, rows: Array, cut: SamplePartition) -> tuple[Array, Array, Array]:
    """Return ``(samples, places, inside)``, each ``[K, most]``, of ``blocks [K, 2]`` of the samples of ``rows [S]``.

    A place is the sample's row less the block's first one. Where it is not `inside`, both are some valid number.
    """
    samples = blocks[:, :1] + jnp.arange(cut.most, dtype=jnp.int32)[None, :]
    last = rows.shape[0] - 1
    places = rows[jnp.minimum(samples, last)] - blocks[:, 1:]
    inside = (samples <= last) & (places < cut.blocks.length)
    return jnp.minimum(samples, last), jnp.clip(places, 0, cut.blocks.length - 1), inside
