"""Markets seen in 15-minute bars and in hourly bars made of them: the same segments, the same money.

Axes: `[T]` bars, `[H]` hourly bars.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from benchmarks.phases import CRYPTO_BARS_PER_YEAR
from jtf.data import load_bars
from jtf.known_optimum.markets import HOURLY_COLUMN, distract_columns, known_market
from jtf.splits import Fold, Segment, SplitConfig, embargo_bars, split
from jtf_env.bars import Bars
from jtf_env.layouts import DEFAULT_WINDOW, get_layout
from jtf_env.market import Market, build_market, fold_market, scale_market
from jtf_env.params import EnvParams, make_params
from jtf_env.resample import resample
from jtf_env.scaler import fit_scaler
from jtf_env.sessions import HOUR, nanoseconds

KNOWN = "hourly"
ALONE, BROADCAST = "v5.5.0", "v5.6.0"
SEGMENTS = ("train", "validation", "test")
PER_HOUR = 4


def last_completed_hour(bars: Bars, hourly: Bars) -> np.ndarray:
    """Return ``[T]`` the row of the last hourly bar that ended when a bar starts, -1 where none has.

    The rule of the hourly context (`hour_visibility` previous). An hourly bar ends a clock hour after its stamp.
    """
    return np.searchsorted(nanoseconds(hourly.timestamps) + HOUR, nanoseconds(bars.timestamps), side="right") - 1


def rows_back(last: np.ndarray, window: int) -> np.ndarray:
    """Return ``[T, W]`` int32: how many rows ago each of the last `window` hours was first seen, the newest one first.

    `last` is `last_completed_hour`. All are zero where fewer hours have been.
    """
    hours = last[:, None] - np.arange(window)[None, :]
    first_seen = np.searchsorted(last, np.arange(last[-1] + 1), side="left")
    assert np.diff(first_seen).min(initial=2) >= 2, "an hour must be the last one for two bars at least"
    back = np.arange(len(last))[:, None] - first_seen[np.maximum(hours, 0)]
    return np.where(hours[:, -1:] >= 0, back, 0).astype(np.int32)


@dataclass(frozen=True, eq=False)
class TwoTimeframes:
    """A market in both bar lengths."""

    bars: Bars
    last: np.ndarray
    """``[T]`` `last_completed_hour`."""
    natural: dict[str, Market]
    """Float64 markets of the 15-minute bars by layout: 51 columns, and 58 with the hourly context."""
    hourly: Market
    """The same of the hourly bars, 51 columns."""
    params: EnvParams
    bars_per_year: float
    """Of 15 minutes."""
    long_run: bool
    """Whether columns are divided by their deviation in the long run."""
    fold: Fold
    """Of the 15-minute bars; no window of either bar length reaches into the segment before."""
    units: tuple[float, ...]
    """What the log growth of each of `SEGMENTS` is divided by to be its score."""

    @property
    def hourly_fold(self) -> Fold:
        """The hours that the bars of each segment see last."""

        def hours(part: Segment) -> Segment:
            return Segment(int(self.last[part.start]), int(self.last[part.stop - 1]) + 1)

        return Fold(tuple(map(hours, self.fold.train)), hours(self.fold.validation), hours(self.fold.test))

    @cached_property
    def priced(self) -> tuple[Market, ...]:
        """The market of each of `SEGMENTS`, to be traded: its columns mean nothing."""
        market = self.natural[ALONE]
        scaler = fit_scaler(np.asarray(market.features), np.asarray(market.context))
        scaled = scale_market(market, scaler)
        return tuple(fold_market(scaled, [(part.start, part.stop)]) for part in segments(self.fold))


def segments(fold: Fold) -> tuple[Segment, ...]:
    """Return the only training stretch, validation and test."""
    (train,) = fold.train
    return train, fold.validation, fold.test


def first_bar_and_embargo(bars: Bars, last: np.ndarray) -> tuple[int, int]:
    """Return the first bar with a full, warm window of hours behind it, and the bars to leave out between segments.

    No window of 100 hours, nor of 100 bars, then holds a bar of the segment before.
    """
    first = int(np.searchsorted(last, get_layout(ALONE).first_bar()))
    reach = int(rows_back(last, DEFAULT_WINDOW)[first:].max()) + PER_HOUR
    return first, embargo_bars(reach, bars.bar_minutes)


def by_layout(market: Market) -> dict[str, Market]:
    """Return a market of `BROADCAST`, and the same without its context, by layout."""
    return {ALONE: replace(market, context=market.context[:, :0], layout=get_layout(ALONE)), BROADCAST: market}


@cache
def known_two_timeframes(seed: int, segment_bars: tuple[int, int, int]) -> TwoTimeframes:
    """Return the known *hourly* market of a seed with so many bars for train, validation and test.

    The columns of its hourly bars are made as those of its 15-minute bars: the return is real, the others are
    distractors of unit deviation. Scores are shares of the optimum on the same bars.
    """
    first = PER_HOUR * (get_layout(ALONE).first_bar() + 1)
    embargo = embargo_bars(PER_HOUR * (DEFAULT_WINDOW + 1))
    starts = first + np.cumsum([0, *segment_bars[:2]]) + embargo * np.arange(3)
    parts = [Segment(int(start), int(start) + length) for start, length in zip(starts, segment_bars, strict=True)]
    known = known_market(KNOWN, parts[-1].stop, seed, BROADCAST, unseen_bars=2)
    bars = known.bars
    hourly_bars = resample(bars, 60)
    hourly = build_market(hourly_bars, ALONE, dtype=jnp.float64)
    return TwoTimeframes(
        bars,
        last_completed_hour(bars, hourly_bars),
        by_layout(known.natural),
        distract_columns(np.random.default_rng([6, seed]), hourly, HOURLY_COLUMN),
        known.params,
        CRYPTO_BARS_PER_YEAR,
        long_run=False,
        fold=Fold((parts[0],), *parts[1:]),
        units=tuple(known.net_log_return(known.optimum_actions(part), part) for part in parts),
    )


@cache
def real_two_timeframes(symbol: str, folder: Path, free: bool = False) -> TwoTimeframes:
    """Return real bars, split in the shares of `jtf.train`, at the costs of their asset class, or `free` of the fee.

    Scores are log growth a 1 000 bars.
    """
    bars = load_bars(symbol, folder)
    hourly_bars = resample(bars, 60)
    last = last_completed_hour(bars, hourly_bars)
    first, embargo = first_bar_and_embargo(bars, last)
    fold = split(len(bars), first, DEFAULT_WINDOW, SplitConfig(embargo=embargo), bars.bar_minutes)
    return TwoTimeframes(
        bars,
        last,
        by_layout(build_market(bars, BROADCAST, dtype=jnp.float64)),
        build_market(hourly_bars, ALONE, dtype=jnp.float64),
        make_params(bars.asset_class, **({"fee": 0.0} if free else {})),
        bars.bars_per_year,
        long_run=True,
        fold=fold,
        units=tuple(len(part) / 1000 for part in segments(fold)),
    )
