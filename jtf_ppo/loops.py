"""Loops over the steps of a rollout, several steps an iteration: a GPU pays for every iteration and every kernel."""

import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jtf_ppo.types import PyTree

Step = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


def scan_blocks(
    step: Step,
    carry: PyTree,
    steps: PyTree,
    at_once: int,
    *,
    reverse: bool = False,
    prepare: Callable[[PyTree], PyTree] = lambda block: block,
) -> tuple[PyTree, PyTree]:
    """Scan `step` over ``steps [N, ...]``, `at_once` of them an iteration: ``(carry, [N / at_once, at_once, ...])``.

    Where `at_once` does not divide `N`, their greatest common divisor stands for it.

    Parameters
    ----------
    prepare: ``steps of an iteration -> what `step` takes``, both ``[at_once, ...]``.
    """
    size = math.gcd(at_once, jax.tree.leaves(steps)[0].shape[0])

    def several(carry: PyTree, block: PyTree) -> tuple[PyTree, PyTree]:
        block, out = prepare(block), [None] * size
        for i in reversed(range(size)) if reverse else range(size):
            carry, out[i] = step(carry, jax.tree.map(operator.itemgetter(i), block))
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *out)

    return jax.lax.scan(several, carry, in_blocks(steps, size), reverse=reverse)


def in_blocks(steps: PyTree, size: int) -> PyTree:
    """Return ``[N, ...]`` as ``[N / size, size, ...]``."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // size, size, *x.shape[1:]), steps)


def joined(blocks: PyTree) -> PyTree:
    """Return ``[N / size, size, ...]`` as ``[N, ...]``."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), blocks)
