"""Members side by side: the same pure function over a leading axis `[S]`, one program for all of them.

On a CPU a group is one member, so that member `k` of a run is bit for bit the single run with its seed, and the groups
take turns. On a GPU a group is as many members as fit; on several devices the groups are spread over them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jtf_ppo.config import PPOConfig
from jtf_ppo.hyper import Hyper, make_hyper
from jtf_ppo.learner import Learner, TrainState
from jtf_ppo.types import Metrics, PyTree

AXIS = "member"
MEMORY_SHARE = 0.6
"""Share of a GPU's memory the members of a group may take."""


@dataclass
class Member:
    """What the host knows of one member; travels with every checkpoint."""

    seed: int
    done: int = 0
    """Updates."""
    best_update: int = 0
    """0: nothing was validated yet."""
    best_score: float = -math.inf
    validation: Metrics = field(default_factory=dict)
    """Of the best parameters."""
    worse: int = 0
    """Validations since the best one."""
    best_params: dict[str, Any] | None = None
    metrics: Metrics = field(default_factory=dict)
    """Of the last update."""
    diverged: bool = False

    def stopped(self, config: PPOConfig) -> str:
        """Return why this member takes no further update, an empty string where it does."""
        if self.diverged:
            return "diverged"
        if self.done >= config.total_updates:
            return "finished"
        return "patience" if config.patience and self.worse >= config.patience else ""


class Group(NamedTuple):
    """Members that one call of the compiled update trains."""

    members: list[Member]
    state: TrainState
    """``[S, ...]``; of a group that is not full the last member fills the rest."""
    hyper: Hyper
    """``[S]``"""


def per_device(device: jax.Device, member_bytes: int, wanted: int) -> int:
    """Return how many members one device takes at a time: 1 on a CPU, else as many of `wanted` as fit."""
    if device.platform == "cpu":
        return 1
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    return max(1, min(wanted, int(MEMORY_SHARE * limit) // max(member_bytes, 1)))


def over_members(function: Callable[..., PyTree], devices: Sequence[jax.Device], at_once: int) -> Callable[..., PyTree]:
    """Return ``(*mapped [S, ...], shared) -> [S, ...]`` of a function of one member.

    `S` is ``len(devices) * at_once``: every device computes `at_once` members in one batch. One member is not batched,
    so that its program is the same whatever number of members takes turns with it.
    """

    def on_one_device(*arguments: PyTree) -> PyTree:
        *mapped, shared = arguments
        if at_once > 1:
            return jax.vmap(lambda *member: function(*member, shared))(*mapped)
        return jax.tree.map(lambda leaf: leaf[None], function(*(member_of(tree, 0) for tree in mapped), shared))

    if len(devices) == 1:
        return on_one_device

    def on_all_devices(*arguments: PyTree) -> PyTree:
        specs = (*([P(AXIS)] * (len(arguments) - 1)), P())
        sharded = jax.shard_map(
            on_one_device, mesh=member_mesh(devices), in_specs=specs, out_specs=P(AXIS), check_vma=False
        )
        return sharded(*arguments)

    return on_all_devices


def member_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Return the one-dimensional mesh whose axis is the members."""
    return Mesh(np.array(devices), (AXIS,))


def stack_members(trees: Sequence[PyTree], devices: Sequence[jax.Device]) -> PyTree:
    """Stack one tree a member along a new leading axis and spread it over the devices."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return stacked if len(devices) == 1 else spread_members(stacked, devices)


def spread_members(stacked: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Place a stacked tree so that every device holds its own members."""
    return jax.device_put(stacked, NamedSharding(member_mesh(devices), P(AXIS)))


def member_of(tree: PyTree, index: int) -> PyTree:
    """Return one member of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def select_members(active: Any, new: PyTree, old: PyTree) -> PyTree:
    """Return `new` where the scalar `active` holds, else `old`."""
    return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, old)


def to_numpy(params: nnx.State) -> dict[str, Any]:
    """Return parameters as nested dicts of NumPy arrays, keyed by layer and array name."""
    return jax.tree.map(np.asarray, nnx.to_pure_dict(params))


def make_groups(
    learner: Learner,
    config: PPOConfig,
    data: PyTree,
    num_members: int,
    devices: Sequence[jax.Device] | None = None,
) -> list[Group]:
    """Return fresh members, as many a group as the devices (default: all) take at a time."""
    devices = jax.local_devices() if devices is None else devices
    init = jax.jit(learner.init)
    seeds = range(config.seed, config.seed + num_members)
    first = init(jax.random.key(config.seed), data)
    at_once = per_device(devices[0], _bytes_of_a_member(config, first), -(-num_members // len(devices)))
    size = len(devices) * at_once if num_members > 1 else 1
    groups = []
    for start in range(0, num_members, size):
        members = [Member(seed) for seed in seeds[start : start + size]]
        states = [init(jax.random.key(member.seed), data) for member in members]
        spread = devices[:1] if size == 1 else devices
        hyper = stack_members([make_hyper(config)] * size, spread)
        groups.append(Group(members, stack_members(filled(states, size), spread), hyper))
    return groups


def filled(items: list[Any], size: int) -> list[Any]:
    """Return `size` items: the last one stands for those that are missing."""
    return items + [items[-1]] * (size - len(items))


def _bytes_of_a_member(config: PPOConfig, state: TrainState) -> int:
    """Estimate what a member takes on a device: its state, gradients and copies, and 32 bytes a sample of a rollout."""
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return 4 * held + 32 * config.batch_size + 2**28


def member_record(member: Member) -> dict[str, Any]:
    """Host values of a member in a checkpoint; minus infinity is not JSON, so no validation yet is null."""
    return {
        "seed": member.seed,
        "done": member.done,
        "best_update": member.best_update,
        "best_score": member.best_score if math.isfinite(member.best_score) else None,
        "validation": member.validation,
        "worse": member.worse,
        "diverged": member.diverged,
    }


def member_arrays(groups: list[Group]) -> list[np.ndarray]:
    """All members' states ``[S, ...]`` and then their best parameters, as a flat list of arrays.

    Orbax then asks nothing of flax or optax classes, and one commit holds both: a kill between two files cannot leave
    a best policy of another moment. Members are apart from groups, so that another number of devices can go on.
    """
    per_member = []
    for group in groups:
        host = jax.device_get(group.state)
        for index, member in enumerate(group.members):
            state = member_of(host, index)
            best = member.best_params if member.best_params is not None else to_numpy(state.params)
            per_member.append(jax.tree.leaves(state) + jax.tree.leaves(best))
    return [np.stack(leaves) for leaves in zip(*per_member, strict=True)]


def restore_groups(
    arrays: list[np.ndarray], records: list[dict[str, Any]], groups: list[Group], devices: Sequence[jax.Device]
) -> list[Group]:
    """Return `groups` with the states and records of a checkpoint (`member_arrays`, `member_record`)."""
    numbered = iter(enumerate(records))
    restored = []
    for group in groups:
        size = len(group.hyper.gamma)
        state_structure: Any = jax.tree.structure(member_of(group.state, 0))
        members, states = [], []
        for index, record in (next(numbered) for _ in group.members):
            leaves = [array[index] for array in arrays]
            states.append(jax.tree.unflatten(state_structure, leaves[: state_structure.num_leaves]))
            best = jax.tree.map(np.asarray, leaves[state_structure.num_leaves :])
            template = to_numpy(states[-1].params)
            score = -math.inf if record["best_score"] is None else record["best_score"]
            params = jax.tree.unflatten(jax.tree.structure(template), best) if record["best_update"] else None
            members.append(Member(**(record | {"best_score": score, "best_params": params})))
        spread = devices[:1] if size == 1 else devices
        restored.append(Group(members, stack_members(filled(states, size), spread), group.hyper))
    return restored
