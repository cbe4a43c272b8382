"""Samples in blocks of few rows: each in one block, the objective of all samples, the account beside its row."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jtf_ppo.blocks import Partition
from jtf_ppo.engine import RolloutState
from jtf_ppo.hyper import make_hyper
from jtf_ppo.losses import sample_loss
from jtf_ppo.rows import policy_on
from jtf_ppo.sample_blocks import SamplePartition, cover_samples, deal_samples, sample_partition, samples_in
from jtf_ppo.samples import by_row
from jtf_ppo.types import Environment, Observation
from tests.ppo.toy import assert_trees_close, bound_engine, make_rows, row_environment, tiny_config, tiny_network

ROWS, SAMPLES = 40, 24
TABLE = make_rows(60, 11)


def cut_of(length: int, most: int, samples: int = SAMPLES, size: int = 2) -> SamplePartition:
    return SamplePartition(Partition(length, -(-samples // most) + -(-ROWS // length) + 2, size, True), most)


def with_account(env: Environment) -> Environment:
    """The toy whose observation also tells the last bet and how many bets were made."""

    def beside(rows, account):
        return Observation(rows, account)

    def reset(key, num, data):
        rows, observation = env.reset(key, num, data)
        account = jnp.zeros((num, 2))
        return (rows, account), beside(observation.row, account)

    def step(bits, state, action, data):
        rows, account = state
        rows, timestep = env.step(bits, rows, action, data)
        account = jnp.stack([action - 1.0, account[:, 1] + 0.1 * (action != 1)], axis=1)
        seen = {
            "observation": beside(rows, account),
            "final_observation": beside(timestep.final_observation.row, account),
        }
        return (rows, account), timestep._replace(**seen)

    return replace(env, reset=reset, step=step, num_account=2)


ENV = with_account(row_environment())


@partial(jax.jit, static_argnums=2)
def covered(rows, offset, cut):
    starts, first_rows, count = cover_samples(rows, ROWS, offset, cut)
    return samples_in(jnp.stack([starts, first_rows], axis=1), rows, cut), starts, count


some_rows = st.lists(st.integers(0, ROWS - 1), min_size=SAMPLES, max_size=SAMPLES).map(sorted).map(np.int32)


@settings(max_examples=200, deadline=None)
@given(rows=some_rows, cut=st.sampled_from([cut_of(7, 3), cut_of(7, 30), cut_of(1, 1), cut_of(40, 5)]), data=st.data())
def test_every_sample_is_in_one_block_of_few_rows_and_few_samples(rows, cut, data):
    offset = data.draw(st.integers(0, cut.blocks.length - 1))
    (samples, places, inside), starts, count = covered(rows, np.int32(offset), cut)
    assert count <= cut.blocks.num_blocks
    np.testing.assert_array_equal(np.asarray(starts)[count:], SAMPLES)
    np.testing.assert_array_equal(np.sort(np.asarray(samples)[np.asarray(inside)]), np.arange(SAMPLES))
    for block in range(int(count)):
        held = np.asarray(samples[block])[np.asarray(inside[block])]
        assert 1 <= len(held) <= cut.most
        place = np.asarray(places[block])[np.asarray(inside[block])]
        assert place.min() >= 0 and place.max() < cut.blocks.length
        np.testing.assert_array_equal(rows[held] - place, rows[held[0]] - place[0])


def test_blocks_are_dealt_to_minibatches_that_hold_every_sample_once():
    rows, cut = jnp.asarray(np.sort(np.random.default_rng(0).integers(0, ROWS, SAMPLES)), jnp.int32), cut_of(7, 3)
    for seed in range(3):
        blocks, count = jax.jit(lambda key: deal_samples(key, rows, ROWS, cut))(jax.random.key(seed))
        assert blocks.shape == (cut.blocks.num_minibatches, 2, 2)
        samples, _, inside = samples_in(blocks.reshape(-1, 2), rows, cut)
        np.testing.assert_array_equal(np.sort(np.asarray(samples)[np.asarray(inside)]), np.arange(SAMPLES))
        assert not np.asarray(inside).reshape(cut.blocks.num_minibatches, -1)[int(count) :].any()


def test_blocks_meet_elsewhere_in_another_epoch():
    rows = np.arange(SAMPLES, dtype=np.int32)
    starts = {tuple(np.asarray(covered(rows, np.int32(offset), cut_of(7, 30))[1])) for offset in range(7)}
    assert len(starts) == 7


@pytest.mark.parametrize(("num_envs", "asked"), [(2048, 32_768), (16, 512)])
def test_a_minibatch_of_samples_has_room_for_about_as_many_as_asked(num_envs, asked):
    config = tiny_config(ENV, 8_000, num_envs=num_envs, num_steps=128, minibatch_size=asked, first_layer="fft")
    cut = sample_partition(7_800, 100, config)
    assert asked < cut.most * cut.blocks.size < 1.25 * asked
    assert cut.blocks.num_blocks * cut.most >= config.batch_size


def collected(**changes):
    """``(engine, graph, params, batch)`` of a rollout with an account, 8 environments of 32 steps."""
    settings = {"num_envs": 8, "num_steps": 32, "update_epochs": 1, "minibatch_size": 256}
    config = tiny_config(ENV, 60, engine="samples", **(settings | changes))
    graph, params = tiny_network(ENV, TABLE, config, scale=100.0)
    engine = bound_engine(ENV, config, graph, TABLE)
    state = RolloutState(*jax.jit(ENV.reset, static_argnums=1)(jax.random.key(3), 8, TABLE))
    _, batch, _ = jax.jit(engine.collect)(params, state, jax.random.key(4), TABLE)
    return config, engine, graph, params, batch


def test_the_toy_shows_accounts_that_differ_on_one_row():
    _, _, _, _, batch = collected()
    rows, account = np.asarray(batch.observation.row), np.asarray(batch.observation.account)
    assert max(len(np.unique(account[rows == row], axis=0)) for row in rows) > 1


@pytest.mark.parametrize("method", ["gather", "conv", "fft"])
def test_the_loss_and_gradient_of_blocks_are_those_of_all_samples_by_their_windows(method):
    config, engine, graph, params, batch = collected(first_layer=method)

    def by_windows(params):
        logits, values = nnx.merge(graph, params)(batch.observation, TABLE)
        return sample_loss(logits, values, batch, jnp.ones(256), make_hyper(config))[0]

    def by_blocks(params):
        everything = engine.epoch_indices(jax.random.key(1), batch)[0][0]
        return engine.loss(params, params, batch, everything, jax.random.key(2), TABLE)[0]

    one, other = (jax.jit(jax.value_and_grad(loss))(params) for loss in (by_windows, by_blocks))
    assert_trees_close(other, one, 5e-5)
    assert np.abs(np.asarray(other[1]["first"]["context_kernel"])[-2:]).min() > 0, "the account has a gradient"


def test_minibatches_of_an_epoch_add_up_to_the_objective_of_all_samples():
    _, engine, _, params, batch = collected(minibatch_size=60)
    _, whole, _, _, _ = collected()

    @jax.jit
    def metrics(params):
        blocks, count = engine.epoch_indices(jax.random.key(1), batch)
        parts = jax.lax.map(lambda b: engine.loss(params, params, batch, b, jax.random.key(2), TABLE)[1], blocks)
        everything = whole.epoch_indices(jax.random.key(1), batch)[0][0]
        return parts, whole.loss(params, params, batch, everything, jax.random.key(2), TABLE)[1], count

    parts, expected, count = metrics(params)
    assert 2 < int(count) <= engine.num_minibatches
    for name, value in expected.items():
        assert float(parts[name].sum()) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


def test_a_policy_on_a_table_is_the_network_at_addresses_and_accounts():
    _, _, graph, params, batch = collected(first_layer="fft")
    outputs = jax.jit(lambda p: policy_on(ENV, graph, p, TABLE, "fft")(batch.observation))(params)
    assert_trees_close(outputs, nnx.merge(graph, params)(batch.observation, TABLE), 1e-5)


def test_samples_sorted_by_row_keep_what_belongs_together():
    _, _, _, _, batch = collected()
    turned = by_row(jax.tree.map(lambda x: x[::-1], batch))
    np.testing.assert_array_equal(turned.observation.row, batch.observation.row)
    key = [np.asarray(batch.observation.row), np.asarray(batch.log_prob), np.asarray(batch.target)]
    again = [np.asarray(turned.observation.row), np.asarray(turned.log_prob), np.asarray(turned.target)]
    assert sorted(zip(*map(np.ndarray.tolist, key), strict=True)) == sorted(
        zip(*map(np.ndarray.tolist, again), strict=True)
    )
