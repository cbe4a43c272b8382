"""The hourly context in JAX: what the previous completed clock hour and the last hours of bars looked like.

Which bars make up that hour is a calendar fact found on the host (`jtf_env.sessions`); the arithmetic is
here.
"""

import jax.numpy as jnp
from jax import Array

from jtf_env.constants import EPSILON, RETURN_STD_FLOOR, RISING_HOURS, TREND_HOURS
from jtf_env.indicators import lag, rolling_sum


def hourly_context(
    close: Array,
    high: Array,
    low: Array,
    simple_return: Array,
    *,
    hour_start: Array,
    hour_stop: Array,
    opens_session: Array,
    hour_share: Array,
    bars_per_hour: int,
) -> tuple[Array, ...]:
    """Return the seven ``[T]`` columns of `hourly_context7`.

    Parameters
    ----------
    close, high, low, simple_return
        ``[T]``, USD and fraction; ``simple_return_i = (p_i - p_{i-1}) / (p_{i-1} + 1e-8)``, 0 at row 0.
    hour_start, hour_stop
        ``[T]`` half-open range of the bars of the visible completed clock hour, at most `bars_per_hour` of
        them. Return, volatility and range are 0 where it is empty: there is no such hour.
    opens_session
        ``[T]`` whether the bar is the first of its session; its return is left out of the volatility.
    hour_share
        ``[T]`` elapsed share of the clock hour at bar end, always valid: `position_in_hour`.
    bars_per_hour
        60 / bar length in minutes; trend and RSI look back 4 hours of bars, momentum 1 + 1.
    """
    first, last = close[hour_start], close[jnp.maximum(hour_stop - 1, hour_start)]
    bars = hour_start[:, None] + jnp.arange(bars_per_hour)[None, :]
    inside = bars < hour_stop[:, None]
    bars = jnp.where(inside, bars, hour_start[:, None])
    span = high[bars].max(1) - low[bars].min(1)
    measured = (
        (last - first) / (first + EPSILON),
        _masked_std(simple_return[bars], inside & ~opens_session[bars]),
        span / (first + EPSILON),
    )
    h1_return, h1_volatility, h1_range = (jnp.where(hour_stop > hour_start, x, 0.0) for x in measured)
    trend, momentum, rising = _bar_lookbacks(close, simple_return, bars_per_hour)
    return h1_return, h1_volatility, trend, momentum, rising, h1_range, hour_share


def _masked_std(x: Array, mask: Array) -> Array:
    """Standard deviation (ddof 1) of each row's masked values; 0 with fewer than two or below the floor."""
    count = mask.sum(1)
    mean = jnp.where(mask, x, 0.0).sum(1) / jnp.maximum(count, 1)
    squares = jnp.where(mask, (x - mean[:, None]) ** 2, 0.0).sum(1)
    std = jnp.sqrt(squares / jnp.maximum(count - 1, 1))
    return jnp.where(std < RETURN_STD_FLOOR, 0.0, std)


def _bar_lookbacks(close: Array, simple_return: Array, bars_per_hour: int) -> tuple[Array, Array, Array]:
    """Four-hour trend, one-hour momentum, four-hour share of rising bars; each 0 before its lookback is full."""
    hour, long, counted = bars_per_hour, TREND_HOURS * bars_per_hour, RISING_HOURS * bars_per_hour
    row = jnp.arange(close.shape[0])

    def change(bars: int) -> Array:
        before = lag(close, bars)
        return (close - before) / (before + EPSILON)

    trend = jnp.where(row < long, 0.0, change(long))
    momentum = jnp.where(row < 2 * hour, 0.0, change(hour) - lag(change(hour), hour))
    rising = rolling_sum((simple_return > 0.0).astype(close.dtype), counted) / counted
    return trend, momentum, jnp.where(row < counted, 0.0, rising)
