"""Rolling statistics, recursions and TA-Lib's indicators in NumPy float64, written like the textbook.

Arrays are ``[T]``. NaN marks a row that is not measured: too early, or a denominator that vanishes. Every
value at row `i` is a function of rows `<= i` and is bitwise independent of how many rows follow.
"""

from collections.abc import Callable

import numpy as np

from jtf_env import constants as const
from jtf_env.constants import PRICE_STD_FLOOR, RETURN_STD_FLOOR

ROWS_AT_ONCE = 4096
"""Rows of the window view copied at a time, so that memory stays at a few megabytes."""

Statistic = Callable[[np.ndarray], np.ndarray]


def rolling(values: np.ndarray, window: int, statistic: Statistic) -> np.ndarray:
    """Apply `statistic` (``[n, window] -> [n]``) to the last `window` values of every row; NaN before.

    Rows are copied into contiguous blocks first: NumPy's summation order then depends on the window alone,
    not on the length of the series.
    """
    result = np.full(len(values), np.nan)
    if len(values) < window:
        return result
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    for first in range(0, len(windows), ROWS_AT_ONCE):
        block = np.ascontiguousarray(windows[first : first + ROWS_AT_ONCE])
        result[first + window - 1 : first + window - 1 + len(block)] = statistic(block)
    return result


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values, ``[T]``."""
    return rolling(values, window, lambda block: block.mean(axis=-1))


def return_std(returns: np.ndarray, window: int) -> np.ndarray:
    """Sample standard deviation (two passes) of the last `window` returns, ``[T]``; 0 where they are flat."""
    std = rolling(returns, window, lambda block: block.std(axis=-1, ddof=1))
    return np.where(std < RETURN_STD_FLOOR, 0.0, std)


def price_std(prices: np.ndarray, window: int, ddof: int) -> np.ndarray:
    """Return the two-pass standard deviation of the last `window` prices, USD, ``[T]``; 0 where flat."""
    std = rolling(prices, window, lambda block: block.std(axis=-1, ddof=ddof))
    return np.where(std < PRICE_STD_FLOOR * np.abs(rolling_mean(prices, window)), 0.0, std)


def garman_klass(open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, window: int) -> np.ndarray:
    """Volatility a bar of Garman and Klass (1980) over the last `window` bars, a fraction, ``[T]``."""
    body, span = np.log(close / open_), np.log(high / low)
    mean_square = rolling_mean(0.5 * np.square(span) - const.GARMAN_KLASS_CLOSE * np.square(body), window)
    return np.sqrt(np.where(mean_square < 0.0, 0.0, mean_square))


def rolling_max(values: np.ndarray, window: int) -> np.ndarray:
    """Largest of the last `window` values, ``[T]``."""
    return rolling(values, window, lambda block: block.max(axis=-1))


def rolling_min(values: np.ndarray, window: int) -> np.ndarray:
    """Smallest of the last `window` values, ``[T]``."""
    return rolling(values, window, lambda block: block.min(axis=-1))


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is exactly 0 (or NaN)."""
    result = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def previous(values: np.ndarray, bars: int) -> np.ndarray:
    """Values `bars` rows earlier, NaN before."""
    return np.concatenate([np.full(bars, np.nan), values])[: len(values)]


def smooth(values: np.ndarray, alpha: float, first: int, seed: float) -> np.ndarray:
    """Recursion ``y[first] = seed``, ``y[i] = y[i-1] + alpha (x[i] - y[i-1])``; NaN before `first`."""
    result = np.full(len(values), np.nan)
    if len(values) <= first:
        return result
    level = seed
    smoothed = [level]
    for value in values[first + 1 :].tolist():
        level += alpha * (value - level)
        smoothed.append(level)
    result[first:] = smoothed
    return result


def ema(values: np.ndarray, period: int, first: int) -> np.ndarray:
    """Exponential mean (TA-Lib EMA), alpha ``2 / (period + 1)``.

    The seed at row `first` is the mean of the `period` rows that end there.
    """
    seed = values[first - period + 1 : first + 1].sum() / period
    return smooth(values, 2.0 / (period + 1.0), first, float(seed))


def wilder(values: np.ndarray, period: int, first: int) -> np.ndarray:
    """Wilder's mean, alpha ``1 / period``; the seed at row `first` is the mean of `period` rows."""
    seed = values[first - period + 1 : first + 1].sum() / period
    return smooth(values, 1.0 / period, first, float(seed))


def rsi(close: np.ndarray, period: int) -> np.ndarray:
    """Wilder's relative strength index in [0, 1] (TA-Lib RSI / 100); NaN while no price has moved."""
    change = np.diff(close, prepend=close[0])
    gain = wilder(np.maximum(change, 0.0), period, first=period)
    loss = wilder(np.maximum(-change, 0.0), period, first=period)
    return divide(gain, gain + loss)


def macd(
    close: np.ndarray, fast: int = const.MACD_FAST, slow: int = const.MACD_SLOW, signal: int = const.MACD_SIGNAL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line, signal and histogram (TA-Lib MACD): both means start where the slow one can."""
    line = ema(close, fast, first=slow - 1) - ema(close, slow, first=slow - 1)
    signal_line = ema(line, signal, first=slow + signal - 2)
    return line, signal_line, line - signal_line


def true_range(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Largest of high - low and the distances of both from the close before; 0 in row 0."""
    before = previous(close, 1)
    ranges = np.maximum(high - low, np.maximum(np.abs(high - before), np.abs(low - before)))
    ranges[0] = 0.0
    return ranges


def atr(high: np.ndarray, low: np.ndarray, close: np.ndarray, period: int = const.ATR_PERIOD) -> np.ndarray:
    """Average true range, USD (TA-Lib ATR): Wilder's mean of the true range from row 1 on."""
    return wilder(true_range(high, low, close), period, first=period)


def adx(high: np.ndarray, low: np.ndarray, close: np.ndarray, period: int = const.ADX_PERIOD) -> np.ndarray:
    """Average directional index in [0, 1] (TA-Lib ADX / 100).

    Wilder's sums start from `period` - 1 bars, as in TA-Lib; here they are divided by `period`, which cancels
    in the directional indicators. The directional index counts as 0 where neither direction has moved yet.
    """
    up = np.diff(high, prepend=high[0])
    down = -np.diff(low, prepend=low[0])
    moves = (
        np.where((up > down) & (up > 0), up, 0.0),
        np.where((down > up) & (down > 0), down, 0.0),
        true_range(high, low, close),
    )
    plus, minus, ranges = (
        smooth(move, 1.0 / period, period - 1, float(move[1:period].sum()) / period) for move in moves
    )
    plus_di, minus_di = divide(plus, ranges), divide(minus, ranges)
    directional = divide(np.abs(plus_di - minus_di), plus_di + minus_di)
    directional[np.isnan(directional)] = 0.0
    return wilder(directional, period, first=2 * period - 1)


def range_position(close: np.ndarray, high: np.ndarray, low: np.ndarray, window: int) -> np.ndarray:
    """Where the close lies between the window's lowest low (0) and highest high (1); NaN if equal."""
    lowest = rolling_min(low, window)
    return divide(close - lowest, rolling_max(high, window) - lowest)


def cci(high: np.ndarray, low: np.ndarray, close: np.ndarray, period: int = const.CCI_PERIOD) -> np.ndarray:
    """Commodity channel index (TA-Lib CCI); NaN where the mean deviation is rounding only."""
    typical = (high + low + close) / 3.0
    mean = rolling_mean(typical, period)
    deviation = rolling(typical, period, lambda block: np.abs(block - block.mean(axis=-1, keepdims=True)).mean(axis=-1))
    deviation = np.where(deviation < PRICE_STD_FLOOR * np.abs(mean), 0.0, deviation)
    return divide(typical - mean, const.CCI_FACTOR * deviation)


def stochastic(
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    period: int = const.STOCHASTIC_PERIOD,
    smoothing: int = const.STOCHASTIC_SMOOTHING,
) -> tuple[np.ndarray, np.ndarray]:
    """Slow %K and %D in [0, 1] (TA-Lib STOCH / 100, simple means); raw %K is 0.5 where the range vanishes."""
    raw = range_position(close, high, low, period)
    raw[np.isnan(raw)] = const.MIDDLE
    slow_k = rolling_mean(raw, smoothing)
    return slow_k, rolling_mean(slow_k, smoothing)


def bollinger(
    close: np.ndarray, period: int = const.BOLLINGER_PERIOD, width: float = const.BOLLINGER_WIDTH
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower, middle and upper band, USD (TA-Lib BBANDS, population deviation); NaN where flat."""
    std = price_std(close, period, ddof=0)
    middle = np.where(std > 0.0, rolling_mean(close, period), np.nan)
    return middle - width * std, middle, middle + width * std
