"""``manifest.json`` of a bundle: what a model is, what it was trained on, and the hash of every file. No JAX."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import NoneType, UnionType
from typing import Any, get_args

from jtf.results.run_directory import json_ready

FORMAT = "jtf-bundle/1"

Table = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle says about its model. A field that a model from elsewhere does not have is None."""

    format: str
    symbol: str
    layout: str
    hour_visibility: str
    columns: list[str]
    """All columns in the order of the observation."""
    layout_hash: str
    """`Layout.hash`: columns, window, hour visibility and both versions."""
    window: int
    """Bars in an observation."""
    obs_dim: int
    """Size of the flattened observation."""
    hidden_sizes: list[int]
    seeds: list[int]
    """One a member."""
    actions: list[str]
    """Names of the actions by their code."""
    env_params: Table
    """Costs, fills and stops (`EnvParams`)."""
    asset_class: str
    calendar: str | None
    """Exchange calendar; None trades around the clock."""
    timezone: str
    timeframe: str
    """Length of the bars, e.g. 15Min."""
    bars_per_year: float
    extended_hours: bool
    """Whether bars outside regular hours are kept."""
    feed: Table | None
    """``kind`` (``file`` or ``synthetic``) and ``source`` (name of the file) of the training bars."""
    data: Table | None
    """First and last bar, number of bars and SHA-256 of the bars of the run."""
    training: Table | None
    """Every setting of the run (``config`` of its ``config.json``)."""
    versions: Table
    """``features`` and ``env``, and the libraries the run was trained with."""
    git_revision: str | None
    policy_sha256: str
    """`Policy.sha256` of the policy that was exported."""
    metrics: Table | None
    """Metrics of the run on its segments."""
    verdict: Table | None
    """Status and reasons."""
    run: str | None
    """Name of the run."""
    parent: str | None
    """The run it continued."""
    files: Table
    """File name -> ``bytes`` and ``sha256`` of every other file."""
    sha256: str = ""
    """SHA-256 of the canonical JSON of all other fields."""

    def content_sha256(self) -> str:
        """Return the hash that `sha256` must be."""
        rest = {name: value for name, value in vars(self).items() if name != "sha256"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return ``manifest.json`` with its hash."""
    ready = Manifest(**json_ready(manifest))
    ready = replace(ready, sha256=ready.content_sha256())
    return (json.dumps(vars(ready), indent=2, allow_nan=False) + "\n").encode()


def read_manifest(content: bytes | bytearray) -> Manifest:
    """Return the manifest in `content`; raise `ValueError` for anything but what `manifest_bytes` wrote."""
    try:
        table = json.loads(content.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("its manifest is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"its manifest is not JSON ({error})") from None
    if not isinstance(table, dict) or not isinstance(table.get("format"), str):
        raise ValueError("its manifest names no format")
    _refuse_other_format(table["format"])
    known = {field.name: field for field in fields(Manifest)}
    unknown, missing = sorted(set(table) - set(known)), sorted(set(known) - set(table))
    if unknown or missing:
        which = f"the unknown field {unknown[0]!r}" if unknown else f"no field {missing[0]!r}"
        raise ValueError(f"its manifest has {which}")
    for name, field in known.items():
        if not _fits(table[name], field.type):
            raise ValueError(f"its manifest has {str(table[name])[:40]!r} as {name}")
    manifest = Manifest(**table)
    if manifest.sha256 != manifest.content_sha256():
        raise ValueError("its manifest does not match its recorded hash")
    return manifest


def file_records(files: Mapping[str, bytes | bytearray]) -> Table:
    """Return size and SHA-256 of every file."""
    return {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }


def _refuse_other_format(found: str) -> None:
    if found == FORMAT:
        return
    name, _, version = found.partition("/")
    if name == FORMAT.split("/")[0] and version.isdigit():
        raise ValueError(f"it has format {found} and this jtf reads {FORMAT}; a newer jtf wrote it")
    raise ValueError(f"its format {found[:40]!r} is not {FORMAT}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value has the type of its field; a list holds items of one type."""
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if kind is NoneType:
        return value is None
    if kind is float:
        return type(value) in (int, float)
    arguments = get_args(kind)
    if arguments and isinstance(value, list):
        return all(type(item) is arguments[0] for item in value)
    return type(value) is (dict if kind == Table else kind)
