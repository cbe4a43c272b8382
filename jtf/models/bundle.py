"""``clsk.zip``: one file that holds a model, says what it is and executes nothing (``docs/models.md``). No JAX."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jtf.errors import UserError
from jtf.models.archive import read_archive, write_archive
from jtf.models.checks import (
    UNREADABLE,
    check_bars_per_year,
    check_finite,
    check_sizes,
    num_columns,
    one_line,
    read_env_params,
)
from jtf.models.fold import fold_members, folded_shapes, later_layers, unfold_members
from jtf.models.golden import Golden
from jtf.models.manifest import FORMAT, Manifest, file_records, manifest_bytes, read_manifest
from jtf.models.policy import Policy
from jtf.models.policy_file import refuse_other_versions
from jtf.models.tensors import read_tensors
from jtf_env.actions import ACTION_NAMES
from jtf_env.assets import ASSETS, AssetClass, asset_class_of
from jtf_env.layouts import Layout, get_layout
from jtf_env.versions import ENV_VERSION, FEATURES_VERSION

MANIFEST, MODEL, GOLDEN = "manifest.json", "model.safetensors", "golden.safetensors"
NAMES = (MANIFEST, MODEL, GOLDEN)
"""Files of a bundle, in order; the golden decisions are there where the run's bars were."""
DOUBLES = ("first/bias", "scaler/mean", "scaler/std")
"""Tensors in float64; all others are float32."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A model and what its file says about it."""

    policy: Policy
    manifest: Manifest
    golden: Golden | None = None
    """Bars and what the model decided on them, to be replayed (`jtf.models.golden`)."""


def describe_policy(policy: Policy, bar_timeframe: str) -> dict[str, Any]:
    """Return the fields of the manifest that the policy alone decides."""
    first, *later = [params_width(policy, name) for name in ("first", *hidden_layers(policy))]
    asset_class = asset_class_of(policy.symbol, policy.asset_class)
    asset = ASSETS[asset_class]
    return {
        "format": FORMAT,
        "symbol": policy.symbol,
        "layout": policy.layout.name,
        "hour_visibility": policy.layout.hour_visibility,
        "columns": list(policy.layout.columns),
        "layout_hash": policy.layout.hash(policy.window),
        "window": policy.window,
        "obs_dim": policy.layout.obs_dim(policy.window),
        "hidden_sizes": [first, *later],
        "seeds": list(policy.seeds),
        "actions": list(ACTION_NAMES),
        "env_params": asdict(policy.env_params),
        "asset_class": asset_class,
        "calendar": asset.calendar,
        "timezone": asset.timezone,
        "timeframe": bar_timeframe,
        "bars_per_year": float(policy.bars_per_year),
        "extended_hours": policy.extended_hours,
        "policy_sha256": policy.sha256,
    }


def hidden_layers(policy: Policy) -> list[str]:
    """Return the names of the hidden layers after the first."""
    return [name for name in later_layers(policy.members[0]) if name.startswith("hidden_")]


def params_width(policy: Policy, layer: str) -> int:
    """Return the number of outputs of a layer."""
    return len(policy.members[0][layer]["bias"])


def write_bundle(path: Path, policy: Policy, about: dict[str, Any], golden: Golden | None = None) -> None:
    """Write `policy` to `path`, atomically and byte for byte the same for the same content.

    `about` are the fields of the manifest that the policy does not decide; those left out are None.
    """
    from safetensors.numpy import save

    from jtf.data.check import TIMEFRAME_NAMES

    files = {MODEL: save(fold_members(policy.members, policy.scaler))}
    if golden is not None:
        files[GOLDEN] = save(golden.tensors())
    fields = dict.fromkeys(("feed", "data", "training", "git_revision", "metrics", "verdict", "run", "parent"))
    versions = {"features": FEATURES_VERSION, "env": ENV_VERSION} | about.get("versions", {})
    described = describe_policy(policy, TIMEFRAME_NAMES[policy.bar_minutes])
    manifest = Manifest(**(described | fields | about | {"versions": versions, "files": file_records(files)}))
    write_archive(path, {MANIFEST: manifest_bytes(manifest)} | files)


def load_bundle(path: Path) -> Bundle:
    """Read a bundle; raise `UserError`, one sentence, for one that is not exactly what `write_bundle` wrote."""
    files = read_archive(path, NAMES)
    try:
        if MANIFEST not in files or MODEL not in files:
            raise ValueError(f"it holds {', '.join(files) or 'nothing'} and needs {MANIFEST} and {MODEL}")
        manifest = read_manifest(files.pop(MANIFEST))
        _check_files(manifest, files)
        return read_bundle(manifest, files, path)
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{path} is refused: {one_line(error)}; export or download it again.") from None


def read_bundle(manifest: Manifest, files: dict[str, bytearray], path: Path) -> Bundle:
    """Return the bundle of a manifest and the files whose hashes it names."""
    refuse_other_versions(manifest.versions.get("features"), manifest.versions.get("env"), path)
    layout = _layout(manifest)
    tensors = read_tensors(files.pop(MODEL))
    _check_tensors(tensors, manifest, layout)
    members, scaler = unfold_members(tensors)
    policy = Policy(
        members=members,
        seeds=tuple(manifest.seeds),
        scaler=scaler,
        symbol=manifest.symbol,
        layout=layout,
        window=manifest.window,
        env_params=read_env_params(manifest.env_params),
        bars_per_year=check_bars_per_year(manifest.bars_per_year),
        bar_minutes=_bar_minutes(manifest.timeframe),
        data_kind=str((manifest.feed or {}).get("kind", "file")),
        asset_class=_asset_class(manifest),
        extended_hours=manifest.extended_hours,
    )
    golden = Golden.from_tensors(read_tensors(files[GOLDEN])) if GOLDEN in files else None
    return Bundle(policy, manifest, golden)


def _check_files(manifest: Manifest, files: dict[str, bytearray]) -> None:
    """Raise `ValueError` unless the files are those the manifest names, by size and SHA-256."""
    if set(manifest.files) != set(files):
        raise ValueError(f"it holds {', '.join(sorted(files))} and its manifest names {', '.join(manifest.files)}")
    for name, found in file_records(files).items():
        if manifest.files[name] != found:
            raise ValueError(f"{name} does not match its recorded hash")


def _layout(manifest: Manifest) -> Layout:
    """Return the layout; raise `ValueError` or `InputError` where columns, hash, size or actions are others."""
    layout = get_layout(manifest.layout, manifest.hour_visibility)  # type: ignore[arg-type]
    check_sizes(manifest.window, manifest.hidden_sizes)
    expected = (list(layout.columns), layout.hash(manifest.window), layout.obs_dim(manifest.window), list(ACTION_NAMES))
    found = (manifest.columns, manifest.layout_hash, manifest.obs_dim, manifest.actions)
    for name, ours, theirs in zip(("columns", "layout_hash", "obs_dim", "actions"), expected, found, strict=True):
        if ours != theirs:
            raise ValueError(f"its {name} are not those of layout {layout.name} in this jtf")
    return layout


def _check_tensors(tensors: dict[str, np.ndarray], manifest: Manifest, layout: Layout) -> None:
    """Raise `ValueError` unless the tensors are those of the manifest's network, finite, with positive deviations."""
    shapes = folded_shapes(
        manifest.window, *num_columns(layout), manifest.hidden_sizes, len(manifest.seeds), len(manifest.actions)
    )
    if not manifest.seeds or set(tensors) != set(shapes):
        odd = sorted(set(tensors) ^ set(shapes))
        raise ValueError(f"{MODEL} lacks or adds {', '.join(odd[:3]) or 'members'}")
    for name, tensor in tensors.items():
        dtype = np.float64 if name in DOUBLES else np.float32
        if tensor.shape != shapes[name] or tensor.dtype != dtype:
            raise ValueError(
                f"{name} is {tensor.dtype} {tensor.shape}, layout {layout.name} with {len(manifest.seeds)} members and "
                f"hidden layers of {manifest.hidden_sizes} needs {np.dtype(dtype)} {shapes[name]}"
            )
    check_finite(tensors)


def _bar_minutes(timeframe: str) -> int:
    from jtf.data.timeframes import TIMEFRAMES

    if timeframe not in TIMEFRAMES:
        raise ValueError(f"its timeframe {timeframe[:40]!r} is not one of {', '.join(TIMEFRAMES)}")
    return TIMEFRAMES[timeframe]


def _asset_class(manifest: Manifest) -> AssetClass:
    asset = ASSETS.get(manifest.asset_class)
    if asset is None or (asset.calendar, asset.timezone) != (manifest.calendar, manifest.timezone):
        raise ValueError(f"its asset class {manifest.asset_class[:40]!r}, calendar and time zone do not fit together")
    return manifest.asset_class  # type: ignore[return-value]
