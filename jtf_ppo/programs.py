"""The compiled functions of a run: update and validation of a group of members, compiled side by side and once."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import SingleDeviceSharding

from jtf_ppo.errors import ConfigError
from jtf_ppo.hyper import Hyper
from jtf_ppo.learner import Learner, TrainState
from jtf_ppo.members import (
    Group,
    member_of,
    over_members,
    select_members,
    spread_members,
)
from jtf_ppo.types import Metrics, PyTree, Validation


class Programs(NamedTuple):
    """The compiled functions of a run, each over a group."""

    update: Callable[..., Any]
    validate: Callable[[nnx.State], Callable[[], list[Metrics]]] | None
    """Begins on the devices; what it returns waits for the metrics."""
    on_host: bool
    """Whether the second part of a validation runs on the host's CPU."""
    compile_seconds: float


def compile_programs(
    learner: Learner, group: Group, data: PyTree, validation: Validation | None, devices: Sequence[jax.Device]
) -> Programs:
    """Compile the update and the validation of a group, side by side; nothing where this process has done it before."""
    started = time.perf_counter()
    size = len(group.hyper.gamma)
    spread = tuple(devices[:1] if size == 1 else devices)
    mask = jnp.ones(size, jnp.bool_)
    lowered = [_update_program(learner, size, spread).lower(group.state, group.hyper, mask, data)]
    host = host_for(validation, devices)
    if validation is not None:
        first = validation.run if host is None or validation.parts is None else validation.parts.decide
        lowered.append(_validation_program(learner, first, size, spread).lower(group.state.params, validation.data))
    on_host = None
    if host is not None and validation is not None and validation.parts is not None:
        on_host = jax.device_put(validation.data, host)
        lowered.append(_lower_replay(validation.parts.replay, lowered[-1].out_info, on_host, host))
    with ThreadPoolExecutor(len(lowered)) as pool:
        update, *checks = pool.map(lambda program: program.compile(), lowered)
    seconds = time.perf_counter() - started

    def update_group(*arguments: Any) -> Any:
        state, metrics = update(*arguments)
        # Arrays without elements come back replicated, and the program refuses them so.
        return (spread_members(state, spread) if len(spread) > 1 else state), metrics

    def validate(params: nnx.State) -> Callable[[], list[Metrics]]:
        assert validation is not None
        begun = checks[0](params, validation.data)

        def finish() -> list[Metrics]:
            members = [member_of(jax.device_get(begun), index) for index in range(size)]
            if host is not None:
                members = [checks[1](jax.device_put(decisions, host), on_host) for decisions in members]
            return [{name: float(value) for name, value in metrics.items()} for metrics in members]

        return finish

    return Programs(update_group, validate if checks else None, host is not None, seconds)


def host_for(validation: Validation | None, devices: Sequence[jax.Device]) -> jax.Device | None:
    """Return the CPU that plays the second part of a validation, None where the devices play all of it."""
    if validation is None or validation.parts is None or devices[0].platform == "cpu":
        return None
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ConfigError("a validation replays on the CPU, which JAX_PLATFORMS leaves out; add cpu to it.") from error


def _lower_replay(
    replay: Callable[..., dict[str, jax.Array]], decisions: PyTree, data: PyTree, host: jax.Device
) -> jax.stages.Lowered:
    """Lower the replay of one member for the host; `decisions` are the shapes ``[S, ...]`` of all."""
    place = SingleDeviceSharding(host)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=place), decisions)
    return _replay_program(replay).lower(one, data)


# The same function again: `jax.jit` then finds what it traced and compiled for arguments of the same shapes.
@lru_cache(maxsize=32)
def _update_program(learner: Learner, size: int, devices: tuple[jax.Device, ...]) -> Any:
    """Return the jitted update of `size` members: ``(state, hyper, active, data) -> (state, metrics)``."""

    def update(state: TrainState, hyper: Hyper, active: Any, data: PyTree) -> Any:
        after, metrics = learner.update(state, hyper, data)
        return (after if size == 1 else select_members(active, after, state)), metrics

    return jax.jit(over_members(update, devices, size // len(devices)), donate_argnums=0)


@lru_cache(maxsize=32)
def _validation_program(
    learner: Learner, check: Callable[..., dict[str, jax.Array]], size: int, devices: tuple[jax.Device, ...]
) -> Any:
    """Return the jitted validation of `size` members: ``(params, data) -> metrics``."""

    def run(params: nnx.State, data: PyTree) -> dict[str, jax.Array]:
        return check(learner.evaluate(params), data)

    return jax.jit(over_members(run, devices, size // len(devices)))


@lru_cache(maxsize=32)
def _replay_program(replay: Callable[..., dict[str, jax.Array]]) -> Any:
    """Return the jitted second part of a validation: ``(decisions, data) -> metrics``."""
    return jax.jit(replay)
