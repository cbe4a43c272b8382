"""Bundles: the same bytes every time, the same decisions as the policy, and no trust in what a file says."""

import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jtf
from jtf.data import load_bars
from jtf.errors import UserError
from jtf.export import export
from jtf.models.archive import read_archive, write_archive
from jtf.models.bundle import GOLDEN, MANIFEST, MODEL, NAMES, load_bundle, write_bundle
from jtf.models.fold import fold_members, unfold_members
from jtf.models.golden import golden_difference, make_golden
from jtf.models.manifest import FORMAT, file_records, manifest_bytes, read_manifest
from jtf.models.policy import Policy, params_sha256
from jtf_env.scaler import CLIP, Scaler
from tests.app.test_inference import random_policy


def natural_policy(bars_folder: Path, *seeds: int) -> Policy:
    """Return a random policy whose scaler fits the bars, one column that was constant included."""
    market = random_policy().market(load_bars("AAAUSDT", bars_folder))
    scaler = random_policy().scaler
    table = np.concatenate([market.features, market.context], axis=1) * scaler.std + scaler.mean
    std = table.std(axis=0)
    return replace(
        random_policy(*seeds), scaler=Scaler(table.mean(axis=0), np.where(std < 1e-12, np.inf, np.maximum(std, 1e-6)))
    )


@pytest.fixture(scope="module")
def policy(bars_folder) -> Policy:
    return natural_policy(bars_folder, 0, 1)


@pytest.fixture(scope="module")
def bundle(policy, bars_folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "aaa.zip"
    write_bundle(path, policy, {}, make_golden(policy, load_bars("AAAUSDT", bars_folder)))
    return path


def test_the_same_policy_is_the_same_archive_byte_for_byte(policy, bundle, bars_folder, tmp_path):
    write_bundle(tmp_path / "again.zip", policy, {}, make_golden(policy, load_bars("AAAUSDT", bars_folder)))
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_a_loaded_bundle_decides_like_its_policy_on_every_bar(policy, bundle, bars_folder):
    loaded, bars = jtf.Policy.load(bundle), load_bars("AAAUSDT", bars_folder)
    expected, found = policy.probabilities(policy.market(bars)), loaded.probabilities(loaded.market(bars))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_a_bundle_keeps_everything_else_of_its_policy(policy, bundle):
    loaded, simple = jtf.Policy.load(bundle), {"members": (), "scaler": None, "asset_class": None}
    assert vars(replace(loaded, **simple)) == vars(replace(policy, **simple))
    np.testing.assert_array_equal(loaded.scaler.std, policy.scaler.std)


def test_the_folded_layer_on_clipped_natural_columns_is_the_layer_on_standardised_ones(policy):
    """Some values lie far beyond the clip, where clipping after the fold would be another function."""
    rng, scaler = np.random.default_rng(0), policy.scaler
    columns = scaler.mean + np.where(np.isinf(scaler.std), 0.0, scaler.std) * rng.normal(0.0, 8.0, (40, 58))
    assert (np.abs(columns - scaler.mean) > CLIP * scaler.std).any()
    folded, first = fold_members(policy.members[:1], scaler), policy.members[0]["first"]
    low, high = scaler.mean - CLIP * scaler.std, scaler.mean + CLIP * scaler.std
    natural = np.clip(columns, low, high)[:5, :51]
    standard = np.clip((columns - scaler.mean) / scaler.std, -CLIP, CLIP)[:5, :51]
    kernel = folded["first/kernel"][:, :, 0].astype(float)
    context_mean = 5 * scaler.mean[51:] @ folded["first/context_kernel"][:, 0].astype(float)
    found = np.einsum("wf,wfh->h", natural, kernel) + folded["first/bias"][0] + context_mean
    expected = np.einsum("wf,wfh->h", standard, first["kernel"].astype(float)) + first["bias"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_folding_and_unfolding_changes_a_kernel_by_rounding_only(policy):
    members, scaler = unfold_members(fold_members(policy.members, policy.scaler))
    varies = ~np.isinf(scaler.std[:51])
    for found, expected in zip(members, policy.members, strict=True):
        kernels = found["first"]["kernel"][:, varies], expected["first"]["kernel"][:, varies]
        np.testing.assert_allclose(*kernels, rtol=2e-7)
        np.testing.assert_allclose(found["first"]["bias"], expected["first"]["bias"], rtol=0, atol=1e-12)


def test_a_column_that_was_constant_in_training_has_no_weight_and_no_bound(policy):
    scaler = replace(policy.scaler, std=np.where(np.arange(58) == 3, np.inf, policy.scaler.std))
    folded = fold_members(policy.members, scaler)
    assert not folded["first/kernel"][:, 3].any()
    members, _ = unfold_members(folded)
    assert not members[0]["first"]["kernel"][:, 3].any() and np.isfinite(members[0]["first"]["bias"]).all()


def test_golden_decisions_of_the_policy_are_those_of_its_bundle(bundle):
    loaded = load_bundle(bundle)
    assert golden_difference(loaded.policy, loaded.golden) < 1e-7


def test_other_weights_are_found_by_the_golden_decisions(bundle):
    loaded = load_bundle(bundle)
    other = replace(loaded.policy, members=loaded.policy.members[::-1][:1], seeds=(1,))
    assert golden_difference(other, loaded.golden) > 1e-3


# What is refused


def rewrite(bundle: Path, path: Path, change=lambda table: None, files=lambda files: None, rehash: bool = True) -> Path:
    """Write a copy of a bundle whose manifest and files are changed and whose hashes fit again."""
    content = {name: bytes(data) for name, data in read_archive(bundle, NAMES).items()}
    table = json.loads(content.pop(MANIFEST))
    files(content)
    if rehash:
        table["files"] = file_records(content)
    change(table)
    manifest = json.dumps(table).encode()
    if rehash and set(table) == set(vars(load_bundle(bundle).manifest)):
        manifest = manifest_bytes(replace(load_bundle(bundle).manifest, **table))
    write_archive(path, {MANIFEST: manifest} | content)
    return path


def set_field(name, value):
    def change(table):
        table[name] = value

    return change


def change_tensors(name: str, edit):
    """Return a change of the files that edits the tensors of one."""
    from safetensors.numpy import load, save

    def change(content):
        tensors = load(content[name])
        edit(tensors)
        content[name] = save({key: np.asarray(tensor) for key, tensor in tensors.items()})

    return change


def change_model(edit):
    return change_tensors(MODEL, edit)


def set_header(name: str, header: bytes):
    """Return a change of the files that gives one another header."""

    def change(content):
        length = int.from_bytes(content[name][:8], "little")
        content[name] = len(header).to_bytes(8, "little") + header + content[name][8 + length :]

    return change


def poke(name: str, value: float):
    def edit(tensors):
        tensors[name].flat[2] = value

    return change_model(edit)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"change": set_field("colour", "red")}, "unknown field 'colour'"),
        ({"change": lambda table: table.pop("window")}, "no field 'window'"),
        ({"change": set_field("format", "jtf-bundle/2")}, "jtf-bundle/2 and this jtf reads jtf-bundle/1; a newer jtf"),
        ({"change": set_field("format", "elsewhere")}, "not jtf-bundle/1"),
        ({"change": set_field("window", "5")}, "has '5' as window"),
        ({"change": set_field("window", 6)}, "layout_hash"),
        ({"change": set_field("layout", "v9.9.9")}, "known layouts are v2.3.0"),
        ({"change": set_field("hidden_sizes", [7, 4])}, "first/.* is float"),
        ({"change": set_field("actions", ["BUY", "SELL"])}, "actions are not those"),
        ({"change": set_field("columns", ["close"])}, "columns are not those"),
        ({"change": set_field("timeframe", "2Min")}, "timeframe '2Min'"),
        ({"change": set_field("asset_class", "us_equity")}, "calendar and time zone do not fit"),
        ({"change": set_field("env_params", {"fee": 0.0})}, "env_params"),
        ({"change": set_field("versions", {"features": 1, "env": 2})}, "features version 1"),
        ({"change": set_field("bars_per_year", 10**400)}, "bars in a year are not between"),
        ({"change": set_field("bars_per_year", -5)}, "bars in a year are not between"),
        ({"change": set_field("bars_per_year", 0)}, "bars in a year are not between"),
        ({"change": lambda table: table["env_params"]["reward"].update(pnl=10**400)}, "env_params are not those"),
        ({"files": set_header(MODEL, b"[" * 100_000)}, "recursion"),
        ({"files": set_header(MODEL, b'{"a": {"dtype": ["F32"], "shape": [], "data_offsets": [0, 4]}}')}, "list"),
        ({"files": change_tensors(GOLDEN, lambda tensors: tensors.update(timestamps=np.int64(1)))}, "index out of"),
        ({"files": lambda content: content.pop(MODEL)}, f"needs {MANIFEST} and {MODEL}"),
        ({"files": poke("first/kernel", np.nan)}, "first/kernel holds NaN"),
        ({"files": poke("policy/bias", np.inf)}, "policy/bias holds NaN or infinity"),
        ({"files": poke("scaler/mean", np.inf)}, "scaler/mean holds NaN or infinity"),
        ({"files": poke("scaler/std", 0.0)}, "deviation that is not positive"),
        ({"files": change_model(lambda tensors: tensors.pop("value/bias"))}, "lacks or adds value/bias"),
        ({"files": poke("policy/bias", 1.0), "rehash": False}, "does not match its recorded hash"),
        ({"change": set_field("symbol", "BBBUSDT"), "rehash": False}, "manifest does not match its recorded hash"),
    ],
)  # fmt: skip
def test_a_bundle_with_such_a_change_is_refused_in_one_sentence(changes, told, bundle, tmp_path):
    path = rewrite(bundle, tmp_path / "other.zip", **changes)
    with pytest.raises(UserError, match=told) as error:
        load_bundle(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def archive_with(path: Path, **info) -> Path:
    """Write an archive of one entry whose `ZipInfo` has these attributes."""
    entry = zipfile.ZipInfo(info.pop("name", MANIFEST))
    for name, value in info.items():
        setattr(entry, name, value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, b"content")
    return path


@pytest.mark.parametrize("name", ["../evil.json", "/etc/passwd", "a/../../b", "C:\\evil", "model.pkl", "sub/"])
def test_names_that_are_paths_or_unknown_are_refused(name, tmp_path):
    with pytest.raises(UserError, match="is no file of a bundle"):
        load_bundle(archive_with(tmp_path / "a.zip", name=name))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_symbolic_link_is_refused(tmp_path):
    with pytest.raises(UserError, match="symbolic link"):
        load_bundle(archive_with(tmp_path / "a.zip", external_attr=0o120777 << 16))


def test_a_compressed_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="not stored as jtf"):
        load_bundle(archive_with(tmp_path / "a.zip", compress_type=zipfile.ZIP_DEFLATED))


def test_a_declared_size_of_10_gb_is_refused_before_anything_is_allocated(bundle, tmp_path):
    """The size in the central directory is a 64-bit extra field; the archive itself stays small."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST), b"{}")
        archive.filelist[0].file_size = archive.filelist[0].compress_size = 10 * 2**30
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="declares 10737418240 bytes, the archive has"):
        load_bundle(tmp_path / "a.zip")


def test_the_same_file_twice_is_refused(bundle, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(bundle.read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(MANIFEST, b"{}")
    with pytest.raises(UserError, match="repeated or out of order"):
        load_bundle(path)


@pytest.mark.parametrize("place", ["comment", "extra", "gap"])
def test_an_archive_that_holds_more_than_its_files_is_refused(place, bundle, tmp_path):
    files, buffer = read_archive(bundle, NAMES), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), bytes(content))
        if place == "comment":
            archive.comment = b"more"
        elif place == "extra":
            archive.filelist[0].extra = b"\x99\x99\x00\x00"
        else:
            archive.fp.seek(archive.start_dir)
            archive.fp.write(b"more")
            archive.start_dir += 4
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="need an archive of"):
        load_bundle(tmp_path / "a.zip")


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return Path(tmp_path / "ran").touch, ()

    (tmp_path / "a.zip").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="not a whole zip archive"):
        load_bundle(tmp_path / "a.zip")
    assert not (tmp_path / "ran").exists()


def test_a_cut_archive_is_refused(bundle, tmp_path):
    (tmp_path / "a.zip").write_bytes(bundle.read_bytes()[:-40])
    with pytest.raises(UserError, match="not a whole zip archive"):
        load_bundle(tmp_path / "a.zip")


def test_an_absent_bundle_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*none\.zip"):
        jtf.Policy.load(tmp_path / "none.zip")


def test_a_manifest_that_is_nested_too_deeply_is_refused(bundle):
    with pytest.raises(ValueError, match="nested too deeply"):
        read_manifest(b"[" * 200_000)
    assert load_bundle(bundle).manifest.format == FORMAT


def test_settings_that_are_nested_too_deeply_to_be_hashed_are_refused(bundle, tmp_path):
    """At some of these depths they are read and not hashed; which ones depends on how deep the test itself lies."""
    path = rewrite(bundle, tmp_path / "a.zip", set_field("training", {"deep": "here"}))
    content = {name: bytes(data) for name, data in read_archive(path, NAMES).items()}
    for depth in range(850, 1_000):
        nested = content[MANIFEST].replace(b'"here"', b"[" * depth + b"]" * depth)
        write_archive(path, content | {MANIFEST: nested})
        with pytest.raises(UserError, match="is refused"):
            load_bundle(path)


def identity(policy: Policy) -> tuple:
    """Return everything that decides."""
    scaler = policy.scaler.mean.tobytes(), policy.scaler.std.tobytes()
    return tuple(map(params_sha256, policy.members)), scaler, policy.layout, policy.window, policy.bar_minutes


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` with some bytes flipped, cut, swapped, repeated or blanked."""
    data, kind = bytearray(content), rng.integers(5)
    first, second = sorted(rng.integers(0, len(data), 2))
    length = int(rng.integers(1, 64))
    if kind == 0:
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[slice(first, first + length) if rng.integers(2) else slice(second, None)]
    elif kind == 2:
        data[first : first + length], data[second : second + length] = (
            data[second : second + length], data[first : first + length],
        )  # fmt: skip
    elif kind == 3:
        data[first:first] = data[second : second + length]
    else:
        data[first : first + length] = bytes(length)
    return bytes(data)


def test_2000_random_mutations_are_refused_or_decide_identically(bundle, tmp_path):
    content, expected, path = bundle.read_bytes(), identity(load_bundle(bundle).policy), tmp_path / "mutated.zip"
    rng, refused = np.random.default_rng(11), 0
    for _ in range(2_000):
        path.write_bytes(mutate(content, rng))
        try:
            found = load_bundle(path).policy
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert identity(found) == expected
    assert refused > 1_500


def test_the_export_of_a_run_is_a_bundle_that_names_the_run(trained_run, tmp_path, capsys):
    from jtf.export import main

    assert main(["--run", str(trained_run), "--out", str(tmp_path / "a.zip")]) == 0
    assert main(["--run", str(trained_run), "--out", str(tmp_path / "b.zip")]) == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    manifest = load_bundle(tmp_path / "a.zip").manifest
    summary = json.loads((trained_run / "summary.json").read_text())
    assert manifest.run == trained_run.name and manifest.verdict == summary["verdict"]
    assert manifest.metrics == summary["metrics"] and manifest.feed["kind"] == "file"
    assert set(manifest.files) == {MODEL, GOLDEN}


@pytest.mark.parametrize("format", ["bundle", "stablehlo", "onnx"])
def test_an_unfinished_run_is_exported_in_no_format(format, trained_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    (run / "summary.json").write_text(json.dumps({"status": "interrupted"}))
    with pytest.raises(UserError, match="has not finished"):
        export(run, tmp_path / "a", format)


def test_a_bundle_is_played_like_a_policy_file(bundle, policy, bars_folder):
    assert jtf.backtest(bundle, bars_folder).metrics["all"] == jtf.backtest(policy, bars_folder).metrics["all"]


def test_a_run_whose_bars_are_gone_is_not_exported(trained_run, tmp_path, capsys):
    from jtf.export import main

    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    config = json.loads((run / "config.json").read_text())
    config["data"]["sha256"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config))
    assert main(["--run", str(run), "--out", str(tmp_path / "a.zip")]) == 2
    assert "put the run's bars back" in capsys.readouterr().err and not (tmp_path / "a.zip").exists()
