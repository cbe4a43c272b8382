"""Generalised advantage estimation with the two endings kept apart."""

import jax.numpy as jnp
from jax import Array

from jtf_ppo.loops import joined, scan_blocks


def gae(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    gamma: Array | float,
    gae_lambda: Array | float,
    at_once: int = 1,
) -> Array:
    """Return advantages ``[N, B]`` (Schulman et al. 2016, eq. 16) of time-major ``[N, B]`` inputs.

    ``delta_t = r_t + gamma * next_values_t * (1 - terminated_t) - values_t`` and
    ``A_t = delta_t + gamma * lambda * (1 - terminated_t) * (1 - truncated_t) * A_{t+1}``.

    `next_values` is the value of the *final* observation of each step, before any reset: a truncation bootstraps
    with it, a termination with zero, and the trace is cut at both. `at_once` steps are one iteration of the loop.
    """

    def backward(advantage: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, value, next_value, ended, cut = step
        alive = 1.0 - ended.astype(value.dtype)
        delta = reward + gamma * next_value * alive - value
        trace = gamma * gae_lambda * alive * (1.0 - cut.astype(value.dtype))
        advantage = delta + trace * advantage
        return advantage, advantage

    steps = (rewards, values, next_values, terminated, truncated)
    _, advantages = scan_blocks(backward, jnp.zeros_like(values[0]), steps, at_once, reverse=True)
    return joined(advantages)


def normalise(advantages: Array) -> Array:
    """Zero mean, unit standard deviation over the whole rollout.

    Over the rollout and not the minibatch: only then are sums of advantages per row exact (`jtf_ppo.rows`).
    """
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
