"""A run directory outlives kills: one writer at a time, files whole or absent, a cut line dropped."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jtf.errors import UserError
from jtf.results.run_directory import (
    LOCK,
    MetricsLog,
    git_revision,
    json_ready,
    read_metrics,
    run_lock,
    write_atomically,
    write_json,
)

pytestmark = pytest.mark.quick

HOLD = "import sys, time; from pathlib import Path; from jtf.results.run_directory import run_lock\n"
OWNER = HOLD + "with run_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"


@pytest.fixture
def owner(tmp_path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock of ``tmp_path``."""
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_another_process_writes_is_refused_naming_that_process(owner, tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} is being written by process {owner.pid};"), run_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_owner_is_taken_over_and_said(owner, tmp_path):
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    said: list[str] = []
    with run_lock(tmp_path, said.append):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())
    assert len(said) == 1 and f"process {owner.pid}" in said[0] and "taken over" in said[0]


def test_a_released_lock_leaves_nothing_and_the_next_owner_hears_nothing(tmp_path):
    said: list[str] = []
    for _ in range(2):
        with run_lock(tmp_path, said.append):
            assert (tmp_path / LOCK).exists()
    assert said == [] and list(tmp_path.iterdir()) == []


def test_an_error_inside_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), run_lock(tmp_path):
        raise KeyError
    with run_lock(tmp_path):
        pass


def test_a_refused_process_leaves_the_owners_lock(tmp_path):
    with run_lock(tmp_path):
        with pytest.raises(UserError), run_lock(tmp_path):
            pass
        assert (tmp_path / LOCK).read_text() == str(os.getpid())


def test_of_processes_starting_at_once_one_wins(tmp_path):
    code = HOLD + (
        "time.sleep(max(0.0, float(sys.argv[2]) - time.time()))\n"
        "with run_lock(Path(sys.argv[1])):\n    print('won', flush=True)\n    time.sleep(2)"
    )
    start = str(time.time() + 3)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), start], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    outputs = [racer.communicate()[0] for racer in racers]
    assert sorted(outputs) == [b"", b"", b"", b"won\n"]


@pytest.fixture
def killed_log(tmp_path):
    """A run killed while it wrote its third record."""
    (tmp_path / "metrics.jsonl").write_text('{"update": 1, "a": 1.0}\n{"update": 2, "a": null}\n{"update": 3, "a": 0.')
    return tmp_path


def test_a_last_record_cut_off_by_a_kill_is_dropped(killed_log):
    assert [record["update"] for record in read_metrics(killed_log)] == [1, 2]


def test_a_resumed_run_goes_on_after_a_record_cut_off_by_a_kill(killed_log):
    log = MetricsLog(killed_log)
    log.write([{"seed": 0, "update": 3, "a": 0.5}])
    log.close()
    lines = (killed_log / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"update": 1, "a": 1.0},
        {"update": 2, "a": None},
        {"seed": 0, "update": 3, "a": 0.5},
    ]


@pytest.mark.parametrize("line", ["xx", "7", "[]", '{"a": 1}', '{"update": "2"}'])
def test_a_line_in_the_middle_that_is_no_record_is_named(line, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(f'{{"update": 1}}\n{line}\n{{"update": 3}}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2"):
        read_metrics(tmp_path)


def test_a_run_without_records_has_none(tmp_path):
    assert read_metrics(tmp_path) == []


def test_a_file_is_replaced_whole_or_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write_atomically(path, "old")

    def power_cut(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtf.results.run_directory.os.fsync", power_cut)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new" * 1000)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_text_is_written_as_utf8_and_bytes_as_they_are(tmp_path):
    write_atomically(tmp_path / "a", "€")
    write_atomically(tmp_path / "b", "€".encode())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"\xe2\x82\xac"


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_json_takes_numpy_numbers_paths_and_tuples():
    value = {"a": float("nan"), "b": (np.float32("inf"), np.int64(3)), "c": Path("x"), 4: "key"}
    assert json_ready(value) == {"a": None, "b": [None, 3], "c": "x", "4": "key"}


def test_a_run_from_a_checkout_names_its_commit(monkeypatch, tmp_path):
    module = tmp_path / "jtf" / "results" / "run_directory.py"
    module.parent.mkdir(parents=True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    monkeypatch.setattr("jtf.results.run_directory.__file__", str(module))
    assert re.fullmatch("[0-9a-f]{40}", str(git_revision()))
