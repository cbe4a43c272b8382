"""``policy.safetensors``: a policy, of one member or an ensemble, in one file that executes nothing. No JAX."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jtf.errors import UserError
from jtf.models.checks import UNREADABLE, check_policy, one_line, read_env_params
from jtf.models.policy import Policy, leaves, params_sha256
from jtf.results.run_directory import write_atomically
from jtf_env.layouts import get_layout
from jtf_env.scaler import Scaler
from jtf_env.versions import ENV_VERSION, FEATURES_VERSION

FILE_NAME = "policy.safetensors"
FORMAT = "jtf-policy/2"


def save_policy(policy: Policy, path: Path) -> None:
    """Write `policy` to `path`, atomically: a reader sees the old file or the whole new one."""
    from safetensors.numpy import save

    tensors = {
        f"members/{index}/{name}": np.ascontiguousarray(array)
        for index, params in enumerate(policy.members)
        for name, array in leaves(params)
    }
    tensors |= {"scaler/mean": policy.scaler.mean, "scaler/std": policy.scaler.std}
    text = json.dumps(_header(policy))
    write_atomically(path, save(tensors, metadata={"jtf": text, "sha256": content_sha256(text, tensors)}))


def _header(policy: Policy) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "symbol": policy.symbol,
        "layout": policy.layout.name,
        "hour_visibility": policy.layout.hour_visibility,
        "features_version": FEATURES_VERSION,
        "env_version": ENV_VERSION,
        "layout_hash": policy.layout.hash(policy.window),
        "window": policy.window,
        "env_params": asdict(policy.env_params),
        "bars_per_year": policy.bars_per_year,
        "bar_minutes": policy.bar_minutes,
        "data_kind": policy.data_kind,
        "asset_class": policy.asset_class,
        "extended_hours": policy.extended_hours,
        "seeds": list(policy.seeds),
        "params_sha256": [params_sha256(params) for params in policy.members],
    }


def content_sha256(header: str, tensors: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 over the header and every tensor, scaler included: whatever decides or reports."""
    digest = hashlib.sha256(header.encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def load_policy(path: Path) -> Policy:
    """Read a policy; raise `UserError` naming the file where it is absent, foreign, corrupt or of another layout."""
    tensors, header, intact = _read(path)
    refuse_other_versions(header.get("features_version", 1), header.get("env_version", 1), path)
    if not intact:
        raise UserError(f"{path} is corrupt: its content does not match its recorded hash; restore or train again.")
    try:
        return _policy_of(tensors, header, path)
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{path} is no policy of this jtf ({one_line(error)}); restore it or train again.") from None


def _policy_of(tensors: dict[str, np.ndarray], header: dict[str, Any], path: Path) -> Policy:
    """Return the policy of a file, held to what a bundle is held to (`jtf.models.checks`)."""
    if header["format"] != FORMAT:
        raise ValueError(f"it has format {header['format']!s:.40} and this jtf reads {FORMAT}")
    layout = get_layout(header["layout"], header["hour_visibility"])
    found = layout.hash(header["window"])
    if found != header["layout_hash"]:
        raise UserError(
            f"{path} was trained on layout {layout.name} with hash {header['layout_hash']}, this version builds "
            f"{found}; use the version of jtf that trained it or train again."
        )
    nested = _nest({name: array for name, array in tensors.items() if name.startswith("members/")})
    members = tuple(nested.get("members", {}).get(str(index), {}) for index in range(len(header["seeds"])))
    if [params_sha256(params) for params in members] != header["params_sha256"]:
        raise UserError(f"{path} is corrupt: its parameters do not match their recorded hash; restore or train again.")
    policy = Policy(
        members=members,
        seeds=tuple(header["seeds"]),
        scaler=Scaler(mean=tensors["scaler/mean"], std=tensors["scaler/std"]),
        symbol=header["symbol"],
        layout=layout,
        window=header["window"],
        env_params=read_env_params(header["env_params"]),
        bars_per_year=header["bars_per_year"],
        bar_minutes=header["bar_minutes"],
        data_kind=header["data_kind"],
        asset_class=header.get("asset_class"),
        extended_hours=header.get("extended_hours", False),
    )
    if len(tensors) != 2 + sum(1 for params in members for _ in leaves(params)):
        raise ValueError("it holds tensors of no member")
    unknown = sorted(set(header) - set(_header(check_policy(policy))))
    if unknown:
        raise ValueError(f"its header has the unknown field {unknown[0]!r:.40}")
    return policy


def refuse_other_versions(features: Any, env: Any, path: Path) -> None:
    """Raise `UserError` where the formulas or the fill rules have changed since; files before version 2 name none."""
    if (features, env) != (FEATURES_VERSION, ENV_VERSION):
        raise UserError(
            f"{path} was trained with features version {features} and environment version {env}, this jtf has "
            f"{FEATURES_VERSION} and {ENV_VERSION}; use the version of jtf that trained it or train again."
        )


def _nest(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, array in flat.items():
        *parents, name = path.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = array
    return nested


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], bool]:
    """Return tensors, header, and whether they are what was written."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"there is no policy file {path}; name a finished run with --run.")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = file.metadata() or {}
            header = json.loads(metadata.get("jtf", "{}"))
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); restore it or train again.") from None
    except UNREADABLE as error:
        raise UserError(f"{path} is no policy of this jtf ({one_line(error)}); restore it or train again.") from None
    if not isinstance(header, dict) or not str(header.get("format")).startswith("jtf-policy/"):
        raise UserError(f"{path} is not a jtf policy; name the {FILE_NAME} of a run.")
    return tensors, header, metadata.get("sha256") == content_sha256(metadata["jtf"], tensors)
