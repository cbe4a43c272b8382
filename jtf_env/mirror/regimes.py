"""Filtered regime probabilities: four 3-state hidden Markov models, forward pass only, in plain floats."""

import numpy as np

from jtf_env import constants as const
from jtf_env.constants import LONG_REGIME, SHORT_REGIME, STATISTIC_CLIP, STAY, SWITCH, TREND_SPREAD
from jtf_env.mirror.indicators import divide, previous, return_std, rolling_mean


def regime_statistics(close: np.ndarray, log_return: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the standardised statistics of the volatility, trend, momentum and macro filters, each ``[T]``.

    All are clipped; NaN where not measured yet or where a deviation of `log_return` is 0.
    """
    short, long = return_std(log_return, SHORT_REGIME), return_std(log_return, LONG_REGIME)
    ratio = divide(short, long)
    momentum = close / previous(close, const.MOMENTUM_BARS) - 1.0
    turn = momentum - previous(momentum, const.MOMENTUM_CHANGE_BARS)
    statistics = (
        np.log(np.where(ratio > 0.0, ratio, np.nan)) / const.VOLATILITY_SPREAD,
        divide(rolling_mean(log_return, SHORT_REGIME), short / np.sqrt(SHORT_REGIME)) / TREND_SPREAD,
        divide(turn, short * np.sqrt(const.MOMENTUM_BARS)),
        divide(rolling_mean(log_return, LONG_REGIME), long / np.sqrt(LONG_REGIME)) / TREND_SPREAD,
    )
    return tuple(np.clip(statistic, -STATISTIC_CLIP, STATISTIC_CLIP) for statistic in statistics)


def filter_posteriors(statistic: np.ndarray) -> np.ndarray:
    """Return ``P(state at i | s[0..i])`` for the states -1, 0, +1, ``[T, 3]`` (Hamilton 1989).

    The chain starts uniform before row 0; emissions are unit normals around the state.
    """
    low, mid, high = (np.exp(-0.5 * (statistic - state) ** 2).tolist() for state in const.STATES)
    posteriors = np.empty((len(statistic), 3))
    down = flat = up = 1.0 / 3.0
    for i in range(len(statistic)):
        weight_down = (STAY * down + SWITCH * (flat + up)) * low[i]
        weight_flat = (STAY * flat + SWITCH * (down + up)) * mid[i]
        weight_up = (STAY * up + SWITCH * (down + flat)) * high[i]
        total = weight_down + weight_flat + weight_up
        down, flat, up = weight_down / total, weight_flat / total, weight_up / total
        posteriors[i] = down, flat, up
    return posteriors


def reversal_probabilities(trend: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    """Return turn_up, continue and turn_down, ``[T, 3]``, from the ``[T, 3]`` posteriors of two filters.

    Each is the probability, were the filters independent, that momentum runs against the trend (a turn) or with it.
    """
    joint = trend[:, :, None] * momentum[:, None, :]
    return np.stack([joint[:, 0, 2], joint[:, 2, 2] + joint[:, 0, 0], joint[:, 2, 0]], axis=1)


def state_age(posteriors: np.ndarray) -> np.ndarray:
    """Return ``[T]`` bars since the most likely state of ``posteriors [T, 3]`` changed, / 100, at most 1."""
    age, before = const.REGIME_BARS, None
    ages = []
    for state in np.argmax(posteriors, axis=1).tolist():
        age = 0 if before not in (None, state) else age + 1
        before = state
        ages.append(min(age, const.REGIME_BARS) / const.REGIME_BARS)
    return np.array(ages)
