"""A training killed without warning goes on as if it had not been; no two processes write one run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from jtf import train
from jtf.results.run_directory import LOCK, METRICS, read_metrics, read_summary, run_lock
from tests.app.test_resume import learning

PATIENCE = 120.0
"""Seconds a killed training may need to reach the update at which it is killed."""


def killed_at(update: int, args: list[str], out: Path) -> Path:
    """Start a training in a process of its own, kill it once `update` is logged, and return its run directory."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    command = [sys.executable, "-m", "jtf.train", *args, "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        started = time.monotonic()
        while not logged(out, update):
            assert process.poll() is None and time.monotonic() < started + PATIENCE
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    (run,) = out.glob("*/*")
    return run


def logged(out: Path, update: int) -> bool:
    return any(f'"update": {update},' in log.read_text() for log in out.glob(f"*/*/{METRICS}"))


@pytest.mark.parametrize("update", [3, 4])
def test_a_killed_training_ends_as_the_one_that_was_not(update, tiny_args, trained_run, tmp_path, capsys):
    run = killed_at(update, tiny_args, tmp_path)
    assert (run / LOCK).exists()
    assert train.main(["--resume", str(run)]) == 0
    assert "its lock was taken over" in capsys.readouterr().err and not (run / LOCK).exists()
    resumed, whole = read_summary(run), read_summary(trained_run)
    for name in ("metrics", "members", "verdict", "steps", "status"):
        assert resumed[name] == whole[name], name
    assert learning(run) == learning(trained_run)


def test_a_training_killed_while_it_was_measured_ends_as_the_one_that_was_not(trained_run, tmp_path):
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    (run / "summary.json").unlink()
    assert train.main(["--resume", str(run)]) == 0
    resumed, whole = read_summary(run), read_summary(trained_run)
    for name in ("metrics", "members", "verdict", "steps", "alarms", "training"):
        assert resumed[name] == whole[name], name
    assert whole["training"][0]["last_metrics"]["update"] == 4


def test_a_run_that_is_being_written_is_refused_in_one_sentence(trained_run, tmp_path, capsys):
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    summary = json.loads((run / "summary.json").read_text()) | {"status": "interrupted"}
    (run / "summary.json").write_text(json.dumps(summary))
    before = read_metrics(run)
    with run_lock(run):
        assert train.main(["--resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {run} is being written by process {os.getpid()}; wait for it or stop it.\n"
    assert read_metrics(run) == before


def test_a_training_whose_reader_goes_away_ends_silently_and_can_go_on(tiny_args, tmp_path):
    command = [sys.executable, "-m", "jtf.train", *tiny_args, "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
    (run,) = tmp_path.glob("*/*")
    assert read_summary(run)["status"] == "interrupted" and not (run / LOCK).exists()
