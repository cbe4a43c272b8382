"""Alarms ring while a training runs, on markets made for them, and are silent on a healthy run."""

import shutil

import numpy as np
import pandas as pd
import pytest

import jtf
from jtf import train
from jtf.results.health import alarm_history
from jtf.results.run_directory import read_metrics, read_summary
from tests.app.conftest import TINY

BARS = 1_000
LONGER = ["--ppo.total-steps", "6144"]
"""Twelve updates, six validations."""


def market_bars(moves: np.ndarray) -> pd.DataFrame:
    """24/7 bars with these simple returns, each opening where the last one closed."""
    rng = np.random.default_rng(1)
    close = 100.0 * np.cumprod(1.0 + moves)
    opened = np.concatenate([[100.0], close[:-1]])
    wicks = np.abs(rng.normal(0.0, 5e-4, (2, len(moves))))
    index = pd.date_range("2024-01-01", periods=len(moves), freq="15min", tz="UTC", name="timestamp")
    high, low = np.maximum(opened, close) * (1 + wicks[0]), np.minimum(opened, close) * (1 - wicks[1])
    columns = {"open": opened, "high": high, "low": low, "close": close, "volume": rng.uniform(1.0, 9.0, len(moves))}
    return pd.DataFrame(columns, index=index)


def made_moves() -> dict[str, np.ndarray]:
    """Returns a bar of four markets: noise, a rise, an alternation that ends before validation, slow regimes."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 4e-3, BARS)
    alternating = np.where(np.arange(BARS) % 2 == 0, 5e-3, -5e-3) + noise / 8
    alternating[700:] = np.random.default_rng(7).normal(0.0, 4e-3, 300)
    regimes = np.repeat(np.where(rng.random(BARS // 20) < 0.5, 4e-3, -4e-3), 20) + noise / 4
    return {"noise": noise, "rise": 2e-3 + noise / 4, "alternating": alternating, "regimes": regimes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for name, moves in made_moves().items():
        market_bars(moves).to_parquet(folder / f"{name.upper()}USDT_15Min.parquet")
    return folder


def command(folder, market: str, slippage: float, *more: str) -> list[str]:
    name = f"{market.upper()}USDT"
    return ["--symbol", name, "--data", str(folder), *TINY, *LONGER, "--env.slippage", str(slippage), *more]


def trained(folder, out, market: str, slippage: float, *more: str):
    assert train.main([*command(folder, market, slippage, *more), "--out", str(out)]) == 0
    (run,) = out.glob("*/*")
    return run


@pytest.mark.parametrize(
    ("name", "market", "slippage", "more"),
    [
        ("always flat", "noise", 0.02, ["--cost-warmup", "0", "--ppo.ent-coef", "0"]),
        ("critic blind", "noise", 0.02, ["--cost-warmup", "0", "--ppo.ent-coef", "0"]),
        ("always in the market", "rise", 0.0, []),
        ("churn", "alternating", 0.0015, []),
    ],
)
def test_an_alarm_rings_on_the_market_made_for_it(name, market, slippage, more, folder, tmp_path, capsys):
    run = trained(folder, tmp_path, market, slippage, *more)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"alarm: {name} (seed 0, update ")]
    assert len(said) == 1 and "Likely: " in said[0] and "Remedy: " in said[0]
    (alarm,) = [one for one in read_summary(run)["alarms"] if one["name"] == name]
    assert alarm["end"] is None and f"update {alarm['begin']})" in said[0]
    key = f"alarm/{name.replace(' ', '_')}"
    assert [record["update"] for record in read_metrics(run) if record.get(key) == 1] == [alarm["begin"]]


def test_a_healthy_training_rings_no_alarm(folder, tmp_path, capsys):
    run = trained(folder, tmp_path, "regimes", 0.0005)
    assert "alarm" not in capsys.readouterr().out and read_summary(run)["alarms"] == []
    assert not any(key.startswith("alarm/") for record in read_metrics(run) for key in record)
    assert read_summary(run)["metrics"]["validation"]["total_return"] > 0.1, "the run is not a healthy one"


def test_a_resumed_training_rings_what_the_whole_one_rings_and_nothing_twice(folder, tmp_path, capsys, monkeypatch):
    whole = trained(folder, tmp_path / "whole", "rise", 0.0)
    asked = iter([False] * 8 + [True])
    with monkeypatch.context() as patched:
        patched.setattr("jtf.train.StopRequest.__call__", lambda self: next(asked, False))
        assert train.main([*command(folder, "rise", 0.0), "--out", str(tmp_path / "two")]) == 130
    (run,) = (tmp_path / "two").glob("*/*")
    assert "alarm: always in the market" in capsys.readouterr().out
    assert train.main(["--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert "alarm: always in the market" not in said and "alarm: critic blind" in said
    assert read_summary(run)["alarms"] == read_summary(whole)["alarms"]
    assert list(alarm_history(read_metrics(run))) == list(alarm_history(read_metrics(whole)))
    shutil.rmtree(run)


def test_alarms_of_a_run_from_python_are_in_its_result(folder, tmp_path):
    bars = pd.read_parquet(folder / "RISEUSDT_15Min.parquet")
    sizes = {"num_envs": 8, "num_steps": 64, "hidden_sizes": (16,), "minibatch_size": 256, "first_layer": "gather"}
    more = {"window": 8, "total_steps": 6144, "validation_interval": 2, "learning_rate": 0.01, "episode_bars": 64}
    found = jtf.fit(bars, "RISEUSDT", out=tmp_path, slippage=0.0, fee=0.0, report=False, **sizes, **more)
    assert "always in the market" in {alarm["name"] for alarm in found.summary["alarms"]}
