"""Blocks of an epoch: every visited row in one block, few blocks, even minibatches, and the objective of all rows."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtf_ppo.blocks import Partition, cover, deal, partition
from jtf_ppo.engine import RolloutState
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import make_engine
from jtf_ppo.window_dense import block_length
from tests.ppo.toy import (
    WINDOW,
    assert_trees_close,
    assert_trees_equal,
    make_rows,
    row_environment,
    tiny_config,
    tiny_network,
)

ENV, TABLE = row_environment(), make_rows(600, 11)
LENGTH, ROWS = 7, 40
CUT = Partition(LENGTH, -(-ROWS // LENGTH) + 1, 2, True)


def sized(asked: int, num_envs: int = 10_000, usable: int = 56, window: int = 5) -> Partition:
    return partition(
        usable, window, replace(tiny_config(ENV, 60, num_envs=num_envs, first_layer="fft"), minibatch_size=asked)
    )


@pytest.mark.parametrize(
    ("usable", "window", "asked", "blocks", "size"),
    [
        (56, 5, 1, 6, 1),  # Never less than a block of 12,
        (56, 5, 18, 6, 2),  # or the nearest number of them,
        (56, 5, 48, 6, 3),  # shared evenly: two minibatches of 3, not of 4 and 2,
        (56, 5, 56, 6, 6),  # or all.
        (8000, 100, 2048, 117, 30),
        (8600, 100, 2048, 126, 32),  # Four minibatches of 32 blocks are nearer to 30 than five of 26.
    ],
)
def test_a_minibatch_of_rows_is_whole_blocks(usable, window, asked, blocks, size):
    assert sized(asked, 10_000, usable, window) == (block_length(window), blocks, size, False)


def test_an_epoch_has_room_for_one_block_more_than_the_rows_fill():
    # 56 rows in blocks of 12 begin at a random offset: 5 blocks could end short of the last row.
    assert block_length(WINDOW) == 12
    assert sized(12).num_minibatches == 6


def test_the_number_of_minibatches_is_counted_only_where_a_rollout_leaves_blocks_out():
    assert [sized(12, num_envs).few for num_envs in (1, 2, 1_000)] == [True, True, False]


masks = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).filter(any).map(np.asarray)


@settings(max_examples=200, deadline=None)
@given(visited=masks, offset=st.integers(0, LENGTH - 1))
def test_every_visited_row_is_in_one_block_and_every_block_holds_one(visited, offset):
    starts, count = COVER(visited, np.int32(offset))
    starts = np.asarray(starts)
    np.testing.assert_array_equal(starts[count:], ROWS)
    rows = starts[:count, None] + np.arange(LENGTH)
    rows = np.where((rows >= 0) & (rows < ROWS), rows, -1)
    held = [row for row in rows.ravel() if row >= 0 and visited[row]]
    assert sorted(held) == list(np.flatnonzero(visited))
    assert all(visited[row[row >= 0]].any() for row in rows)


@settings(max_examples=200, deadline=None)
@given(visited=masks)
def test_no_cover_has_fewer_blocks(visited):
    # Greedy from the left is optimal for intervals of one length; counted by hand here.
    expected, free_from = 0, 0
    for row in np.flatnonzero(visited):
        if row >= free_from:
            expected, free_from = expected + 1, row + LENGTH
    assert int(COVER(visited, np.int32(0))[1]) == expected


COVER = jax.jit(lambda visited, offset: cover(visited, offset, CUT))


def test_rows_visited_everywhere_are_cut_elsewhere_in_every_epoch():
    visited = np.ones(ROWS, bool)
    starts = {int(COVER(visited, np.int32(offset))[0][1]) for offset in range(LENGTH)}
    assert starts == {7, 6, 5, 4, 3, 2, 1}


@pytest.mark.parametrize(("count", "minibatches"), [(7, 4), (5, 3), (5, 4), (1, 1), (4, 2)])
def test_minibatches_share_the_blocks_evenly_and_hold_each_once(count, minibatches):
    starts = np.where(np.arange(7) < count, 5 * np.arange(7), ROWS).astype(np.int32)
    dealt = np.asarray(deal(jax.random.key(0), jnp.asarray(starts), jnp.int32(count), minibatches, CUT, ROWS))
    assert dealt.shape == (CUT.num_minibatches, CUT.size)
    filled = (dealt < ROWS).sum(axis=1)
    assert set(filled[:minibatches]) <= {count // minibatches, -(-count // minibatches)}
    assert not filled[minibatches:].any()
    np.testing.assert_array_equal(np.sort(dealt[dealt < ROWS]), starts[:count])


def test_padding_rows_do_not_move_the_order_of_an_epoch():
    starts = np.asarray([0, 10, 20, 30, ROWS, ROWS, ROWS], np.int32)
    longer = CUT._replace(num_blocks=9)
    key, count = jax.random.key(1), jnp.int32(4)
    one = deal(key, jnp.asarray(starts), count, 2, CUT, ROWS)
    other = deal(key, jnp.asarray(np.append(starts, [ROWS, ROWS])), count, 2, longer, ROWS)
    np.testing.assert_array_equal(one[:2], other[:2])


def rollout_of(num_envs: int, **changes: object):
    """``(config, engine, params, batch)`` of a rollout of 8 steps an environment over 596 usable rows."""
    config = tiny_config(ENV, 600, engine="rows", num_envs=num_envs, minibatch_size=24, first_layer="fft", **changes)
    graph, params = tiny_network(ENV, TABLE, config, scale=100.0)
    state, observation = ENV.reset(jax.random.key(3), num_envs, TABLE)
    engine = make_engine(ENV, config, graph, TABLE)
    rollout_state = RolloutState(state, observation)
    collect = jax.jit(engine.collect)
    return config, engine, params, collect(params, rollout_state, jax.random.key(4), make_hyper(config), TABLE)[1]


def epoch_of(config, engine, params, batch, indices):
    """Loss, metrics and gradient of an epoch as one mean over its samples, and the samples that entered."""
    hyper, moved = make_hyper(config), jax.tree.map(lambda x: 1.1 * x, params)

    @jax.jit
    def objective(moved, batch, table):
        def minibatch(starts):
            return engine.loss(moved, params, batch, starts, jax.random.key(5), hyper, table)[1]

        return jax.tree.map(jnp.sum, jax.lax.map(minibatch, indices))

    metrics = objective(moved, batch, TABLE)
    gradient = jax.jit(jax.grad(lambda *args: objective(*args)["loss/total"]))(moved, batch, TABLE)
    return metrics, gradient


def test_visited_blocks_have_the_values_and_gradients_of_all_rows():
    config, engine, params, batch = rollout_of(num_envs=6)
    assert int((batch.samples > 0).sum()) < 60, "few rows were visited"
    indices, count = jax.jit(engine.epoch_indices)(jax.random.key(6), batch)
    assert int(count) < engine.num_minibatches / 3
    everywhere = jnp.arange(ENV.first_row, 600, 12, dtype=jnp.int32).reshape(-1, 2)
    few = epoch_of(config, engine, params, batch, indices[: int(count)])
    assert_trees_close(few, epoch_of(config, engine, params, batch, everywhere), 1e-4)


def test_an_epoch_visits_more_minibatches_where_the_rollout_went_further():
    counts = []
    for num_envs in (2, 6, 12):
        _, engine, _, batch = rollout_of(num_envs)
        counts.append(int(jax.jit(engine.epoch_indices)(jax.random.key(6), batch)[1]))
    assert counts == sorted(set(counts))


def test_a_rollout_that_visits_every_row_needs_no_counting():
    _, engine, _, batch = rollout_of(num_envs=600)
    _, count = engine.epoch_indices(jax.random.key(6), batch)
    assert count == engine.num_minibatches == 26


def test_unvisited_blocks_add_nothing_to_an_epoch():
    config, engine, params, batch = rollout_of(num_envs=2)
    hyper = make_hyper(config)
    nowhere = jnp.asarray([int(np.flatnonzero(np.asarray(batch.samples) == 0)[-1]), 600], jnp.int32)
    batch = batch._replace(samples=batch.samples.at[nowhere[0] :].set(0.0))
    loss, metrics = jax.jit(engine.loss)(params, params, batch, nowhere, jax.random.key(0), hyper, TABLE)
    assert_trees_equal((loss, metrics), jax.tree.map(jnp.zeros_like, (loss, metrics)))
