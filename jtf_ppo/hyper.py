"""The numbers of a run that are not shapes: traced, so that another value never compiles again."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jtf_ppo.config import PPOConfig


class Hyper(NamedTuple):
    """One float32 scalar a setting of `PPOConfig`; `total_updates` is the length of the schedules."""

    learning_rate: Array
    warmup_fraction: Array
    final_fraction: Array
    gamma: Array
    gae_lambda: Array
    clip_eps: Array
    ent_coef: Array
    vf_coef: Array
    max_grad_norm: Array
    target_kl: Array
    feature_noise: Array
    context_noise: Array
    dropout: Array
    weight_decay: Array
    total_updates: Array


SWITCHES = ("target_kl", "feature_noise", "context_noise", "dropout", "weight_decay")
"""Settings whose zero leaves work out of the program: whether they are zero is part of its structure."""
HOST_ONLY = ("total_steps", "validation_interval", "checkpoint_interval", "patience", "seed")
"""Settings that only the host loop reads."""


def make_hyper(config: PPOConfig) -> Hyper:
    """Return the traced numbers of a resolved `config`."""
    return Hyper(*(jnp.asarray(getattr(config, name), jnp.float32) for name in Hyper._fields))


def structure(config: PPOConfig) -> PPOConfig:
    """Return what of `config` shapes the compiled program; configs that share it share the program.

    Every traced number is 0 or 1 here: only whether a switch is zero still counts.
    """
    fixed: dict[str, Any] = {name: getattr(PPOConfig(), name) for name in HOST_ONLY}
    for name in set(Hyper._fields) - {"total_updates"}:
        fixed[name] = float(getattr(config, name) > 0) if name in SWITCHES else 1.0
    return replace(config, **fixed)
