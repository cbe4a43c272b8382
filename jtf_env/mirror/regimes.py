"""Filtered regime probabilities: four 3-state hidden Markov models, forward pass only, in plain floats."""

import numpy as np

from jtf_env import constants as const
from jtf_env.constants import LONG_REGIME, SHORT_REGIME, STATISTIC_CLIP, STAY, SWITCH, TREND_SPREAD
from jtf_env.mirror.indicators import divide, return_std, rolling_mean
from jtf_env.mirror.past import Past, State

NO_STATE = -1
"""The most likely state before row 0."""


def regime_statistics(past: Past, close: np.ndarray, log_return: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the standardised statistics of the volatility, trend, momentum and macro filters, each ``[T]``.

    All are clipped; NaN where not measured yet or where a deviation of `log_return` is 0.
    """
    short, long = return_std(past, log_return, SHORT_REGIME), return_std(past, log_return, LONG_REGIME)
    ratio = divide(short, long)
    momentum = close / past.previous(close, const.MOMENTUM_BARS) - 1.0
    turn = momentum - past.previous(momentum, const.MOMENTUM_CHANGE_BARS)
    statistics = (
        np.log(np.where(ratio > 0.0, ratio, np.nan)) / const.VOLATILITY_SPREAD,
        divide(rolling_mean(past, log_return, SHORT_REGIME), short / np.sqrt(SHORT_REGIME)) / TREND_SPREAD,
        divide(turn, short * np.sqrt(const.MOMENTUM_BARS)),
        divide(rolling_mean(past, log_return, LONG_REGIME), long / np.sqrt(LONG_REGIME)) / TREND_SPREAD,
    )
    return tuple(np.minimum(np.maximum(statistic, -STATISTIC_CLIP), STATISTIC_CLIP) for statistic in statistics)


def filter_posteriors(past: Past, statistic: np.ndarray) -> np.ndarray:
    """Return ``P(state at i | s[0..i])`` for the states -1, 0, +1, ``[T, 3]`` (Hamilton 1989).

    The chain starts uniform before row 0; emissions are unit normals around the state.
    """
    emissions = np.exp(-0.5 * (statistic - np.array(const.STATES)[:, None]) ** 2)
    return past.scan(filter_step, (1.0 / 3.0,) * 3, *emissions)


def filter_step(posterior: State, low: float, mid: float, high: float) -> State:
    """Return the posterior of the three states one bar later, given the densities of its statistic."""
    down, flat, up = posterior
    weight_down = (STAY * down + SWITCH * (flat + up)) * low
    weight_flat = (STAY * flat + SWITCH * (down + up)) * mid
    weight_up = (STAY * up + SWITCH * (down + flat)) * high
    total = weight_down + weight_flat + weight_up
    return weight_down / total, weight_flat / total, weight_up / total


def reversal_probabilities(trend: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    """Return turn_up, continue and turn_down, ``[T, 3]``, from the ``[T, 3]`` posteriors of two filters.

    Each is the probability, were the filters independent, that momentum runs against the trend (a turn) or with it.
    """
    joint = trend[:, :, None] * momentum[:, None, :]
    return np.array([joint[:, 0, 2], joint[:, 2, 2] + joint[:, 0, 0], joint[:, 2, 0]]).T


def state_age(past: Past, posteriors: np.ndarray) -> np.ndarray:
    """Return ``[T]`` bars since the most likely state of ``posteriors [T, 3]`` changed, / 100, at most 1."""
    states = past.scan(age_step, (NO_STATE, const.REGIME_BARS), np.argmax(posteriors, axis=1))
    return states[:, 1] / const.REGIME_BARS


def age_step(before: State, state: float) -> State:
    """Return the state and its age in bars, at most `REGIME_BARS`, after the state and age of the bar before."""
    last, age = before
    changed = last not in (NO_STATE, state)
    return state, 0 if changed else min(age + 1, const.REGIME_BARS)
