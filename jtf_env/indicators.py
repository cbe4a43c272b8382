"""JAX kernels over one series ``[T]``: rolling windows, recursions, and TA-Lib's indicators built on them.

Every kernel is causal: row `i` is computed from rows `<= i` by the same operations whatever follows, and a
kernel returns `T` rows of which the first few (before its window or seed) carry no meaning. Windows are
summed as a tree of spans of 1, 2, 4, ... bars, never as a difference of long cumulative sums, so precision
does not depend on `T`. Meant for float64 (`jax.enable_x64`).
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jtf_env import constants as const
from jtf_env.constants import MIDDLE, PRICE_STD_FLOOR, RETURN_STD_FLOOR


def lag(x: Array, bars: int, fill: float = 0.0) -> Array:
    """Return ``x[i - bars]`` at row `i`, `fill` in the first `bars` rows."""
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(bars, -bars, 0)])


def divide(numerator: Array, denominator: Array, neutral: float) -> Array:
    """Return the quotient, or `neutral` where the denominator is exactly 0."""
    zero = denominator == 0.0
    return jnp.where(zero, neutral, numerator / jnp.where(zero, 1.0, denominator))


# rolling windows ----------------------------------------------------------------------------------


def rolling_sum(x: Array, window: int) -> Array:
    """Sum over rows ``i - window + 1 .. i``."""
    total, covered, span, width = jnp.zeros_like(x), 0, x, 1
    while True:
        if window & width:
            total, covered = total + lag(span, covered), covered + width
        if covered == window:
            return total
        span, width = span + lag(span, width), 2 * width


def rolling_mean(x: Array, window: int) -> Array:
    """Mean over rows ``i - window + 1 .. i``."""
    return rolling_sum(x, window) / window


def rolling_squares(x: Array, window: int) -> Array:
    """Sum of squared deviations from the window's own mean, over rows ``i - window + 1 .. i``.

    Two neighbouring spans of `m` and `n` bars with sums `S` and `T` merge by Chan, Golub and LeVeque (1983,
    eq. 2.1b): ``M2 = M2_m + M2_n + m n / (m + n) * (S / m - T / n)^2``. Every term is non-negative: nothing
    cancels.
    """

    def merge(newer: tuple[Array, Array, int], older: tuple[Array, Array, int]) -> tuple[Array, Array, int]:
        (sum_n, squares_n, n), (sum_m, squares_m, m) = newer, older
        sum_m, squares_m = lag(sum_m, n), lag(squares_m, n)
        gap = sum_m / m - sum_n / n
        return sum_n + sum_m, squares_n + squares_m + gap * gap * (m * n / (m + n)), n + m

    span = (x, jnp.zeros_like(x), 1)
    total = None
    while True:
        if window & span[2]:
            total = span if total is None else merge(total, span)
        if total is not None and total[2] == window:
            return total[1]
        span = merge(span, span)


def rolling_return_std(q: Array, window: int) -> Array:
    """Sample standard deviation (ddof 1) of returns over the window; exactly 0 below `RETURN_STD_FLOOR`."""
    std = jnp.sqrt(rolling_squares(q, window) / (window - 1))
    return jnp.where(std < RETURN_STD_FLOOR, 0.0, std)


def rolling_price_std(price: Array, window: int, ddof: int = 1) -> Array:
    """Return the deviation of prices over the window; exactly 0 below `PRICE_STD_FLOOR` times their mean."""
    std = jnp.sqrt(rolling_squares(price, window) / (window - ddof))
    return jnp.where(std < PRICE_STD_FLOOR * jnp.abs(rolling_mean(price, window)), 0.0, std)


def garman_klass(open_: Array, high: Array, low: Array, close: Array, window: int) -> Array:
    """Volatility a bar of Garman and Klass (1980), a fraction, over rows ``i - window + 1 .. i``.

    The root of the mean of ``0.5 ln(h/l)^2 - (2 ln 2 - 1) ln(p/o)^2``, floored at 0.
    """
    variance = 0.5 * jnp.log(high / low) ** 2 - const.GARMAN_KLASS_CLOSE * jnp.log(close / open_) ** 2
    return jnp.sqrt(jnp.maximum(rolling_mean(variance, window), 0.0))


def _rolling_extremum(pick: Callable[[Array, Array], Array], x: Array, window: int, fill: float) -> Array:
    """Extremum over the window: two overlapping spans of the largest power of two inside it."""
    span, width = x, 1
    while 2 * width <= window:
        span, width = pick(span, lag(span, width, fill)), 2 * width
    return pick(span, lag(span, window - width, fill))


def rolling_max(x: Array, window: int) -> Array:
    """Largest value over rows ``i - window + 1 .. i``."""
    return _rolling_extremum(jnp.maximum, x, window, -jnp.inf)


def rolling_min(x: Array, window: int) -> Array:
    """Smallest value over rows ``i - window + 1 .. i``."""
    return _rolling_extremum(jnp.minimum, x, window, jnp.inf)


def rolling_position(price: Array, high: Array, low: Array, window: int) -> Array:
    """Return ``(price - min low) / (max high - min low)`` over the window; `MIDDLE` where the range is 0."""
    lowest = rolling_min(low, window)
    return divide(price - lowest, rolling_max(high, window) - lowest, MIDDLE)


# recursions ---------------------------------------------------------------------------------------


def recursion(x: Array, decay: float, gain: float, start: int, seed: Array) -> Array:
    """Return ``y_i = decay * y_{i-1} + gain * x_i`` for ``i > start``, with ``y_start = seed`` and 0 before.

    Evaluated by recursive doubling (Kogge and Stone 1973): after pass `k` row `i` holds the inputs of its
    last ``2^k`` bars, so `T` sequential steps become ``log2 T`` wide ones.
    """
    bars = x.shape[0]
    row = jnp.arange(bars)
    driven = jnp.where(row > start, gain * x, jnp.where(row == start, seed, 0.0))

    def double(y: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        span, weight = step
        earlier = lax.dynamic_slice(jnp.concatenate([jnp.zeros_like(y), y]), (bars - span,), (bars,))
        return y + weight * earlier, None

    spans = 2 ** np.arange((bars - 1).bit_length())
    return lax.scan(double, driven, (jnp.asarray(spans), jnp.asarray(decay**spans, x.dtype)))[0]


def smooth(x: Array, period: int, alpha: float, start: int) -> Array:
    """Exponential average, weight `alpha` on the newest bar, seeded at `start` by the mean of `period` bars."""
    seed = x[start - period + 1 : start + 1].mean()
    return recursion(x, 1.0 - alpha, alpha, start, seed)


def ema(x: Array, period: int, start: int) -> Array:
    """TA-Lib EMA: ``alpha = 2 / (period + 1)``, seeded at `start` with the simple mean of `period` bars."""
    return smooth(x, period, 2.0 / (period + 1), start)


def wilder(x: Array, period: int, start: int) -> Array:
    """Wilder's average: ``alpha = 1 / period``, seeded at `start` with the simple mean of `period` bars."""
    return smooth(x, period, 1.0 / period, start)


# TA-Lib's indicators ------------------------------------------------------------------------------


def rsi(close: Array, period: int) -> Array:
    """TA-Lib RSI / 100, from row `period`; 0.5 where average gain + average loss is 0 (TA-Lib: 0)."""
    change = close - lag(close, 1)
    gain = wilder(jnp.maximum(change, 0.0), period, start=period)
    loss = wilder(jnp.maximum(-change, 0.0), period, start=period)
    return divide(gain, gain + loss, MIDDLE)


def macd(
    close: Array, fast: int = const.MACD_FAST, slow: int = const.MACD_SLOW, signal: int = const.MACD_SIGNAL
) -> tuple[Array, Array, Array]:
    """TA-Lib MACD: line, signal and histogram in USD, from row ``slow + signal - 2`` (33).

    As in TA-Lib both averages are seeded at row ``slow - 1``, the fast one from its last `fast` closes.
    """
    first = slow - 1
    line = ema(close, fast, start=first) - ema(close, slow, start=first)
    average = ema(line, signal, start=first + signal - 1)
    return line, average, line - average


def true_range(high: Array, low: Array, close: Array) -> Array:
    """TA-Lib TRANGE in USD, from row 1."""
    previous = lag(close, 1)
    return jnp.maximum(high - low, jnp.maximum(jnp.abs(high - previous), jnp.abs(low - previous)))


def atr(high: Array, low: Array, close: Array, period: int = const.ATR_PERIOD) -> Array:
    """TA-Lib ATR in USD, from row `period`."""
    return wilder(true_range(high, low, close), period, start=period)


def adx(high: Array, low: Array, close: Array, period: int = const.ADX_PERIOD) -> Array:
    """TA-Lib ADX / 100, from row ``2 * period - 1``.

    Directional movements and true range are Wilder sums seeded at row ``period - 1`` with their first
    ``period - 1`` values; DX is 0 where the summed true range is 0 or both summed movements are.
    """
    up, down = high - lag(high, 1), lag(low, 1) - low
    movements = (
        jnp.where((up > down) & (up > 0.0), up, 0.0),
        jnp.where((down > up) & (down > 0.0), down, 0.0),
        true_range(high, low, close),
    )
    decay, start = 1.0 - 1.0 / period, period - 1
    plus, minus, ranges = (recursion(x, decay, 1.0, start, x[1:period].sum()) for x in movements)
    dx = jnp.where(ranges == 0.0, 0.0, divide(jnp.abs(plus - minus), plus + minus, 0.0))
    return wilder(dx, period, start=2 * period - 1)


def stochastic(high: Array, low: Array, close: Array) -> tuple[Array, Array]:
    """TA-Lib STOCH(14, 3, 3) / 100, simple averages: slow %K and %D, from row 17.

    Raw %K is 0.5 in a flat window.
    """
    raw = rolling_position(close, high, low, const.STOCHASTIC_PERIOD)
    slow_k = rolling_mean(raw, const.STOCHASTIC_SMOOTHING)
    return slow_k, rolling_mean(slow_k, const.STOCHASTIC_SMOOTHING)


def bollinger(
    close: Array, period: int = const.BOLLINGER_PERIOD, width: float = const.BOLLINGER_WIDTH
) -> tuple[Array, Array, Array]:
    """TA-Lib BBANDS as (close - lower) / (upper - lower), (upper - close) / close, (upper - lower) / middle.

    Population deviation; from row ``period - 1``. Where it is 0 the three are 0.5, 0 and 0.
    """
    middle, band = rolling_mean(close, period), width * rolling_price_std(close, period, ddof=0)
    flat = band == 0.0
    position = divide(close - middle + band, 2.0 * band, MIDDLE)
    upper = jnp.where(flat, 0.0, (middle + band - close) / close)
    return position, upper, 2.0 * band / middle


def cci(high: Array, low: Array, close: Array, period: int = const.CCI_PERIOD) -> Array:
    """TA-Lib CCI / 200, from row ``period - 1``; 0 where the mean deviation of the typical price is 0."""
    typical = (high + low + close) / 3.0
    mean = rolling_mean(typical, period)
    deviation = sum(jnp.abs(lag(typical, k) - mean) for k in range(period)) / period
    deviation = jnp.where(deviation < PRICE_STD_FLOOR * jnp.abs(mean), 0.0, deviation)
    return divide(typical - mean, const.CCI_FACTOR * deviation, 0.0) / const.CCI_SCALE


def williams_r(high: Array, low: Array, close: Array, period: int = const.WILLIAMS_PERIOD) -> Array:
    """TA-Lib WILLR / -100, from row ``period - 1``: 0 at the highest high, 1 at the lowest low.

    0.5 in a flat window.
    """
    highest = rolling_max(high, period)
    return divide(highest - close, highest - rolling_min(low, period), MIDDLE)


def change(x: Array, bars: int) -> Array:
    """Return ``x_i / x_{i-bars} - 1`` (TA-Lib ROC / 100), from row `bars`."""
    return x / lag(x, bars, fill=1.0) - 1.0
