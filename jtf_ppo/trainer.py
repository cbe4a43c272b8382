"""The host loop: compile once, call the update, and between calls log, validate, checkpoint, stop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array

from jtf_ppo.checkpoint import CheckpointStore
from jtf_ppo.config import PPOConfig
from jtf_ppo.errors import CheckpointError, DivergedError
from jtf_ppo.rows import evaluate_rows
from jtf_ppo.types import Environment, Policy, PyTree, TrainResult, Validation
from jtf_ppo.update import MAX_SKIPS, TrainState, make_engine, make_state, make_update

Metrics = dict[str, float]


@dataclass
class Best:
    """The best validation so far; travels with every checkpoint."""

    update: int = 0
    score: float = -math.inf
    validation: Metrics = field(default_factory=dict)
    params: dict[str, Any] | None = None
    worse: int = 0
    """Validations since the best one."""


def train(
    env: Environment,
    data: PyTree,
    config: PPOConfig,
    *,
    validation: Validation | None = None,
    directory: Path | None = None,
    resume: bool = False,
    identity: dict[str, str] | None = None,
    on_update: Callable[[Metrics], None] | None = None,
    on_validation: Callable[[Metrics, dict[str, Any], bool], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainResult:
    """Train until ``config.total_steps``, a stop, or patience runs out.

    Parameters
    ----------
    env, data: the environment's functions and the pytree they take.
    config: resolved settings (`jtf_ppo.config.resolve`).
    validation: run every ``config.validation_interval`` updates; its ``score`` picks the best checkpoint.
    directory: takes ``checkpoints/`` and ``best/``; None keeps nothing.
    resume: go on from the newest checkpoint in `directory`, bit for bit.
    identity: what the checkpoints belong to; a mismatch at resume raises `CheckpointError`.
    on_update, on_validation: called on the host with plain floats; the latter also gets the parameters (nested dict of
        NumPy arrays) and whether they are the best so far.
    should_stop: asked after every update; True ends the run with a checkpoint.

    Raises
    ------
    CheckpointError, DivergedError (three optimiser steps in a row without a finite gradient).
    """
    graph, state = make_state(env, data, config)
    newest = CheckpointStore(directory / "checkpoints", identity=identity) if directory else None
    best_store = CheckpointStore(directory / "best", keep=1, identity=identity) if directory else None
    best = Best()
    if resume:
        state, best = _restore(newest, best_store, state)
    started = time.perf_counter()
    pure_update = make_update(env, config, make_engine(env, config, graph, data))
    update = jax.jit(pure_update, donate_argnums=0).lower(state, data).compile()
    validate = _compile_validation(env, config, graph, validation, state.params)
    clock = Clock(config, compile_seconds=time.perf_counter() - started, first_update=int(state.update))
    metrics: Metrics = {}
    stopped = "finished"
    saved = int(state.update) if resume else -1
    done = int(state.update)
    while done < config.total_updates:
        # Asked before an update, so that a resumed run that had lost patience stays where it stopped.
        if config.patience and best.worse >= config.patience:
            stopped = "patience"
            break
        began = time.perf_counter()
        state, device_metrics = update(state, data)
        metrics = _to_floats(jax.device_get(device_metrics))
        done += 1
        metrics |= clock.tick(done, time.perf_counter() - began)
        if on_update is not None:
            on_update(metrics)
        _refuse_divergence(metrics, done, newest)
        if validate is not None and _due(done, config.validation_interval, config.total_updates):
            best = _validate(validate, state, done, best, best_store, on_validation)
        if newest is not None and _due(done, config.checkpoint_interval, config.total_updates):
            _save(newest, state, done, best)
            saved = done
        if should_stop is not None and done < config.total_updates and should_stop():
            stopped = "interrupted"
            break
    if newest is not None and config.checkpoint_interval and saved != done:
        _save(newest, state, done, best)
    return _result(config, state, best, metrics, clock, stopped)


@dataclass
class Clock:
    """Counts seconds of updates apart from everything else; steps are a Python int and never overflow."""

    config: PPOConfig
    compile_seconds: float
    first_update: int
    run_seconds: float = 0.0

    def tick(self, done: int, seconds: float) -> Metrics:
        """Return the progress metrics after update number `done`, which took `seconds`."""
        self.run_seconds += seconds
        mean = self.run_seconds / (done - self.first_update)
        return {
            "update": done,
            "updates": self.config.total_updates,
            "steps": done * self.config.batch_size,
            "perf/steps_per_second": self.config.batch_size / mean,
            "perf/eta_seconds": mean * (self.config.total_updates - done),
            "perf/compile_seconds": self.compile_seconds,
        }


def to_numpy(params: nnx.State) -> dict[str, Any]:
    """Return parameters as nested dicts of NumPy arrays, keyed by layer and array name."""
    return jax.tree.map(np.asarray, nnx.to_pure_dict(params))


def make_policy(env: Environment, config: PPOConfig, graph: nnx.GraphDef, params: nnx.State) -> Policy:
    """Return the network with these parameters as pure functions."""
    method = config.first_layer

    def evaluate(observation: PyTree, table: Any) -> tuple[Array, Array]:
        return nnx.merge(graph, params)(observation, table)

    def rows(table: Any, first_row: int) -> tuple[Array, Array]:
        return evaluate_rows(graph, params, table, first_row, env.window, method)

    return Policy(evaluate, rows)


def _compile_validation(
    env: Environment, config: PPOConfig, graph: nnx.GraphDef, validation: Validation | None, params: nnx.State
) -> Callable[[nnx.State], Metrics] | None:
    if validation is None or not config.validation_interval:
        return None

    def run(params: nnx.State, data: PyTree) -> dict[str, Array]:
        return validation.run(make_policy(env, config, graph, params), data)

    program = jax.jit(run).lower(params, validation.data).compile()
    return lambda params: _to_floats(jax.device_get(program(params, validation.data)))


def _validate(
    validate: Callable[[nnx.State], Metrics],
    state: TrainState,
    done: int,
    best: Best,
    store: CheckpointStore | None,
    on_validation: Callable[[Metrics, dict[str, Any], bool], None] | None,
) -> Best:
    metrics = validate(state.params)
    score = metrics["score"]
    is_best = score > best.score
    params = to_numpy(state.params)
    best = (
        Best(done, score, metrics, params)
        if is_best
        else Best(best.update, best.score, best.validation, best.params, best.worse + 1)
    )
    if is_best and store is not None:
        store.save(done, {"params": nnx.to_pure_dict(state.params)}, _host(best))
    if on_validation is not None:
        on_validation({"update": done, **{f"val/{name}": value for name, value in metrics.items()}}, params, is_best)
    return best


def _host(best: Best) -> dict[str, Any]:
    """Host values of a checkpoint; minus infinity is not JSON, so no validation yet is null."""
    score = best.score if math.isfinite(best.score) else None
    return {
        "best_update": best.update,
        "best_score": score,
        "validation": best.validation,
        "worse": best.worse,
    }


def _score(host: dict[str, Any]) -> float:
    return -math.inf if host["best_score"] is None else host["best_score"]


def _save(store: CheckpointStore, state: TrainState, done: int, best: Best) -> None:
    store.save(done, _storable(state), _host(best))


def _storable(state: TrainState) -> list[Array]:
    """The state as a flat list of arrays: Orbax then asks nothing of flax or optax classes."""
    return jax.tree.leaves(state)


def _restore(
    newest: CheckpointStore | None, best_store: CheckpointStore | None, state: TrainState
) -> tuple[TrainState, Best]:
    """Return the newest checkpoint's state and the best validation known on disk."""
    if newest is None or best_store is None or not newest.steps():
        where = newest.directory if newest is not None else "no directory"
        raise CheckpointError(f"There is no checkpoint to resume in {where}; start a new run.")
    leaves, host = newest.load(newest.steps()[-1], _storable(state))
    state = jax.tree.unflatten(jax.tree.structure(state), leaves)
    best = Best(host["best_update"], _score(host), host["validation"], worse=host["worse"])
    steps = best_store.steps()
    # A crash can leave a best checkpoint from after the newest one; the updates that lead to it run again.
    if steps and steps[-1] == best.update:
        loaded, _ = best_store.load(best.update, {"params": nnx.to_pure_dict(state.params)})
        best.params = jax.tree.map(np.asarray, loaded["params"])
    return state, best


def _refuse_divergence(metrics: Metrics, done: int, newest: CheckpointStore | None) -> None:
    if metrics["train/skip_streak"] >= MAX_SKIPS:
        raise DivergedError(
            f"Update {done} diverged: {MAX_SKIPS} optimiser steps in a row had a non-finite loss or gradient; "
            f"{_last_good(newest)}; lower `learning_rate`."
        )


def _result(
    config: PPOConfig, state: TrainState, best: Best, metrics: Metrics, clock: "Clock", stopped: str
) -> TrainResult:
    params, done = to_numpy(state.params), int(state.update)
    return TrainResult(
        params=params,
        best_params=params if best.params is None else best.params,
        updates=done,
        steps=done * config.batch_size,
        best_update=best.update if best.params is not None else done,
        metrics=metrics,
        validation=best.validation,
        compile_seconds=clock.compile_seconds,
        run_seconds=clock.run_seconds,
        skipped_updates=int(state.skipped),
        stopped=stopped,
    )


def _due(done: int, interval: int | None, total: int) -> bool:
    """Whether something done every `interval` updates (0: never), and at the end, is due after update `done`."""
    return bool(interval) and (done % (interval or 1) == 0 or done == total)


def _last_good(store: CheckpointStore | None) -> str:
    steps = store.steps() if store is not None else []
    return (
        f"the last good checkpoint is {store.path(steps[-1])}" if store and steps else "no checkpoint had been written"
    )


def _to_floats(metrics: dict[str, Any]) -> Metrics:
    return {name: float(value) for name, value in metrics.items()}
