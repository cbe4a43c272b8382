"""The optimiser step: weighted norm clip, Adam, first-layer decay, refusal of non-finite gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jtf_ppo.config import PPOConfig
from jtf_ppo.hyper import Hyper

ADAM_EPS = 1e-5
"""Engstrom et al. 2020, "Implementation matters in deep policy gradients"; optax's 1e-8 amplifies noise."""


def make_optimiser(config: PPOConfig, hyper: Hyper, decays: Array | None = None) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) and decoupled decay (Loshchilov and Hutter 2019) of the first layer's kernels.

    Clipping comes before and the learning rate after, in `apply_gradient`. `config` says whether there is any decay,
    `hyper` how much. Where all parameters are one array, `decays` is 1 for those that decay and 0 for the others.
    """
    steps = [optax.scale_by_adam(eps=ADAM_EPS)]
    if config.weight_decay and decays is None:
        steps.append(optax.add_decayed_weights(hyper.weight_decay, mask=first_kernels))
    elif config.weight_decay and decays is not None:
        steps.append(optax.stateless(lambda updates, params: updates + hyper.weight_decay * decays * params))
    return optax.chain(*steps)


def _path_names(path: Any) -> tuple[str, ...]:
    return tuple(str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path)


def first_kernels(params: Any) -> Any:
    """Return a tree of whether each parameter is a kernel of the first layer."""

    def is_kernel(path: Any, _: Array) -> bool:
        names = _path_names(path)
        return "first" in names and any(name.endswith("kernel") for name in names)

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def per_dense_row(gradient: Any, window: int) -> Any:
    """Return the gradient of one *dense* row for each row of a context kernel, all others as they are."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf / _copies(path, window), gradient)


def dense_norm(rows: Any, packed: Any, window: int) -> Array:
    """Global norm of the gradient of the *dense* network from `rows`, its `per_dense_row`.

    `packed` holds the same numbers, as a tree or as one array.

    The gradient of a context row is `window` times that of each of the `window` dense rows it stands for, so its
    square counts ``1 / window`` times; a dense network trained beside this one is clipped by the same factor.
    """
    return jnp.sqrt(_square(packed) + _more_copies(rows, window))


def _square(tree: Any) -> Array:
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


def _more_copies(rows: Any, window: int) -> Array:
    """Squares of the dense rows beyond the first that each row of a context kernel stands for."""
    leaves = jax.tree_util.tree_leaves_with_path(rows)
    return sum(
        ((_copies(path, window) - 1.0) * _square(leaf) for path, leaf in leaves if _copies(path, window) > 1),
        jnp.zeros(()),
    )


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
    pack: Callable[[Any], Any] = lambda tree: tree,
) -> tuple[Any, optax.OptState, Array, Array]:
    """Return ``(params, opt_state, norm, skipped)``; a non-finite loss or gradient leaves both as they were.

    So does a gradient of zero, which a minibatch without any sample has: momentum alone takes no step.
    Adam sees the gradient of one *dense* row for each context row: its steps ignore the scale of a gradient but for
    ``ADAM_EPS``, and with the sum of `window` gradients they would differ from the dense network's by that.
    `gradient` is a tree; `pack` makes of it what `params` and the moments are.
    """
    rows = per_dense_row(gradient, window)
    packed = pack(rows)
    norm = dense_norm(rows, packed, window)
    finite = jnp.isfinite(norm) & jnp.isfinite(loss)
    scale = jnp.minimum(1.0, max_grad_norm / jnp.maximum(norm, 1e-12))
    updates, new_state = optimiser.update(jax.tree.map(lambda g: g * scale, packed), opt_state, params)
    new_params = optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates))

    def keep(new: Array, old: Array) -> Array:
        return jnp.where(finite & (norm > 0.0), new, old)

    return jax.tree.map(keep, new_params, params), jax.tree.map(keep, new_state, opt_state), norm, ~finite
