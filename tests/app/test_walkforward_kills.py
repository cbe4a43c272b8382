"""A walk-forward killed without warning, at random moments, ends with the numbers of one that never was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jtf.results.run_directory import write_json
from tests.app.conftest import TINY, random_walk

PATIENCE = 120.0
"""Seconds a start may need to what it first logs."""
STARTING, WORKING = 4.0, 2.0
"""Seconds: a kill falls within the first of a process's start, or within the second of what it first logs."""
OWN = ("perf", "last_checkpoint", "run")
"""How the names begin of what a summary says of its own process: speed and paths."""
KEPT = "cells/*/*"


def walk_command(folder: Path, out: Path, *more: str) -> list[str]:
    flags = ["--symbol", "AAAUSDT", "--data", str(folder), *TINY, "--members", "2", *more]
    return [sys.executable, "-m", "jtf.walkforward", *flags, "--out", str(out)]


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(command: list[str]) -> None:
    with start(command) as process:
        error = process.communicate()[1].decode()
    assert process.returncode == 0, error


def kill(command: list[str], out: Path, rng: np.random.Generator, working: bool) -> dict[str, Any] | None:
    """Start, kill at a random moment, and return where it was; None where it had ended before."""
    seconds = rng.uniform(0.0, WORKING if working else STARTING)
    before, began = newest(out), time.monotonic()
    with start(command) as process:
        while working and newest(out) == before and process.poll() is None:
            assert time.monotonic() < began + PATIENCE
            time.sleep(0.01)
        time.sleep(seconds)
        ended = process.poll() is not None
        os.kill(process.pid, signal.SIGKILL)
    return None if ended else found(out) | {"seconds after the start": round(time.monotonic() - began, 1)}


def newest(out: Path) -> int:
    """The latest change of a file that is written once training goes on; a cell may be cleared while one looks."""
    names = ("metrics.jsonl", "summary.json")
    return max((changed(path) for name in names for path in out.glob(f"{KEPT}/{name}")), default=0)


def changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def found(out: Path) -> dict[str, Any]:
    """What a kill left behind."""
    cells = list(out.glob(KEPT))
    finished = [cell for cell in cells if (cell / "summary.json").exists()]
    broken = [cell for cell in cells if cell not in finished]
    logged = sum(
        len((cell / "metrics.jsonl").read_text().splitlines()) for cell in broken if (cell / "metrics.jsonl").exists()
    )
    kept = [path.name for cell in broken for path in cell.glob("checkpoints/*")]
    return {
        "cells finished": len(finished),
        "lines logged of the broken cell": logged,
        "checkpoints of it": len([name for name in kept if name.isdigit()]),
        "half-written": len([name for name in kept if not name.isdigit()]) + len(list(out.rglob(".*.[0-9]*"))),
    }


def numbers(out: Path) -> dict[str, Any]:
    """Everything the summaries say but of their own process: metrics, records, and hashes of tables and parameters."""
    paths = [*out.glob(f"{KEPT}/summary.json"), *out.glob("walkforward/*/summary.json")]
    return {path.parent.name: untimed(json.loads(path.read_text())) for path in paths}


def untimed(value: Any) -> Any:
    if isinstance(value, list):
        return [untimed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: untimed(item) for name, item in value.items() if not name.startswith(OWN)}


def prove(tmp_path: Path, kills: int, seed: int, *more: str) -> list[dict[str, Any]]:
    """Kill a walk-forward so often, finish it, compare it with one that was not killed; return where it was killed."""
    folder = tmp_path / "bars"
    folder.mkdir()
    random_walk(1_600).to_parquet(folder / "AAAUSDT_15Min.parquet")
    finish(walk_command(folder, tmp_path / "whole", *more))
    command, rng, moments = walk_command(folder, tmp_path / "killed", *more), np.random.default_rng(seed), []
    for index in range(kills):
        moment = kill(command, tmp_path / "killed", rng, working=index % 4 != 3)
        assert moment is not None, f"it ended before kill {index}; make it longer"
        moments.append(moment)
    finish(command)
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    return moments


def test_killed_twice_and_started_again_the_numbers_are_the_same(tmp_path):
    assert len(prove(tmp_path, 2, 0, "--folds", "3")) == 2


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_started_again_the_numbers_are_the_same(tmp_path):
    moments = prove(tmp_path, 10, 1, "--folds", "6", "--ppo.total-steps", "32768", "--ppo.checkpoint-interval", "8")
    assert len(moments) == 10 and max(moment["cells finished"] for moment in moments) > 0
    if "JTF_RECORD" in os.environ:  # A folder, e.g. benchmarks/results.
        write_json(Path(os.environ["JTF_RECORD"]) / "walkforward_kills.json", {"kills": moments, "same numbers": True})
