"""Which bars nothing is trained or tested on, and what a reader of results should know about the others. No JAX."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from jtf.data.timeframes import TIMEFRAMES
from jtf_env.assets import ASSETS
from jtf_env.bars import Bars
from jtf_env.errors import BarsError

MOST_OUTSIDE = 0.20
"""Share of the rows outside the exchange's calendar beyond which the clock, or the asset class, is wrong."""
MOST_CUT_SESSIONS = 0.50
"""Share of the sessions without their opening (or closing) bar beyond which the clock is wrong."""
FEWEST_SESSIONS = 4
"""Sessions needed to judge that."""
MOST_INCOMPLETE = 0.20
"""Share of the bars that lack finer rows beyond which the source is too sparse to make bars of."""
LONGEST_STANDSTILL = 1_000
"""Bars at one single price that are no market."""
MOST_UNTRADABLE = 0.05
"""Share of untradable bars that is worth a note."""
MADE_SOURCES = ("synthetic", "known")
"""Sources of bars that were made, not traded: the built-in markets, and those of the learning checks."""
LOCAL = "likely local time labelled UTC; correct the time zone of the timestamps"


TIMEFRAME_NAMES = {minutes: name for name, minutes in TIMEFRAMES.items()}


def refuse_bars(bars: Bars, allow_jumps: bool = False) -> None:
    """Raise `BarsError` for bars that no result should be computed from.

    These are bars of another length than asked for, a clock that contradicts the exchange's calendar, prices that
    stand still and, unless `allow_jumps`, moves that look like unadjusted splits or bad ticks.
    """
    where = bars.source or bars.symbol
    _refuse_sparse_rows(bars, where)
    refuse_spacing(bars.report.spacing_minutes, bars.bar_minutes, where)
    _refuse_clock(bars, where)
    if bars.report.standstill >= LONGEST_STANDSTILL:
        raise BarsError(
            f"{where}: the price does not move over {bars.report.standstill:,} consecutive bars; "
            "remove that stretch, or take another source."
        )
    if not allow_jumps:
        _refuse_odd_prices(bars, where)


def refuse_spacing(spacing: float | None, bar_minutes: int, where: str) -> None:
    """Raise `BarsError` where consecutive rows mostly lie further apart than a bar is long."""
    if spacing is None or spacing <= bar_minutes:
        return
    fits = [name for name, minutes in TIMEFRAMES.items() if minutes == spacing]
    remedy = f"pass --timeframe {fits[0]}" if fits else f"take bars of {', '.join(TIMEFRAMES)}"
    raise BarsError(
        f"{where}: most rows lie {length(spacing)} apart and {bar_minutes}-minute bars are asked for; {remedy}, "
        "or take a finer source."
    )


def _refuse_sparse_rows(bars: Bars, where: str) -> None:
    """Raise `BarsError` where too many bars could not be made because finer rows are missing."""
    report = bars.report
    made = len(bars) + report.incomplete_bins
    if report.incomplete_bins > MOST_INCOMPLETE * made:
        raise BarsError(
            f"{where}: {report.incomplete_bins:,} of {made:,} bars lack some of their {report.resampled_from}-minute "
            f"rows; take {bars.bar_minutes}-minute bars from the source itself."
        )


def _refuse_clock(bars: Bars, where: str) -> None:
    """Raise `BarsError` for rows at times at which the exchange does not trade."""
    report, asset = bars.report, ASSETS[bars.asset_class]
    if asset.calendar is None:
        return
    outside, weekend = report.outside_calendar / report.rows, report.on_weekends / report.rows
    if outside > MOST_OUTSIDE or weekend > 0:
        crypto = "likely crypto read as an equity; pass --asset-class crypto"
        likely = crypto if weekend > MOST_OUTSIDE else f"{LOCAL}, or remove these rows"
        raise BarsError(
            f"{where}: {outside:.1%} of the rows lie outside the trading days of {asset.calendar}, 04:00-20:00 "
            f"{asset.timezone} ({report.on_weekends:,} rows on weekends), {likely}."
        )
    if report.sessions < FEWEST_SESSIONS:
        return
    judged = report.sessions - 1
    cut = MOST_CUT_SESSIONS * judged
    if report.sessions_without_open > cut:
        at_end = "likely bars stamped with their end; pass --stamps end"
        likely = at_end if report.sessions_past_close > cut else LOCAL
        raise BarsError(f"{where}: {report.sessions_without_open} of {judged} sessions lack the opening bar, {likely}.")
    if report.sessions_without_close > cut:
        raise BarsError(f"{where}: {report.sessions_without_close} of {judged} sessions lack the closing bar, {LOCAL}.")


def _refuse_odd_prices(bars: Bars, where: str) -> None:
    """Raise `BarsError` for the first jump or bad tick."""
    report = bars.report
    if report.jumps:
        time, before, after = report.jumps[0]
        raise BarsError(
            f"{where}: the price jumps from {before:g} to {after:g} at {time} ({counted(report.jumps, 'such move')}), "
            "likely an unadjusted split; adjust the prices, or pass --allow-jumps."
        )
    if report.bad_ticks:
        time, price = report.bad_ticks[0]
        raise BarsError(
            f"{where}: the bar at {time} has a price of {price:g}, far from the bars around it "
            f"({counted(report.bad_ticks, 'such bar')}), likely a bad tick; repair the bar, or pass --allow-jumps."
        )


def notes_on_bars(bars: Bars) -> list[str]:
    """Return what a reader of the results should know about the bars, as sentences."""
    report = bars.report
    missing = sum(gap[2] for gap in report.gaps)
    limit = ASSETS[bars.asset_class].jump_limit
    untradable = (~bars.tradable).mean()
    sessions = report.missing_sessions
    unnamed = f" and {len(sessions) - 5} more." if len(sessions) > 5 else "."
    found: list[tuple[Any, str]] = [
        (
            report.resampled_from,
            f"{bars.bar_minutes}-minute bars made of {report.resampled_from}-minute rows.",
        ),
        (report.incomplete_bins, f"Bars left out because finer rows are missing: {report.incomplete_bins:,}."),
        (report.dropped_after_close, f"Bars dropped after an early close: {report.dropped_after_close:,}."),
        (
            report.dropped_extended_hours,
            f"Bars dropped outside regular hours: {report.dropped_extended_hours:,} (--extended-hours keeps them).",
        ),
        (report.dropped_no_session, f"Bars dropped on days without a session: {report.dropped_no_session:,}."),
        (report.gaps, f"Holes inside sessions: {len(report.gaps):,}, {missing:,} bars; nothing was filled in."),
        (sessions, f"Scheduled sessions without bars: {', '.join(sessions[:5])}{unnamed}"),
        (report.jumps, f"Moves from bar to bar beyond {limit:.0%}, allowed: {len(report.jumps):,}."),
        (report.bad_ticks, f"Bars with a price that looks like a bad tick, allowed: {len(report.bad_ticks):,}."),
        (untradable > MOST_UNTRADABLE, f"Untradable bars: {untradable:.0%}; orders on them are dropped."),
        (report.no_volume, "Every volume is 0, so halts are unknown and every bar counts as traded."),
    ]
    return [sentence for present, sentence in found if present]


def is_made(bars: Bars) -> bool:
    """Whether bars were made, not traded."""
    return bars.source in MADE_SOURCES


def is_synthetic(record: Mapping[str, Any]) -> bool:
    """Return the same of the `bars_record` of bars."""
    return bool(record["kind"] == "synthetic")


def bars_record(bars: Bars, sha256: str) -> dict[str, Any]:
    """Return what identifies bars in the files of a run, and what was noticed in them."""
    return {
        "kind": "synthetic" if is_made(bars) else "file",
        "source": bars.source,
        "bars": len(bars),
        "bar_minutes": bars.bar_minutes,
        "asset_class": bars.asset_class,
        "timezone": bars.timezone,
        "start": bars.timestamps[0].isoformat(),
        "end": bars.timestamps[-1].isoformat(),
        "sha256": sha256,
        "bars_per_year": bars.bars_per_year,
        "half_days": half_days(bars),
        "untradable": int((~bars.tradable).sum()),
        "report": asdict(bars.report),
    }


def half_days(bars: Bars) -> int:
    """Return how many sessions with a bar are scheduled to be shorter than the longest one."""
    lengths = pd.Series(bars.session_close - bars.session_open).groupby(bars.session_ids).first()
    return int((lengths < lengths.max()).sum())


def length(minutes: float) -> str:
    """Return a length of time in words, from minutes."""
    for name, size in (("day", 1440), ("hour", 60), ("minute", 1)):
        if minutes >= size and minutes % size == 0:
            return f"{minutes / size:g} {name}{'s' if minutes > size else ''}"
    return f"{minutes * 60:g} seconds"


def counted(found: tuple[Any, ...], name: str) -> str:
    """Return how many there are, in words: ``1 such bar``, ``3 such bars``."""
    return f"{len(found):,} {name}{'s' if len(found) > 1 else ''}"
