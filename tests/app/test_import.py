"""Dense networks from elsewhere decide here as they did there; torch is not needed, only its names and shapes."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import jtf
from jtf.data import load_bars
from jtf.models.dense import read_dense
from jtf.models.formats import observations
from jtf_env.layouts import get_layout
from jtf_env.mirror import build_market, fit_scaler
from jtf_env.mirror.account import Observation

main = import_module("jtf.import").main
ROWS = np.array([250, 500, 998, 999])


def dense_network(obs_dim: int, sizes: tuple[int, ...], times: float = 1.0) -> dict[str, np.ndarray]:
    """Return a random state dict as `torch.nn.Linear` layers name it."""
    rng, tensors = np.random.default_rng(0), {}
    widths = [obs_dim, *sizes]
    layers = [("first", widths[0], widths[1])]
    layers += [(f"hidden_{k}", widths[k + 1], widths[k + 2]) for k in range(len(sizes) - 1)]
    for name, inputs, outputs in [*layers, ("policy", widths[-1], 8), ("value", widths[-1], 1)]:
        scale = (times if name == "first" else 2.0) / np.sqrt(inputs)
        tensors[f"{name}.weight"] = rng.normal(0.0, scale, (outputs, inputs)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0.0, 0.1, outputs).astype(np.float32)
    return tensors


def evaluate(tensors: dict[str, np.ndarray], seen: np.ndarray) -> np.ndarray:
    """Return the probabilities ``[B, A]`` float64 of the dense network on ``seen [B, W, D]``."""
    layer = seen.reshape(len(seen), -1).astype(np.float64)
    hidden = [name for name in sorted(tensors) if name.startswith("hidden_") and name.endswith("weight")]
    for name in ["first.weight", *hidden]:
        bias = tensors[name.replace("weight", "bias")]
        layer = np.maximum(layer @ tensors[name].T.astype(np.float64) + bias, 0.0)
    logits = layer @ tensors["policy.weight"].T.astype(np.float64) + tensors["policy.bias"]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def bars(bars_folder):
    return load_bars("AAAUSDT", bars_folder)


def imported(tensors: dict[str, np.ndarray], tmp_path: Path, *flags: str) -> jtf.Policy:
    """Return the policy that the command makes of a state dict."""
    save_file(tensors, tmp_path / "net.safetensors")
    paths = ["--weights", str(tmp_path / "net.safetensors"), "--out", str(tmp_path / "net.zip")]
    assert main([*paths, "--symbol", "AAAUSDT", *flags]) == 0
    return jtf.Policy.load(tmp_path / "net.zip")


def decided(policy: jtf.Policy, bars, accounts: np.ndarray) -> np.ndarray:
    market = policy.market(bars)
    seen = zip(ROWS.tolist(), accounts, strict=True)
    return np.stack([policy.probabilities_at(market, Observation(row, account)) for row, account in seen])


def test_a_dense_network_of_5800_inputs_in_natural_units_decides_the_same(bars, tmp_path):
    """Without a scaler nothing is clipped, however large a column is."""
    tensors = dense_network(5_800, (512, 16), times=4.0)
    policy = imported(tensors, tmp_path)
    natural = build_market(bars, "v5.6.0")
    expected = evaluate(tensors, observations(natural, ROWS, np.zeros((4, 0))))
    assert policy.layout.name == "v5.6.0" and np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(decided(policy, bars, np.zeros((4, 0))), expected, atol=1e-5)


@pytest.mark.parametrize("clip", [True, False])
def test_a_network_with_a_scaler_decides_the_same_in_a_layout_with_account_columns(clip, bars, tmp_path):
    """Of v5.3.0, whose account columns stand between its bar columns; some columns lie beyond ten deviations."""
    layout, window = get_layout("v5.3.0"), 12
    natural = build_market(bars, layout, window=window)
    fitted = fit_scaler(natural.features, natural.context, natural.first_bar)
    order = list(layout.observation_order)
    mean = np.concatenate([fitted.mean, np.zeros(6)])[order]
    std = np.concatenate([fitted.std / 8.0, np.ones(6)])[order]
    tensors = dense_network(layout.obs_dim(window), (24,))
    flags = ["--window", "12"] + ([] if clip else ["--no-clip"])
    policy = imported(tensors | {"scaler.mean": mean, "scaler.std": std}, tmp_path, *flags)
    accounts = np.random.default_rng(1).uniform(-1.0, 1.0, (4, 6))
    standard = (observations(natural, ROWS, accounts).astype(np.float64) - mean) / std
    assert (np.abs(standard) > 10).any()
    expected = evaluate(tensors, np.clip(standard, -10.0, 10.0) if clip else standard)
    np.testing.assert_allclose(decided(policy, bars, accounts), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("value.weight"), r"lacks or adds the tensor value\.weight"),
        (lambda t: t.update(extra=np.zeros(3, np.float32)), "lacks or adds the tensor extra"),
        (lambda t: t.update({"policy.bias": np.zeros(7, np.float32)}), "policy has weight"),
        (lambda t: t.update({"first.bias": np.full(16, np.nan, np.float32)}), r"first\.bias holds NaN"),
        (lambda t: t.update({"first.weight": np.zeros((16, 100), np.float32)}), "obs_dim 100 .* known sizes are"),
        (lambda t: t.update({"first.weight": np.zeros(16, np.float32)}), "first has weight"),
        (lambda t: t.update({"scaler.mean": np.zeros(3, np.float32)}), "not 58 numbers"),
    ],
)
def test_a_network_that_does_not_fit_is_one_sentence_and_nothing_is_written(change, told, tmp_path, capsys):
    import re

    tensors = dense_network(580, (16,))
    change(tensors)
    save_file(tensors, tmp_path / "net.safetensors")
    flags = ["--symbol", "SPY", "--window", "10", "--out", str(tmp_path / "net.zip")]
    assert main(["--weights", str(tmp_path / "net.safetensors"), *flags]) == 2
    assert re.search(told, capsys.readouterr().err) and not (tmp_path / "net.zip").exists()


@pytest.mark.parametrize("content", [b"", b"PK nothing", b"\x80\x04pickle."])
def test_a_file_of_another_kind_is_one_sentence(content, tmp_path, capsys):
    (tmp_path / "net.pt").write_bytes(content)
    assert main(["--weights", str(tmp_path / "net.pt"), "--symbol", "SPY", "--out", str(tmp_path / "a.zip")]) == 2
    assert "is not a safetensors file" in capsys.readouterr().err


def test_equities_have_the_bars_of_their_calendar(tmp_path):
    save_file(dense_network(580, (16,)), tmp_path / "net.safetensors")
    policy = read_dense(tmp_path / "net.safetensors", "SPY", window=10)
    assert 6_400 < policy.bars_per_year < 6_600 and policy.asset_class == "us_equity"
