"""The feature groups that are functions of the bars alone, in NumPy float64.

A builder returns the columns of its group with NaN where nothing can be measured; `build_columns` puts the
group's neutral values there and on its cold rows. Conventions and guards: `jtf_env.layouts`. A builder looks back
through `past` alone (`jtf_env.mirror.past`), so that the same lines make the columns of whole series and of a new bar.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jtf_env import constants as const
from jtf_env.bars import Bars
from jtf_env.layouts import GROUPS, Layout
from jtf_env.mirror.indicators import (
    adx,
    atr,
    bollinger,
    cci,
    divide,
    garman_klass,
    macd,
    price_mean_std,
    range_position,
    return_std,
    rolling_mean,
    rsi,
    stochastic,
    true_range,
)
from jtf_env.mirror.past import Past
from jtf_env.mirror.regimes import filter_posteriors, regime_statistics, reversal_probabilities, state_age
from jtf_env.sessions import MINUTE, nanoseconds

Columns = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class BarInputs:
    """What the columns of `T` bars are computed from. Prices in USD, times in nanoseconds since 1970 UTC (int64)."""

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    """Units traded."""
    start: np.ndarray
    """Start of the bar."""
    end: np.ndarray
    session_open: np.ndarray
    session_close: np.ndarray
    hour: np.ndarray
    """Of the bar's start on the exchange's clock, as minute, weekday and month."""
    minute: np.ndarray
    weekday: np.ndarray
    """Monday is 0."""
    month: np.ndarray
    """January is 1."""


def bar_inputs(bars: Bars) -> BarInputs:
    """Return what the columns of `bars` are computed from."""
    local = bars.timestamps.tz_convert(bars.timezone)
    start = nanoseconds(bars.timestamps)
    return BarInputs(
        open=bars.open,
        high=bars.high,
        low=bars.low,
        close=bars.close,
        volume=bars.volume,
        start=start,
        end=start + bars.bar_minutes * MINUTE,
        session_open=nanoseconds(bars.session_open),
        session_close=nanoseconds(bars.session_close),
        hour=local.hour.to_numpy(),
        minute=local.minute.to_numpy(),
        weekday=local.day_of_week.to_numpy(),
        month=local.month.to_numpy(),
    )


def build_columns(layout: Layout, bars: BarInputs, past: Past) -> np.ndarray:
    """Return the bar columns of `layout` in natural units, ``[T, F]`` float64, neutral where cold or unmeasurable."""
    groups = [group for group in layout.groups if group.source == "bar"]
    columns = np.array([column for group in groups for column in BUILDERS[group.name](bars, past)])
    warmups = [group.warmup for group in groups for _ in group.columns]
    cold = past.cold(bars.close, np.array(warmups)[:, None])
    neutral = np.array([value for group in groups for value in group.neutral])[:, None]
    return np.ascontiguousarray(np.where(cold | np.isnan(columns), neutral, columns).T)


def log_returns(bars: BarInputs, past: Past) -> np.ndarray:
    """``ln(p_i / p_{i-1})``, 0 in row 0, ``[T]``."""

    def compute() -> np.ndarray:
        returns = np.log(bars.close / past.previous(bars.close, 1))
        return np.where(np.isnan(returns), 0.0, returns)

    return past.once("log_returns", compute)


def base6(bars: BarInputs, past: Past) -> Columns:
    """norm_price, return, log_return, volatility (Garman and Klass), momentum (10 bars), Wilder RSI(14)."""
    close = bars.close
    before = past.previous(close, 1)
    mean, std = price_mean_std(past, close, const.NORM_WINDOW, ddof=1)
    return (
        divide(close - mean, std),
        (close - before) / (before + const.EPSILON),
        log_returns(bars, past),
        garman_klass(past, bars.open, bars.high, bars.low, close, const.VOLATILITY_WINDOW),
        close / past.previous(close, const.MOMENTUM_BARS) - 1.0,
        rsi(past, close, const.RSI_PERIOD),
    )


def base7(bars: BarInputs, past: Past) -> Columns:
    """base6, and the logarithm of the volume against its mean over 100 bars, one unit added to both."""
    mean = rolling_mean(past, bars.volume, const.VOLUME_WINDOW)
    return (*base6(bars, past), np.log((bars.volume + 1.0) / (mean + 1.0)))


def intraday4(bars: BarInputs, past: Past) -> Columns:
    """Share of the session elapsed at bar end, share left, whether the bar is in its first or its last hour."""
    edge = const.EDGE_MINUTES * MINUTE
    first = (bars.session_open < bars.end) & (bars.end <= bars.session_open + edge)
    last = (bars.session_close - edge <= bars.start) & (bars.start < bars.session_close)
    elapsed = session_elapsed(bars)
    return elapsed, 1.0 - elapsed, first.astype(np.float64), last.astype(np.float64)


def session_elapsed(bars: BarInputs) -> np.ndarray:
    """Return the elapsed share of the session at bar end, ``[T]`` within 0 and 1."""
    elapsed = (bars.end - bars.session_open) / (bars.session_close - bars.session_open)
    return np.minimum(np.maximum(elapsed, 0.0), 1.0)


def temporal7(bars: BarInputs, past: Past) -> Columns:
    """Sine and cosine of hour, weekday and month on the exchange's clock, and the session's elapsed share."""
    shares = np.array([(bars.hour + bars.minute / 60) / 24, bars.weekday / 7, (bars.month - 1) / 12])
    sines, cosines = np.sin(2.0 * np.pi * shares), np.cos(2.0 * np.pi * shares)
    hour, weekday, month = zip(sines, cosines, strict=True)
    return (*hour, *weekday, *month, session_elapsed(bars))


def posteriors(bars: BarInputs, past: Past) -> Columns:
    """Return the posteriors ``[T, 3]`` of the volatility, trend, momentum and macro filters.

    A statistic counts as 0 where it is cold or not measured.
    """

    def compute() -> Columns:
        cold = past.cold(bars.close, GROUPS["markov12"].warmup)
        statistics = regime_statistics(past, bars.close, log_returns(bars, past))
        return tuple(filter_posteriors(past, np.where(cold | np.isnan(one), 0.0, one)) for one in statistics)

    return past.once("posteriors", compute)


def markov12(bars: BarInputs, past: Past) -> Columns:
    """Posteriors of the volatility, trend, momentum and macro filters, three states each."""
    return tuple(column for posterior in posteriors(bars, past) for column in posterior.T)


def reversal3(bars: BarInputs, past: Past) -> Columns:
    """Turn up, continue, turn down: the trend filter against the momentum filter."""
    _, trend, momentum, _ = posteriors(bars, past)
    return tuple(reversal_probabilities(trend, momentum).T)


def regime_bars3(bars: BarInputs, past: Past) -> Columns:
    """Bars since the most likely state of the volatility, trend and momentum filters last changed."""
    return tuple(state_age(past, posterior) for posterior in posteriors(bars, past)[:3])


def extended14(bars: BarInputs, past: Past) -> Columns:
    """MACD, ADX, Stochastic, ATR, Bollinger, CCI, Williams %R, ROC, RSI(21) by TA-Lib's definitions."""
    high, low, close = bars.high, bars.low, bars.close
    line, signal, histogram = macd(past, close)
    slow_k, slow_d = stochastic(past, high, low, close)
    lower, middle, upper = bollinger(past, close)
    ranges = true_range(past, high, low, close)
    return (
        line / close,
        signal / close,
        histogram / close,
        adx(past, high, low, ranges),
        slow_k,
        slow_d,
        atr(past, ranges) / close,
        (close - lower) / (upper - lower),
        (upper - close) / close,
        (upper - lower) / middle,
        cci(past, high, low, close) / const.CCI_SCALE,
        1.0 - range_position(past, close, high, low, const.WILLIAMS_PERIOD),
        close / past.previous(close, const.ROC_BARS) - 1.0,
        rsi(past, close, const.LONG_RSI_PERIOD),
    )


def multi_window9(bars: BarInputs, past: Past) -> Columns:
    """Mean and deviation of the log return and position in the range, over 20, 50 and 100 bars."""
    log_return = log_returns(bars, past)
    return tuple(
        column
        for window in const.WINDOWS
        for column in (
            rolling_mean(past, log_return, window),
            return_std(past, log_return, window),
            range_position(past, bars.close, bars.high, bars.low, window),
        )
    )


BUILDERS: dict[str, Callable[[BarInputs, Past], Columns]] = {
    builder.__name__: builder
    for builder in (
        base6, base7, intraday4, temporal7, markov12, reversal3, extended14, multi_window9, regime_bars3,
    )
}  # fmt: skip
