"""The probability of backtest overfitting over the settings of a symbol on disk: what counts, and what it says."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from jtf.experiment.choice import Choice, judge_choice
from jtf.experiment.stitched import STITCHED
from jtf.results.luck import overfitting

pytestmark = pytest.mark.quick

TIMES = pd.date_range("2024-01-01", periods=802, freq="15min", tz="UTC")
FOLDS = np.repeat([0, 1], 401)


def stitched_curves(seed: int, drift: float = 0.0, times: pd.DatetimeIndex = TIMES) -> pd.DataFrame:
    """Two folds of 401 bars; nothing moves between them."""
    moves = np.random.default_rng(seed).normal(drift, 1e-3, len(times))
    moves[[0, 401]] = 0.0
    return pd.DataFrame({"time": times, "fold": FOLDS, "equity": np.cumprod(1 + moves)})


def write(out, name: str, curves: pd.DataFrame, **summary):
    directory = out / "walkforward" / name
    directory.mkdir(parents=True)
    curves.to_parquet(directory / STITCHED)
    record = {"status": "finished", "symbol": "SPY", "stitched": {}} | summary
    (directory / "summary.json").write_text(json.dumps(record))
    return directory


def returns_of(*curves: pd.DataFrame) -> np.ndarray:
    moves = np.stack([curve["equity"].pct_change().to_numpy()[1:] for curve in curves], axis=1)
    return moves[FOLDS[1:] == FOLDS[:-1]]


def test_the_walk_forwards_of_the_same_bars_are_the_settings(tmp_path):
    curves = [stitched_curves(seed) for seed in range(3)]
    own, *_ = [write(tmp_path, f"SPY-rolling-{seed}", one) for seed, one in enumerate(curves)]
    expected = overfitting(returns_of(*curves))
    found = judge_choice(own, "SPY", curves[0])
    assert asdict(found) == {
        "num_settings": 3,
        "probability": expected.probability,
        "loss_probability": expected.loss_probability,
    }


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "NVDA"},
        {"status": "interrupted"},
        {"times": TIMES + pd.Timedelta(minutes=15)},
    ],
)
def test_walk_forwards_of_other_symbols_or_bars_and_unfinished_ones_are_no_settings(other, tmp_path):
    curves = stitched_curves(0)
    own = write(tmp_path, "SPY-rolling-0", curves)
    times = other.pop("times", TIMES)
    write(tmp_path, "SPY-rolling-1", stitched_curves(1, times=times), **other)
    assert judge_choice(own, "SPY", curves) == Choice(1, None, None)


def test_a_setting_with_an_edge_among_others_without_is_not_overfitted(tmp_path):
    curves = stitched_curves(0, drift=1e-3)
    own = write(tmp_path, "SPY-rolling-0", curves)
    for seed in range(1, 8):
        write(tmp_path, f"SPY-rolling-{seed}", stitched_curves(seed))
    assert judge_choice(own, "SPY", curves).probability == 0.0


def test_a_damaged_walk_forward_is_left_out(tmp_path):
    curves = stitched_curves(0)
    own = write(tmp_path, "SPY-rolling-0", curves)
    damaged = write(tmp_path, "SPY-rolling-1", stitched_curves(1))
    (damaged / "summary.json").write_text("{")
    assert judge_choice(own, "SPY", curves).num_settings == 1


def test_an_experiment_whose_own_folder_is_not_there_yet_counts_itself(tmp_path):
    curves = stitched_curves(0)
    write(tmp_path, "SPY-rolling-1", stitched_curves(1))
    assert judge_choice(tmp_path / "evaluate" / "2-symbols", "SPY", curves).num_settings == 2


def test_a_walk_forward_of_the_cells_that_are_evaluated_is_no_other_setting(tmp_path):
    curves = stitched_curves(0)
    write(tmp_path, "SPY-rolling-1", curves, folds=[{"run": "runs/cells/SPY/k"}])
    own = tmp_path / "evaluate" / "2-symbols"
    own.mkdir(parents=True)
    (own / "experiment.json").write_text(json.dumps({"cells": [{"key": "k", "symbol": "SPY"}]}))
    assert judge_choice(own, "SPY", curves).num_settings == 1
