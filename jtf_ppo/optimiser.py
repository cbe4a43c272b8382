"""The optimiser step: weighted norm clip, Adam, first-layer decay, refusal of non-finite gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jtf_ppo.config import PPOConfig
from jtf_ppo.hyper import Hyper

ADAM_EPS = 1e-5
"""Engstrom et al. 2020, "Implementation matters in deep policy gradients"; optax's 1e-8 amplifies noise."""


def make_optimiser(config: PPOConfig, hyper: Hyper) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) and decoupled decay (Loshchilov and Hutter 2019) of the first layer's kernels.

    Clipping comes before and the learning rate after, in `apply_gradient`. `config` says whether there is any decay,
    `hyper` how much.
    """
    steps = [optax.scale_by_adam(eps=ADAM_EPS)]
    if config.weight_decay:
        steps.append(optax.add_decayed_weights(hyper.weight_decay, mask=_first_kernels))
    return optax.chain(*steps)


def _path_names(path: Any) -> tuple[str, ...]:
    return tuple(str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path)


def _first_kernels(params: Any) -> Any:
    def is_kernel(path: Any, _: Array) -> bool:
        names = _path_names(path)
        return "first" in names and any(name.endswith("kernel") for name in names)

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def dense_norm(gradient: Any, window: int) -> Array:
    """Global norm of the gradient of the *dense* network.

    The gradient of a context row is `window` times that of each of the `window` dense rows it stands for, so its
    square counts ``1 / window`` times; a dense network trained beside this one is clipped by the same factor.
    """

    def square(path: Any, leaf: Array) -> Array:
        return jnp.sum(jnp.square(leaf)) / _copies(path, window)

    return jnp.sqrt(sum(jax.tree.leaves(jax.tree_util.tree_map_with_path(square, gradient))))


def _copies(path: Any, window: int) -> float:
    """Dense rows that one row of this parameter stands for."""
    return float(window) if "context_kernel" in _path_names(path) else 1.0


def apply_gradient(
    optimiser: optax.GradientTransformation,
    params: Any,
    opt_state: optax.OptState,
    gradient: Any,
    loss: Array,
    rate: Array,
    max_grad_norm: Array | float,
    window: int,
) -> tuple[Any, optax.OptState, Array, Array]:
    """Return ``(params, opt_state, norm, skipped)``; a non-finite loss or gradient leaves both as they were.

    So does a gradient of zero, which a minibatch without any sample has: momentum alone takes no step.
    Adam sees the gradient of one *dense* row for each context row: its steps ignore the scale of a gradient but for
    ``ADAM_EPS``, and with the sum of `window` gradients they would differ from the dense network's by that.
    """
    norm = dense_norm(gradient, window)
    finite = jnp.isfinite(norm) & jnp.isfinite(loss)
    scale = jnp.minimum(1.0, max_grad_norm / jnp.maximum(norm, 1e-12))
    clipped = jax.tree_util.tree_map_with_path(lambda path, g: g * (scale / _copies(path, window)), gradient)
    updates, new_state = optimiser.update(clipped, opt_state, params)
    new_params = optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates))

    def keep(new: Array, old: Array) -> Array:
        return jnp.where(finite & (norm > 0.0), new, old)

    return jax.tree.map(keep, new_params, params), jax.tree.map(keep, new_state, opt_state), norm, ~finite
