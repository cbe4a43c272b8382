"""What changes over a run, as functions of its progress in [0, 1]."""

import jax.numpy as jnp
import optax
from jax import Array

from jtf_ppo.hyper import Hyper


def learning_rate(progress: Array, hyper: Hyper) -> Array:
    """Rate at `progress`: linear from a tenth to the peak, then cosine to `final_fraction` of it.

    Loshchilov and Hutter 2017, eq. 5, without restarts.
    """
    warmup = jnp.maximum(hyper.warmup_fraction, 1e-9)
    rising = optax.schedules.linear_schedule(0.1, 1.0, transition_steps=1)(progress / warmup)
    phase = jnp.maximum((progress - warmup) / jnp.maximum(1.0 - warmup, 1e-9), 0.0)
    falling = optax.schedules.cosine_decay_schedule(1.0, decay_steps=1, alpha=hyper.final_fraction)(phase)
    return hyper.learning_rate * jnp.where(progress < hyper.warmup_fraction, rising, falling)
