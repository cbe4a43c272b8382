"""StableHLO and ONNX programs of a policy: equal to it, and loaded where this project is absent."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jtf.data import load_bars
from jtf.errors import UserError
from jtf.models import formats
from jtf.models.formats import (
    TOLERANCE,
    export_program,
    load_onnx,
    load_stablehlo,
    observations,
    onnx_bytes,
    program_difference,
    stablehlo_bytes,
)
from jtf_env.environment import observe, reset_at
from jtf_env.layouts import get_layout
from jtf_env.market import build_market as build_jax_market
from jtf_env.mirror import account_columns, build_market
from jtf_env.mirror import reset_at as mirror_reset_at
from tests.app.test_session import make_policy

PROGRAMS = {"stablehlo": (stablehlo_bytes, load_stablehlo), "onnx": (onnx_bytes, load_onnx)}


@pytest.fixture(scope="module")
def crypto_bars(bars_folder):
    return load_bars("AAAUSDT", bars_folder)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("layout", ["v5.6.0", "v5.3.0"])
def test_a_program_is_the_policy_on_a_thousand_windows(name, layout, crypto_bars):
    policy = make_policy(crypto_bars, layout)
    make, load = PROGRAMS[name]
    assert program_difference(policy, crypto_bars, load(make(policy))) < TOLERANCE / 3


def test_the_observation_of_a_program_is_that_of_the_environment(crypto_bars):
    """Of a layout whose account columns stand between its bar columns."""
    layout = get_layout("v5.3.0")
    policy = make_policy(crypto_bars, "v5.3.0")
    natural = build_market(crypto_bars, layout, window=policy.window)
    state = mirror_reset_at(500, natural, policy.env_params)
    account = account_columns(state, layout, policy.env_params)[None]
    found = observations(natural, np.array([500]), account)[0]
    market = build_jax_market(crypto_bars, layout, window=policy.window)
    expected = observe(market, reset_at(500, market, policy.env_params), policy.env_params)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_beyond_the_clip_are_clipped_inside_the_program(name, crypto_bars):
    policy = make_policy(crypto_bars)
    make, load = PROGRAMS[name]
    program = load(make(policy))
    natural = build_market(crypto_bars, policy.layout, window=policy.window)
    seen = observations(natural, np.array([600]), np.zeros((1, 0)))
    far, further = (seen + np.float32(times) for times in (1e4, 1e6))
    np.testing.assert_array_equal(program(far)[0], program(further)[0])


def test_a_column_that_was_constant_in_training_decides_nothing(crypto_bars):
    from dataclasses import replace

    from jtf_env.scaler import Scaler

    policy = make_policy(crypto_bars)
    std = policy.scaler.std.copy()
    std[4] = np.inf
    policy = replace(policy, scaler=Scaler(policy.scaler.mean, std))
    for make, load in PROGRAMS.values():
        assert program_difference(policy, crypto_bars, load(make(policy))) < TOLERANCE / 3


READERS = {
    "stablehlo": "from jax import export; run = export.deserialize(bytearray(content)).call",
    "onnx": "import onnxruntime; run = lambda x: onnxruntime.InferenceSession(content).run(None, {'observation': x})",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_loads_in_a_process_without_this_project(name, crypto_bars, tmp_path: Path):
    policy = make_policy(crypto_bars)
    export_program(policy, crypto_bars, tmp_path / "program", name)
    natural = build_market(crypto_bars, policy.layout, window=policy.window)
    seen = observations(natural, np.array([500, 700, 999]), np.zeros((3, 0)))
    np.save(tmp_path / "seen.npy", seen)
    code = f"""
import sys
for project in ("jtf", "jtf_env", "jtf_ppo"):
    sys.modules[project] = None
import numpy as np
content = open("program", "rb").read()
{READERS[name]}
np.save("found.npy", np.asarray(run(np.load("seen.npy"))[0]))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    make, load = PROGRAMS[name]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), load(make(policy))(seen)[0], atol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_decides_otherwise_is_refused_and_not_written(name, crypto_bars, tmp_path, monkeypatch):
    policy, other = make_policy(crypto_bars), make_policy(crypto_bars, members=1)
    make, _ = PROGRAMS[name]
    monkeypatch.setattr(formats, f"{name}_bytes", lambda _: make(other))
    with pytest.raises(UserError, match="differs from the policy by"):
        export_program(policy, crypto_bars, tmp_path / "program", name)
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_format_names_the_extra(crypto_bars, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'pip install "jtf\[onnx\]"'):
        export_program(make_policy(crypto_bars), crypto_bars, tmp_path / "a.onnx", "onnx")


def test_the_command_writes_both(trained_run, tmp_path, capsys):
    from jtf.export import main

    for name in PROGRAMS:
        assert main(["--run", str(trained_run), "--out", str(tmp_path / name), "--format", name]) == 0
    assert load_onnx((tmp_path / "onnx").read_bytes()) and load_stablehlo((tmp_path / "stablehlo").read_bytes())
