"""The PureJaxRL-style peer trained and validated on a known market, as `benchmarks.learning` does it for jtf."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from benchmarks.learning import Curve, Recorder, Segments, known_problem, make_segments, score_both
from benchmarks.purejaxrl import Peer, PeerConfig, gymnax_env, make_peer
from jtf.known_optimum.markets import KnownOptimumMarket
from jtf_ppo.types import Environment, PolicyFunctions, RowTable

ROWS_AT_ONCE = 256
"""Dense observations that exist at the same time while a whole market is evaluated."""


def learn_peer(
    known: KnownOptimumMarket,
    config: PeerConfig,
    *,
    updates: int,
    validation_interval: int,
    max_seconds: float,
    enough: float,
    seed: int = 0,
) -> Curve:
    """Train the peer until `updates`, `max_seconds`, or the unseen return `enough` ends it."""
    problem = known_problem(known)
    segments = make_segments(problem)
    env = gymnax_env(problem.data)
    peer = make_peer(env, env.default_params, config)
    recorder = Recorder(max_seconds, enough)
    state = jax.jit(peer.start)(jax.random.key(seed), env.default_params)
    began = time.perf_counter()
    iterate = jax.jit(peer.iterate, donate_argnums=0).lower(state, env.default_params).compile()
    score = jax.jit(_scorer(peer, problem.environment)).lower(state.params, segments).compile()
    compile_seconds = time.perf_counter() - began
    done, run_seconds = 0, 0.0
    while done < updates and not recorder.should_stop():
        began = time.perf_counter()
        state, _ = jax.block_until_ready(iterate(state, env.default_params))
        run_seconds += time.perf_counter() - began
        done += 1
        if done % validation_interval == 0 or done == updates:
            scores: dict[str, Any] = jax.device_get(score(state.params, segments))
            recorder.record(done, float(scores["score"]), float(scores["train_score"]))
    steps = done * config.batch_size
    return Curve(tuple(recorder.points), compile_seconds, steps, steps / run_seconds, config)


def _scorer(peer: Peer, env: Environment) -> Callable[[nnx.State, Segments], dict[str, Array]]:
    def score(params: nnx.State, segments: Segments) -> dict[str, Array]:
        def evaluate(observation: Array, table: RowTable | None) -> tuple[Array, Array]:
            return peer.apply(params, observation)

        def evaluate_rows(table: RowTable) -> tuple[Array, Array]:
            return _evaluate_rows(peer, params, table, env.first_row, env.window)

        return score_both(PolicyFunctions(evaluate, evaluate_rows), segments)

    return score


def _evaluate_rows(peer: Peer, params: nnx.State, table: RowTable, first_row: int, window: int) -> tuple[Array, Array]:
    """Return ``(logits [T, A], values [T])`` of the dense windows that end at every row; zero before `first_row`."""

    def evaluate(row: Array) -> tuple[Array, Array]:
        features = jax.lax.dynamic_slice_in_dim(table.features, row - (window - 1), window)
        context = jnp.broadcast_to(table.context[row][None, :], (window, table.context.shape[1]))
        logits, value = peer.apply(params, jnp.concatenate([features, context], axis=1)[None])
        return logits[0], value[0]

    rows = jnp.arange(first_row, table.features.shape[0], dtype=jnp.int32)
    outputs = jax.lax.map(evaluate, rows, batch_size=ROWS_AT_ONCE)
    return jax.tree.map(lambda x: jnp.pad(x, ((first_row, 0),) + ((0, 0),) * (x.ndim - 1)), outputs)
