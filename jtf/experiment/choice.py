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

    The others are the finished walk-forwards under the same folder as the experiment `own` that were tested on all of
    these bars; with bars of one's own every one of them is another record.
    """
    times = pd.DatetimeIndex(curves["time"])
    paths = sorted(own.parent.parent.glob(f"walkforward/*/{STITCHED}"))
    others = [_equity(path, symbol, times) for path in paths if path.parent != own]
    columns = [curves[EQUITY].to_numpy(), *(equity for equity in others if equity is not None)]
    inside = curves["fold"].to_numpy()[1:] == curves["fold"].to_numpy()[:-1]
    returns = np.stack([bar_returns(column)[inside] for column in columns], axis=1)
    if len(columns) < 2 or len(returns) < FEWEST_BARS:
        return Choice(len(columns), None, None)
    found = overfitting(returns, BLOCKS)
    return Choice(len(columns), found.probability, found.loss_probability)


def _equity(path: Path, symbol: str, times: pd.DatetimeIndex) -> np.ndarray | None:
    """Return another walk-forward's equity ``[N]`` at `times`; None where it is not of these bars, or unfinished."""
    try:
        summary = read_summary(path.parent)
        curves = read_stitched(path.parent)
    except UserError:
        return None
    if summary["status"] != "finished" or summary.get("symbol") != symbol or "stitched" not in summary:
        return None
    rows = pd.DatetimeIndex(curves["time"]).get_indexer(times)
    return None if (rows < 0).any() else curves[EQUITY].to_numpy()[rows]
