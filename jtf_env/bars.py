"""Bars: validated OHLCV of one symbol, with the session every bar belongs to. NumPy and pandas only.

`Bars` is what every source (files, synthetic markets, a live feed) hands on; past it nothing asks a calendar.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from jtf_env.params import AssetClass


@dataclass(frozen=True)
class BarsReport:
    """What was done to, or noticed in, the rows of the source; all of it is said out loud and recorded."""

    dropped_after_close: int = 0
    """Bars after the scheduled close of a half day (or of any session) that were dropped."""
    dropped_extended_hours: int = 0
    """Bars outside regular hours that were dropped (0 with ``extended_hours``)."""
    gaps: tuple[tuple[str, str, int], ...] = ()
    """Holes inside a session: (first missing bar start, last missing bar start, bars missing), ISO UTC."""
    missing_sessions: tuple[str, ...] = ()
    """Scheduled sessions between the first and last bar with no bar at all (ISO dates)."""
    jumps: tuple[tuple[str, float, float], ...] = ()
    """Moves beyond 35 % between consecutive sessions, likely unadjusted splits: (bar start, price before, after)."""


@dataclass(frozen=True, eq=False)
class Bars:
    """OHLCV of one symbol over `T` bars. ``bars[:n]`` is the prefix of `n` bars (any slice of step 1 works)."""

    symbol: str
    asset_class: AssetClass
    timestamps: pd.DatetimeIndex
    """``[T]`` bar starts, UTC, strictly increasing. A bar is known at its start + `bar_minutes`."""
    open: np.ndarray
    """``[T]`` float64, USD."""
    high: np.ndarray
    """``[T]`` float64, USD."""
    low: np.ndarray
    """``[T]`` float64, USD."""
    close: np.ndarray
    """``[T]`` float64, USD."""
    volume: np.ndarray
    """``[T]`` float64, units traded."""
    session_ids: np.ndarray
    """``[T]`` int32, 0-based and non-decreasing; the scheduled session a bar belongs to (24/7: all 0)."""
    session_open: pd.DatetimeIndex
    """``[T]`` scheduled open of the bar's session, UTC (24/7: start of the UTC day)."""
    session_close: pd.DatetimeIndex
    """``[T]`` scheduled close of the bar's session, UTC (24/7: end of the UTC day)."""
    tradable: np.ndarray
    """``[T]`` bool; False for a halt (no volume) and for the first bar after a hole inside a session."""
    bars_per_year: float
    """Bars in an average year of this symbol's calendar, counted, half days included (24/7, 15 minutes: 35 040)."""
    timezone: str = "UTC"
    """Exchange time zone (IANA name); the clock of the temporal features."""
    bar_minutes: int = 15
    report: BarsReport = field(default_factory=BarsReport)
    source: str = ""
    """Where the rows came from: a path, or ``synthetic``."""

    def __len__(self) -> int:
        return len(self.close)

    def __getitem__(self, rows: slice) -> "Bars":
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise TypeError("Bars are indexed by slices of step 1, e.g. bars[:n].")
        return replace(self, **{name: getattr(self, name)[rows] for name in PER_BAR_FIELDS})


PER_BAR_FIELDS = (
    "timestamps", "open", "high", "low", "close", "volume", "session_ids", "session_open", "session_close", "tradable",
)  # fmt: skip
