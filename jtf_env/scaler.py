"""The scaler: one mean and standard deviation per column, fitted on the training segment only, part of the model.

NumPy only. Applying it is market arithmetic and exists twice (`jtf_env.market`, `jtf_env.mirror.market`).
"""

from dataclasses import dataclass, replace

import numpy as np

CLIP = 10.0
"""Standardised values are clipped to +-CLIP."""
STD_FLOOR = 1e-9
"""A column is constant where its deviation is at most this share of its largest absolute value, or of 1 below that.

Rounding leaves a constant column a deviation of some 1e-16 of its value; stablecoin returns have about 1e-6."""
LARGEST_INFLATION = 1000.0
"""The variance of a slow column counts at most this many times more in the long run."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """Standardisation ``clip((x - mean) / std, -CLIP, CLIP)`` of every column of a layout's table."""

    mean: np.ndarray
    """``[F + C]`` float64, bar columns first, then context columns."""
    std: np.ndarray
    """``[F + C]`` float64, of a bar or in the long run (`long_run_scaler`); infinite for a column that was constant,
    which so becomes 0 whatever it is later."""


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


def variance_inflation(features: np.ndarray) -> np.ndarray:
    """Return ``[F]`` how many times the variance of a column's sum over many bars exceeds that of unrelated values.

    ``(1 + r) / (1 - r)`` for a first-order autoregression of coefficient `r`, the lag-1 autocorrelation of
    ``features [T, F]`` (Bartlett 1946), within 1 and `LARGEST_INFLATION`.
    """
    moved = features - features.mean(axis=0)
    variance = np.maximum((moved * moved).mean(axis=0), np.finfo(float).tiny)
    correlation = (moved[1:] * moved[:-1]).mean(axis=0) / variance
    slowest = 1.0 - 2.0 / (LARGEST_INFLATION + 1.0)
    correlation = np.clip(correlation, 0.0, slowest)
    return (1.0 + correlation) / (1.0 - correlation)


def long_run_scaler(scaler: Scaler, features: np.ndarray) -> Scaler:
    """Return `scaler` with the deviation of each bar column in the long run; it was fitted on ``features [T, F]``.

    A slow column, such as a mean of 100 bars, is nearly one number a window. A hundred kernel rows meet that number, so
    noise on the rows hides it ten times less than it hides a return, and the learner overfits the few independent
    values the column had. Divided by its long-run deviation, every column's sum over a window weighs about the same.
    """
    inflation = np.ones_like(scaler.std)
    inflation[: features.shape[1]] = variance_inflation(features)
    return replace(scaler, std=scaler.std * np.sqrt(inflation))
