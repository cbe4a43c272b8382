"""The host loop over members: compile once, call the update, and between calls log, validate, checkpoint, stop."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jtf_ppo.checkpoint import CheckpointStore
from jtf_ppo.config import PPOConfig
from jtf_ppo.errors import CheckpointError, DivergedError
from jtf_ppo.learner import MAX_SKIPS, TrainState, make_learner
from jtf_ppo.members import (
    Group,
    Member,
    filled,
    make_groups,
    member_arrays,
    member_of,
    member_record,
    restore_groups,
    to_numpy,
)
from jtf_ppo.programs import Programs, compile_programs
from jtf_ppo.types import Environment, MemberResult, Metrics, PyTree, TrainResult, Validation

OnUpdate = Callable[[list[Metrics]], None]
OnValidation = Callable[[list[Metrics], dict[int, dict[str, Any]], list[bool]], None]


class Ahead(NamedTuple):
    """An update of a group that the devices take while the host validates the one before it."""

    began: float
    active: list[bool]
    result: tuple[TrainState, PyTree]


def train(
    env: Environment,
    data: PyTree,
    config: PPOConfig,
    *,
    num_members: int = 1,
    validation: Validation | None = None,
    directory: Path | None = None,
    start_from: Path | None = None,
    identity: dict[str, str] | None = None,
    on_start: Callable[[], None] | None = None,
    on_update: OnUpdate | None = None,
    on_validation: OnValidation | None = None,
    should_stop: Callable[[], bool] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> TrainResult:
    """Train members with seeds ``config.seed, config.seed + 1, ...`` until ``config.total_steps``, a stop, or patience.

    Member `k` equals the single run with its seed: bit for bit on one CPU device, to rounding where several devices
    share the members or a GPU batches them.

    Parameters
    ----------
    env, data: the environment's functions and the pytree they take.
    config: resolved settings (`jtf_ppo.config.resolve`).
    validation: run every ``config.validation_interval`` updates; its ``score`` picks the best parameters of a member.
    directory: takes ``checkpoints/``; None keeps nothing.
    start_from: a run directory; go on from its newest checkpoint, bit for bit where it is this run's own. Patience
        begins anew where it is another's.
    identity: what the checkpoints belong to; a mismatch at resume raises `CheckpointError`.
    on_start: called when checkpoints were read and before the program is compiled.
    on_update: called after an update with one record of plain floats for each member that took it.
    on_validation: called with the records, the best parameters so far by seed (nested dicts of NumPy arrays) and,
        record by record, whether this one is the best of its member.
    should_stop: asked after every update; True ends the run with a checkpoint.
    devices: default all local devices of the default backend.

    Raises
    ------
    CheckpointError; DivergedError where every member had three optimiser steps in a row without a finite gradient.
    """
    devices = jax.local_devices() if devices is None else devices
    learner = make_learner(env, config)
    store = CheckpointStore(directory / "checkpoints", identity=identity) if directory else None
    groups = make_groups(learner, config, data, num_members, devices)
    if start_from is not None:
        parent = CheckpointStore(start_from / "checkpoints", identity=identity)
        groups = _restored(parent, groups, devices)
        if start_from != directory:
            for member in (member for group in groups for member in group.members):
                member.worse, member.diverged = 0, False
    if on_start is not None:
        on_start()
    programs = compile_programs(learner, groups[0], data, validation if config.validation_interval else None, devices)
    clock = Clock(config, programs.compile_seconds)
    run = Run(config, groups, programs, store, clock, data)
    stopped = run.loop(on_update, on_validation, should_stop)
    return run.result(stopped)


@dataclass
class Clock:
    """Counts seconds of updates apart from everything else; steps are a Python int and never overflow."""

    config: PPOConfig
    compile_seconds: float
    run_seconds: float = 0.0
    updates: int = 0
    """Member updates timed."""

    def tick(self, seconds: float, members: int, updates_left: int) -> Metrics:
        """Return the speed after updates of `members` that took `seconds`; `updates_left` counts all members."""
        self.run_seconds += seconds
        self.updates += members
        mean = self.run_seconds / self.updates
        return {
            "perf/steps_per_second": self.config.batch_size / mean,
            "perf/eta_seconds": mean * updates_left,
            "perf/compile_seconds": self.compile_seconds,
        }


@dataclass
class Run:
    """A training under way."""

    config: PPOConfig
    groups: list[Group]
    programs: Programs
    store: CheckpointStore | None
    clock: Clock
    data: PyTree
    saved: int = -1
    """Update of the checkpoint written last."""
    ahead: list[Ahead] = field(default_factory=list)
    """One a group, or none."""

    @property
    def members(self) -> list[Member]:
        """All members in order of their seeds."""
        return [member for group in self.groups for member in group.members]

    @property
    def done(self) -> int:
        """Updates of the member that is furthest."""
        return max(member.done for member in self.members)

    def active(self) -> list[Member]:
        """Members that take a further update."""
        return [member for member in self.members if not member.stopped(self.config)]

    def loop(
        self,
        on_update: OnUpdate | None,
        on_validation: OnValidation | None,
        should_stop: Callable[[], bool] | None,
    ) -> str:
        """Update until no member is active or a stop is asked for; return why it ended."""
        self.saved = self.done
        stopped = ""
        # Asked before an update, so that a resumed run that had lost patience stays where it stopped.
        while active := self.active():
            began = self.ahead[0].began if self.ahead else time.perf_counter()
            self.groups = [self._updated(index) for index in range(len(self.groups))]
            self.ahead = []
            left = sum(self.config.total_updates - member.done for member in active)
            speed = self.clock.tick(time.perf_counter() - began, len(active), left)
            for member in active:
                member.metrics |= speed
            if on_update is not None:
                on_update([member.metrics for member in active])
            self._mark_diverged(active)
            if self.programs.validate is not None and self._due(self.config.validation_interval):
                self._validate(active, on_validation)
            if self._due(self.config.checkpoint_interval):
                self._save()
            if should_stop is not None and self.active() and should_stop():
                stopped = "interrupted"
                break
        if self.config.checkpoint_interval and self.saved != self.done:
            self._save()
        reasons = [member.stopped(self.config) for member in self.members]
        return stopped or ("finished" if "finished" in reasons else "patience")

    def result(self, stopped: str) -> TrainResult:
        """Return what came of it."""
        members = []
        for group in self.groups:
            for index, member in enumerate(group.members):
                params = to_numpy(member_of(group.state.params, index))
                members.append(
                    MemberResult(
                        seed=member.seed,
                        params=params,
                        best_params=params if member.best_params is None else member.best_params,
                        updates=member.done,
                        best_update=member.done if member.best_params is None else member.best_update,
                        metrics=member.metrics,
                        validation=member.validation,
                        skipped_steps=int(group.state.skipped[index]),
                        stopped=member.stopped(self.config) or stopped,
                    )
                )
        steps = sum(member.updates for member in members) * self.config.batch_size
        timed = self.clock.updates * self.config.batch_size
        return TrainResult(tuple(members), steps, timed, self.clock.compile_seconds, self.clock.run_seconds, stopped)

    def _run_ahead(self) -> None:
        """Begin the next update of every group on a copy of its state, as if this validation stopped nobody."""
        self.ahead = []
        for group in self.groups:
            began, active = time.perf_counter(), self._who_goes_on(group)
            copy = group._replace(state=jax.tree.map(jnp.copy, group.state))
            self.ahead.append(Ahead(began, active, self._dispatch(copy, active)))

    def _who_goes_on(self, group: Group) -> list[bool]:
        return [not member.stopped(self.config) for member in group.members]

    def _dispatch(self, group: Group, active: list[bool]) -> tuple[TrainState, PyTree]:
        if not any(active):
            return group.state, {}
        mask = jnp.asarray(filled(active, len(group.hyper.gamma)))
        return self.programs.update(group.state, group.hyper, mask, self.data)

    def _updated(self, index: int) -> Group:
        """Return a group after one update of its active members."""
        group = self.groups[index]
        active = self._who_goes_on(group)
        ahead = self.ahead[index] if self.ahead else None
        state, metrics = ahead.result if ahead is not None and ahead.active == active else self._dispatch(group, active)
        values = jax.device_get(metrics)
        for index, member in enumerate(group.members):
            if active[index]:
                member.done += 1
                member.metrics = {
                    "seed": member.seed,
                    "update": member.done,
                    "updates": self.config.total_updates,
                    "steps": member.done * self.config.batch_size,
                    **{name: float(value[index]) for name, value in values.items()},
                }
        return group._replace(state=state)

    def _mark_diverged(self, active: list[Member]) -> None:
        for member in active:
            member.diverged = member.metrics["train/skip_streak"] >= MAX_SKIPS
        if all(member.diverged for member in self.members):
            raise DivergedError(
                f"Update {self.done} diverged: {MAX_SKIPS} optimiser steps in a row had a non-finite loss or gradient; "
                f"{_last_good(self.store)}; lower `learning_rate`."
            )

    def _validate(self, active: list[Member], on_validation: OnValidation | None) -> None:
        """Validate the members that took the last update; a better score replaces a member's best parameters."""
        assert self.programs.validate is not None
        records, improved = [], []
        shown = [group for group in self.groups if any(member in active for member in group.members)]
        begun = [self.programs.validate(group.state.params) for group in shown]
        if self.programs.on_host and self.active():
            self._run_ahead()
        for group, finish in zip(shown, begun, strict=True):
            values = finish()
            for index, member in enumerate(group.members):
                if member not in active or member.diverged:
                    continue
                metrics = values[index]
                is_best = metrics["score"] > member.best_score
                if is_best:
                    member.best_update, member.best_score, member.validation = member.done, metrics["score"], metrics
                    member.best_params = to_numpy(member_of(group.state.params, index))
                member.worse = 0 if is_best else member.worse + 1
                named = {f"val/{name}": value for name, value in metrics.items()}
                records.append({"seed": member.seed, "update": member.done, **named})
                improved.append(is_best)
        if on_validation is not None and records:
            best = {m.seed: m.best_params for m in self.members if m.best_params is not None}
            on_validation(records, best, improved)

    def _due(self, interval: int | None) -> bool:
        """Whether something done every `interval` updates (0: never), and at the end, is due now."""
        return bool(interval) and (self.done % (interval or 1) == 0 or not self.active())

    def _save(self) -> None:
        if self.store is None:
            return
        self.store.save(
            self.done, member_arrays(self.groups), {"members": [member_record(member) for member in self.members]}
        )
        self.saved = self.done


def _restored(store: CheckpointStore, groups: list[Group], devices: Sequence[jax.Device]) -> list[Group]:
    """Return the groups as the newest checkpoint of `store` left them."""
    if not store.steps():
        raise CheckpointError(f"There is no checkpoint to resume in {store.directory}; start a new run.")
    arrays, host = store.load(store.steps()[-1], member_arrays(groups))
    return restore_groups(arrays, host["members"], groups, devices)


def _last_good(store: CheckpointStore | None) -> str:
    steps = store.steps() if store is not None else []
    return (
        f"the last good checkpoint is {store.path(steps[-1])}" if store and steps else "no checkpoint had been written"
    )
