"""Filtered regime probabilities in JAX: the `markov12` filters and the `reversal3` one-step outlook.

Each filter is the forward pass of a three-state hidden Markov model (Hamilton 1989, eqs. 4-6; no smoothing):
sticky transitions, unit-variance Gaussian emissions at -1, 0 and +1 on a standardised statistic. In every
product of matrices here the last axes are long, ``[3, 3, K, N]``, and the 3 x 3 sums are written out by
broadcasting.
"""

import jax.numpy as jnp
from jax import Array, lax

from jtf_env.indicators import change, divide, lag, rolling_mean, rolling_return_std

STAY = 0.90
SWITCH = 0.05
BLOCK = 256
"""Bars per block of the two-level scan."""


def statistics(close: Array, log_return: Array, warmup: int) -> Array:
    """Return ``[4, T]`` standardised statistics: volatility, trend, momentum, macro, each clipped to +-4.

    A statistic is 0 before row `warmup` and where a standard deviation in it is 0.
    """
    std_20, std_100 = rolling_return_std(log_return, 20), rolling_return_std(log_return, 100)
    momentum = change(close, 10)
    ratio = divide(std_20, std_100, 0.0)
    s = jnp.stack(
        [
            jnp.where(ratio == 0.0, 0.0, jnp.log(jnp.where(ratio == 0.0, 1.0, ratio)) / 0.35),
            divide(rolling_mean(log_return, 20) * 20**0.5, 2.0 * std_20, 0.0),
            divide(momentum - lag(momentum, 5), std_20 * 10**0.5, 0.0),
            divide(rolling_mean(log_return, 100) * 100**0.5, 2.0 * std_100, 0.0),
        ]
    )
    cold = jnp.arange(close.shape[0])[None, :] < warmup
    return jnp.where(cold, 0.0, jnp.clip(s, -4.0, 4.0))


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
    means = jnp.array([-1.0, 0.0, 1.0], s.dtype)[:, None, None, None]
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


def reversal(trend: Array) -> tuple[Array, Array, Array]:
    """Return P(next state is up and was not), P(next state is the same), P(next state is down and was not).

    ``trend [3, T]`` is the trend posterior (down, flat, up). The remainder to 1 is P(next state is flat and
    was not). With one stay probability for all states the middle number is that probability, 0.90, on every
    row.
    """
    down, flat, up = trend
    return SWITCH * (down + flat), STAY * (down + flat + up), SWITCH * (flat + up)
