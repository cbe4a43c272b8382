"""Parameters and moments as one array each, for the length of an update: a GPU pays for every array by itself."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jtf_ppo.config import PPOConfig
from jtf_ppo.hyper import Hyper
from jtf_ppo.optimiser import first_kernels, make_optimiser


class Arrangement(NamedTuple):
    """How the epochs of an update hold parameters and moments: as trees, or as one array each."""

    optimiser: optax.GradientTransformation
    params: Any
    opt_state: Any
    pack: Callable[[Any], Any]
    """A tree of parameters, or of their gradients, as the optimiser takes it."""
    unpack: Callable[[Any], Any]
    """What `pack` made, as a tree."""
    unpack_state: Callable[[Any], Any]
    """The optimiser's state in the structure it came in."""


def arrange(config: PPOConfig, hyper: Hyper, params: Any, opt_state: Any) -> Arrangement:
    """Return the arrangement that a resolved `config` names; both give the same numbers."""
    if not config.flat_parameters:
        return Arrangement(make_optimiser(config, hyper), params, opt_state, _as_is, _as_is, _as_is)
    unpack, (adam, *rest) = _unpacker(params), opt_state
    decays = jax.tree.map(lambda leaf, yes: jnp.full(leaf.shape, yes, leaf.dtype), params, first_kernels(params))
    # What comes after Adam holds no arrays.
    packed = (adam._replace(mu=_pack(adam.mu), nu=_pack(adam.nu)), *(optax.EmptyState() for _ in rest))

    def unpack_state(state: Any) -> Any:
        return (state[0]._replace(mu=unpack(state[0].mu), nu=unpack(state[0].nu)), *rest)

    return Arrangement(make_optimiser(config, hyper, _pack(decays)), _pack(params), packed, _pack, unpack, unpack_state)


def _as_is(tree: Any) -> Any:
    return tree


def _pack(tree: Any) -> Array:
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def _unpacker(tree: Any) -> Callable[[Array], Any]:
    """Return the inverse of `_pack` for trees like this one, in slices that XLA reads in place."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([leaf.size for leaf in leaves]).tolist()

    def unpack(flat: Array) -> Any:
        parts = (jax.lax.slice(flat, (end - leaf.size,), (end,)) for leaf, end in zip(leaves, ends, strict=True))
        return jax.tree.unflatten(structure, [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)])

    return unpack
