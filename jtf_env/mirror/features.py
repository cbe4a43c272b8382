"""The feature groups that are functions of the bars alone, in NumPy float64.

A builder returns the columns of its group with NaN where nothing can be measured; `build_group` puts the
group's neutral values there and on its cold rows. Conventions and guards: `jtf_env.layouts`.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from jtf_env import constants as const
from jtf_env.bars import Bars
from jtf_env.layouts import GROUPS, Group
from jtf_env.mirror.indicators import (
    adx,
    atr,
    bollinger,
    cci,
    divide,
    garman_klass,
    macd,
    previous,
    price_std,
    range_position,
    return_std,
    rolling_mean,
    rsi,
    stochastic,
)
from jtf_env.mirror.regimes import filter_posteriors, regime_statistics, reversal_probabilities, state_age

Columns = tuple[np.ndarray, ...]


def build_group(group: Group, bars: Bars) -> np.ndarray:
    """Return the group's columns in natural units, ``[T, k]`` float64, neutral where cold or unmeasurable."""
    table = np.stack(BUILDERS[group.name](bars), axis=1)
    cold = (np.arange(len(bars)) < group.warmup)[:, None]
    return np.where(cold | np.isnan(table), np.array(group.neutral), table)


def log_returns(close: np.ndarray) -> np.ndarray:
    """``ln(p_i / p_{i-1})``, 0 in row 0, ``[T]``."""
    result = np.zeros(len(close))
    result[1:] = np.log(close[1:] / close[:-1])
    return result


def base6(bars: Bars) -> Columns:
    """norm_price, return, log_return, volatility (Garman and Klass), momentum (10 bars), Wilder RSI(14)."""
    close = bars.close
    before = previous(close, 1)
    return (
        divide(close - rolling_mean(close, const.NORM_WINDOW), price_std(close, const.NORM_WINDOW, ddof=1)),
        (close - before) / (before + const.EPSILON),
        log_returns(close),
        garman_klass(bars.open, bars.high, bars.low, close, const.VOLATILITY_WINDOW),
        close / previous(close, const.MOMENTUM_BARS) - 1.0,
        rsi(close, const.RSI_PERIOD),
    )


def base7(bars: Bars) -> Columns:
    """base6, and the logarithm of the volume against its mean over 100 bars, one unit added to both."""
    mean = rolling_mean(bars.volume, const.VOLUME_WINDOW)
    return (*base6(bars), np.log((bars.volume + 1.0) / (mean + 1.0)))


def intraday4(bars: Bars) -> Columns:
    """Share of the session elapsed at bar end, share left, whether the bar is in its first or its last hour."""
    edge = pd.Timedelta(minutes=const.EDGE_MINUTES)
    bar_end = bars.timestamps + pd.Timedelta(minutes=bars.bar_minutes)
    first = (bars.session_open < bar_end) & (bar_end <= bars.session_open + edge)
    last = (bars.session_close - edge <= bars.timestamps) & (bars.timestamps < bars.session_close)
    elapsed = session_elapsed(bars)
    return elapsed, 1.0 - elapsed, np.asarray(first, np.float64), np.asarray(last, np.float64)


def session_elapsed(bars: Bars) -> np.ndarray:
    """Return the elapsed share of the session at bar end, ``[T]`` within 0 and 1."""
    bar_end = bars.timestamps + pd.Timedelta(minutes=bars.bar_minutes)
    elapsed = (bar_end - bars.session_open) / (bars.session_close - bars.session_open)
    return np.clip(elapsed.to_numpy(dtype=np.float64), 0.0, 1.0)


def temporal7(bars: Bars) -> Columns:
    """Sine and cosine of hour, weekday and month on the exchange's clock, and the session's elapsed share."""
    local = bars.timestamps.tz_convert(bars.timezone)
    shares = (
        (local.hour.to_numpy() + local.minute.to_numpy() / 60) / 24,
        local.day_of_week.to_numpy() / 7,
        (local.month.to_numpy() - 1) / 12,
    )
    circles = [wave(2.0 * np.pi * share) for share in shares for wave in (np.sin, np.cos)]
    return (*circles, session_elapsed(bars))


def markov12(bars: Bars) -> Columns:
    """Posteriors of the volatility, trend, momentum and macro filters, three states each."""
    statistics = regime_statistics(bars.close, log_returns(bars.close))
    return tuple(column for statistic in statistics for column in _posteriors(statistic).T)


def reversal3(bars: Bars) -> Columns:
    """Turn up, continue, turn down: the trend filter against the momentum filter."""
    _, trend, momentum, _ = regime_statistics(bars.close, log_returns(bars.close))
    return tuple(reversal_probabilities(_posteriors(trend), _posteriors(momentum)).T)


def regime_bars3(bars: Bars) -> Columns:
    """Bars since the most likely state of the volatility, trend and momentum filters last changed."""
    statistics = regime_statistics(bars.close, log_returns(bars.close))[:3]
    return tuple(state_age(_posteriors(statistic)) for statistic in statistics)


def extended14(bars: Bars) -> Columns:
    """MACD, ADX, Stochastic, ATR, Bollinger, CCI, Williams %R, ROC, RSI(21) by TA-Lib's definitions."""
    high, low, close = bars.high, bars.low, bars.close
    line, signal, histogram = macd(close)
    slow_k, slow_d = stochastic(high, low, close)
    lower, middle, upper = bollinger(close)
    return (
        line / close,
        signal / close,
        histogram / close,
        adx(high, low, close),
        slow_k,
        slow_d,
        atr(high, low, close) / close,
        (close - lower) / (upper - lower),
        (upper - close) / close,
        (upper - lower) / middle,
        cci(high, low, close) / const.CCI_SCALE,
        1.0 - range_position(close, high, low, const.WILLIAMS_PERIOD),
        close / previous(close, const.ROC_BARS) - 1.0,
        rsi(close, const.LONG_RSI_PERIOD),
    )


def multi_window9(bars: Bars) -> Columns:
    """Mean and deviation of the log return and position in the range, over 20, 50 and 100 bars."""
    log_return = log_returns(bars.close)
    return tuple(
        column
        for window in const.WINDOWS
        for column in (
            rolling_mean(log_return, window),
            return_std(log_return, window),
            range_position(bars.close, bars.high, bars.low, window),
        )
    )


def _posteriors(statistic: np.ndarray) -> np.ndarray:
    """Filter a statistic that counts as 0 where it is cold or not measured."""
    cold = np.arange(len(statistic)) < GROUPS["markov12"].warmup
    return filter_posteriors(np.where(cold | np.isnan(statistic), 0.0, statistic))


BUILDERS: dict[str, Callable[[Bars], Columns]] = {
    builder.__name__: builder
    for builder in (
        base6, base7, intraday4, temporal7, markov12, reversal3, extended14, multi_window9, regime_bars3,
    )
}  # fmt: skip
