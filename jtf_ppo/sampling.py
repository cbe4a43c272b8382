"""Drawing actions: one 32-bit word per environment and step serves the action and the environment."""

import jax
import jax.numpy as jnp
from jax import Array


def draw_bits(key: Array, num: int) -> Array:
    """Return ``[num]`` uint32; consumes `key`."""
    return jax.random.bits(key, (num,), jnp.uint32)


def bits_to_uniform(bits: Array) -> Array:
    """Map uint32 to float32 in [0, 1): the upper 24 bits, so that 1 is never reached by rounding."""
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def mix_bits(bits: Array) -> Array:
    """Scramble words that were already used for an action (finaliser of MurmurHash3, Appleby 2011, public domain)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def cumulative(logits: Array) -> Array:
    """Return ``[..., A - 1]``: the cumulative probabilities that separate the actions."""
    return jnp.cumsum(jax.nn.softmax(logits), axis=-1)[..., :-1]


def inverse_cdf(edges: Array, uniform: Array) -> Array:
    """Return int32 actions ``[B]`` for ``edges [B, A - 1]`` and ``uniform [B]``."""
    return jnp.sum(uniform[:, None] >= edges, axis=-1, dtype=jnp.int32)
