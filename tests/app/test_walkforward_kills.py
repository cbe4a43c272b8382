"""A walk-forward killed without warning at ten random moments ends with the numbers of one that never was."""

import os
from pathlib import Path

import numpy as np
import pytest

from jtf.results.run_directory import write_json
from tests.app.conftest import random_walk
from tests.app.kills import finish, kill, numbers, walk_command

LONG = ["--folds", "6", "--ppo.total-steps", "32768", "--ppo.checkpoint-interval", "8"]
"""Six cells of 64 updates, eight between checkpoints."""


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_started_again_the_numbers_are_the_same(tmp_path):
    random_walk(1_600).to_parquet(tmp_path / "AAAUSDT_15Min.parquet")
    whole, killed = (walk_command(tmp_path, tmp_path / name, *LONG) for name in ("whole", "killed"))
    finish(whole)
    rng, moments = np.random.default_rng(1), []
    for index in range(10):
        moment = kill(killed, tmp_path / "killed", rng, working=index % 4 != 3)
        assert moment is not None, f"it ended before kill {index}; make it longer"
        moments.append(moment)
    finish(killed)
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    assert max(moment["cells finished"] for moment in moments) > 0
    if "JTF_RECORD" in os.environ:  # A folder, e.g. benchmarks/results.
        write_json(Path(os.environ["JTF_RECORD"]) / "walkforward_kills.json", {"kills": moments, "same numbers": True})
