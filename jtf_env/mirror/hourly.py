"""The seven numbers of hourly context, one plain pass over the bars."""

import math
from itertools import pairwise

import numpy as np

from jtf_env.bars import Bars
from jtf_env.constants import EPSILON, RETURN_STD_FLOOR, RISING_HOURS, TREND_HOURS
from jtf_env.layouts import HourVisibility
from jtf_env.sessions import compute_hourly_window_indices


def hourly_context(bars: Bars, hour_visibility: HourVisibility = "previous") -> np.ndarray:
    """Return the columns of `hourly_context7` in natural units, ``[T, 7]``.

    h1_return, h1_volatility and h1_range look at the bars of the visible completed clock hour and are 0
    where there is none; h1_trend, h1_momentum and h1_rsi count bars back, across sessions too, and are 0
    before there are enough; position_in_hour is always valid.
    """
    start, stop, valid = compute_hourly_window_indices(
        bars.timestamps, bars.session_ids, hour_visibility, bars.bar_minutes
    )
    close, high, low = bars.close.tolist(), bars.high.tolist(), bars.low.tolist()
    session = bars.session_ids.tolist()
    returns = [0.0] + [(now - before) / (before + EPSILON) for before, now in pairwise(close)]
    opens_session = [True] + [before != now for before, now in pairwise(session)]
    minute = bars.timestamps.minute.tolist()
    bars_per_hour = 60 // bars.bar_minutes

    context = np.zeros((len(bars), 7))
    for i, (first, end, seen) in enumerate(zip(start.tolist(), stop.tolist(), valid.tolist(), strict=True)):
        if seen:
            inside = [returns[k] for k in range(first, end) if not opens_session[k]]
            context[i, 0] = (close[end - 1] - close[first]) / (close[first] + EPSILON)
            context[i, 1] = sample_std(inside)
            context[i, 5] = (max(high[first:end]) - min(low[first:end])) / (close[first] + EPSILON)
        context[i, 2:5] = bar_count_numbers(close, returns, i, bars_per_hour)
        context[i, 6] = (minute[i] + bars.bar_minutes) / 60
    return context


def bar_count_numbers(
    close: list[float], returns: list[float], i: int, bars_per_hour: int
) -> tuple[float, float, float]:
    """Return h1_trend, h1_momentum and h1_rsi of bar `i`: lookbacks of 4, 1 + 1 and 4 hours of bars."""
    hour, long, counted = bars_per_hour, TREND_HOURS * bars_per_hour, RISING_HOURS * bars_per_hour
    trend = momentum = strength = 0.0
    if i >= 2 * hour:
        momentum = simple_return(close, i - hour, i) - simple_return(close, i - 2 * hour, i - hour)
    if i >= long:
        trend = simple_return(close, i - long, i)
    if i >= counted:
        strength = sum(r > 0.0 for r in returns[i - counted + 1 : i + 1]) / counted
    return trend, momentum, strength


def simple_return(close: list[float], first: int, last: int) -> float:
    """Return from the close of bar `first` to the close of bar `last`, a fraction."""
    return (close[last] - close[first]) / (close[first] + EPSILON)


def sample_std(returns: list[float]) -> float:
    """Sample standard deviation (ddof 1); 0 with fewer than two returns or where it is rounding only."""
    if len(returns) < 2:
        return 0.0
    mean = sum(returns) / len(returns)
    std = math.sqrt(sum((r - mean) ** 2 for r in returns) / (len(returns) - 1))
    return std if std >= RETURN_STD_FLOOR else 0.0
