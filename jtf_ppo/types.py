"""What the learner asks of an environment and hands back.

Axes: `[B]` environments, `[N]` steps, `[T]` rows, `[A]` actions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax import Array

PyTree = Any


class RowTable(NamedTuple):
    """The rows an address observation points into; a pytree argument of every compiled function."""

    features: Array
    """``[T, F]`` standardised columns, windowed over the last `W` rows."""
    context: Array
    """``[T, C]`` standardised columns broadcast over the window (`C` may be 0)."""


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

    `data` is a pytree (market, parameters) that travels as an argument: nothing big is ever captured.
    """

    num_actions: int
    reset: Callable[[Array, int, PyTree], tuple[PyTree, PyTree]]
    """``(key, B, data) -> (state, observation)``; consumes the key."""
    step: Callable[[Array, PyTree, Array, PyTree], tuple[PyTree, Timestep]]
    """``(bits [B] uint32, state, action [B] int32, data) -> (state, Timestep)``; consumes the bits."""
    observation_dim: int
    """Size of the flattened dense observation."""
    table: Callable[[PyTree], RowTable] | None = None
    """Row table of `data` where observations are addresses (int32 row indices); None for dense observations."""
    window: int = 0
    """Rows an address stands for: the address and the `window - 1` rows before it."""
    first_row: int = 0
    """First row that can be an address; rows before it are history only."""

    @property
    def address_only(self) -> bool:
        """Whether observations are row addresses and nothing else: what the row engine needs."""
        return self.table is not None


class Policy(NamedTuple):
    """The current network as two pure functions, for validation and for people."""

    evaluate: Callable[[PyTree, RowTable | None], tuple[Array, Array]]
    """``(observation [B, ...], table) -> (logits [B, A], value [B])``."""
    evaluate_rows: Callable[[RowTable, int], tuple[Array, Array]]
    """``(table, first_row) -> (logits [T, A], value [T])`` of every row; those before `first_row` are zero."""


@dataclass(frozen=True)
class Validation:
    """A compiled check of the policy on data it is not trained on."""

    run: Callable[[Policy, PyTree], dict[str, Array]]
    """``(policy, data) -> metrics``, scalars, traced once; ``score`` decides which checkpoint is best (higher)."""
    data: PyTree


class TrainResult(NamedTuple):
    """What a finished, or cleanly stopped, training returns. Parameters are nested dicts of NumPy arrays."""

    params: dict[str, Any]
    best_params: dict[str, Any]
    """Parameters that validated best (the last ones where nothing was validated)."""
    updates: int
    steps: int
    best_update: int
    metrics: dict[str, float]
    """Last training metrics."""
    validation: dict[str, float]
    """Validation metrics of `best_params`."""
    compile_seconds: float
    run_seconds: float
    """Wall seconds of the updates alone: compile, validation and checkpoints excluded."""
    skipped_updates: int
    stopped: str
    """Why it ended: ``finished``, ``interrupted`` or ``patience``."""
