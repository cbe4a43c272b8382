"""What a choice among the settings that were tried on the same bars is worth. No JAX.

A setting is a walk-forward of the symbol on disk. Members are none: they differ by their seed alone, and nobody chooses
among them, for the ensemble is all of them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from jtf.errors import UserError
from jtf.experiment.stitched import EQUITY, STITCHED, read_stitched
from jtf.results.luck import overfitting
from jtf.results.metrics import bar_returns
from jtf.results.run_directory import read_summary
from jtf.results.trials import own_trial, trial_of
from jtf_env.assets import plain_symbol

BLOCKS = 16
"""Of combinatorially symmetric cross-validation."""
FEWEST_BARS = 320
"""Returns below which a block of 20 says nothing."""


@dataclass(frozen=True)
class Choice:
    """The probability of backtest overfitting of the best of several settings."""

    num_settings: int
    """Walk-forwards of these bars, this one included."""
    probability: float | None
    """`jtf.results.luck.Overfitting.probability`; None of a single setting, or of too few bars."""
    loss_probability: float | None
    """`jtf.results.luck.Overfitting.loss_probability`."""


def judge_choice(own: Path, symbol: str, curves: pd.DataFrame) -> Choice:
    """Return what choosing the best walk-forward of `symbol` is worth on the bars of ``curves`` (`stitched.Stitched`).

    Walk-forwards of the same cells are one. The others are the finished ones under the same folder as the experiment
    `own` that were tested on all of these bars; with bars of one's own every one of them is another record.
    """
    times = pd.DatetimeIndex(curves["time"])
    settings = {own_trial(own, symbol): curves[EQUITY].to_numpy()}
    for path in sorted(own.parent.parent.glob(f"walkforward/*/{STITCHED}")):
        for trial, equity in _setting(path.parent, symbol, times).items():
            settings.setdefault(trial, equity)
    columns = list(settings.values())
    inside = curves["fold"].to_numpy()[1:] == curves["fold"].to_numpy()[:-1]
    returns = np.stack([bar_returns(column)[inside] for column in columns], axis=1)
    if len(columns) < 2 or len(returns) < FEWEST_BARS:
        return Choice(len(columns), None, None)
    found = overfitting(returns, BLOCKS)
    return Choice(len(columns), found.probability, found.loss_probability)


def _setting(directory: Path, symbol: str, times: pd.DatetimeIndex) -> dict[frozenset[str], np.ndarray]:
    """Return walk-forward -> its equity ``[N]`` at `times`; none where it is not of these bars, or unfinished."""
    try:
        summary = read_summary(directory)
        curves = read_stitched(directory)
    except UserError:
        return {}
    if summary["status"] != "finished" or "stitched" not in summary:
        return {}
    rows = pd.DatetimeIndex(curves["time"]).get_indexer(times)
    if plain_symbol(summary["symbol"]) != plain_symbol(symbol) or (rows < 0).any():
        return {}
    return {trial_of(directory, summary): curves[EQUITY].to_numpy()[rows]}
