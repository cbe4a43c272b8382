"""Rows as people have them (freqtrade, yfinance, Alpaca, a spreadsheet) with the names `make_bars` expects."""

import pandas as pd

from jtf_env.bars import COLUMNS
from jtf_env.errors import BarsError

TIME_NAMES = ("timestamp", "datetime", "date", "time")
"""Names of the column with the bar starts, in any capitalisation, the first that is there."""
UNNAMED_INDEX = "unnamed: 0"
"""How pandas calls the index of a frame that was written without a name for it."""
ZONED = r":\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"
"""A time that ends in its zone."""


def tidy_frame(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return `frame` with lower-case column names and its bar starts as the column ``timestamp`` or as the index.

    The bar starts are a column called `TIME_NAMES` or a `DatetimeIndex`; text is read as ISO 8601. Nothing is checked
    beyond that: `jtf_env.bars.make_bars` does. Raises `BarsError` for rows of several symbols and for text that is no
    time; `where` names the rows.
    """
    frame = _drop_ticker_rows(_single_header(frame, where))
    names = [str(name).strip().lower() for name in frame.index.names if name is not None]
    if isinstance(frame.index, pd.MultiIndex) or (not _is_dated(frame.index) and set(names) & set(TIME_NAMES)):
        frame = frame.reset_index(allow_duplicates=True)
    frame = frame.set_axis([str(name).strip().lower() for name in frame.columns], axis=1)
    _refuse_several_symbols(frame, where)
    there = [name for name in (*TIME_NAMES, UNNAMED_INDEX) if name in frame.columns]
    if {"date", "time"} <= set(there) and not {"timestamp", "datetime"} & set(there):
        raise BarsError(f"{where}: has a column 'date' and a column 'time'; join them into one column 'timestamp'.")
    if not there or (_is_dated(frame.index) and there[0] != "timestamp"):
        return frame
    stamps = frame[there[0]]
    if isinstance(stamps, pd.DataFrame):
        raise BarsError(f"{where}: has the column {there[0]!r} more than once; keep one.")
    rest = frame.drop(columns="timestamp", errors="ignore").reset_index(drop=True)
    return rest.assign(timestamp=_read_times(stamps.reset_index(drop=True), where))


def _is_dated(index: pd.Index) -> bool:
    return isinstance(index, pd.DatetimeIndex)


def _single_header(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return `frame` with one level of columns: yfinance has a second one for the ticker."""
    if not isinstance(frame.columns, pd.MultiIndex):
        return frame
    for level in range(frame.columns.nlevels):
        names = [str(name).strip().lower() for name in frame.columns.get_level_values(level)]
        if set(COLUMNS) <= set(names):
            if len(set(names)) < len(names):
                raise BarsError(f"{where}: holds the bars of several symbols side by side; keep one of them.")
            return frame.set_axis(names, axis=1)
    return frame.set_axis(["_".join(map(str, name)) for name in frame.columns], axis=1)


def _drop_ticker_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` without the second and third header row of yfinance's CSV files: ``Ticker`` and ``Datetime``."""
    if len(frame) < 2 or frame.columns[0] != "Price" or frame.iloc[0, 0] != "Ticker":
        return frame
    return frame.iloc[2:].rename(columns={"Price": "timestamp"})


def _refuse_several_symbols(frame: pd.DataFrame, where: str) -> None:
    if list(frame.columns).count("symbol") != 1:
        return
    symbols = sorted({str(symbol) for symbol in frame["symbol"]})
    if len(symbols) > 1:
        raise BarsError(
            f"{where}: holds the bars of {len(symbols)} symbols ({', '.join(symbols[:5])}); keep the rows of one."
        )


def _read_times(column: pd.Series, where: str) -> pd.Series:
    """Return a column of text as dates, in UTC where every cell names its zone; other columns as they are."""
    if column.dtype.kind in "iufbM":  # numbers are nobody's clock, and dates are dates: make_bars judges both
        return column
    cells = pd.Series([str(cell) for cell in column])
    times = pd.to_datetime(cells, utc=True, format="ISO8601", errors="coerce")
    unread = times.isna().to_numpy()
    if unread.any():
        row = int(unread.argmax())
        raise BarsError(
            f"{where}: row {row} has {cells[row]!r} where a time such as 2024-01-31T15:00Z is due; repair or remove it."
        )
    zoned = cells.str.contains(ZONED)
    if zoned.all():
        return times
    if zoned.any():
        row = int((~zoned).to_numpy().argmax())
        raise BarsError(f"{where}: row {row} ({cells[row]}) has no time zone and others have; give every row its zone.")
    return times.dt.tz_localize(None)
