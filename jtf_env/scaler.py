"""The scaler: one mean and standard deviation per column, fitted on the training segment only, part of the model.

NumPy only. Applying it is market arithmetic and exists twice (`jtf_env.market`, `jtf_env.mirror.market`).
"""

from dataclasses import dataclass

import numpy as np

CLIP = 10.0
"""Standardised values are clipped to +-CLIP."""
STD_FLOOR = 1e-6
"""Columns with a smaller deviation are divided by this instead."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """Standardisation ``clip((x - mean) / std, -CLIP, CLIP)`` of every column of a layout's table."""

    mean: np.ndarray
    """``[F + C]`` float64, bar columns first, then context columns."""
    std: np.ndarray
    """``[F + C]`` float64, floored at `STD_FLOOR`."""


def fit_scaler(features: np.ndarray, context: np.ndarray, first_bar: int = 0) -> Scaler:
    """Fit on natural-unit tables ``features [T, F]`` and ``context [T, C]``, leaving out rows before `first_bar`.

    The caller passes the training segment only; warm-up rows hold neutral values and would bias the moments.
    """
    table = np.concatenate([np.asarray(features), np.asarray(context)], axis=1).astype(np.float64)[first_bar:]
    return Scaler(mean=table.mean(axis=0), std=np.maximum(table.std(axis=0), STD_FLOOR))
