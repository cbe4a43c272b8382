"""Stretches: the runs of rows in which decisions are made, as arrays that a compiled program reads. NumPy only.

A stretch ``(start, stop)`` has its decisions at rows ``start .. stop - 2`` and its last mark at row ``stop - 1``.
The ``window - 1`` rows before `start` are its history. Rows outside every stretch are history, hole or padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jtf_env.errors import BarsError

Stretch = tuple[int, int]

ROW_FIELDS = ("features", "context", "open", "high", "low", "close", "tradable")
"""Fields of a market that are cut and padded row by row."""


class StretchRows(NamedTuple):
    """Where the stretches of a market lie: the fields of `jtf_env.market.Market` with these names."""

    segment_end: np.ndarray
    """``[T]`` int32, last row of the stretch that a row belongs to; -1 for a row in no stretch."""
    start_rows: np.ndarray
    """``[T]`` int32, rows at which an episode may start, in order of time; the rest repeats the last one."""
    num_starts: np.ndarray
    """``[]`` int32, how many of `start_rows` count."""
    next_start: np.ndarray
    """``[T]`` int32, first row of the stretch after a row's own, of the last one that of the first; else -1."""


class Cut(NamedTuple):
    """How to cut the rows of some stretches out of a market."""

    rows: slice
    """Rows to keep, history of the first stretch included."""
    padding: int
    """Rows to add after them."""
    marks: StretchRows
    """Of the market that results."""


def stretch_rows(stretches: Sequence[Stretch], num_rows: int) -> StretchRows:
    """Return the arrays of `stretches` in a market of `num_rows` rows."""
    segment_end, next_start = np.full((2, num_rows), -1, np.int32)
    for (start, stop), (following, _) in zip(stretches, [*stretches[1:], stretches[0]], strict=True):
        segment_end[start:stop], next_start[start:stop] = stop - 1, following
    starts = np.flatnonzero(np.arange(num_rows) < segment_end)
    start_rows = np.pad(starts, (0, num_rows - len(starts)), "edge").astype(np.int32)
    return StretchRows(segment_end, start_rows, np.array(len(starts), np.int32), next_start)


def cut_stretches(stretches: Sequence[Stretch], segment_end: np.ndarray, window: int, length: int | None = None) -> Cut:
    """Return how to cut `stretches` out of a market with these ``segment_end [T]``, padded to `length` rows.

    Raises `BarsError` where the stretches do not fit the market or see one another, or `length` is too short.
    """
    check_stretches(stretches, segment_end, window)
    rows = slice(stretches[0][0] - (window - 1), stretches[-1][1])
    num_rows = rows.stop - rows.start
    length = num_rows if length is None else length
    if length < num_rows:
        raise BarsError(f"a length of {length} rows is too short for these stretches; give at least {num_rows}.")
    moved = [(start - rows.start, stop - rows.start) for start, stop in stretches]
    return Cut(rows, length - num_rows, stretch_rows(moved, length))


def check_stretches(stretches: Sequence[Stretch], segment_end: np.ndarray, window: int) -> None:
    """Raise `BarsError` unless every stretch fits the market and none lies in the window of the next one."""
    if not stretches:
        raise BarsError("no stretch was given; give at least one (start, stop) pair of rows.")
    end_before = None
    for start, stop in stretches:
        if stop - start < 2:
            raise BarsError(f"segment {start}..{stop} holds fewer than two rows; one step needs two.")
        if not (0 <= start < len(segment_end) and stop - 1 <= segment_end[start]):
            inside = np.flatnonzero(segment_end >= 0)
            raise BarsError(
                f"segment {start}..{stop} does not fit a market of {len(segment_end)} bars whose decision bars are "
                f"{inside[0]}..{inside[-1]}; choose rows inside them, and inside one stretch of the market."
            )
        if end_before is not None and start - end_before < window - 1:
            raise BarsError(
                f"segment {start}..{stop} must start at row {end_before + window - 1} or later: the one before ends at "
                f"{end_before} and a window holds {window} rows."
            )
        end_before = stop
