"""Longer bars from shorter ones. NumPy and pandas only."""

from dataclasses import replace

import numpy as np
import pandas as pd

from jtf_env.bars import COLUMNS, Bars, BarsReport, make_bars
from jtf_env.errors import BarsError
from jtf_env.sessions import MINUTE, label_sessions, nanoseconds, scheduled_spans

RULES = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
"""What a long bar is of its short ones."""


def resample(bars: Bars, bar_minutes: int) -> Bars:
    """Return bars of `bar_minutes`: first open, highest high, lowest low, last close, total volume of the short ones.

    The long bars start on multiples of their length. One is left out, with a count in the report, unless every short
    bar scheduled in it is there. No bar crosses a session's open or close: where one would, it is made of the regular
    bars alone. Outside regular hours, where not every bar trades, those that did are enough.

    Raises
    ------
    BarsError
        Where the shorter length does not divide the longer one, or no long bar is complete.
    """
    where = bars.source or bars.symbol
    if bar_minutes % bars.bar_minutes:
        raise BarsError(f"{where}: bars of {bars.bar_minutes} minutes do not make bars of {bar_minutes}.")
    table = _short_bars(bars, bar_minutes)
    grouped = table.groupby("start")
    frame = grouped[list(COLUMNS)].agg(RULES)
    scheduled = _scheduled_parts(grouped["session_open"].first(), grouped["session_close"].first(), bars, bar_minutes)
    whole = np.asarray((grouped.size() == scheduled) | ~grouped["regular"].first())
    if not whole.any():
        raise BarsError(f"{where}: no {bar_minutes}-minute bar has all its {bars.bar_minutes}-minute bars.")
    long = make_bars(
        frame[whole],
        bars.symbol,
        asset_class=bars.asset_class,
        bar_minutes=bar_minutes,
        extended_hours=True,  # what is outside regular hours was dropped, or kept, before
        source=bars.source,
    )
    return replace(long, report=_merged_report(bars, long, int((~whole).sum())))


def _short_bars(bars: Bars, bar_minutes: int) -> pd.DataFrame:
    """Return the short bars to put together, each with the ``start`` of its long bar."""
    columns = {name: getattr(bars, name) for name in (*COLUMNS, "session_open", "session_close")}
    regular = label_sessions(bars.timestamps, bars.asset_class, bars.bar_minutes).regular
    start = bars.timestamps.floor(f"{bar_minutes}min")
    table = pd.DataFrame({**columns, "regular": regular, "start": start})
    return table[table["regular"] | ~table.groupby("start")["regular"].transform("any")]


def _scheduled_parts(session_open: pd.Series, session_close: pd.Series, bars: Bars, bar_minutes: int) -> np.ndarray:
    """Return how many short bars are scheduled in each long one, ``[L]``; the sessions are indexed by its start."""
    start = nanoseconds(pd.DatetimeIndex(session_open.index))
    first, stop = scheduled_spans(pd.DatetimeIndex(session_open), pd.DatetimeIndex(session_close), bars.bar_minutes)
    inside = np.minimum(start + bar_minutes * MINUTE, stop) - np.maximum(start, first)
    return inside // (bars.bar_minutes * MINUTE)


def _merged_report(short: Bars, long: Bars, incomplete: int) -> BarsReport:
    """Return the report of the rows as they came, with what is odd about the bars made of them."""
    found = long.report
    return replace(
        short.report,
        spacing_minutes=found.spacing_minutes,
        resampled_from=short.bar_minutes,
        incomplete_bins=incomplete,
        gaps=found.gaps,
        missing_sessions=found.missing_sessions,
        jumps=found.jumps,
        bad_ticks=found.bad_ticks,
        standstill=found.standstill,
        no_volume=found.no_volume,
    )
