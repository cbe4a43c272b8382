"""The feature table in JAX: one builder per group of `jtf_env.layouts`, over arrays of one symbol.

Formulas are those of ``FEATURES.md`` with the conventions in the docstring of `jtf_env.layouts`; calendar
facts come as arrays from the host (`bar_inputs`), arithmetic is here and in `indicators`, `regimes` and
`hourly`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from jtf_env import constants as const
from jtf_env import indicators as ind
from jtf_env.bars import Bars
from jtf_env.hourly import hourly_context
from jtf_env.layouts import GROUPS, Group, HourVisibility
from jtf_env.regimes import filter_posteriors, reversal, state_age, statistics
from jtf_env.sessions import compute_hourly_window_indices


class BarInputs(NamedTuple):
    """What the columns are functions of: prices and calendar facts, one row per bar."""

    open: Array
    """``[T]`` float64, USD."""
    high: Array
    """``[T]`` float64, USD."""
    low: Array
    """``[T]`` float64, USD."""
    close: Array
    """``[T]`` float64, USD."""
    volume: Array
    """``[T]`` float64, units."""
    hour: Array
    """``[T]`` hour of day at bar start, minutes as a fraction, exchange-local clock, 0 .. 24."""
    weekday: Array
    """``[T]`` day of week, Monday is 0."""
    month: Array
    """``[T]`` month of year, January is 0."""
    session_elapsed: Array
    """``[T]`` minutes from the scheduled session open to bar end."""
    session_length: Array
    """``[T]`` scheduled minutes of the session."""
    to_close: Array
    """``[T]`` minutes from bar start to the scheduled session close."""
    hour_elapsed: Array
    """``[T]`` minutes of the clock hour elapsed at bar end, 1 .. 60."""
    hour_start: Array
    """``[T]`` first bar of the visible completed clock hour."""
    hour_stop: Array
    """``[T]`` bar after the last bar of that hour; equal to `hour_start` where there is no such hour."""
    opens_session: Array
    """``[T]`` bool, first bar of its session."""


def bar_inputs(bars: Bars, hour_visibility: HourVisibility = "previous") -> BarInputs:
    """Read prices and calendar facts of `bars`, padded to `padded_length` rows; call it under `jax.enable_x64`."""
    local = bars.timestamps.tz_convert(bars.timezone)
    minute = pd.Timedelta(minutes=1)
    end = bars.timestamps + bars.bar_minutes * minute
    start, stop, _ = compute_hourly_window_indices(bars.timestamps, bars.session_ids, hour_visibility, bars.bar_minutes)
    columns = {
        "open": bars.open,
        "high": bars.high,
        "low": bars.low,
        "close": bars.close,
        "volume": bars.volume,
        "hour": local.hour.to_numpy(np.float64) + local.minute.to_numpy(np.float64) / 60.0,
        "weekday": local.day_of_week.to_numpy(np.float64),
        "month": local.month.to_numpy(np.float64) - 1.0,
        "session_elapsed": np.asarray((end - bars.session_open) / minute),
        "session_length": np.asarray((bars.session_close - bars.session_open) / minute),
        "to_close": np.asarray((bars.session_close - bars.timestamps) / minute),
        "hour_elapsed": bars.timestamps.minute.to_numpy(np.float64) + bars.bar_minutes,
        "hour_start": start,
        "hour_stop": stop,
        "opens_session": np.diff(bars.session_ids, prepend=bars.session_ids[:1] - 1) != 0,
    }
    extra = padded_length(len(bars)) - len(bars)
    return BarInputs(**{name: jnp.asarray(np.pad(x, (0, extra), "edge")) for name, x in columns.items()})


def padded_length(rows: int) -> int:
    """Round `rows` up, by at most an eighth, to one of a few lengths, so that few programs are compiled.

    Columns are causal: the copies of the last bar that follow it change nothing before them.
    """
    step = 2 ** max(0, rows.bit_length() - 4)
    return -(-rows // step) * step


def simple_return(close: Array) -> Array:
    """Return ``r_i = (p_i - p_{i-1}) / (p_{i-1} + 1e-8)``, ``r_0 = 0``."""
    previous = ind.lag(close, 1, fill=1.0)
    return ((close - previous) / (previous + const.EPSILON)).at[0].set(0.0)


def log_return(close: Array) -> Array:
    """Return ``q_i = ln(p_i / p_{i-1})``, ``q_0 = 0``."""
    return jnp.log(close / ind.lag(close, 1, fill=1.0)).at[0].set(0.0)


def base6(x: BarInputs) -> tuple[Array, ...]:
    """Price against its 100-bar mean and deviation (0 where flat), returns, volatility, momentum, RSI(14)."""
    window = const.NORM_WINDOW
    return (
        ind.divide(x.close - ind.rolling_mean(x.close, window), ind.rolling_price_std(x.close, window), 0.0),
        simple_return(x.close),
        log_return(x.close),
        ind.garman_klass(x.open, x.high, x.low, x.close, const.VOLATILITY_WINDOW),
        ind.change(x.close, const.MOMENTUM_BARS),
        ind.rsi(x.close, const.RSI_PERIOD),
    )


def base7(x: BarInputs) -> tuple[Array, ...]:
    """base6, and the volume against its 100-bar mean (logarithm, one unit added to both)."""
    volume_proxy = jnp.log((x.volume + 1.0) / (ind.rolling_mean(x.volume, const.VOLUME_WINDOW) + 1.0))
    return (*base6(x), volume_proxy)


def intraday4(x: BarInputs) -> tuple[Array, ...]:
    """Share of the session elapsed at bar end, share left, whether the bar is in its first or its last hour."""
    elapsed = session_elapsed(x)
    first = (x.session_elapsed > 0.0) & (x.session_elapsed <= const.EDGE_MINUTES)
    last = (x.to_close > 0.0) & (x.to_close <= const.EDGE_MINUTES)
    return elapsed, 1.0 - elapsed, first.astype(elapsed.dtype), last.astype(elapsed.dtype)


def session_elapsed(x: BarInputs) -> Array:
    """Return the elapsed share of the session at bar end, within 0 and 1."""
    return jnp.clip(x.session_elapsed / x.session_length, 0.0, 1.0)


def temporal7(x: BarInputs) -> tuple[Array, ...]:
    """Sine and cosine of hour of day, day of week and month; elapsed share of the session at bar end."""
    cycles = [2.0 * jnp.pi * share for share in (x.hour / 24.0, x.weekday / 7.0, x.month / 12.0)]
    waves = [wave(cycle) for cycle in cycles for wave in (jnp.sin, jnp.cos)]
    return (*waves, session_elapsed(x))


def _posteriors(x: BarInputs) -> Array:
    """Return ``[3, 4, T]``: state x (volatility, trend, momentum, macro) x bar."""
    return filter_posteriors(statistics(x.close, log_return(x.close), GROUPS["markov12"].warmup))


def markov12(x: BarInputs) -> tuple[Array, ...]:
    """Posteriors of four three-state filters: volatility, trend, momentum, macro (`jtf_env.regimes`)."""
    return tuple(_posteriors(x).swapaxes(0, 1).reshape(12, -1))


def reversal3(x: BarInputs) -> tuple[Array, ...]:
    """Turn up, continue, turn down: the trend filter against the momentum filter (`regimes.reversal`)."""
    _, trend, momentum, _ = _posteriors(x).swapaxes(0, 1)
    return reversal(trend, momentum)


def regime_bars3(x: BarInputs) -> tuple[Array, ...]:
    """Bars since the most likely state of the volatility, trend and momentum filters changed (`regimes.state_age`)."""
    return tuple(state_age(posteriors) for posteriors in _posteriors(x).swapaxes(0, 1)[:3])


def extended14(x: BarInputs) -> tuple[Array, ...]:
    """TA-Lib's indicators, each scaled to order 1 (`jtf_env.indicators` has every definition and guard)."""
    high, low, close = x.high, x.low, x.close
    return (
        *(line / close for line in ind.macd(close)),
        ind.adx(high, low, close),
        *ind.stochastic(high, low, close),
        ind.atr(high, low, close) / close,
        *ind.bollinger(close),
        ind.cci(high, low, close),
        ind.williams_r(high, low, close),
        ind.change(close, const.ROC_BARS),
        ind.rsi(close, const.LONG_RSI_PERIOD),
    )


def multi_window9(x: BarInputs) -> tuple[Array, ...]:
    """For 20, 50 and 100 bars: mean and deviation of log returns, position in the range (0.5 if it is 0)."""
    q = log_return(x.close)
    return tuple(
        column
        for window in const.WINDOWS
        for column in (
            ind.rolling_mean(q, window),
            ind.rolling_return_std(q, window),
            ind.rolling_position(x.close, x.high, x.low, window),
        )
    )


def hourly_context7(x: BarInputs, bars_per_hour: int) -> tuple[Array, ...]:
    """Return the seven columns of `jtf_env.hourly.hourly_context` for these bars."""
    return hourly_context(
        x.close,
        x.high,
        x.low,
        simple_return(x.close),
        hour_start=x.hour_start,
        hour_stop=x.hour_stop,
        opens_session=x.opens_session,
        hour_share=x.hour_elapsed / 60.0,
        bars_per_hour=bars_per_hour,
    )


BAR_GROUPS: dict[str, Callable[[BarInputs], tuple[Array, ...]]] = {
    "base6": base6,
    "base7": base7,
    "intraday4": intraday4,
    "temporal7": temporal7,
    "markov12": markov12,
    "reversal3": reversal3,
    "extended14": extended14,
    "multi_window9": multi_window9,
    "regime_bars3": regime_bars3,
}


def feature_table(x: BarInputs, groups: tuple[Group, ...]) -> Array:
    """Return ``[T, F]``, the ``bar`` groups in order, in natural units, neutral before each warm-up."""
    row = jnp.arange(x.close.shape[0])
    return jnp.stack(
        [
            jnp.where(row < group.warmup, neutral, column)
            for group in groups
            if group.source == "bar"
            for column, neutral in zip(BAR_GROUPS[group.name](x), group.neutral, strict=True)
        ],
        axis=1,
    )


def context_table(x: BarInputs, groups: tuple[Group, ...], bars_per_hour: int) -> Array:
    """Return ``[T, C]``, the ``context`` groups (only `hourly_context7` exists), in natural units."""
    columns = [column for group in groups if group.source == "context" for column in hourly_context7(x, bars_per_hour)]
    return jnp.stack(columns, axis=1) if columns else jnp.zeros((x.close.shape[0], 0), x.close.dtype)
