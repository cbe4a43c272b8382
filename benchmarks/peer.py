"""What the peers have in common: settings, how one is started on a market, and how its policy is read.

A peer is another project's trainer, or one written in its style, on our environment behind an adapter. Peers need the
extra ``bench``; their modules are imported only when one is started.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jtf.environment import TradingData
from jtf.errors import UserError
from jtf_env.market import Market

PyTree = Any
ROWS_AT_ONCE = 256
"""Dense observations that exist at the same time while a whole market is evaluated."""

MODULES = {
    "purejaxrl": "benchmarks.purejaxrl",
    "rejax": "benchmarks.rejax_peer",
    "sb3": "benchmarks.sb3_peer",
    "cleanrl": "benchmarks.cleanrl_peer",
}
"""Where each peer's ``start(data, config, seed) -> Session`` is."""
PEERS = tuple(MODULES)


class MissingPeerError(UserError):
    """A library of the ``bench`` extra is not installed."""

    def __init__(self, library: str):
        super().__init__(
            f'{library} is not installed; pip install "jtf[bench]", or leave its trainer out (--trainers).'
        )


@dataclass(frozen=True)
class PeerConfig:
    """Settings of a peer; those left out are this project's defaults."""

    num_envs: int
    num_minibatches: int
    num_steps: int = 128
    update_epochs: int = 10
    hidden_sizes: tuple[int, ...] = (512, 256, 128)
    learning_rate: float = 3e-4
    gamma: float = 0.991
    gae_lambda: float = 0.95
    clip_eps: float = 0.2
    ent_coef: float = 0.015
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5

    @property
    def batch_size(self) -> int:
        """Samples of one iteration."""
        return self.num_envs * self.num_steps

    @property
    def minibatch_size(self) -> int:
        """Samples of one optimiser step."""
        return self.batch_size // self.num_minibatches


class Session(NamedTuple):
    """A peer on one market, compiled and ready."""

    iterate: Callable[[], None]
    """Runs one rollout and its epochs to the end."""
    row_logits: Callable[[Market], np.ndarray]
    """``market -> [T, A]``: the present policy at every row; zero before `first_bar`."""
    compile_seconds: float


def start_peer(name: str, data: TradingData, config: PeerConfig, seed: int) -> Session:
    """Start a peer, or raise `MissingPeerError`; `UserError` where minibatches do not divide the samples."""
    if config.batch_size % config.num_minibatches:
        raise UserError(
            f"{config.batch_size} samples do not divide into {config.num_minibatches} minibatches; choose a minibatch "
            "size that divides environments x steps."
        )
    try:
        module = importlib.import_module(MODULES[name])
    except ImportError as error:
        raise MissingPeerError(str(error.name)) from None
    return module.start(data, config, seed)


def dense_row_logits(apply: Callable[[PyTree, Array], Array]) -> Callable[[PyTree, Market], Array]:
    """Return the compiled ``(params, market) -> [T, A]`` of a JAX policy ``apply(params, observation [B, W, D])``."""

    @jax.jit
    def row_logits(params: PyTree, market: Market) -> Array:
        def evaluate(row: Array) -> Array:
            features = jax.lax.dynamic_slice_in_dim(market.features, row - (market.window - 1), market.window)
            context = jnp.broadcast_to(market.context[row][None, :], (market.window, market.context.shape[1]))
            return apply(params, jnp.concatenate([features, context], axis=1)[None])[0]

        rows = jnp.arange(market.first_bar, market.num_bars, dtype=jnp.int32)
        logits = jax.lax.map(evaluate, rows, batch_size=ROWS_AT_ONCE)
        return jnp.pad(logits, ((market.first_bar, 0), (0, 0)))

    return row_logits


def host_row_logits(apply: Callable[[np.ndarray], np.ndarray], market: Market) -> np.ndarray:
    """Return ``[T, A]`` of a policy outside JAX, ``apply(observation [B, W * D]) -> [B, A]``."""
    features, context = np.asarray(market.features), np.asarray(market.context)
    logits = []
    for start in range(market.first_bar, market.num_bars, ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, market.num_bars))
        windows = features[rows[:, None] + np.arange(1 - market.window, 1)]
        constant = np.broadcast_to(context[rows][:, None, :], (*windows.shape[:2], context.shape[1]))
        logits.append(apply(np.concatenate([windows, constant], axis=2).reshape(len(rows), -1)))
    evaluated = np.concatenate(logits)
    return np.pad(evaluated, ((market.first_bar, 0), (0, 0)))
