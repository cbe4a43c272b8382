"""Rolling statistics, recursions and TA-Lib's indicators in NumPy float64, written like the textbook.

Arrays are ``[T]``. NaN marks a row that is not measured: too early, or a denominator that vanishes. Every value at row
`i` is a function of rows `<= i` and is bitwise independent of how many rows follow. `past` looks back, over whole
series or bar by bar (`jtf_env.mirror.past`).
"""

import numpy as np

from jtf_env import constants as const
from jtf_env.constants import PRICE_STD_FLOOR, RETURN_STD_FLOOR
from jtf_env.mirror.past import Past


def mean_of(block: np.ndarray) -> np.ndarray:
    """Mean of every row of ``block [n, window]``, ``[n]``."""
    return np.add.reduce(block, axis=-1) / block.shape[-1]


def std_of(block: np.ndarray, ddof: int) -> np.ndarray:
    """Return the standard deviation (two passes) of every row of ``block [n, window]``, ``[n]``."""
    moved = block - mean_of(block)[:, None]
    return np.sqrt(np.add.reduce(moved * moved, axis=-1) / (block.shape[-1] - ddof))


def deviation_of(block: np.ndarray) -> np.ndarray:
    """Mean absolute deviation of every row of ``block [n, window]``, ``[n]``."""
    return mean_of(np.abs(block - mean_of(block)[:, None]))


def rolling_mean(past: Past, values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values, ``[T]``."""
    return past.rolling(values, window, mean_of)


def return_std(past: Past, returns: np.ndarray, window: int) -> np.ndarray:
    """Sample standard deviation (two passes) of the last `window` returns, ``[T]``; 0 where they are flat."""
    std = past.rolling(returns, window, lambda block: std_of(block, 1))
    return np.where(std < RETURN_STD_FLOOR, 0.0, std)


def price_mean_std(past: Past, prices: np.ndarray, window: int, ddof: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and two-pass deviation of the last `window` prices, USD, ``[T]``; the deviation is 0 where flat."""
    mean = rolling_mean(past, prices, window)
    std = past.rolling(prices, window, lambda block: std_of(block, ddof))
    return mean, np.where(std < PRICE_STD_FLOOR * np.abs(mean), 0.0, std)


def garman_klass(
    past: Past, open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, window: int
) -> np.ndarray:
    """Volatility a bar of Garman and Klass (1980) over the last `window` bars, a fraction, ``[T]``."""
    body, span = np.log(close / open_), np.log(high / low)
    mean_square = rolling_mean(past, 0.5 * np.square(span) - const.GARMAN_KLASS_CLOSE * np.square(body), window)
    return np.sqrt(np.where(mean_square < 0.0, 0.0, mean_square))


def rolling_max(past: Past, values: np.ndarray, window: int) -> np.ndarray:
    """Largest of the last `window` values, ``[T]``."""
    return past.rolling(values, window, lambda block: np.maximum.reduce(block, axis=-1))


def rolling_min(past: Past, values: np.ndarray, window: int) -> np.ndarray:
    """Smallest of the last `window` values, ``[T]``."""
    return past.rolling(values, window, lambda block: np.minimum.reduce(block, axis=-1))


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is exactly 0 (or NaN)."""
    return numerator / np.where(denominator == 0, np.nan, denominator)


def change(past: Past, values: np.ndarray) -> np.ndarray:
    """Move from the row before, 0 in row 0, ``[T]``."""
    moved = values - past.previous(values, 1)
    return np.where(np.isnan(moved), 0.0, moved)


def ema(past: Past, values: np.ndarray, period: int, first: int) -> np.ndarray:
    """Exponential mean (TA-Lib EMA), alpha ``2 / (period + 1)``.

    The seed at row `first` is the mean of the `period` rows that end there.
    """
    return past.smooth(values, 2.0 / (period + 1.0), first, slice(first - period + 1, first + 1), period)


def wilder(past: Past, values: np.ndarray, period: int, first: int) -> np.ndarray:
    """Wilder's mean, alpha ``1 / period``; the seed at row `first` is the mean of `period` rows."""
    return past.smooth(values, 1.0 / period, first, slice(first - period + 1, first + 1), period)


def rsi(past: Past, close: np.ndarray, period: int) -> np.ndarray:
    """Wilder's relative strength index in [0, 1] (TA-Lib RSI / 100); NaN while no price has moved."""
    moved = change(past, close)
    gain = wilder(past, np.maximum(moved, 0.0), period, first=period)
    loss = wilder(past, np.maximum(-moved, 0.0), period, first=period)
    return divide(gain, gain + loss)


def macd(
    past: Past,
    close: np.ndarray,
    fast: int = const.MACD_FAST,
    slow: int = const.MACD_SLOW,
    signal: int = const.MACD_SIGNAL,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line, signal and histogram (TA-Lib MACD): both means start where the slow one can."""
    line = ema(past, close, fast, first=slow - 1) - ema(past, close, slow, first=slow - 1)
    signal_line = ema(past, line, signal, first=slow + signal - 2)
    return line, signal_line, line - signal_line


def true_range(past: Past, high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Largest of high - low and the distances of both from the close before; 0 in row 0."""
    before = past.previous(close, 1)
    ranges = np.maximum(high - low, np.maximum(np.abs(high - before), np.abs(low - before)))
    return np.where(np.isnan(before), 0.0, ranges)


def atr(past: Past, ranges: np.ndarray, period: int = const.ATR_PERIOD) -> np.ndarray:
    """Average true range, USD (TA-Lib ATR): Wilder's mean of the true ``ranges [T]`` from row 1 on."""
    return wilder(past, ranges, period, first=period)


def adx(
    past: Past, high: np.ndarray, low: np.ndarray, ranges: np.ndarray, period: int = const.ADX_PERIOD
) -> np.ndarray:
    """Average directional index in [0, 1] (TA-Lib ADX / 100), from the true ``ranges [T]``.

    Wilder's sums start from `period` - 1 bars, as in TA-Lib; here they are divided by `period`, which cancels
    in the directional indicators. The directional index counts as 0 where neither direction has moved yet.
    """
    up, down = change(past, high), -change(past, low)
    moves = (
        np.where((up > down) & (up > 0), up, 0.0),
        np.where((down > up) & (down > 0), down, 0.0),
        ranges,
    )
    plus, minus, mean_range = (past.smooth(move, 1.0 / period, period - 1, slice(1, period), period) for move in moves)
    plus_di, minus_di = divide(plus, mean_range), divide(minus, mean_range)
    directional = divide(np.abs(plus_di - minus_di), plus_di + minus_di)
    directional[np.isnan(directional)] = 0.0
    return wilder(past, directional, period, first=2 * period - 1)


def range_position(past: Past, close: np.ndarray, high: np.ndarray, low: np.ndarray, window: int) -> np.ndarray:
    """Where the close lies between the window's lowest low (0) and highest high (1); NaN if equal."""
    lowest = rolling_min(past, low, window)
    return divide(close - lowest, rolling_max(past, high, window) - lowest)


def cci(past: Past, high: np.ndarray, low: np.ndarray, close: np.ndarray, period: int = const.CCI_PERIOD) -> np.ndarray:
    """Commodity channel index (TA-Lib CCI); NaN where the mean deviation is rounding only."""
    typical = (high + low + close) / 3.0
    mean = rolling_mean(past, typical, period)
    deviation = past.rolling(typical, period, deviation_of)
    deviation = np.where(deviation < PRICE_STD_FLOOR * np.abs(mean), 0.0, deviation)
    return divide(typical - mean, const.CCI_FACTOR * deviation)


def stochastic(
    past: Past,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    period: int = const.STOCHASTIC_PERIOD,
    smoothing: int = const.STOCHASTIC_SMOOTHING,
) -> tuple[np.ndarray, np.ndarray]:
    """Slow %K and %D in [0, 1] (TA-Lib STOCH / 100, simple means); raw %K is 0.5 where the range vanishes."""
    raw = range_position(past, close, high, low, period)
    raw[np.isnan(raw)] = const.MIDDLE
    slow_k = rolling_mean(past, raw, smoothing)
    return slow_k, rolling_mean(past, slow_k, smoothing)


def bollinger(
    past: Past, close: np.ndarray, period: int = const.BOLLINGER_PERIOD, width: float = const.BOLLINGER_WIDTH
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower, middle and upper band, USD (TA-Lib BBANDS, population deviation); NaN where flat."""
    mean, std = price_mean_std(past, close, period, ddof=0)
    middle = np.where(std > 0.0, mean, np.nan)
    return middle - width * std, middle, middle + width * std
