"""The clipped PPO objective, by samples and by rows: the same number (Schulman et al. 2017, eq. 9)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jtf_ppo.hyper import Hyper
from jtf_ppo.types import PyTree


class SampleBatch(NamedTuple):
    """Samples of one rollout, flattened to ``[S]``, or a minibatch of them."""

    observation: PyTree
    """``[S, ...]`` `Observation` or dense numbers."""
    action: Array
    """``[S]`` int32."""
    log_prob: Array
    """``[S]`` log-probability of `action` when it was taken."""
    advantage: Array
    """``[S]`` normalised over the rollout."""
    target: Array
    """``[S]`` value targets: advantage before normalisation plus value."""


class RowSums(NamedTuple):
    """A rollout of address-only observations as sums per row: everything the loss needs of it."""

    positive_advantage: Array
    """``[T, A]`` sum of max(advantage, 0) over the samples at (row, action)."""
    negative_advantage: Array
    """``[T, A]`` sum of min(advantage, 0)."""
    samples: Array
    """``[T]`` samples."""
    residual: Array
    """``[T]`` sum of value targets less `values`, so that large values leave no rounding behind."""
    residual_square: Array
    """``[T]`` sum of their squares."""
    values: Array
    """``[T]`` values of the policy that collected the rollout."""
    log_probs: Array
    """``[T, A]`` log-probabilities of the policy that collected the rollout."""


MAX_LOG_RATIO = 60.0
"""Bound of the log-ratio by rows. The ratio of an action nobody took may overflow; inf * 0 is NaN. An action that was
drawn had a probability of at least 2^-24 (the random word has as many bits), so no sample's ratio comes near."""


def entropy(log_probs: Array) -> Array:
    """Entropy over the last axis, nats."""
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def log_prob_of(logits: Array, action: Array) -> Array:
    """Log-probability of ``action [S]`` under ``logits [S, A]``."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=1)[:, 0]


def sample_loss(
    logits: Array, values: Array, batch: SampleBatch, weight: Array, hyper: Hyper
) -> tuple[Array, dict[str, Array]]:
    """Loss of a minibatch of samples: ``logits [S, A]``, ``values [S]``, ``weight [S]`` 1 or, for padding, 0."""
    total = jnp.maximum(weight.sum(), 1.0)

    def mean(x: Array) -> Array:
        return jnp.sum(weight * x) / total

    log_probs = jax.nn.log_softmax(logits)
    log_ratio = log_prob_of(logits, batch.action) - batch.log_prob
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - hyper.clip_eps, 1.0 + hyper.clip_eps)
    policy = -mean(jnp.minimum(ratio * batch.advantage, clipped * batch.advantage))
    value = mean(jnp.square(values - batch.target)) / 2.0
    return _combine(
        policy,
        value,
        mean(entropy(log_probs)),
        # Schulman 2020, "Approximating KL divergence", k3: unbiased and never negative.
        kl=mean(ratio - 1.0 - log_ratio),
        clip_fraction=mean((jnp.abs(ratio - 1.0) > hyper.clip_eps).astype(values.dtype)),
        hyper=hyper,
    )


def row_loss(
    logits: Array, values: Array, sums: RowSums, weight: Array, total: Array, hyper: Hyper
) -> tuple[Array, dict[str, Array]]:
    """Loss of a minibatch of rows: ``logits [R, A]``, ``values [R]``, ``weight [R]`` 1 or, for padding, 0.

    With ``rho = pi(a|t) / pi_old(a|t)``, ``min(rho A, clip(rho) A)`` is ``min(rho, 1 + eps) A`` for ``A > 0`` and
    ``max(rho, 1 - eps) A`` for ``A < 0``, so the sum over the samples at (t, a) needs only the two sums of their
    advantages: nothing is approximated. `total` is the number of samples the minibatch stands for.
    """

    def mean(x: Array) -> Array:
        return jnp.sum(weight * x) / total

    log_probs = jax.nn.log_softmax(logits)
    log_ratio = log_probs - sums.log_probs
    ratio = jnp.exp(jnp.minimum(log_ratio, MAX_LOG_RATIO))
    capped = jnp.minimum(ratio, 1.0 + hyper.clip_eps)
    floored = jnp.maximum(ratio, 1.0 - hyper.clip_eps)
    policy = -mean(jnp.sum(capped * sums.positive_advantage + floored * sums.negative_advantage, axis=-1))
    moved = values - sums.values
    value = mean(sums.samples * jnp.square(moved) - 2.0 * moved * sums.residual + sums.residual_square) / 2.0
    old_probs = jnp.exp(sums.log_probs)
    outside = (jnp.abs(ratio - 1.0) > hyper.clip_eps).astype(values.dtype)
    return _combine(
        policy,
        value,
        mean(sums.samples * entropy(log_probs)),
        kl=mean(sums.samples * jnp.sum(old_probs * -log_ratio, axis=-1)),
        clip_fraction=mean(sums.samples * jnp.sum(old_probs * outside, axis=-1)),
        hyper=hyper,
    )


def _combine(
    policy: Array, value: Array, mean_entropy: Array, kl: Array, clip_fraction: Array, hyper: Hyper
) -> tuple[Array, dict[str, Array]]:
    total = policy + hyper.vf_coef * value - hyper.ent_coef * mean_entropy
    return total, {
        "loss/total": total,
        "loss/policy": policy,
        "loss/value": value,
        "train/entropy": mean_entropy,
        "train/kl": kl,
        "train/clip_fraction": clip_fraction,
    }
