"""The checkpoint store: what was written is read back, or refused in one sentence."""

import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jtf_ppo.checkpoint import CheckpointStore
from jtf_ppo.errors import CheckpointError

pytestmark = pytest.mark.quick

STATE = {"kernel": jnp.arange(600.0).reshape(20, 30), "key": jnp.array([1, 2], jnp.uint32), "update": jnp.int32(4)}
OTHER = {name: array + 1 for name, array in STATE.items()}
HOST = {"best_score": 0.25, "best_update": 3, "validation": {"sharpe": float("nan"), "score": 0.25}, "worse": 1}


def equal(one: dict, other: dict) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in STATE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A store with checkpoints 3 and 4."""
    directory = tmp_path_factory.mktemp("saved")
    store = CheckpointStore(directory)
    store.save(3, OTHER, HOST)
    store.save(4, STATE, HOST)
    return directory


def test_what_is_loaded_is_what_was_saved(saved):
    state, host = CheckpointStore(saved).load(4, STATE)
    assert equal(state, STATE) and str(host) == str(HOST)


def test_a_store_holds_nothing_but_its_checkpoints(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["3", "4"]


FILES = ("state", "record", "sha256.json")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_in_one_sentence_and_nothing_else_is_said(
    saved, tmp_path_factory, capfd, part, place, bit
):
    directory = Path(shutil.copytree(saved, tmp_path_factory.mktemp("flipped") / "store"))
    flip(directory / "4" / part, place, bit)
    try:
        state, host = CheckpointStore(directory).load(4, STATE)
    except CheckpointError as error:
        assert f"{directory / '4'} is not a readable checkpoint" in str(error)
        assert "delete that folder to go on from the one before it" in str(error)
    else:
        assert equal(state, STATE) and str(host) == str(HOST)
    assert "Traceback" not in capfd.readouterr().err  # TensorStore's threads print their own


def flip(folder: Path, place: float, bit: int) -> None:
    """Flip one bit of the bytes under `folder`, all files laid end to end."""
    files = sorted(path for path in (folder, *folder.rglob("*")) if path.is_file())
    at = int(place * sum(path.stat().st_size for path in files))
    for path in files:
        content = bytearray(path.read_bytes())
        if at < len(content):
            content[at] ^= 1 << bit
            path.write_bytes(content)
            return
        at -= len(content)


@pytest.mark.parametrize("swapped", ["state", "record"])
def test_arrays_that_are_whole_but_not_those_of_the_record_are_refused(saved, tmp_path, swapped):
    directory = Path(shutil.copytree(saved, tmp_path / "store"))
    shutil.rmtree(directory / "4" / swapped)
    shutil.copytree(directory / "3" / swapped, directory / "4" / swapped)
    with pytest.raises(CheckpointError, match=rf"its file {swapped}/\S+ is missing or does not match"):
        CheckpointStore(directory).load(4, STATE)


def test_a_changed_host_value_is_refused(saved, tmp_path):
    directory = Path(shutil.copytree(saved, tmp_path / "store"))
    (record,) = (path for path in (directory / "4" / "record").iterdir() if "0.25" in path.read_text())
    text = record.read_text()
    record.write_text(text.replace("0.25", "0.75"))
    with pytest.raises(CheckpointError, match=r"its file record/\S+ is missing or does not match its checksum"):
        CheckpointStore(directory).record(4)


def test_saving_a_step_again_replaces_it(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(4, OTHER, HOST)
    store.save(4, STATE, HOST | {"worse": 7})
    state, host = store.load(4, STATE)
    assert equal(state, STATE) and host["worse"] == 7


def test_saving_a_step_removes_the_later_ones_of_the_run_that_was_broken_off(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    store.save(7, OTHER, HOST)
    store.save(6, STATE, HOST)
    assert store.steps() == [6] and equal(store.load(6, STATE)[0], STATE)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_checkpoints_are_kept(tmp_path, keep):
    store = CheckpointStore(tmp_path, keep=keep)
    for step in (1, 2, 5, 9):
        store.save(step, STATE, HOST)
    assert store.steps() == [1, 2, 5, 9][-keep:]


def test_a_save_that_fails_leaves_the_checkpoint_it_would_have_replaced(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(4, STATE, HOST)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        store.save(4, OTHER, HOST)
    assert equal(store.load(4, STATE)[0], STATE)


def test_what_a_kill_left_of_a_save_is_no_checkpoint_and_is_cleared(tmp_path):
    store = CheckpointStore(tmp_path)
    for leftover in ("staging/5/state", "3.removed/state"):
        (tmp_path / leftover).mkdir(parents=True)
    assert store.steps() == []
    store.save(5, STATE, HOST)
    assert [path.name for path in tmp_path.iterdir()] == ["5"]
