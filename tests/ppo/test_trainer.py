"""A whole run: reproducible, resumable bit for bit, stoppable, and clear about what went wrong."""

import errno
import functools
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from jtf_ppo import programs
from jtf_ppo.checkpoint import CheckpointStore
from jtf_ppo.config import PPOConfig
from jtf_ppo.errors import CheckpointError, DivergedError
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import make_learner
from jtf_ppo.members import make_groups, member_arrays
from jtf_ppo.trainer import train
from jtf_ppo.types import Validation, ValidationParts
from tests.ppo.toy import assert_trees_equal, fresh_state, make_rows, row_environment, tiny_config

ENV, TABLE, HELD_OUT = row_environment(), make_rows(60, 31), make_rows(60, 32)
ENGINES = ("samples", "rows")
PROGRESS = ("perf/steps_per_second", "perf/eta_seconds", "perf/compile_seconds")
UPDATES = 8


def configured(engine: str = "samples", **changes: object) -> PPOConfig:
    """Eight updates of 32 samples."""
    return tiny_config(ENV, 60, engine=engine, total_steps=UPDATES * 32, **changes)


CONFIG = configured()


def digest(params: object) -> str:
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(params))).hexdigest()


def wandering(policy, table) -> dict[str, jax.Array]:
    """A score that rises and falls from update to update, so that the best one is not the last."""
    _, values = policy.evaluate_rows(table)
    return {"score": jnp.cos(200.0 * values.mean()), "value": values.mean()}


def constant(policy, table) -> dict[str, jax.Array]:
    return {"score": jnp.zeros(())}


WANDERING = Validation(wandering, HELD_OUT)


class Recorder:
    """Collects the metrics of every update but for the clock's, and asks to stop after `stop_after`."""

    def __init__(self, stop_after: int | None = None):
        self.updates: list[dict[str, float]] = []
        self.validations: list[tuple[dict[str, float], bool]] = []
        self._stop_after = stop_after

    def on_update(self, records):
        self.updates += [{k: value for k, value in record.items() if k not in PROGRESS} for record in records]

    def on_validation(self, records, best, improved):
        self.validations += list(zip(records, improved, strict=True))

    def should_stop(self):
        return len(self.updates) == self._stop_after


def run(config=CONFIG, table=TABLE, stop_after=None, env=ENV, **kwargs):
    """``(member, recorder)`` of a training of one member."""
    result, recorder = run_members(config, table, stop_after, env, **kwargs)
    return result.members[0], recorder


def run_members(config=CONFIG, table=TABLE, stop_after=None, env=ENV, resume=False, **kwargs):
    """``(result, recorder)`` of a training; `resume` goes on from the run's own directory."""
    kwargs |= {"start_from": kwargs["directory"]} if resume else {}
    recorder = Recorder(stop_after)
    result = train(
        env, table, config, on_update=recorder.on_update, on_validation=recorder.on_validation,
        should_stop=recorder.should_stop, **kwargs,
    )  # fmt: skip
    return result, recorder


def stored_leaves(directory: Path, config: PPOConfig) -> list[np.ndarray]:
    """Every array of the newest checkpoint."""
    store = CheckpointStore(directory / "checkpoints")
    leaves, _ = store.load(store.steps()[-1], member_arrays(make_groups(make_learner(ENV, config), config, TABLE, 1)))
    return leaves


# Schedule of the data


def test_an_update_is_told_which_share_of_the_run_came_before_it():
    env = replace(ENV, schedule=lambda data, progress: (data, {"train/progress": progress}))
    _, recorder = run(env=env)
    assert [metrics["train/progress"] for metrics in recorder.updates] == [n / 8 for n in range(8)]


def test_an_update_sees_the_data_as_scheduled():
    def muted(data, progress):
        return data._replace(features=data.features * (progress >= 0.5)), {}

    _, recorder = run(env=replace(ENV, schedule=muted))
    assert [metrics["train/reward"] != 0.0 for metrics in recorder.updates] == [False] * 4 + [True] * 4


def test_a_resumed_run_goes_on_at_its_place_of_the_schedule(tmp_path):
    env = replace(ENV, schedule=lambda data, progress: (data, {"train/progress": progress}))
    config = replace(CONFIG, checkpoint_interval=1)
    run(config, stop_after=3, env=env, directory=tmp_path)
    _, recorder = run_members(config, env=env, resume=True, directory=tmp_path)
    assert recorder.updates[0]["train/progress"] == 3 / 8


# Reproducibility


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_seed_gives_the_same_parameters_and_metrics(engine):
    (first, one), (second, other) = (run(configured(engine, feature_noise=1.0)) for _ in range(2))
    assert digest(first.params) == digest(second.params)
    assert one.updates == other.updates


def test_two_seeds_give_different_parameters():
    assert digest(run(CONFIG)[0].params) != digest(run(replace(CONFIG, seed=1))[0].params)


def test_training_changes_every_parameter():
    state = fresh_state(ENV, TABLE, CONFIG)
    before = jax.tree.leaves(nnx.to_pure_dict(state.params))
    for old, new in zip(before, jax.tree.leaves(run()[0].params), strict=True):
        assert (np.asarray(old) != new).any()


def test_environments_start_at_different_rows():
    state = fresh_state(ENV, TABLE, configured(num_envs=16))
    assert len(np.unique(state.rollout_state.observation.row)) > 8


def test_a_run_takes_its_steps_and_says_so():
    result, recorder = run_members()
    assert (result.members[0].updates, result.steps, result.stopped) == (8, 256, "finished")
    assert [metrics["steps"] for metrics in recorder.updates] == list(range(32, 257, 32))


# Resume


@pytest.mark.parametrize("engine", ENGINES)
def test_resuming_continues_bit_for_bit(engine, tmp_path):
    config = configured(engine, feature_noise=1.0, validation_interval=1, checkpoint_interval=UPDATES, patience=100)
    whole, uninterrupted = run(config, validation=WANDERING, directory=tmp_path / "whole")
    half, before = run(config, validation=WANDERING, directory=tmp_path / "half", stop_after=4)
    assert half.stopped == "interrupted"
    resumed, after = run(config, validation=WANDERING, directory=tmp_path / "half", resume=True)
    assert before.updates + after.updates == uninterrupted.updates
    assert before.validations + after.validations == uninterrupted.validations
    assert_trees_equal(stored_leaves(tmp_path / "half", config), stored_leaves(tmp_path / "whole", config))
    assert_trees_equal((resumed.params, resumed.best_params), (whole.params, whole.best_params))
    assert (resumed.best_update, resumed.validation) == (whole.best_update, whole.validation)


def test_a_layout_without_context_columns_is_saved_and_resumed(tmp_path):
    env, table = row_environment(context=0), make_rows(60, 31, context=0)
    config = configured("rows", validation_interval=1, checkpoint_interval=4)
    check = Validation(constant, table)
    whole, _ = run(config, table=table, env=env, validation=check)
    run(config, table=table, env=env, validation=check, directory=tmp_path, stop_after=4)
    resumed, _ = run(config, table=table, env=env, validation=check, directory=tmp_path, resume=True)
    assert_trees_equal((resumed.params, resumed.best_params), (whole.params, whole.best_params))


def test_a_crash_after_a_validation_and_before_a_checkpoint_resumes_the_same_choice_of_the_best(tmp_path):
    config = configured(validation_interval=1, checkpoint_interval=2, seed=1)  # Its third score is a best one.
    _, uninterrupted = run(config, validation=WANDERING)
    bests = [int(metrics["update"]) for metrics, is_best in uninterrupted.validations if is_best]
    lost = next(update for update in bests if update % 2 and update > 2)

    def crash(records, best, improved):
        if records[0]["update"] == lost:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(ENV, TABLE, config, validation=WANDERING, directory=tmp_path, on_validation=crash)
    _, after = run(config, validation=WANDERING, directory=tmp_path, resume=True)
    assert after.validations == uninterrupted.validations[lost - 1 :]


def test_resuming_a_finished_run_adds_nothing(tmp_path):
    config = replace(CONFIG, checkpoint_interval=UPDATES)
    first, _ = run(config, directory=tmp_path)
    again, recorder = run(config, directory=tmp_path, resume=True)
    assert recorder.updates == []
    assert_trees_equal(again.params, first.params)


def test_resuming_without_a_checkpoint_names_the_folder(tmp_path):
    with pytest.raises(CheckpointError, match=str(tmp_path / "checkpoints")):
        run(directory=tmp_path, resume=True)


# Intervals, best, patience


def test_a_checkpoint_interval_of_zero_writes_none(tmp_path):
    run(directory=tmp_path, stop_after=2)
    assert not (tmp_path / "checkpoints").exists()


def test_a_validation_interval_of_zero_never_validates(tmp_path):
    result, recorder = run(validation=WANDERING, directory=tmp_path)
    assert recorder.validations == []
    assert_trees_equal(result.best_params, result.params)


def test_the_end_of_a_run_is_validated_and_kept_whatever_the_interval(tmp_path):
    config = replace(CONFIG, validation_interval=5, checkpoint_interval=5)
    _, recorder = run(config, validation=WANDERING, directory=tmp_path)
    assert [metrics["update"] for metrics, _ in recorder.validations] == [5, 8]
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [5, 8]


def test_only_the_newest_two_checkpoints_are_kept(tmp_path):
    run(replace(CONFIG, checkpoint_interval=1), directory=tmp_path, stop_after=4)
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [3, 4]


def test_the_best_parameters_score_again_what_they_scored(tmp_path):
    config = replace(CONFIG, validation_interval=1, seed=1)  # Its best update is not the last.
    result, recorder = run(config, validation=WANDERING, directory=tmp_path)
    scores = [metrics["val/score"] for metrics, _ in recorder.validations]
    assert result.best_update == 1 + int(np.argmax(scores))
    assert result.best_update < result.updates, "the score must have fallen again in this test"
    params = fresh_state(ENV, TABLE, config).params
    nnx.replace_by_pure_dict(params, result.best_params)
    again = jax.jit(lambda p, t: wandering(make_learner(ENV, config).evaluate(p), t))(params, HELD_OUT)
    assert float(again["score"]) == max(scores)


def test_patience_stops_after_that_many_validations_without_a_better_score():
    # The first score is the best; two equal ones follow.
    config = replace(CONFIG, validation_interval=1, patience=2)
    result, _ = run(config, validation=Validation(constant, HELD_OUT))
    assert (result.updates, result.stopped, result.best_update) == (3, "patience", 1)


def test_patience_counts_on_after_a_resume(tmp_path):
    # Best at update 1, worse at 2, 3 | 4, 5.
    config = replace(CONFIG, validation_interval=1, checkpoint_interval=1, patience=4)
    kwargs = {"validation": Validation(constant, HELD_OUT), "directory": tmp_path}
    run(config, stop_after=3, **kwargs)
    result, _ = run(config, resume=True, **kwargs)
    assert (result.updates, result.stopped, result.best_update) == (5, "patience", 1)


def test_a_run_that_lost_patience_stays_where_it_stopped_when_it_is_resumed(tmp_path):
    config = replace(CONFIG, validation_interval=1, checkpoint_interval=1, patience=2)
    kwargs = {"validation": Validation(constant, HELD_OUT), "directory": tmp_path}
    stopped, _ = run(config, **kwargs)
    resumed, _ = run(config, resume=True, **kwargs)
    assert (resumed.updates, resumed.stopped) == (3, "patience")
    assert_trees_equal(resumed.params, stopped.params)


# Damage


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run of layout "a" that was stopped after four updates, with checkpoints 3 and 4."""
    directory = tmp_path_factory.mktemp("stopped")
    run(replace(CONFIG, checkpoint_interval=1), stop_after=4, directory=directory, identity={"layout": "a"})
    return directory


@pytest.fixture
def copied(stopped, tmp_path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def refuse(directory: Path, config: PPOConfig = CONFIG, layout: str = "a") -> str:
    """The message with which resuming is refused."""
    with pytest.raises(CheckpointError) as error:
        run(replace(config, checkpoint_interval=1), directory=directory, resume=True, identity={"layout": layout})
    return str(error.value)


@pytest.mark.parametrize("part", ["state", "record"])
def test_a_damaged_checkpoint_is_named(copied, part):
    newest = copied / "checkpoints" / "4"
    files = [path for path in (newest / part).rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(newest) in refuse(copied)


def test_a_foreign_folder_among_the_checkpoints_is_named(copied):
    foreign = copied / "checkpoints" / "7"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("not a checkpoint")
    assert str(foreign) in refuse(copied)


def test_a_checkpoint_of_another_network_is_refused(copied):
    message = refuse(copied, replace(CONFIG, hidden_sizes=(12,)))
    assert f"{copied / 'checkpoints' / '4'} holds a network of other sizes" in message


def test_a_checkpoint_of_another_identity_is_refused(copied):
    assert "layout a, not b" in refuse(copied, layout="b")


def test_the_checkpoint_before_a_deleted_damaged_one_resumes(copied):
    shutil.rmtree(copied / "checkpoints" / "4")
    _, recorder = run(CONFIG, directory=copied, resume=True, identity={"layout": "a"}, stop_after=1)
    assert [metrics["update"] for metrics in recorder.updates] == [4]


def test_a_full_disk_is_reported_and_leaves_the_previous_checkpoint_readable(copied, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    config = replace(CONFIG, checkpoint_interval=1)
    before = stored_leaves(copied, config)
    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(CheckpointError, match="No space left on device") as error:
        run(config, directory=copied, resume=True, identity={"layout": "a"})
    assert str(copied / "checkpoints" / "5") in str(error.value)
    assert f"the previous one, {copied / 'checkpoints' / '4'}, is intact" in str(error.value)
    monkeypatch.undo()
    assert_trees_equal(stored_leaves(copied, config), before)


def test_a_bug_while_saving_is_not_dressed_up_as_a_full_disk(copied, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("Cannot save arrays with zero size")

    monkeypatch.setattr(ocp.CheckpointManager, "save", broken)
    with pytest.raises(ValueError, match="zero size") as error:
        run(replace(CONFIG, checkpoint_interval=1), directory=copied, resume=True, identity={"layout": "a"})
    assert not isinstance(error.value, CheckpointError)


def test_tensorstores_word_for_a_full_disk_is_reported(copied, monkeypatch):
    def full(*args, **kwargs):
        raise ValueError('RESOURCE_EXHAUSTED: Error writing "0.0": No space left on device')

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(CheckpointError, match="RESOURCE_EXHAUSTED"):
        run(replace(CONFIG, checkpoint_interval=1), directory=copied, resume=True, identity={"layout": "a"})


def test_a_disk_without_room_for_a_checkpoint_is_reported_before_anything_is_written(copied, monkeypatch):
    before = sorted(copied.rglob("*"))
    monkeypatch.setattr("jtf_ppo.checkpoint.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1))
    with pytest.raises(CheckpointError, match=r"bytes needed, 1 free.*checkpoints/4, is intact"):
        run(replace(CONFIG, checkpoint_interval=1), directory=copied, resume=True, identity={"layout": "a"})
    assert sorted(copied.rglob("*")) == before


def test_a_directory_that_cannot_be_made_is_reported(tmp_path):
    # Root ignores permissions, so a file stands where the folder should be.
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(CheckpointError, match=r"cannot be written .* there is no earlier one"):
        run(replace(CONFIG, checkpoint_interval=1), directory=blocker)


# Divergence

POISONED = TABLE._replace(features=TABLE.features.at[:, 0].set(jnp.nan))


def test_three_non_finite_steps_end_the_run_naming_the_last_good_checkpoint(copied):
    config = replace(CONFIG, checkpoint_interval=1)
    with pytest.raises(DivergedError) as error:
        run(config, table=POISONED, directory=copied, resume=True, identity={"layout": "a"})
    assert "Update 5 diverged: 3 optimiser steps" in str(error.value)
    assert str(copied / "checkpoints" / "4") in str(error.value)
    assert CheckpointStore(copied / "checkpoints").steps() == [3, 4]


def test_divergence_without_a_checkpoint_says_so():
    with pytest.raises(DivergedError, match="no checkpoint had been written"):
        run(table=POISONED)


# Compilation


class Counter:
    """How often a function was traced."""

    def __init__(self, function):
        functools.update_wrapper(self, function)  # The name is part of the compiled program.
        self.calls, self._function = 0, function

    def __call__(self, *args):
        self.calls += 1
        return self._function(*args)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("updates", "members"), [(1, 1), (UPDATES, 1), (UPDATES, 3)])
def test_updates_and_members_trace_nothing_again(engine, updates, members):
    env = replace(ENV, reset=Counter(ENV.reset), step=Counter(ENV.step))
    run_members(configured(engine), env=env, stop_after=updates * members, num_members=members)
    assert (env.reset.calls, env.step.calls) == (1, 1)


def test_the_table_is_an_argument_and_never_a_constant_of_the_program():
    state, update = fresh_state(ENV, TABLE, CONFIG), make_learner(ENV, CONFIG).update
    constants = jax.make_jaxpr(update)(state, make_hyper(CONFIG), TABLE).consts
    assert sum(np.size(constant) for constant in constants) < 100


def test_a_second_training_of_the_same_shapes_traces_nothing():
    traced = []

    def step(bits, rows, action, data):
        traced.append("step")
        return ENV.step(bits, rows, action, data)

    def check(policy, table):
        traced.append("check")
        return wandering(policy, table)

    env, config = replace(ENV, step=step), configured("rows", validation_interval=1)
    run(config, env=env, validation=Validation(check, HELD_OUT))
    assert {"step", "check"} == set(traced)
    traced.clear()
    other = replace(config, seed=5, learning_rate=2e-3, total_steps=64)
    run(other, make_rows(60, 41), env=env, validation=Validation(check, make_rows(60, 42)))
    assert not traced
    run(replace(other, num_envs=8), env=env, validation=Validation(check, HELD_OUT))
    assert "step" in traced, "other shapes are another program"


def values_of(policy, table) -> jax.Array:
    return policy.evaluate_rows(table)[1]


def score_of(values, table) -> dict[str, jax.Array]:
    return {"score": jnp.cos(200.0 * values.mean()), "value": values.mean()}


IN_PARTS = Validation(wandering, HELD_OUT, ValidationParts(values_of, score_of))


@pytest.mark.parametrize("changes", [{}, {"patience": 1}, {"validation_interval": 3}, {"checkpoint_interval": 1}])
def test_a_validation_that_the_host_replays_while_the_next_update_runs_changes_no_run(changes, monkeypatch, tmp_path):
    config = configured(**({"validation_interval": 1} | changes))
    whole, told = run(config, validation=IN_PARTS, directory=tmp_path / "whole")
    monkeypatch.setattr(programs, "host_for", lambda validation, devices: jax.devices("cpu")[0])
    other, told_other = run(config, validation=IN_PARTS, directory=tmp_path / "host")
    assert_trees_equal((other.params, other.best_params), (whole.params, whole.best_params))
    assert (other.updates, other.best_update, other.stopped) == (whole.updates, whole.best_update, whole.stopped)
    assert other.validation == pytest.approx(whole.validation, rel=1e-5)
    assert told_other.updates == told.updates
    assert [is_best for _, is_best in told_other.validations] == [is_best for _, is_best in told.validations]


def test_an_update_taken_ahead_is_dropped_when_the_run_is_stopped(monkeypatch):
    config = configured(validation_interval=1)
    whole, _ = run(config, validation=IN_PARTS, stop_after=4)
    monkeypatch.setattr(programs, "host_for", lambda validation, devices: jax.devices("cpu")[0])
    other, _ = run(config, validation=IN_PARTS, stop_after=4)
    assert other.updates == 4
    assert_trees_equal(other.params, whole.params)


def test_a_cpu_plays_a_whole_validation_itself():
    assert programs.host_for(IN_PARTS, jax.devices("cpu")) is None
