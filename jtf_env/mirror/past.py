"""The operators that look back: over whole series, or bar by bar with what they must remember.

Every column is written once, in terms of three operators: a value some bars earlier, a statistic of the last `W`
values, and a recursion. `Past` applies them to series ``[T]`` and leaves, for every use in turn, what the next bar
needs. `Live` goes on from there: the same columns, asked with arrays of one new bar ``[1]``, meet the same numbers in
the same order, so they are bitwise those of the longer series. NumPy alone.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

ROWS_AT_ONCE = 4096
"""Rows of the window view copied at a time, so that memory stays at a few megabytes."""
SPARE = 512
"""Bars a `Tail` takes before it moves its values to the front of its buffer."""

Statistic = Callable[[np.ndarray], np.ndarray]
State = tuple[float, ...]
Step = Callable[..., State]


class Tail:
    """The last `length` values of a growing series, contiguous."""

    def __init__(self, values: np.ndarray, length: int) -> None:
        self._buffer = np.full(length + SPARE, np.nan)
        self._length, self._end = length, length
        kept = values[-length:]
        self._buffer[length - len(kept) : length] = kept

    def push(self, value: np.ndarray) -> None:
        """Append ``value [1]``."""
        if self._end == len(self._buffer):
            self._buffer[: self._length] = self._buffer[-self._length :]
            self._end = self._length
        self._buffer[self._end] = value[0]
        self._end += 1

    @property
    def values(self) -> np.ndarray:
        """``[length]``, oldest first; NaN before the first value."""
        return self._buffer[self._end - self._length : self._end]


class Past:
    """The operators over whole series ``[T]``. NaN marks a row that is too early to be measured."""

    def __init__(self) -> None:
        self.memory: list[Any] = []
        """What each use of an operator leaves for the next bar, in the order of use."""
        self._known: dict[Hashable, Any] = {}

    def once(self, name: Hashable, compute: Callable[[], Any]) -> Any:
        """Return `compute()`; the same `name` is computed once per series, or per bar."""
        if name not in self._known:
            self._known[name] = compute()
        return self._known[name]

    def cold(self, values: np.ndarray, warmup: int | np.ndarray) -> np.ndarray:
        """Return bool: whether a row of the series ``values [T]`` is one of the first `warmup`.

        ``[T]`` for one number, ``[k, T]`` for ``warmup [k, 1]``.
        """
        return np.arange(len(values)) < warmup

    def previous(self, values: np.ndarray, bars: int) -> np.ndarray:
        """Return the values `bars` rows earlier, NaN before."""
        self.memory.append(Tail(values, bars))
        return np.concatenate([np.full(bars, np.nan), values])[: len(values)]

    def rolling(self, values: np.ndarray, window: int, statistic: Statistic) -> np.ndarray:
        """Apply `statistic` (``[n, window] -> [n]``) to the last `window` values of every row; NaN before.

        Rows are copied into contiguous blocks first: NumPy's summation order then depends on the window alone, not on
        the length of the series.
        """
        self.memory.append(Tail(values, window))
        result = np.full(len(values), np.nan)
        if len(values) < window:
            return result
        windows = np.lib.stride_tricks.sliding_window_view(values, window)
        for first in range(0, len(windows), ROWS_AT_ONCE):
            block = np.ascontiguousarray(windows[first : first + ROWS_AT_ONCE])
            result[first + window - 1 : first + window - 1 + len(block)] = statistic(block)
        return result

    def scan(self, step: Step, state: State, *columns: np.ndarray) -> np.ndarray:
        """Return the states ``[T, k]`` of the recursion ``state = step(state, *row)`` from `state` before row 0."""
        states = []
        for row in zip(*(column.tolist() for column in columns), strict=True):
            state = step(state, *row)
            states.append(state)
        self.memory.append(state)
        return np.array(states)

    def smooth(self, values: np.ndarray, alpha: float, first: int, seed: slice, period: int) -> np.ndarray:
        """Return ``y[i] = y[i-1] + alpha (x[i] - y[i-1])``, NaN before row `first`.

        ``y[first]`` is the sum of the rows `seed`, divided by `period`.
        """
        result = np.full(len(values), np.nan)
        level = float(values[seed].sum() / period)
        smoothed = [level]
        for value in values[first + 1 :].tolist():
            level += alpha * (value - level)
            smoothed.append(level)
        result[first:] = smoothed[: len(values) - first] if len(values) > first else []
        self.memory.append(level)
        return result


class Live(Past):
    """The operators for the next bar, ``[1]``; `begin` each one. Columns must be asked in the order of the series.

    `memory` must be that of a series on which every column was warm: nothing here is ever too early.
    """

    def __init__(self, memory: Sequence[Any]) -> None:
        super().__init__()
        self.memory = list(memory)
        self._place = 0

    def begin(self) -> None:
        """Go on to the next bar."""
        self._place = 0
        self._known.clear()

    def cold(self, values: np.ndarray, warmup: int | np.ndarray) -> np.ndarray:
        """Return ``[1]`` False: it never is."""
        return np.zeros(1, bool)

    def previous(self, values: np.ndarray, bars: int) -> np.ndarray:
        """Return the value `bars` bars earlier, ``[1]``."""
        tail = self._next()
        before = tail.values[:1].copy()
        tail.push(values)
        return before

    def rolling(self, values: np.ndarray, window: int, statistic: Statistic) -> np.ndarray:
        """Return the statistic of the last `window` values, ``[1]``."""
        tail = self._next()
        tail.push(values)
        return statistic(tail.values[None])

    def scan(self, step: Step, state: State, *columns: np.ndarray) -> np.ndarray:
        """Return the next state, ``[1, k]``; `state` is not read."""
        place = self._place
        following = step(self._next(), *(column.item() for column in columns))
        self.memory[place] = following
        return np.array([following])

    def smooth(self, values: np.ndarray, alpha: float, first: int, seed: slice, period: int) -> np.ndarray:
        """Return the next value, ``[1]``; the seed is not read."""
        place, level = self._place, self._next()
        level += alpha * (values.item() - level)
        self.memory[place] = level
        return np.array([level])

    def _next(self) -> Any:
        self._place += 1
        return self.memory[self._place - 1]
