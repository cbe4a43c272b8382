"""Clock hours, exchange sessions and the hour windows behind the hourly context: every calendar rule, once.

NumPy and pandas only; `exchange_calendars` is imported where a schedule is built, and never for crypto.
"""

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from jtf_env.errors import BarsError
from jtf_env.layouts import HourVisibility
from jtf_env.params import COSTS, AssetClass

CALENDAR = "XNYS"
TIMEZONES: dict[AssetClass, str] = {"us_equity": "America/New_York", "crypto": "UTC"}
"""Clock of the temporal features by asset class."""

MINUTE = 60 * 10**9
"""Nanoseconds."""
HOUR = 60 * MINUTE
DAY = 24 * HOUR
DAYS_PER_YEAR = 365

_CRYPTO = re.compile(r".+/USD|.+USDT|[A-Z0-9]{4,}USD")


def asset_class_of(symbol: str, override: AssetClass | None = None) -> AssetClass:
    """Return the asset class a symbol's spelling tells: ``X/USD``, ``XUSDT``, ``XXXXUSD`` are crypto.

    Plain ``XXXUSD`` with three letters or fewer is not (``EURUSD`` is a currency, ``USD`` a fund); `override`
    decides such cases. Raises `BarsError` for an unknown override.
    """
    if override is None:
        return "crypto" if _CRYPTO.fullmatch(symbol.upper()) else "us_equity"
    if override not in COSTS:
        raise BarsError(f"{symbol}: asset class {override!r} is not one of {', '.join(COSTS)}.")
    return override


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
    """Return the schedule of `CALENDAR` from 1 January of `first_year` to 31 December of `last_year`."""
    import exchange_calendars

    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses `Series.values`, deprecated since pandas 3.1; no user can help it.
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar = exchange_calendars.get_calendar(CALENDAR, start=f"{first_year}-01-01", end=f"{last_year}-12-31")
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


def label_sessions(timestamps: pd.DatetimeIndex, asset_class: AssetClass, bar_minutes: int = 15) -> SessionLabels:
    """Return the session of each bar start ``timestamps [T]`` (UTC, increasing).

    An equity bar belongs to the session of its local date, so that extended hours share the ids of the
    regular ones; crypto is one unbroken session whose open and close are the bounds of the UTC day.
    """
    if asset_class == "crypto":
        return _label_continuous(timestamps)
    local = timestamps.tz_convert(TIMEZONES[asset_class]).tz_localize(None)
    schedule = exchange_schedule(*_year_span(timestamps, asset_class))
    days = nanoseconds(local) // DAY
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
    )


def _year_span(timestamps: pd.DatetimeIndex, asset_class: AssetClass) -> tuple[int, int]:
    ends = timestamps[[0, -1]].tz_convert(TIMEZONES[asset_class])
    return ends[0].year, ends[1].year


def bars_per_year(timestamps: pd.DatetimeIndex, asset_class: AssetClass, bar_minutes: int = 15) -> float:
    """Return the scheduled bars of an average year, counted over the calendar years ``timestamps [T]`` touch.

    Half days count with the bars they have. Crypto: 365 days of 24 hours.
    """
    if asset_class == "crypto":
        return float(DAYS_PER_YEAR * DAY // (bar_minutes * MINUTE))
    first_year, last_year = _year_span(timestamps, asset_class)
    schedule = exchange_schedule(first_year, last_year)
    scheduled = scheduled_bars(nanoseconds(schedule.open), nanoseconds(schedule.close), bar_minutes * MINUTE)
    return float(scheduled.sum() / (last_year - first_year + 1))


def scheduled_bars(session_open: np.ndarray, session_close: np.ndarray, bar: int) -> np.ndarray:
    """Return ``[S]`` bars overlapping the sessions from `session_open` to `session_close`, in nanoseconds."""
    return -(-session_close // bar) - session_open // bar


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
    delay = {"previous": 0, "at_close": bar_minutes * MINUTE}[hour_visibility]
    starts = nanoseconds(timestamps)
    # One sorted key for (session, hour): sessions lie further apart than any two clock hours.
    session_key = session_ids.astype(np.int64) << 32
    keys = session_key + starts // HOUR
    wanted = session_key + (starts + delay) // HOUR - 1
    start = np.searchsorted(keys, wanted, side="left").astype(np.int64)
    stop = np.searchsorted(keys, wanted, side="right").astype(np.int64)
    return start, stop, stop > start
