"""Clock hours, exchange sessions and the hour windows behind the hourly context: every calendar rule, once.

NumPy and pandas only; `exchange_calendars` is imported where a schedule is built, and never for crypto.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from jtf_env.assets import ASSETS, AssetClass
from jtf_env.layouts import HourVisibility

MINUTE = 60 * 10**9
"""Nanoseconds."""
HOUR = 60 * MINUTE
DAY = 24 * HOUR
DAYS_PER_YEAR = 365
EXTENDED_HOURS = (4, 20)
"""First hour of pre-market and the hour at which after-hours trading ends, New York."""


def nanoseconds(timestamps: pd.DatetimeIndex) -> np.ndarray:
    """Return ``[T]`` int64 nanoseconds since 1970 UTC, whatever unit the index stores."""
    return timestamps.as_unit("ns").asi8


@dataclass(frozen=True, eq=False)
class Schedule:
    """The `S` scheduled sessions of whole calendar years of the equity exchange."""

    days: np.ndarray
    """``[S]`` int64, local session date as days since 1970-01-01, strictly increasing."""
    open: pd.DatetimeIndex
    """``[S]`` scheduled open, UTC."""
    close: pd.DatetimeIndex
    """``[S]`` scheduled close, UTC."""
    early_close: np.ndarray
    """``[S]`` bool, half days."""


@lru_cache(maxsize=32)
def exchange_schedule(first_year: int, last_year: int) -> Schedule:
    """Return the schedule of the US equity exchange from 1 January of `first_year` to 31 December of `last_year`."""
    import exchange_calendars

    name = ASSETS["us_equity"].calendar
    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses `Series.values`, deprecated since pandas 3.1; no user can help it.
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar = exchange_calendars.get_calendar(name, start=f"{first_year}-01-01", end=f"{last_year}-12-31")
    return Schedule(
        days=nanoseconds(calendar.sessions) // DAY,
        open=pd.DatetimeIndex(calendar.opens).as_unit("ns"),
        close=pd.DatetimeIndex(calendar.closes).as_unit("ns"),
        early_close=calendar.sessions.isin(calendar.early_closes),
    )


@dataclass(frozen=True, eq=False)
class SessionLabels:
    """The session of every bar; the labels of a prefix are the prefix of the labels."""

    session_ids: np.ndarray
    """``[T]`` int32, non-decreasing where >= 0; -1 on a date without a session (ignore its other labels)."""
    session_open: pd.DatetimeIndex
    """``[T]`` scheduled open of the session, UTC."""
    session_close: pd.DatetimeIndex
    """``[T]`` scheduled close of the session, UTC."""
    regular: np.ndarray
    """``[T]`` bool, the bar overlaps the scheduled session."""
    after_early_close: np.ndarray
    """``[T]`` bool, the bar starts at or after the close of a half day."""
    extended: np.ndarray
    """``[T]`` bool, the bar starts in the extended hours of a session date, which hold the regular ones."""


def label_sessions(timestamps: pd.DatetimeIndex, asset_class: AssetClass, bar_minutes: int = 15) -> SessionLabels:
    """Return the session of each bar start ``timestamps [T]`` (UTC, increasing).

    An equity bar belongs to the session of its local date, so that extended hours share the ids of the
    regular ones; crypto is one unbroken session whose open and close are the bounds of the UTC day.
    """
    if ASSETS[asset_class].calendar is None:
        return _label_continuous(timestamps)
    local = timestamps.tz_convert(ASSETS[asset_class].timezone).tz_localize(None)
    schedule = exchange_schedule(*_year_span(timestamps, asset_class))
    days = nanoseconds(local) // DAY
    clock = nanoseconds(local) % DAY
    rows = np.minimum(np.searchsorted(schedule.days, days), len(schedule.days) - 1)
    has_session = schedule.days[rows] == days
    session_open, session_close = schedule.open[rows], schedule.close[rows]
    ends = timestamps + pd.Timedelta(minutes=bar_minutes)
    return SessionLabels(
        session_ids=np.where(has_session, rows, -1).astype(np.int32),
        session_open=session_open,
        session_close=session_close,
        regular=has_session & (ends > session_open) & (timestamps < session_close),
        after_early_close=has_session & schedule.early_close[rows] & (timestamps >= session_close),
        extended=has_session & (clock >= EXTENDED_HOURS[0] * HOUR) & (clock < EXTENDED_HOURS[1] * HOUR),
    )


def _label_continuous(timestamps: pd.DatetimeIndex) -> SessionLabels:
    day = timestamps.floor("D")
    count = len(timestamps)
    return SessionLabels(
        session_ids=np.zeros(count, np.int32),
        session_open=day,
        session_close=day + pd.Timedelta(days=1),
        regular=np.ones(count, bool),
        after_early_close=np.zeros(count, bool),
        extended=np.ones(count, bool),
    )


def _year_span(timestamps: pd.DatetimeIndex, asset_class: AssetClass) -> tuple[int, int]:
    ends = timestamps[[0, -1]].tz_convert(ASSETS[asset_class].timezone)
    return ends[0].year, ends[1].year


def scheduled_per_year(timestamps: pd.DatetimeIndex, asset_class: AssetClass, bar_minutes: int = 15) -> float:
    """Return the scheduled bars of an average year, counted over the calendar years ``timestamps [T]`` touch.

    Half days count with the bars they have. Crypto: 365 days of 24 hours.
    """
    if ASSETS[asset_class].calendar is None:
        return float(DAYS_PER_YEAR * DAY // (bar_minutes * MINUTE))
    first_year, last_year = _year_span(timestamps, asset_class)
    schedule = exchange_schedule(first_year, last_year)
    first, stop = scheduled_spans(schedule.open, schedule.close, bar_minutes)
    return float(((stop - first) // (bar_minutes * MINUTE)).sum() / (last_year - first_year + 1))


def scheduled_in_span(timestamps: pd.DatetimeIndex, asset_class: AssetClass, bar_minutes: int = 15) -> int:
    """Return how many bars are scheduled from the first to the last of ``timestamps [T]``, both included."""
    bar = bar_minutes * MINUTE
    begin, last = nanoseconds(timestamps[[0, -1]]).tolist()
    if ASSETS[asset_class].calendar is None:
        return (last - begin) // bar + 1
    schedule = exchange_schedule(*_year_span(timestamps, asset_class))
    first, stop = scheduled_spans(schedule.open, schedule.close, bar_minutes, phase=begin % bar)
    inside = np.minimum(stop, last + bar) - np.maximum(first, begin)
    return int((np.maximum(inside, 0) // bar).sum())


def scheduled_spans(
    session_open: pd.DatetimeIndex, session_close: pd.DatetimeIndex, bar_minutes: int, phase: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``[S]`` the starts of the first and of the bar after the last of the sessions ``[S]``, in nanoseconds.

    Every bar starts `phase` nanoseconds after a multiple of its length.
    """
    bar = bar_minutes * MINUTE
    first = (nanoseconds(session_open) - phase) // bar * bar + phase
    stop = -(-(nanoseconds(session_close) - phase) // bar) * bar + phase
    return first, stop


def compute_hourly_window_indices(
    timestamps: pd.DatetimeIndex,
    session_ids: np.ndarray,
    hour_visibility: HourVisibility = "previous",
    bar_minutes: int = 15,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for every bar the half-open range of the bars of the hour its hourly context describes.

    Parameters
    ----------
    timestamps, session_ids
        ``[T]`` bar starts and ``[T]`` session ids, both non-decreasing.
    hour_visibility
        ``"previous"``: the clock hour before the one in which the bar starts. ``"at_close"``: the last clock
        hour complete when the bar *ends*, so that the bar that completes an hour sees it.
    bar_minutes
        Bar length in minutes.

    Returns
    -------
    start, stop : ``[T]`` int64
        Bars ``start <= k < stop``, none later than the bar itself; empty (``start == stop``) where not valid.
    valid : ``[T]`` bool
        That hour, in the same session, has at least one bar.
    """
    starts, ids = nanoseconds(timestamps), session_ids.astype(np.int64)
    keys = hour_key(ids, starts)
    wanted = visible_hour(ids, starts, hour_visibility, bar_minutes)
    start = np.searchsorted(keys, wanted, side="left").astype(np.int64)
    stop = np.searchsorted(keys, wanted, side="right").astype(np.int64)
    return start, stop, stop > start


def hour_key(session_id: Any, start: Any) -> Any:
    """Return the key of a bar's clock hour in its session, of one bar or ``[T]``; keys increase with time.

    `start` is in nanoseconds. Sessions lie further apart than any two clock hours.
    """
    return (session_id << 32) + start // HOUR


def visible_hour(session_id: Any, start: Any, hour_visibility: HourVisibility, bar_minutes: int) -> Any:
    """Return the key of the hour that the hourly context of a bar describes, of one bar or ``[T]``."""
    delay = {"previous": 0, "at_close": bar_minutes * MINUTE}[hour_visibility]
    return hour_key(session_id, start + delay) - 1
