"""The scaler: one mean and standard deviation per column, fitted on the training segment only, part of the model.

NumPy only. Applying it is market arithmetic and exists twice (`jtf_env.market`, `jtf_env.mirror.market`).
"""

from dataclasses import dataclass

import numpy as np

CLIP = 10.0
"""Standardised values are clipped to +-CLIP."""
STD_FLOOR = 1e-9
"""A column is constant where its deviation is at most this share of its largest absolute value, or of 1 below that.

Rounding leaves a constant column a deviation of some 1e-16 of its value; stablecoin returns have about 1e-6."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """Standardisation ``clip((x - mean) / std, -CLIP, CLIP)`` of every column of a layout's table."""

    mean: np.ndarray
    """``[F + C]`` float64, bar columns first, then context columns."""
    std: np.ndarray
    """``[F + C]`` float64; infinite for a column that was constant, which so becomes 0 whatever it is later."""


def fit_scaler(features: np.ndarray, context: np.ndarray, first_bar: int = 0) -> Scaler:
    """Fit on natural-unit float64 tables ``features [T, F]`` and ``context [T, C]`` from row `first_bar` on.

    The caller passes the training segment only; warm-up rows hold neutral values and would bias the moments.
    Raises `TypeError` for tables of another precision: a scaler fitted on rounded numbers is not the model's.
    """
    if not features.dtype == context.dtype == np.float64:
        raise TypeError(f"a scaler is fitted on float64 tables, not on {features.dtype} and {context.dtype}.")
    table = np.concatenate([np.asarray(features), np.asarray(context)], axis=1)[first_bar:]
    std = table.std(axis=0)
    constant = std <= STD_FLOOR * np.maximum(np.abs(table).max(axis=0), 1.0)
    return Scaler(mean=table.mean(axis=0), std=np.where(constant, np.inf, std))
