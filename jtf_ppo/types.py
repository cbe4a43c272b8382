"""What the learner asks of an environment and hands back.

Axes: `[B]` environments, `[N]` steps, `[T]` rows, `[F]` windowed columns, `[C]` broadcast columns of a row, `[E]`
account columns, `[A]` actions, `[S]` members.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax import Array

PyTree = Any
Metrics = dict[str, float]
"""Host values by name, prefixed ``train/``, ``val/``, ``loss/``, ``perf/``."""


class Observation(NamedTuple):
    """What a decision sees of an environment with a row table: an address and a few numbers beside it."""

    row: Array
    """``[B]`` int32 address into the `RowTable`."""
    account: Array
    """``[B, E]`` columns from the environment's state, broadcast over the window; none where address-only."""


class RowTable(NamedTuple):
    """The rows an address observation points into; a pytree argument of every compiled function."""

    features: Array
    """``[T, F]`` standardised columns, windowed over the last `W` rows."""
    context: Array
    """``[T, C]`` standardised columns broadcast over the window (`C` may be 0)."""
    usable: Array
    """``[T]`` bool: rows that can be addresses. The others are history, holes or padding and have no weight; those that
    no window of a usable row reads must hold finite numbers that do not depend on what was there."""


class Timestep(NamedTuple):
    """What a batched environment returns for one step, auto-reset applied."""

    observation: PyTree
    """``[B, ...]`` what the next decision sees: after a reset where the episode ended."""
    final_observation: PyTree
    """``[B, ...]`` what this step ended on, before any reset; its value bootstraps a truncation."""
    reward: Array
    """``[B]`` float32."""
    terminated: Array
    """``[B]`` bool: the task ended; no bootstrap."""
    truncated: Array
    """``[B]`` bool: the episode was cut; bootstrap with the value of `final_observation`."""
    metrics: dict[str, Array]
    """``[B]`` float32 each; their mean over a rollout is reported as ``train/<name>``."""


@dataclass(frozen=True)
class Environment:
    """A batched environment as pure functions of `data`; hashable, so that it can be a static jit argument.

    `data` is a pytree that travels as an argument: nothing big is ever captured.
    """

    num_actions: int
    reset: Callable[[Array, int, PyTree], tuple[PyTree, PyTree]]
    """``(key, B, data) -> (state, observation)``; consumes the key."""
    step: Callable[[Array, PyTree, Array, PyTree], tuple[PyTree, Timestep]]
    """``(bits [B] uint32, state, action [B] int32, data) -> (state, Timestep)``; consumes the bits."""
    observation_dim: int
    """Size of the flattened dense observation; what a network without a row table reads."""
    table: Callable[[PyTree], RowTable] | None = None
    """Row table of `data` where observations are addresses (int32 row indices); None for dense observations."""
    window: int = 0
    """Rows an address stands for: the address and the `window - 1` rows before it."""
    first_row: int = 0
    """First row that can be an address; rows before it are history only."""
    num_features: int = 0
    """Windowed columns `F` of the row table."""
    num_context: int = 0
    """Broadcast columns `C` of the row table."""
    num_account: int = 0
    """Account columns `E` beside the address."""
    schedule: Callable[[PyTree, Array], tuple[PyTree, dict[str, Array]]] | None = None
    """``(data, progress) -> (data, metrics)``: what `data` is at `progress` in [0, 1) of the run, for one update.

    A curriculum (Bengio et al. 2009). Shapes stay; `table` and `reset` do not depend on it. None changes nothing."""
    window_layer: Callable[..., Any] | None = None
    """Another first layer over addresses, made with the arguments of `WindowDense`; it needs its `blocks`, and for the
    sample engine its `account_part`. None is `WindowDense`."""

    @property
    def address_only(self) -> bool:
        """Whether observations are row addresses and nothing else: what the row engine needs."""
        return self.table is not None and not self.num_account


class PolicyFunctions(NamedTuple):
    """A network with its parameters as two pure functions, for validation and for people."""

    on: Callable[[RowTable | None], Callable[[PyTree], tuple[Array, Array]]]
    """``table -> (observation [B, ...] -> (logits [B, A], value [B]))``; what rows alone decide is computed once."""
    evaluate_rows: Callable[[RowTable], tuple[Array, Array]]
    """``table -> (logits [T, A], value [T])`` of every row; those before the environment's `first_row` are zero."""


class ValidationParts(NamedTuple):
    """A validation in two parts, for devices that are slow at long sequences of small steps."""

    decide: Callable[[PolicyFunctions, PyTree], PyTree]
    """``(policy, data) -> decisions``, on the devices that train."""
    replay: Callable[[PyTree, PyTree], dict[str, Array]]
    """``(decisions, data) -> metrics``, on the host's CPU, while the devices go on with the next update."""


@dataclass(frozen=True)
class Validation:
    """A compiled check of the policy on data it is not trained on."""

    run: Callable[[PolicyFunctions, PyTree], dict[str, Array]]
    """``(policy, data) -> metrics``, scalars, traced once; ``score`` decides which checkpoint is best (higher)."""
    data: PyTree
    parts: ValidationParts | None = None
    """The same metrics as `run` in two parts, where the decisions can be made before they are played."""


class MemberResult(NamedTuple):
    """One member of a finished, or cleanly stopped, training. Parameters are nested dicts of NumPy arrays."""

    seed: int
    params: dict[str, Any]
    """Of the last update, without selection."""
    best_params: dict[str, Any]
    """Parameters that validated best (the last ones where nothing was validated)."""
    updates: int
    best_update: int
    metrics: dict[str, float]
    """Last training metrics."""
    validation: dict[str, float]
    """Validation metrics of `best_params`."""
    skipped_steps: int
    """Optimiser steps skipped for a non-finite loss or gradient."""
    stopped: str
    """Why it ended: ``finished``, ``interrupted``, ``patience`` or ``diverged``."""


class TrainResult(NamedTuple):
    """What a training of `S` members returns."""

    members: tuple[MemberResult, ...]
    """In order of their seeds."""
    steps: int
    """Environment steps of all members together."""
    steps_timed: int
    """Of these, the ones taken in `run_seconds`; a resumed run did not take the first ones."""
    compile_seconds: float
    run_seconds: float
    """Wall seconds of the updates alone: compile, validation and checkpoints excluded."""
    stopped: str
    """``interrupted``: it was asked to stop. ``patience``: no member reached the end. Else ``finished``."""
