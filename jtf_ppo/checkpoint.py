"""Checkpoints through Orbax: complete, committed atomically, verified by checksum when they are read."""

import errno
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jtf_ppo.errors import CheckpointError

KEEP = 2
"""Newest checkpoints kept: a crash while one is written leaves the one before it."""
FILE_SYSTEM_STATUS = re.compile(r"[A-Z_]{5,}: ")
"""How TensorStore's errors about files begin, e.g. ``RESOURCE_EXHAUSTED: ``; any other ValueError is a bug."""
OVERHEAD = 2**20
"""Bytes a checkpoint may take beside its arrays."""
DIGESTS = "sha256.json"
"""File of a checkpoint with the SHA-256 of every other one, by relative path."""
STAGING, REMOVED = "staging", ".removed"
"""Folder in which a checkpoint is written before it gets its name, and the suffix of one that loses it."""


class CheckpointStore:
    """One folder of checkpoints, each a pytree of arrays beside a small JSON record of host values.

    Parameters
    ----------
    directory: created on the first save; each checkpoint is a folder named by its update.
    keep: newest checkpoints kept.
    identity: names what the checkpoints belong to (observation, data); compared at load.
    """

    def __init__(self, directory: Path, keep: int = KEEP, identity: dict[str, str] | None = None):
        self.directory = directory.absolute()
        self.identity = identity or {}
        self._keep = keep

    def steps(self) -> list[int]:
        """Updates of the committed checkpoints, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

    def path(self, step: int) -> Path:
        """Folder of one checkpoint."""
        return self.directory / str(step)

    def save(self, step: int, state: Any, host: dict[str, Any]) -> None:
        """Write `state` (arrays) and `host` (JSON); nothing half-written ever bears a checkpoint's name.

        A checkpoint of the same step is replaced, and later ones are removed: a resumed run writes them again.
        """
        record = {"identity": self.identity, "host": host, "arrays": _describe(state), "arrays_sha256": _sha256(state)}
        items = ocp.args.Composite(state=ocp.args.StandardSave(_without_empty(state)), record=ocp.args.JsonSave(record))
        try:
            self._check_space(sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + OVERHEAD)
            self._clear_leftovers()
            with _manager(self.directory / STAGING, create=True) as manager:
                manager.save(step, args=items)
            _write_digests(self.directory / STAGING / str(step))
            self._commit(step)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not FILE_SYSTEM_STATUS.match(str(error)):
                raise
            raise CheckpointError(
                f"The checkpoint {self.path(step)} cannot be written ({_first_line(error)}); free the disk or "
                f"write to another one; {self._previous()}."
            ) from error

    def load(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Read a checkpoint into the structure, shapes and types of `like`; raise `CheckpointError` naming the file."""
        record = self.record(step)
        if record["arrays"] != _describe(like):
            raise CheckpointError(
                f"The checkpoint {self.path(step)} holds a network of other sizes; resume it with the settings it was "
                "made with."
            )
        shapes = jax.tree.map(_abstract, _without_empty(like))
        try:
            with _manager(self.directory, create=False) as manager:
                items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
                state = _with_empty(manager.restore(step, args=items).state, like)
        except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file.
            raise self._damaged(step, _first_line(error)) from error
        if _sha256(state) != record["arrays_sha256"]:
            raise self._damaged(step, "its arrays do not match their checksum")
        return state, record["host"]

    def record(self, step: int) -> dict[str, Any]:
        """Read and check the JSON record of a checkpoint: ``identity`` and ``host``."""
        self._check_files(step)
        try:
            with _manager(self.directory, create=False) as manager:
                record = manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record
            identity = record["identity"]
        except Exception as error:  # As above; a foreign folder fails here too.
            raise self._damaged(step, _first_line(error)) from error
        for name, value in self.identity.items():
            if identity.get(name) != value:
                raise CheckpointError(
                    f"The checkpoint {self.path(step)} was written for {name} {identity.get(name)}, not {value}; "
                    f"resume it with the {name} it was made with."
                )
        return record

    def _check_files(self, step: int) -> None:
        """Hold every file against its checksum before Orbax opens one.

        TensorStore prints tracebacks from its own threads where a file it reads is damaged.
        """
        try:
            digests = json.loads((self.path(step) / DIGESTS).read_text())
            damaged = [name for name, digest in digests.items() if _file_sha256(self.path(step) / name) != digest]
        except (OSError, ValueError, AttributeError) as error:
            raise self._damaged(step, _first_line(error)) from error
        if damaged:
            raise self._damaged(step, f"its file {damaged[0]} is missing or does not match its checksum")

    def _commit(self, step: int) -> None:
        """Give a whole checkpoint its name; remove what it replaces, what came after it and what is too old."""
        earlier = [known for known in self.steps() if known < step]
        for known in self.steps():
            if known >= step:
                self._remove(known)
        (self.directory / STAGING / str(step)).rename(self.path(step))
        for known in earlier[: max(0, len(earlier) + 1 - self._keep)]:
            self._remove(known)
        self._clear_leftovers()

    def _remove(self, step: int) -> None:
        # A folder half deleted by a crash must not bear a checkpoint's name.
        removed = self.path(step).rename(self.directory / f"{step}{REMOVED}")
        shutil.rmtree(removed)

    def _clear_leftovers(self) -> None:
        for path in (self.directory / STAGING, *self.directory.glob(f"*{REMOVED}")):
            if path.is_dir():
                shutil.rmtree(path)

    def _check_space(self, needed: int) -> None:
        # Where the disk fills up under it, TensorStore prints tracebacks from its own threads.
        self.directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"no space left on device: {needed:,} bytes needed, {free:,} free")

    def _previous(self) -> str:
        steps = self.steps()
        return f"the previous one, {self.path(steps[-1])}, is intact" if steps else "there is no earlier one"

    def _damaged(self, step: int, why: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path(step)} is not a readable checkpoint of this run ({why}); delete that folder to go on from "
            "the one before it."
        )


@contextmanager
def _manager(directory: Path, create: bool) -> Iterator[ocp.CheckpointManager]:
    options = ocp.CheckpointManagerOptions(create=create, enable_async_checkpointing=False)
    with _quiet(), ocp.CheckpointManager(directory, options=options) as manager:
        yield manager


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back absl's notes: they would break the live line, and a failure is raised and said in one sentence."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _without_empty(tree: Any) -> Any:
    """`tree` with None for arrays without elements (a network without context has one), which Orbax cannot save."""
    return jax.tree.map(lambda leaf: leaf if leaf.size else None, tree)


def _with_empty(tree: Any, like: Any) -> Any:
    """Undo `_without_empty`: the arrays without elements are those of `like`."""
    stored = iter(jax.tree.leaves(tree))
    leaves, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(structure, [next(stored) if leaf.size else leaf for leaf in leaves])


def _describe(tree: Any) -> list[str]:
    """Type and shape of every array."""
    return [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)]


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, type and, where it has one, place on the devices of an array."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _sha256(tree: Any) -> str:
    """SHA-256 over type, shape and bytes of every array, in the order of the tree."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{list(array.shape)};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write_digests(folder: Path) -> None:
    """List the SHA-256 of every file of a checkpoint in the file `DIGESTS` beside them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): _file_sha256(path) for path in files}
    (folder / DIGESTS).write_text(json.dumps(digests, indent=1))


def _file_sha256(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160] if text else 'no further message'}"
