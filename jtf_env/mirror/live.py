"""The columns of bars that arrive one by one: bitwise the rows of the market of all bars.

`LiveMarket` starts from a history and takes one bar at a time. NumPy and pandas alone; the schedule of equities is
asked once a day.
"""

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from jtf_env.assets import ASSETS
from jtf_env.bars import Bars, check_enough_bars, check_prices
from jtf_env.errors import BarsError
from jtf_env.layouts import Layout, get_layout
from jtf_env.mirror.features import BarInputs, bar_inputs, build_columns
from jtf_env.mirror.hourly import LiveHours, hourly_context
from jtf_env.mirror.market import standardise
from jtf_env.mirror.past import Live, Past
from jtf_env.scaler import Scaler
from jtf_env.sessions import MINUTE, label_sessions, nanoseconds


class Bar(NamedTuple):
    """One bar of a symbol; prices in USD."""

    timestamp: datetime | pd.Timestamp | str
    """Start of the bar, with its time zone."""
    open: float
    high: float
    low: float
    close: float
    volume: float
    """Units traded."""


class LiveMarket:
    """The standardised columns of a history, and of every bar that follows it."""

    def __init__(self, bars: Bars, layout: Layout, scaler: Scaler, window: int, extended_hours: bool = False) -> None:
        check_enough_bars(bars, layout, window)
        layout = get_layout(layout)
        past = Past()
        table = build_columns(layout, bar_inputs(bars), past)
        self._num_columns = table.shape[1]
        self._scaler = scaler
        self._layout = layout
        self._past = Live(past.memory)
        self._has_context = any(group.source == "context" for group in layout.groups)
        self._hours = LiveHours(bars, layout.hour_visibility)
        self._clock = _Clock(bars, extended_hours)
        context = hourly_context(bars, layout.hour_visibility) if self._has_context else np.zeros((len(bars), 0))
        self.features = standardise(table, scaler.mean[: self._num_columns], scaler.std[: self._num_columns])
        """``[T, F]`` of the history; `forget` drops it."""
        self.context = self._standard_context(context[-1:])
        """``[1, C]`` of the last bar."""
        self.num_bars = len(bars)
        """Bars seen, history included."""

    def forget(self) -> None:
        """Drop the rows of the history."""
        self.features = self.features[:0].copy()

    @property
    def time(self) -> pd.Timestamp:
        """Start of the last bar, UTC."""
        return pd.Timestamp(self._clock.start, tz="UTC")

    def push(self, bar: Bar) -> np.ndarray:
        """Take the next bar and return its standardised bar columns ``[1, F]``; `context` is that of the bar then.

        Raises `BarsError` for a bar that `make_bars` would refuse or drop, or that does not follow; nothing has changed
        then.
        """
        session, inputs = self._clock.read(bar)
        self._clock.advance(session, int(inputs.start[0]))
        self._past.begin()
        table = build_columns(self._layout, inputs, self._past)
        start, (high, low, close) = int(inputs.start[0]), (x.item() for x in (inputs.high, inputs.low, inputs.close))
        if self._has_context:
            self.context = self._standard_context(np.array([self._hours.push(session.id, start, high, low, close)]))
        self.num_bars += 1
        return standardise(table, self._scaler.mean[: self._num_columns], self._scaler.std[: self._num_columns])

    def _standard_context(self, context: np.ndarray) -> np.ndarray:
        return standardise(context, self._scaler.mean[self._num_columns :], self._scaler.std[self._num_columns :])


class _Session(NamedTuple):
    day: int
    """Local date, days since 0001-01-01 (`toordinal`)."""
    id: int
    open: int
    """Nanoseconds since 1970 UTC."""
    close: int
    """Nanoseconds since 1970 UTC."""


class _Clock:
    """Time and session of the bars that arrive."""

    def __init__(self, bars: Bars, extended_hours: bool) -> None:
        self._bar = bars.bar_minutes * MINUTE
        self._bar_minutes = bars.bar_minutes
        self._asset_class, self._symbol = bars.asset_class, bars.symbol
        self._continuous = ASSETS[bars.asset_class].calendar is None
        self._zone = ZoneInfo(bars.timezone)
        self._extended_hours = extended_hours
        starts = nanoseconds(bars.timestamps)
        self.start = int(starts[-1])
        self._phase = int(starts[0]) % self._bar
        opened, closed = (int(nanoseconds(times[-1:])[0]) for times in (bars.session_open, bars.session_close))
        self._session = _Session(self._local(self.start).toordinal(), int(bars.session_ids[-1]), opened, closed)

    def _local(self, start: int) -> datetime:
        return datetime.fromtimestamp(start // 10**9, self._zone)

    def read(self, bar: Bar) -> tuple[_Session, BarInputs]:
        """Return the session of the next bar, and what its columns are computed from; raise `BarsError` for no bar."""
        stamp, start = self._start_of(bar)
        if start <= self.start:
            raise BarsError(
                f"{self._symbol}: the bar at {stamp} does not follow the last one at "
                f"{pd.Timestamp(self.start, tz='UTC')}; give every bar once, in order."
            )
        if start % self._bar != self._phase:
            raise BarsError(
                f"{self._symbol}: the bar at {stamp} does not start where {self._bar_minutes}-minute bars do."
            )
        prices = np.array([bar[1:]], np.float64).T
        check_prices(prices, [stamp], self._symbol)
        local = self._local(start)
        session = self._session_of(local, start, stamp)
        end = start + self._bar
        regular = end > session.open and start < session.close
        if not (regular or self._extended_hours):
            raise BarsError(f"{self._symbol}: the bar at {stamp} lies outside regular hours; leave it out.")
        times = (start, end, session.open, session.close, local.hour, local.minute, local.weekday(), local.month)
        return session, BarInputs(*prices, *(np.array([time]) for time in times))

    def _start_of(self, bar: Bar) -> tuple[pd.Timestamp, int]:
        """Return the start of a bar, and in nanoseconds since 1970 UTC; raise `BarsError` where it is no time."""
        try:
            stamp = pd.Timestamp(bar.timestamp)
            start = 0 if stamp is pd.NaT else stamp.value
        except (TypeError, ValueError, OverflowError):
            raise BarsError(
                f"{self._symbol}: {bar.timestamp!r:.60} is no time; give the start of the bar in UTC."
            ) from None
        if stamp is pd.NaT or stamp.tzinfo is None:
            raise BarsError(f"{self._symbol}: the bar at {bar.timestamp} has no time zone; give its start in UTC.")
        return stamp, start

    def advance(self, session: _Session, start: int) -> None:
        """Go on to a bar that was read."""
        self.start, self._session = start, session

    def _session_of(self, local: datetime, start: int, stamp: pd.Timestamp) -> _Session:
        """Return the session of a bar; the schedule is asked once a day."""
        day, before = local.toordinal(), self._session
        if day == before.day:
            return before
        labels = label_sessions(pd.DatetimeIndex([start], tz="UTC"), self._asset_class, self._bar_minutes)
        if labels.session_ids[0] < 0:
            raise BarsError(f"{self._symbol}: the bar at {stamp} lies on a date without a session; leave it out.")
        opened, closed = (int(nanoseconds(times)[0]) for times in (labels.session_open, labels.session_close))
        return _Session(day, before.id if self._continuous else before.id + 1, opened, closed)
