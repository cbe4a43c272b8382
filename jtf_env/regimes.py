"""Filtered regime probabilities in JAX: the `markov12` filters and `reversal3`, which sets two of them side by side.

Each filter is the forward pass of a three-state hidden Markov model (Hamilton 1989, eqs. 4-6; no smoothing):
sticky transitions, unit-variance Gaussian emissions at -1, 0 and +1 on a standardised statistic. In every
product of matrices here the last axes are long, ``[3, 3, K, N]``, and the 3 x 3 sums are written out by
broadcasting.
"""

import jax.numpy as jnp
from jax import Array, lax

from jtf_env import constants as const
from jtf_env.constants import LONG_REGIME, SHORT_REGIME, STATISTIC_CLIP, STAY, SWITCH, TREND_SPREAD
from jtf_env.indicators import change, divide, lag, rolling_mean, rolling_return_std

BLOCK = 256
"""Bars per block of the two-level scan."""


def statistics(close: Array, log_return: Array, warmup: int) -> Array:
    """Return ``[4, T]`` standardised statistics: volatility, trend, momentum, macro, each clipped to +-4.

    A statistic is 0 before row `warmup` and where a standard deviation in it is 0.
    """
    short, long = rolling_return_std(log_return, SHORT_REGIME), rolling_return_std(log_return, LONG_REGIME)
    momentum = change(close, const.MOMENTUM_BARS)
    turn = momentum - lag(momentum, const.MOMENTUM_CHANGE_BARS)
    ratio = divide(short, long, 0.0)
    s = jnp.stack(
        [
            jnp.where(ratio == 0.0, 0.0, jnp.log(jnp.where(ratio == 0.0, 1.0, ratio)) / const.VOLATILITY_SPREAD),
            divide(rolling_mean(log_return, SHORT_REGIME) * SHORT_REGIME**0.5, TREND_SPREAD * short, 0.0),
            divide(turn, short * const.MOMENTUM_BARS**0.5, 0.0),
            divide(rolling_mean(log_return, LONG_REGIME) * LONG_REGIME**0.5, TREND_SPREAD * long, 0.0),
        ]
    )
    cold = jnp.arange(close.shape[0])[None, :] < warmup
    return jnp.where(cold, 0.0, jnp.clip(s, -STATISTIC_CLIP, STATISTIC_CLIP))


def _predict(p: Array, axis: int) -> Array:
    """Multiply by the transition matrix along `axis`: stay 0.90, 0.05 to each other state."""
    return (STAY - SWITCH) * p + SWITCH * p.sum(axis, keepdims=True)


def filter_posteriors(s: Array) -> Array:
    """Return ``[3, K, T]`` posteriors given ``s_0 .. s_i`` of `K` statistics ``[K, T]``, started uniform.

    ``posterior_i ~ likelihood_i * (transition' posterior_{i-1})``. The product of (transition, likelihood)
    matrices is associative, so the pass runs over the bars *inside* all blocks of `BLOCK` bars at once,
    carrying one matrix per block, then over blocks (a two-level parallel scan; Särkkä and García-Fernández
    2021, section III). Each product is normalised to sum 1, which changes no posterior and keeps every
    number in range.
    """
    series, bars = s.shape
    blocks = -(-bars // BLOCK)
    padded = jnp.pad(s, ((0, 0), (0, blocks * BLOCK - bars))).reshape(series, blocks, BLOCK)
    means = jnp.array(const.STATES, s.dtype)[:, None, None, None]
    likelihood = jnp.exp(-0.5 * (padded[None] - means) ** 2)

    def inside(product: Array, like: Array) -> tuple[Array, Array]:
        product = _predict(product, axis=1) * like[None]
        product = product / product.sum((0, 1), keepdims=True)
        return product, product

    def across(posterior: Array, product: Array) -> tuple[Array, Array]:
        after = (posterior[:, None] * product).sum(0)
        return after / after.sum(0, keepdims=True), posterior

    identity = jnp.broadcast_to(jnp.eye(3, dtype=s.dtype)[:, :, None, None], (3, 3, series, blocks))
    last, products = lax.scan(inside, identity, jnp.moveaxis(likelihood, 3, 0))
    _, before = lax.scan(across, jnp.full((3, series), 1.0 / 3.0, s.dtype), jnp.moveaxis(last, 3, 0))
    posterior = (jnp.moveaxis(before, 0, 2)[None, :, None] * products).sum(1)
    posterior = posterior / posterior.sum(1, keepdims=True)
    return jnp.moveaxis(posterior, 0, 3).reshape(3, series, blocks * BLOCK)[:, :, :bars]


def reversal(trend: Array, momentum: Array) -> tuple[Array, Array, Array]:
    """Return turn_up, continue and turn_down, each ``[T]`` in [0, 1], with sum at most 1.

    ``trend [3, T]`` and ``momentum [3, T]`` are posteriors (down, flat, up) of the same bars. A turn is momentum
    against the trend, a continuation momentum with it; the remainder to 1 has one of the two flat.
    """
    trend_down, _, trend_up = trend
    momentum_down, _, momentum_up = momentum
    return (
        trend_down * momentum_up,
        trend_up * momentum_up + trend_down * momentum_down,
        trend_up * momentum_down,
    )


def state_age(posteriors: Array) -> Array:
    """Return ``[T]`` bars since the most likely state of ``posteriors [3, T]`` changed, / 100, at most 1."""
    state = jnp.argmax(posteriors, axis=0)
    row = jnp.arange(state.shape[0])
    never = -const.REGIME_BARS
    changed = jnp.concatenate([jnp.zeros(1, bool), state[1:] != state[:-1]])
    last_change = lax.cummax(jnp.where(changed, row, never))
    return jnp.minimum((row - last_change).astype(posteriors.dtype) / const.REGIME_BARS, 1.0)
