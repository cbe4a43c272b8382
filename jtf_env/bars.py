"""Bars: validated OHLCV of one symbol, with the session every bar belongs to. NumPy and pandas only.

`Bars` is what every source (files, synthetic markets, a live feed) hands on; past it nothing asks a calendar.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from jtf_env.assets import ASSETS, AssetClass, asset_class_of
from jtf_env.errors import BarsError
from jtf_env.layouts import Layout
from jtf_env.oddities import bad_tick_prices, find_jumps, longest_standstill, modal_spacing
from jtf_env.sessions import (
    MINUTE,
    SessionLabels,
    exchange_schedule,
    label_sessions,
    nanoseconds,
    scheduled_in_span,
    scheduled_per_year,
    scheduled_spans,
)

COLUMNS = ("open", "high", "low", "close", "volume")
Stamps = pd.DatetimeIndex | list[pd.Timestamp]

KNOWN_YEARS = (1900, 2199)
"""Years a bar may lie in; anything else is a broken clock or a wrong epoch unit."""
KNOWN_PRICES = (1e-9, 1e9)
"""Prices a bar may have, USD; anything else is a wrong unit."""


@dataclass(frozen=True)
class BarsReport:
    """What was done to, or noticed in, the rows of the source; all of it is said out loud and recorded."""

    rows: int = 0
    """Rows of the source, before any was dropped."""
    spacing_minutes: float | None = None
    """Most frequent distance of consecutive rows; None for a single row."""
    resampled_from: int | None = None
    """Bar length of the source in minutes, where finer rows were put together."""
    incomplete_bins: int = 0
    """Bars left out because some of the finer rows they are made of are missing."""
    dropped_after_close: int = 0
    """Bars at or after the early close of a half day that were dropped (0 with ``extended_hours``)."""
    dropped_extended_hours: int = 0
    """Other bars outside regular hours that were dropped (0 with ``extended_hours``)."""
    dropped_no_session: int = 0
    """Bars on dates without a session (weekends, holidays) that were dropped."""
    outside_calendar: int = 0
    """Rows that start outside extended hours (04:00-20:00 New York) or on a date without a session."""
    on_weekends: int = 0
    """Rows on a Saturday or Sunday of the exchange (0 for assets that trade around the clock)."""
    sessions: int = 0
    """Sessions with a bar in regular hours."""
    sessions_without_open: int = 0
    """Those without their opening bar; the first session is not counted."""
    sessions_without_close: int = 0
    """Those without their closing bar; the last session is not counted."""
    sessions_past_close: int = 0
    """Sessions whose last row starts exactly at the close: what bars stamped with their end look like."""
    gaps: tuple[tuple[str, str, int], ...] = ()
    """Holes in the regular hours of a session: (first missing bar start, last, bars missing), ISO UTC."""
    missing_sessions: tuple[str, ...] = ()
    """Scheduled sessions between the first and last bar with no bar at all (ISO dates)."""
    jumps: tuple[tuple[str, float, float], ...] = ()
    """Moves from bar to bar beyond the asset's limit, likely unadjusted splits: (bar start ISO UTC, price before,
    price after), USD."""
    bad_ticks: tuple[tuple[str, float], ...] = ()
    """Prices beyond that limit from which the market came back at once: (bar start ISO UTC, price), USD."""
    standstill: int = 0
    """Most consecutive bars at one single price."""
    no_volume: bool = False
    """Whether every volume is 0."""


@dataclass(frozen=True, eq=False)
class Bars:
    """OHLCV of one symbol over `T` bars. ``bars[:n]`` is the prefix of `n` bars (slices of step 1 work)."""

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
    """``[T]`` bool; False for a halt (no volume) and for the first bar after a hole inside a session.
    Where every volume is 0 it is unknown, and halts with it."""
    bars_per_year: float
    """Bars in an average year: those the calendar schedules (half days included; 24/7, 15 minutes: 35 040) times the
    share of them that is present from the first bar to the last."""
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


def has_extended_hours(bars: Bars) -> bool:
    """Whether any bar lies outside the regular hours of its session."""
    ends = bars.timestamps + pd.Timedelta(minutes=bars.bar_minutes)
    return bool(((ends <= bars.session_open) | (bars.timestamps >= bars.session_close)).any())


PER_BAR_FIELDS = (
    "timestamps", "open", "high", "low", "close", "volume", "session_ids", "session_open", "session_close",
    "tradable",
)  # fmt: skip


def make_bars(
    frame: pd.DataFrame,
    symbol: str,
    *,
    asset_class: AssetClass | None = None,
    bar_minutes: int = 15,
    extended_hours: bool = False,
    source: str = "",
) -> Bars:
    """Validate the rows of `frame` and return them as `Bars`.

    Parameters
    ----------
    frame
        Columns ``open high low close volume`` (USD, units) and increasing bar starts with a time zone as
        the index or as a column ``timestamp``. Other columns are ignored. Not changed.
    symbol
        Decides the asset class by its spelling unless `asset_class` is given (`asset_class_of`).
    bar_minutes
        Bar length; divides 60. Every start lies on a multiple of it, or that far after a session's open (hourly bars
        of equities: 09:00 or 09:30).
    extended_hours
        Keep bars outside regular hours instead of dropping and counting them; no effect on crypto.
    source
        What error messages call the rows: a path, usually.

    Raises
    ------
    BarsError
        For rows that cannot be used as they are. Rows count from 0, as in ``frame.iloc``.
    """
    where = source or symbol
    asset_class = asset_class_of(symbol, asset_class)
    _check_bar_length(bar_minutes, where)
    check_columns(frame, where)
    timestamps = read_timestamps(frame, where)
    _check_timestamps(timestamps, bar_minutes, ASSETS[asset_class].open_minute, where)
    table = np.stack([_read_numbers(frame[name], where) for name in COLUMNS])
    check_prices(table, timestamps, where)
    open_, high, low, close, volume = table
    labels = label_sessions(timestamps, asset_class, bar_minutes)
    bars = Bars(
        symbol=symbol,
        asset_class=asset_class,
        timestamps=timestamps,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=volume,
        session_ids=labels.session_ids,
        session_open=labels.session_open,
        session_close=labels.session_close,
        tradable=np.ones(len(timestamps), bool),
        bars_per_year=scheduled_per_year(timestamps, asset_class, bar_minutes),
        timezone=ASSETS[asset_class].timezone,
        bar_minutes=bar_minutes,
        source=source,
    )
    return _describe(*_drop_outside(bars, labels, extended_hours))


def _drop_outside(bars: Bars, labels: SessionLabels, extended_hours: bool) -> tuple[Bars, np.ndarray]:
    """Return the bars that trade in a session, counting the others, and which of them are regular ``[T]``."""
    in_session = labels.session_ids >= 0
    kept = in_session if extended_hours else labels.regular
    if not labels.regular.any():
        raise BarsError(
            f"{bars.source or bars.symbol}: none of the {len(kept)} bars lies in regular {bars.asset_class} "
            f"hours; set the asset class of {bars.symbol} or check the time zone of the timestamps."
        )
    after_close = labels.after_early_close & ~kept
    weekday = bars.timestamps.tz_convert(bars.timezone).day_of_week.to_numpy()
    last_row = in_session & np.append(np.diff(labels.session_ids) != 0, True)
    has_calendar = ASSETS[bars.asset_class].calendar is not None
    report = BarsReport(
        rows=len(bars),
        spacing_minutes=modal_spacing(nanoseconds(bars.timestamps)),
        dropped_after_close=int(after_close.sum()),
        dropped_extended_hours=int((in_session & ~kept & ~after_close).sum()),
        dropped_no_session=int((~in_session).sum()),
        outside_calendar=int((~labels.extended).sum()),
        on_weekends=int((weekday >= 5).sum()) if has_calendar else 0,
        sessions_past_close=int((last_row & (bars.timestamps == labels.session_close)).sum()),
    )
    columns = {name: getattr(bars, name)[kept] for name in PER_BAR_FIELDS}
    columns["session_ids"] -= columns["session_ids"][0]
    # Bars outside regular hours count too: a year has as many more of them as this span has.
    scheduled = scheduled_in_span(bars.timestamps[labels.regular], bars.asset_class, bars.bar_minutes)
    per_year = float(bars.bars_per_year * kept.sum() / scheduled)
    return replace(bars, **columns, bars_per_year=per_year, report=report), labels.regular[kept]


def _describe(bars: Bars, regular: np.ndarray) -> Bars:
    """Return `bars` with `tradable` and the report of holes, missing sessions and odd prices.

    Only the bars in ``regular [T]`` can leave a hole: outside regular hours a bar that never traded is none.
    """
    bar = bars.bar_minutes * MINUTE
    rows = np.flatnonzero(regular)
    starts, ids = nanoseconds(bars.timestamps)[rows], bars.session_ids[rows]
    new_session = ids[1:] != ids[:-1]
    first_start, after_last = scheduled_spans(
        bars.session_open[rows], bars.session_close[rows], bars.bar_minutes, phase=starts[0] % bar
    )
    # Half-open spans without bars: before each bar within its session, and behind each session's last bar.
    before = np.stack([np.where(new_session, first_start[1:], starts[:-1] + bar), starts[1:]])
    behind = np.stack([starts[:-1] + bar, after_last[:-1]])[:, new_session]
    spans = np.concatenate([before, behind], axis=1)
    spans = spans[:, spans[1] > spans[0]]

    has_volume = bool(bars.volume.any())
    tradable = bars.volume > 0 if has_volume else bars.tradable.copy()
    tradable[rows[1:][before[1] > before[0]]] = False
    report = replace(
        bars.report,
        sessions=int(new_session.sum()) + 1,
        sessions_without_open=int((before[1] > before[0])[new_session].sum()),
        sessions_without_close=int((behind[1] > behind[0]).sum()),
        gaps=tuple(_gap(begin, end, bar) for begin, end in sorted(spans.T.tolist())),
        missing_sessions=_missing_sessions(bars),
        standstill=longest_standstill(bars.high, bars.low),
        no_volume=not has_volume,
    )
    return _with_odd_prices(replace(bars, tradable=tradable, report=report))


def _with_odd_prices(bars: Bars) -> Bars:
    """Return `bars` with the jumps and the bad ticks in their report."""
    limit = ASSETS[bars.asset_class].jump_limit
    bad = bad_tick_prices(np.stack([bars.open, bars.high, bars.low, bars.close]), limit)
    jumped, before, after = find_jumps(bars.open, bars.close, bad, limit)
    moves = zip(bars.timestamps[jumped], before.tolist(), after.tolist(), strict=True)
    ticks = ~np.isnan(bad)
    report = replace(
        bars.report,
        jumps=tuple((_iso(stamp), old, new) for stamp, old, new in moves),
        bad_ticks=tuple(zip(map(_iso, bars.timestamps[ticks]), bad[ticks].tolist(), strict=True)),
    )
    return replace(bars, report=report)


def _gap(begin: int, end: int, bar: int) -> tuple[str, str, int]:
    return _iso(pd.Timestamp(begin, tz="UTC")), _iso(pd.Timestamp(end - bar, tz="UTC")), (end - begin) // bar


def _missing_sessions(bars: Bars) -> tuple[str, ...]:
    if ASSETS[bars.asset_class].calendar is None:
        return ()
    ends = bars.session_open[[0, -1]].tz_convert(bars.timezone)
    schedule = exchange_schedule(ends[0].year, ends[1].year)
    first = int(schedule.open.searchsorted(bars.session_open[0]))
    absent = np.setdiff1d(np.arange(bars.session_ids[-1] + 1), bars.session_ids) + first
    return tuple(np.datetime_as_string(schedule.days[absent].astype("datetime64[D]")).tolist())


def check_enough_bars(bars: Bars, layout: Layout, window: int) -> None:
    """Raise `BarsError` for fewer bars than one decision with a warm, full window and its fill need."""
    needed = layout.warmup + window + 1
    if len(bars) < needed:
        raise BarsError(
            f"{bars.source or bars.symbol}: {len(bars)} bars are too few for layout {layout.name}, "
            f"which needs {needed} (warm-up {layout.warmup} + window {window} + 1 to fill the first order); "
            f"provide a longer history."
        )


def check_columns(frame: pd.DataFrame, where: str) -> None:
    """Raise `BarsError` unless `frame` has rows and every price column and the volume exactly once."""
    if len(frame) == 0:
        raise BarsError(f"{where}: has no rows; provide bars with the columns timestamp, {', '.join(COLUMNS)}.")
    names = list(frame.columns)
    for name in COLUMNS:
        if names.count(name) != 1:
            found = ", ".join(map(str, names))
            raise BarsError(
                f"{where}: needs the column {name!r} exactly once and has {found}; "
                f"name the columns timestamp, {', '.join(COLUMNS)}."
            )


def read_timestamps(frame: pd.DataFrame, where: str) -> pd.DatetimeIndex:
    """Return the bar starts ``[T]`` in UTC nanoseconds, from the column ``timestamp`` or else the index."""
    in_column = list(frame.columns).count("timestamp") == 1
    stamps = pd.Index(frame["timestamp"]) if in_column else frame.index
    if not isinstance(stamps, pd.DatetimeIndex):
        raise BarsError(
            f"{where}: timestamps are {stamps.dtype}, not dates with a time zone; "
            f"convert them with pandas.to_datetime(..., utc=True)."
        )
    if stamps.tz is None:
        raise BarsError(
            f"{where}: row 0 ({stamps[0]}) has no time zone, nor has any other; "
            f"write each time with its zone, such as 2024-01-31T15:00Z (pandas: tz_localize)."
        )
    years = stamps.year.to_numpy()
    first, last = KNOWN_YEARS
    _reject(np.isnan(years), stamps, where, "has no timestamp", "remove it")
    unknown = np.asarray((years < first) | (years > last))
    _reject(unknown, stamps, where, f"lies outside {first}..{last}", "check the epoch unit")
    return stamps.tz_convert("UTC").as_unit("ns").rename("timestamp")


def _check_bar_length(bar_minutes: int, where: str) -> None:
    if bar_minutes < 1 or 60 % bar_minutes:
        raise BarsError(
            f"{where}: a bar length of {bar_minutes} minutes does not divide the hour; use 15, for example."
        )


def _check_timestamps(timestamps: pd.DatetimeIndex, bar_minutes: int, open_minute: int, where: str) -> None:
    bar = bar_minutes * MINUTE
    starts = nanoseconds(timestamps)
    repeated = timestamps.duplicated()
    backward = np.diff(starts, prepend=starts[0]) < 0
    phase = starts[0] % bar
    off_grid = (starts - (phase if phase == open_minute * MINUTE % bar else 0)) % bar != 0
    fault = f"does not start on a multiple of {bar_minutes} minutes"
    remedy = f"resample to {bar_minutes}-minute bars stamped with their start"
    _reject(repeated, timestamps, where, "repeats an earlier timestamp", "remove the duplicates")
    _reject(backward, timestamps, where, "steps back in time", "sort the rows by timestamp")
    _reject(off_grid, timestamps, where, fault, remedy)


def _read_numbers(column: pd.Series, where: str) -> np.ndarray:
    """Return a column as ``[T]`` float64, NaN where a cell is not a number."""
    kind = column.dtype.kind
    if kind in "iuf":
        return column.to_numpy(np.float64, na_value=np.nan)
    try:
        numbers = pd.to_numeric(column.astype(object), errors="coerce") if kind == "O" else None
    except (OverflowError, TypeError, ValueError):
        numbers = None
    if numbers is None or numbers.dtype.kind not in "iuf":
        raise BarsError(f"{where}: column {column.name!r} holds {column.dtype}, not numbers; convert it to float64.")
    return numbers.to_numpy(np.float64)


def check_prices(table: np.ndarray, timestamps: Stamps, where: str) -> None:
    """Reject the first row of ``table [5, T]`` that no market can have printed."""
    open_, high, low, close, volume = table
    unknown = (table[:4] < KNOWN_PRICES[0]) | (table[:4] > KNOWN_PRICES[1])
    rules = (
        (np.any(~np.isfinite(table), axis=0), "holds NaN or infinity"),
        (np.any(table[:4] <= 0, axis=0), "has a zero or negative price"),
        (np.any(unknown, axis=0), "has a price outside 1e-9..1e9"),
        (volume < 0, "has a negative volume"),
        (high < low, "has its high below its low"),
        (high < np.maximum(open_, close), "has its high below its open or close"),
        (low > np.minimum(open_, close), "has its low above its open or close"),
    )
    for bad, fault in rules:
        if bad.any():
            row = table[:, bad.argmax()].tolist()
            cells = " ".join(f"{name}={cell:g}" for name, cell in zip(COLUMNS, row, strict=True))
            _reject(bad, timestamps, where, f"{fault} ({cells})", "repair or remove it")


def _reject(bad: np.ndarray, timestamps: Stamps, where: str, fault: str, remedy: str) -> None:
    """Raise `BarsError` naming the first row where ``bad [T]``, and how many there are."""
    count = int(bad.sum())
    if count:
        row = int(bad.argmax())
        others = f", as do {count - 1} more rows" if count > 1 else ""
        raise BarsError(f"{where}: row {row} ({_iso(timestamps[row])}) {fault}{others}; {remedy}.")


def _iso(timestamp: pd.Timestamp) -> str:
    return timestamp.isoformat()
