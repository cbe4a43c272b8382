"""Members of one run: each is the single run with its seed, whatever the others do and wherever they are computed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_ppo.errors import DivergedError
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import make_learner
from jtf_ppo.members import member_of, over_members, per_device, stack_members
from jtf_ppo.trainer import train
from jtf_ppo.types import Validation
from tests.ppo.toy import assert_trees_close, assert_trees_equal, fresh_state, make_rows, row_environment, tiny_config

ENV, TABLE = row_environment(), make_rows(60, 31)
ENGINES = ("samples", "rows")


def configured(engine: str = "rows", **changes: object):
    """Four updates of 32 samples, with noise, so that every random stream is used."""
    return tiny_config(ENV, 60, engine=engine, feature_noise=1.0, validation_interval=1, **changes)


def first_logit(policy, table) -> dict[str, jax.Array]:
    """A score that rises and falls from update to update."""
    return {"score": jnp.cos(200.0 * policy.evaluate_rows(table)[1].mean())}


CHECK = Validation(first_logit, make_rows(60, 32))


@pytest.mark.parametrize("engine", ENGINES)
def test_member_k_of_a_run_is_bit_for_bit_the_single_run_with_its_seed(engine):
    config = configured(engine)
    together = train(ENV, TABLE, config, num_members=3, validation=CHECK, devices=jax.devices()[:1]).members
    assert [member.seed for member in together] == [0, 1, 2]
    for member in together:
        (alone,) = train(ENV, TABLE, replace(config, seed=member.seed), validation=CHECK).members
        assert_trees_equal((member.params, member.best_params), (alone.params, alone.best_params))
        assert (member.best_update, member.validation) == (alone.best_update, alone.validation)


def test_members_in_one_batch_equal_single_ones_to_rounding():
    # What a GPU does: the same function over a batch axis.
    config, device = configured(), jax.devices()[:1]
    learner = make_learner(ENV, config)
    states = [jax.jit(learner.init)(jax.random.key(seed), TABLE) for seed in range(3)]
    hyper = stack_members([make_hyper(config)] * 3, device)
    batched, _ = jax.jit(over_members(learner.update, device, 3))(stack_members(states, device), hyper, TABLE)
    for index, state in enumerate(states):
        alone, _ = jax.jit(learner.update)(state, make_hyper(config), TABLE)
        assert_trees_close(member_of(batched.params, index), alone.params, 1e-5)


def test_a_member_that_lost_patience_stops_while_the_others_go_on():
    # The score falls with the value's distance from a number that only some seeds approach.
    config = configured(patience=1)
    members = train(ENV, TABLE, config, num_members=4, validation=CHECK).members
    stopped = {member.stopped for member in members}
    assert stopped == {"patience", "finished"}
    for member in members:
        (alone,) = train(ENV, TABLE, replace(config, seed=member.seed), validation=CHECK).members
        assert (alone.updates, alone.stopped) == (member.updates, member.stopped)


def test_interrupted_members_go_on_bit_for_bit(tmp_path):
    config = configured(checkpoint_interval=1)
    whole = train(ENV, TABLE, config, num_members=3, validation=CHECK).members
    steps = iter(range(100))
    train(ENV, TABLE, config, num_members=3, validation=CHECK, directory=tmp_path, should_stop=lambda: next(steps) == 1)
    resumed = train(ENV, TABLE, config, num_members=3, validation=CHECK, directory=tmp_path, start_from=tmp_path)
    for one, other in zip(resumed.members, whole, strict=True):
        assert_trees_equal((one.params, one.best_params), (other.params, other.best_params))
        assert one.best_update == other.best_update


def test_a_longer_run_goes_on_from_a_finished_one_and_keeps_its_best(tmp_path):
    config = configured(checkpoint_interval=1)
    (short,) = train(ENV, TABLE, config, validation=CHECK, directory=tmp_path / "short").members
    longer = replace(config, total_steps=2 * config.total_steps)
    (long,) = train(
        ENV, TABLE, longer, validation=CHECK, directory=tmp_path / "long", start_from=tmp_path / "short"
    ).members
    assert (short.updates, long.updates) == (4, 8)
    assert long.validation["score"] >= short.validation["score"]


def test_a_run_that_lost_patience_goes_on_where_it_is_lengthened(tmp_path):
    config = configured(checkpoint_interval=1, patience=1)
    flat = Validation(lambda policy, table: {"score": jnp.zeros(())}, CHECK.data)
    (short,) = train(ENV, TABLE, config, validation=flat, directory=tmp_path / "short").members
    assert (short.updates, short.stopped) == (2, "patience")
    longer = replace(config, total_steps=2 * config.total_steps)
    (long,) = train(
        ENV, TABLE, longer, validation=flat, directory=tmp_path / "long", start_from=tmp_path / "short"
    ).members
    assert (long.updates, long.stopped) == (3, "patience")


def test_divergence_of_every_member_ends_the_run():
    poisoned = TABLE._replace(features=TABLE.features.at[:, 0].set(jnp.nan))
    with pytest.raises(DivergedError, match="lower `learning_rate`"):
        train(ENV, poisoned, configured(), num_members=2)


def test_a_diverged_member_stops_alone():
    # The environment pays NaN to whoever starts on the first row that seed 1 drew and seed 0 never reaches.
    config = configured(num_envs=1, num_steps=2, minibatch_size=56, update_epochs=4, total_steps=8)
    first, second = (_first_row(seed) for seed in range(2))
    assert not first <= second <= first + 4, "seed 0 must not step on the row of seed 1 in this test"
    poisoned = TABLE.context.at[second, 0].set(1e10)

    def step(bits, rows, action, data):
        after, timestep = ENV.step(bits, rows, action, data)
        reward = jnp.where(data.context[rows, 0] > 1e9, jnp.nan, timestep.reward)
        return after, timestep._replace(reward=reward)

    env = replace(ENV, step=step)
    members = train(env, TABLE._replace(context=poisoned), config, num_members=2).members
    assert [member.stopped for member in members] == ["finished", "diverged"]


def _first_row(seed: int) -> int:
    return int(fresh_state(ENV, TABLE, configured(num_envs=1, seed=seed)).rollout_state.observation.row[0])


def test_a_cpu_trains_one_member_at_a_time():
    assert per_device(jax.devices("cpu")[0], 1, wanted=8) == 1


FOUR_DEVICES = """
import json, sys
import jax, numpy as np
sys.path.insert(0, {root!r})
from tests.ppo.test_members import CHECK, ENV, TABLE, configured
from jtf_ppo.trainer import train
assert len(jax.devices()) == 4
members = train(ENV, TABLE, configured(), num_members=5, validation=CHECK).members
print(json.dumps([[np.asarray(x).tolist() for x in jax.tree.leaves(member.params)] for member in members]))
"""


def test_members_on_four_devices_equal_those_on_one_to_1e_5():
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", FOUR_DEVICES.format(root=root)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    sharded = json.loads(done.stdout.splitlines()[-1])
    members = train(ENV, TABLE, configured(), num_members=5, validation=CHECK, devices=jax.devices()[:1]).members
    for found, member in zip(sharded, members, strict=True):
        for one, other in zip(found, jax.tree.leaves(member.params), strict=True):
            np.testing.assert_allclose(np.asarray(one), other, atol=1e-5)
