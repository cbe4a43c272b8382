"""Filtered regime probabilities: four 3-state hidden Markov models, forward pass only, in plain floats."""

import numpy as np

from jtf_env.mirror.indicators import divide, previous, return_std, rolling_mean

STAY = 0.90
"""Probability of staying in a state from one bar to the next."""
MOVE = 0.05
"""Probability of moving to one given other state."""
CLIP = 4.0
"""Statistics are clipped to +-CLIP, so that no emission density vanishes."""


def regime_statistics(close: np.ndarray, log_return: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the standardised statistics of the volatility, trend, momentum and macro filters, each ``[T]``.

    All are clipped; NaN where not measured yet or where a deviation of `log_return` is 0.
    """
    short, long = return_std(log_return, 20), return_std(log_return, 100)
    ratio = divide(short, long)
    momentum = close / previous(close, 10) - 1.0
    statistics = (
        np.log(np.where(ratio > 0.0, ratio, np.nan)) / 0.35,
        divide(rolling_mean(log_return, 20), short / np.sqrt(20.0)) / 2.0,
        divide(momentum - previous(momentum, 5), short * np.sqrt(10.0)),
        divide(rolling_mean(log_return, 100), long / np.sqrt(100.0)) / 2.0,
    )
    return tuple(np.clip(statistic, -CLIP, CLIP) for statistic in statistics)


def filter_posteriors(statistic: np.ndarray) -> np.ndarray:
    """Return ``P(state at i | s[0..i])`` for the states -1, 0, +1, ``[T, 3]`` (Hamilton 1989).

    The chain starts uniform before row 0; emissions are unit normals around the state.
    """
    low, mid, high = (np.exp(-0.5 * (statistic - state) ** 2).tolist() for state in (-1.0, 0.0, 1.0))
    posteriors = np.empty((len(statistic), 3))
    down = flat = up = 1.0 / 3.0
    for i in range(len(statistic)):
        weight_down = (STAY * down + MOVE * (flat + up)) * low[i]
        weight_flat = (STAY * flat + MOVE * (down + up)) * mid[i]
        weight_up = (STAY * up + MOVE * (down + flat)) * high[i]
        total = weight_down + weight_flat + weight_up
        down, flat, up = weight_down / total, weight_flat / total, weight_up / total
        posteriors[i] = down, flat, up
    return posteriors


def reversal_probabilities(trend: np.ndarray) -> np.ndarray:
    """Return P(turns up), P(stays), P(turns down) at the next bar, ``[T, 3]``, from the trend posterior.

    The remainder to 1 is the probability of turning flat.
    """
    down, flat, up = trend.T
    return np.stack([MOVE * (down + flat), STAY * (down + flat + up), MOVE * (flat + up)], axis=1)
