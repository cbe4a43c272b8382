"""The seven numbers of hourly context, one plain pass over the bars, and the same row by row as bars arrive."""

import math
from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jtf_env.bars import Bars
from jtf_env.constants import EPSILON, RETURN_STD_FLOOR, RISING_HOURS, TREND_HOURS
from jtf_env.layouts import HourVisibility
from jtf_env.sessions import compute_hourly_window_indices, hour_key, nanoseconds, visible_hour

KEPT_HOURS = 8
"""Hours of bars that rows to come may look back at, and as many again before older ones are dropped."""


class HourlyBars(NamedTuple):
    """What the hourly context reads of bars, as lists that may grow."""

    close: list[float]
    high: list[float]
    low: list[float]
    returns: list[float]
    """Simple return from the bar before, 0 in row 0."""
    opens_session: list[bool]
    """Whether the bar is the first of its session."""
    minute: list[int]
    """Minute of the hour at which the bar starts."""


def hourly_context(bars: Bars, hour_visibility: HourVisibility = "previous") -> np.ndarray:
    """Return the columns of `hourly_context7` in natural units, ``[T, 7]``.

    h1_return, h1_volatility and h1_range look at the bars of the visible completed clock hour and are 0
    where there is none; h1_trend, h1_momentum and h1_rsi count bars back, across sessions too, and are 0
    before there are enough; position_in_hour is always valid.
    """
    start, stop, _ = compute_hourly_window_indices(bars.timestamps, bars.session_ids, hour_visibility, bars.bar_minutes)
    read = hourly_bars(bars)
    ranges = enumerate(zip(start.tolist(), stop.tolist(), strict=True))
    return np.array([context_row(read, i, first, end, bars.bar_minutes) for i, (first, end) in ranges])


def hourly_bars(bars: Bars) -> HourlyBars:
    """Return what the hourly context reads of `bars`."""
    close, session = bars.close.tolist(), bars.session_ids.tolist()
    return HourlyBars(
        close=close,
        high=bars.high.tolist(),
        low=bars.low.tolist(),
        returns=[0.0] + [(now - before) / (before + EPSILON) for before, now in pairwise(close)],
        opens_session=[True] + [before != now for before, now in pairwise(session)],
        minute=bars.timestamps.minute.tolist(),
    )


def context_row(bars: HourlyBars, i: int, first: int, end: int, bar_minutes: int) -> list[float]:
    """Return the seven numbers of bar `i`, whose visible hour has the bars ``first .. end - 1`` (none: equal)."""
    close = bars.close
    hour_return = volatility = spread = 0.0
    if end > first:
        inside = [bars.returns[k] for k in range(first, end) if not bars.opens_session[k]]
        hour_return = (close[end - 1] - close[first]) / (close[first] + EPSILON)
        volatility = sample_std(inside)
        spread = (max(bars.high[first:end]) - min(bars.low[first:end])) / (close[first] + EPSILON)
    trend, momentum, strength = bar_count_numbers(close, bars.returns, i, 60 // bar_minutes)
    return [hour_return, volatility, trend, momentum, strength, spread, (bars.minute[i] + bar_minutes) / 60]


class LiveHours:
    """The hourly context of bars that arrive one by one."""

    def __init__(self, bars: Bars, hour_visibility: HourVisibility) -> None:
        self._visibility, self._bar_minutes = hour_visibility, bars.bar_minutes
        self._kept = KEPT_HOURS * 60 // bars.bar_minutes
        tail = bars[-2 * self._kept :]
        self._bars = hourly_bars(tail)
        self._session = int(tail.session_ids[-1])
        self._keys = hour_key(tail.session_ids.astype(np.int64), nanoseconds(tail.timestamps)).tolist()

    def push(self, session_id: int, start: int, high: float, low: float, close: float) -> list[float]:
        """Return the seven numbers of the next bar, which starts at `start`, nanoseconds since 1970 UTC."""
        bars, before = self._bars, self._bars.close[-1]
        bars.close.append(close)
        bars.high.append(high)
        bars.low.append(low)
        bars.returns.append((close - before) / (before + EPSILON))
        bars.opens_session.append(session_id != self._session)
        bars.minute.append(start // (60 * 10**9) % 60)
        self._keys.append(hour_key(session_id, start))
        self._session = session_id
        wanted = visible_hour(session_id, start, self._visibility, self._bar_minutes)
        first, end = bisect_left(self._keys, wanted), bisect_right(self._keys, wanted)
        row = context_row(bars, len(bars.close) - 1, first, end, self._bar_minutes)
        if len(bars.close) > 3 * self._kept:
            for column in (*bars, self._keys):
                del column[: -self._kept]
        return row


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
