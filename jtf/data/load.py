"""`load_bars`: the one way from a file, a data frame or a symbol's name to bars."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from jtf.data.check import length, refuse_spacing
from jtf.data.files import find_file, read_frame
from jtf.data.frames import tidy_frame
from jtf.data.timeframes import TIMEFRAMES, Stamps, Timeframe
from jtf_env.assets import AssetClass, asset_class_of
from jtf_env.bars import COLUMNS, Bars, check_columns, make_bars, read_timestamps
from jtf_env.errors import BarsError
from jtf_env.oddities import modal_spacing
from jtf_env.resample import resample
from jtf_env.sessions import nanoseconds

BARS_SETTINGS = ("asset_class", "extended_hours", "timeframe", "start", "end", "stamps")
"""The settings of a run that decide its bars, beside symbol and data; keyword arguments of `load_bars`."""


def load_bars(
    symbol: str,
    data: str | Path | pd.DataFrame | None = None,
    *,
    asset_class: AssetClass | None = None,
    extended_hours: bool = False,
    timeframe: Timeframe = "15Min",
    start: str | None = None,
    end: str | None = None,
    stamps: Stamps = "start",
) -> Bars:
    """Return the validated bars of `symbol`.

    Parameters
    ----------
    symbol
        For example ``SPY`` or ``BTC/USD``; its spelling decides the asset class unless one is given.
    data
        A folder of ``SYMBOL_15Min.parquet`` or ``.csv``, one such file by any name, or a data frame. Columns open,
        high, low, close and volume, and times with their zone as a `DatetimeIndex` or as a column timestamp, datetime,
        date or time, all in any capitalisation. None is the synthetic market of that symbol name, the same at every
        call and without extended hours.
    extended_hours
        Keep bars outside regular hours instead of dropping and counting them.
    timeframe
        Length of the bars. Finer rows are put together (`jtf_env.resample`), coarser ones refused.
    start, end
        Date or time, UTC unless it names another zone: bars that start before `start`, or at or after `end`, are cut.
    stamps
        Whether the times of the rows are the starts or the ends of their bars.

    Raises
    ------
    BarsError
        One sentence naming the file, the row and timestamp, and the remedy.
    """
    for name, value, known in (("timeframe", timeframe, TIMEFRAMES), ("stamps", stamps, ("start", "end"))):
        if value not in tuple(known):
            raise BarsError(f"--{name} {value!r} is not one of {', '.join(known)}.")
    if data is None:
        return _synthetic_bars(symbol, asset_class, timeframe != "15Min" or stamps != "start" or bool(start or end))
    asset_class = asset_class_of(symbol, asset_class)
    frame, where = _read(symbol, data, timeframe)
    bar_minutes = TIMEFRAMES[timeframe]
    row_minutes = _row_minutes(pd.DatetimeIndex(frame.index), bar_minutes, where)
    if stamps == "end":
        frame = frame.shift(-row_minutes, freq="min")
    frame, where = _cut(frame, start, end, where)
    bars = make_bars(
        frame, symbol, asset_class=asset_class, bar_minutes=row_minutes, extended_hours=extended_hours, source=where
    )
    return bars if row_minutes == bar_minutes else resample(bars, bar_minutes)


def _synthetic_bars(symbol: str, asset_class: AssetClass | None, changed: bool) -> Bars:
    from jtf.data.synthetic import synthetic_bars

    if changed:
        raise BarsError(
            f"{symbol}: the built-in market has its own 15-minute bars; "
            "give --data, or leave out --timeframe, --start, --end and --stamps."
        )
    return synthetic_bars(symbol, asset_class=asset_class)


def _read(symbol: str, data: str | Path | pd.DataFrame, timeframe: Timeframe) -> tuple[pd.DataFrame, str]:
    """Return the rows with their times, UTC, as the index, and what messages call them."""
    if isinstance(data, pd.DataFrame):
        frame, where = data, "DataFrame"
    else:
        path = find_file(symbol, Path(data), timeframe)
        frame, where = read_frame(path), str(path)
    frame = tidy_frame(frame, where)
    check_columns(frame, where)
    times = read_timestamps(frame, where)
    return frame.drop(columns="timestamp", errors="ignore").set_axis(times), where


def _row_minutes(times: pd.DatetimeIndex, bar_minutes: int, where: str) -> int:
    """Return the bar length of rows at ``times [T]``, in minutes; refuse what cannot make bars of `bar_minutes`."""
    spacing = modal_spacing(nanoseconds(times))
    refuse_spacing(spacing, bar_minutes, where)
    if spacing is None or spacing == bar_minutes:
        return bar_minutes
    if spacing % 1 or bar_minutes % spacing:
        fits = [name for name, minutes in TIMEFRAMES.items() if minutes % spacing == 0]
        remedy = f"pass --timeframe {fits[0]}" if fits and spacing % 1 == 0 else "take 1-minute bars"
        raise BarsError(f"{where}: rows {length(spacing)} apart do not make {bar_minutes}-minute bars; {remedy}.")
    return int(spacing)


def _cut(frame: pd.DataFrame, start: str | None, end: str | None, where: str) -> tuple[pd.DataFrame, str]:
    """Return the rows that start at or after `start` and before `end`, and what messages call them."""
    if start is None and end is None:
        return frame, where
    kept = np.ones(len(frame), bool)
    if start is not None:
        kept &= np.asarray(frame.index >= utc_time(start, "--start"))
        where += f" from {start}"
    if end is not None:
        kept &= np.asarray(frame.index < utc_time(end, "--end"))
        where += f" until {end}"
    if not kept.any():
        span = f"{frame.index.min():%Y-%m-%d %H:%M} to {frame.index.max():%Y-%m-%d %H:%M} UTC"
        raise BarsError(f"{where}: no row lies in that span; choose one within the rows, {span}.")
    return frame[kept], where


def utc_time(text: str, flag: str) -> pd.Timestamp:
    """Return a date or time as UTC; raise `BarsError` naming its `flag` where it is neither."""
    stamp = pd.to_datetime(text, errors="coerce")
    if not isinstance(stamp, pd.Timestamp):
        raise BarsError(f"{flag} {text!r} is not a date or time such as 2024-01-31 or 2024-01-31T15:00.")
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def bars_sha256(bars: Bars) -> str:
    """Return the SHA-256, in hexadecimal, of the bar starts and OHLCV, whatever file they came from."""
    digest = hashlib.sha256(nanoseconds(bars.timestamps).astype("<i8").tobytes())
    for name in COLUMNS:
        digest.update(np.asarray(getattr(bars, name), dtype="<f8").tobytes())
    return digest.hexdigest()
