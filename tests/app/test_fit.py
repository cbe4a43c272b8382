"""Training from Python: the same run as the command's, from bars in memory too."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import jtf
from jtf.config import parse_config
from jtf.console import medians
from jtf.data import bars_sha256, load_bars
from jtf.errors import UserError
from jtf.export import export
from jtf.models.bundle import load_bundle
from jtf.models.policy_file import FILE_NAME, load_policy
from jtf.results.results import RunResult
from jtf.results.run_directory import read_config, read_summary
from jtf.run import settings_config
from jtf.task import make_policy, prepare
from tests.app.conftest import random_walk

TINY = {
    "window": 8, "total_steps": 1024, "num_envs": 8, "num_steps": 64, "hidden_sizes": (16,), "update_epochs": 4,
    "minibatch_size": 256, "first_layer": "gather", "episode_bars": 64, "report": False,
}  # fmt: skip


def test_bars_from_memory_are_kept_in_the_run_and_read_again_as_they_were(tmp_path):
    frame = random_walk(1_000).reset_index()
    frame["timestamp"] += pd.Timedelta(minutes=15)  # Stamped with their end.
    result = jtf.fit(frame, "AAAUSDT", stamps="end", out=str(tmp_path), **TINY)
    stored = read_config(result.directory)
    again = jtf.backtest(result)
    assert again.summary["data"]["sha256"] == stored["data"]["sha256"]
    assert result.metrics["test"].total_return == read_summary(result.directory)["metrics"]["test"]["total_return"]


@pytest.fixture(scope="module")
def hourly() -> pd.DataFrame:
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return random_walk(4_000).resample("1h").agg(how)


@pytest.fixture(scope="module")
def crypto_by_choice(hourly, tmp_path_factory) -> RunResult:
    """A run on hourly bars whose symbol is not spelled like crypto."""
    bars = load_bars("X", hourly, asset_class="crypto", timeframe="1Hour")
    out = tmp_path_factory.mktemp("runs")
    return jtf.fit(bars, "X", asset_class="crypto", timeframe="1Hour", out=out, **TINY)


def test_bars_of_another_length_and_class_are_read_again_as_they_were(hourly, crypto_by_choice):
    bars = load_bars("X", hourly, asset_class="crypto", timeframe="1Hour")
    assert jtf.backtest(crypto_by_choice).summary["data"]["sha256"] == bars_sha256(bars)


def test_a_policy_alone_reads_bars_as_its_asset_class(hourly, crypto_by_choice):
    policy = load_policy(crypto_by_choice.directory / "best" / FILE_NAME)
    assert policy.asset_class == "crypto"
    assert jtf.backtest(policy, hourly).summary["data"]["bars"] == len(hourly)


def test_a_run_of_a_chosen_asset_class_is_exported(crypto_by_choice, tmp_path):
    manifest = load_bundle(export(crypto_by_choice.directory, tmp_path / "x.zip")).manifest
    assert (manifest.asset_class, manifest.calendar, manifest.timezone) == ("crypto", None, "UTC")


def test_a_run_on_bars_from_memory_in_regular_hours_is_exported_without_extended_hours(crypto_by_choice, tmp_path):
    assert not load_bundle(export(crypto_by_choice.directory, tmp_path / "x.zip")).manifest.extended_hours


@pytest.mark.parametrize("extended", [True, False])
def test_a_policy_says_whether_its_bars_reach_beyond_regular_hours(extended):
    times = pd.date_range("2024-01-16", periods=32 * 96, freq="15min", tz="UTC")
    times = times[(times.day_of_week < 5) & (times.hour >= 12) & (times.hour < 22)]  # 07:00 to 17:00 New York.
    frame = random_walk(len(times)).set_axis(times)
    bars = load_bars("SPY", frame, extended_hours=extended)
    config = settings_config({"symbol": "SPY", "extended_hours": True, "compile_cache": False} | TINY)
    assert make_policy(prepare(config, bars), {}).extended_hours == extended


def test_bars_of_another_symbol_are_said_and_count_as_unknown(trained_run, bars_folder):
    result = jtf.backtest(trained_run, load_bars("BBBUSDT", bars_folder))
    assert result.notes[0] == "The bars are of BBBUSDT, the policy was trained on AAAUSDT."
    assert result.seen is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"resume": "runs/x"}, "resume"),
        ({"mode": "forever"}, "forever"),
        ({"members": 2.5}, "members"),
        ({"total_steps": 0}, "total-steps"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(settings, named, tmp_path):
    with pytest.raises(UserError, match=named):
        jtf.fit(random_walk(900), "AAAUSDT", out=tmp_path / "runs", **settings)
    assert not (tmp_path / "runs").exists()


def test_a_setting_reaches_the_group_that_has_it():
    config = settings_config(
        {"symbol": "X", "fee": 0.001, "num_envs": 4, "preset": "log_return", "train": 0.6, "seed": 3}
    )
    assert (config.env.fee, config.ppo.num_envs, config.env.reward.preset) == (0.001, 4, "log_return")
    assert (config.split.train, config.seed, config.ppo.seed) == (0.6, 3, 3)


def test_a_config_file_is_read_under_its_own_name(trained_run, tmp_path):
    (tmp_path / "mine.json").write_text((trained_run / "config.json").read_text())
    stored = parse_config(["--config", str(tmp_path / "mine.json")])
    assert (stored.symbol, stored.ppo.total_steps, stored.window) == ("AAAUSDT", 2_048, 8)
    with pytest.raises(UserError, match=r"none\.json"):
        parse_config(["--config", str(tmp_path / "none.json")])


def test_another_length_than_the_config_files_chooses_what_follows_from_it_anew(trained_run):
    stored = parse_config(["--config", str(trained_run / "config.json"), "--total-steps", "5000"])
    assert (stored.ppo.total_steps, stored.ppo.validation_interval, stored.ppo.num_envs) == (5000, None, None)


def test_another_mode_than_the_config_files_chooses_the_lengths_anew(trained_run):
    stored = parse_config(["--config", str(trained_run / "config.json"), "--mode", "smoke"])
    assert (stored.ppo.total_steps, stored.ppo.validation_interval) == (200_000, None)
    kept = parse_config(["--config", str(trained_run / "config.json")])
    assert (kept.ppo.total_steps, kept.ppo.validation_interval) == (2_048, 2)
    assert replace(kept, config=None, ppo=stored.ppo) == replace(stored, config=None)


def test_a_number_that_some_members_lack_is_the_median_of_the_others():
    assert medians([{"a": 1.0}, {"a": float("nan")}, {"a": 0.5}, {"a": 2.0}, {"a": 3.0}]) == {"a": 1.5}
    assert np.isnan(medians([{"a": float("nan")}])["a"])
