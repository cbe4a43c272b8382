"""Longer bars from shorter ones. NumPy and pandas only."""

from dataclasses import replace

import numpy as np
import pandas as pd

from jtf_env.bars import Bars, BarsReport, make_bars
from jtf_env.errors import BarsError
from jtf_env.sessions import MINUTE, label_sessions, nanoseconds


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
    long_bar, short_bar = bar_minutes * MINUTE, bars.bar_minutes * MINUTE
    regular = label_sessions(bars.timestamps, bars.asset_class, bars.bar_minutes).regular
    starts = nanoseconds(bars.timestamps)
    bins = starts // long_bar
    is_first = np.diff(bins, prepend=bins[:1] - 1) != 0
    bin_of_bar = np.cumsum(is_first) - 1
    has_regular = np.logical_or.reduceat(regular, np.flatnonzero(is_first))
    rows = np.flatnonzero(regular | ~has_regular[bin_of_bar])

    bins = bins[rows]
    first = np.flatnonzero(np.diff(bins, prepend=bins[:1] - 1))
    count = np.diff(np.append(first, len(rows)))
    at = rows[first]
    opens = nanoseconds(bars.session_open)[at] // short_bar * short_bar
    closes = -(-nanoseconds(bars.session_close)[at] // short_bar) * short_bar
    begin = bins[first] * long_bar
    scheduled = (np.minimum(begin + long_bar, closes) - np.maximum(begin, opens)) // short_bar
    whole = (count == scheduled) | ~has_regular
    if not whole.any():
        raise BarsError(f"{where}: no {bar_minutes}-minute bar has all its {bars.bar_minutes}-minute bars.")
    frame = pd.DataFrame(
        {
            "open": bars.open[at],
            "high": np.maximum.reduceat(bars.high[rows], first),
            "low": np.minimum.reduceat(bars.low[rows], first),
            "close": bars.close[rows[np.append(first[1:], len(rows)) - 1]],
            "volume": np.add.reduceat(bars.volume[rows], first),
        },
        index=pd.DatetimeIndex(begin, tz="UTC"),
    )[whole]
    long = make_bars(
        frame,
        bars.symbol,
        asset_class=bars.asset_class,
        bar_minutes=bar_minutes,
        extended_hours=True,  # what is outside regular hours was dropped, or kept, before
        source=bars.source,
    )
    return replace(long, report=_merged_report(bars, long, int((~whole).sum())))


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
