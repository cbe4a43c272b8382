"""``jtf.backtest``: the same numbers as training reported, on any span, without JAX."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from jtf import backtest
from jtf.models.policy_file import FILE_NAME, load_policy
from jtf.results.run_directory import read_summary
from jtf_env.params import EnvParams


def result(run, name: str) -> dict:
    return read_summary(run / "backtests" / name)


@pytest.mark.parametrize("segment", ["train", "validation", "test"])
def test_a_segments_metrics_equal_the_summarys(trained_run, segment):
    assert backtest.main(["--run", str(trained_run), "--segment", segment]) == 0
    assert result(trained_run, segment)["metrics"][segment] == read_summary(trained_run)["metrics"][segment]


def test_baselines_equal_the_summarys(trained_run):
    assert backtest.main(["--run", str(trained_run), "--name", "again"]) == 0
    assert result(trained_run, "again")["baselines"]["test"] == read_summary(trained_run)["baselines"]["test"]


def test_trades_are_a_table_with_times_and_profits(trained_run):
    assert backtest.main(["--run", str(trained_run), "--segment", "train"]) == 0
    with (trained_run / "backtests" / "train" / "trades.csv").open() as file:
        rows = list(csv.DictReader(file))
    closed = [row for row in rows if row["open_at_end"] == "False"]
    metrics = result(trained_run, "train")["metrics"]["train"]
    assert len(closed) == metrics["num_trades"] > 0
    assert sum(float(row["net"]) > 0 for row in closed) / len(closed) == pytest.approx(metrics["win_rate"])
    assert all(row["entry_time"] <= row["exit_time"] and row["entry_time"].endswith("+00:00") for row in rows)


def test_a_span_of_dates_is_half_open(trained_run):
    args = ["--run", str(trained_run), "--start", "2024-01-05", "--end", "2024-01-06T12:00", "--name", "span"]
    assert backtest.main(args) == 0
    span = result(trained_run, "span")["derived"]["segments"]["all"]
    assert (span["start"], span["end"]) == ("2024-01-05T00:00:00+00:00", "2024-01-06T11:45:00+00:00")


def test_other_bars_are_replayed_from_their_first_warm_bar(trained_run, bars_folder, tmp_path):
    shutil.copy(bars_folder / "BBBUSDT_15Min.parquet", tmp_path / "AAAUSDT_15Min.parquet")
    assert backtest.main(["--run", str(trained_run), "--data", str(tmp_path), "--name", "other"]) == 0
    other = result(trained_run, "other")
    start = other["derived"]["segments"]["all"]["start"]
    assert start == "2024-01-02T03:00:00+00:00"  # 108 bars of 15 minutes: warm-up 101 + window 8 - 1
    assert other["data"]["sha256"] != read_summary(trained_run)["data"]["sha256"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--start", "someday"], "--start"),
        (["--start", "2030-01-01"], "widen the span"),
        (["--data", "/nowhere"], "/nowhere"),
        (["--segment", "train", "--start", "2024-01-05"], "--segment train excludes"),
    ],
)
def test_what_cannot_be_replayed_is_one_sentence(trained_run, args, named, capsys):
    assert backtest.main(["--run", str(trained_run), *args]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_a_ruined_account_is_said(trained_run, monkeypatch, capsys):
    careful = replace(load_policy(trained_run / "best" / FILE_NAME), env_params=EnvParams(max_drawdown=1e-4, fee=0.01))
    monkeypatch.setattr("jtf.backtest.load_policy", lambda path: careful)
    assert backtest.main(["--run", str(trained_run), "--segment", "train", "--name", "ruined"]) == 0
    assert result(trained_run, "ruined")["derived"]["segments"]["train"]["ruined"]
    assert "ruined at 2024-01-0" in capsys.readouterr().out


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert backtest.main(["--run", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


def test_bars_that_changed_since_training_are_refused(trained_run, bars_folder, tmp_path, capsys):
    run = shutil.copytree(trained_run, tmp_path / "run")
    shutil.copy(bars_folder / "BBBUSDT_15Min.parquet", tmp_path / "AAAUSDT_15Min.parquet")
    config = json.loads((run / "config.json").read_text())
    config["config"]["data"] = str(tmp_path)
    (run / "config.json").write_text(json.dumps(config))
    assert backtest.main(["--run", str(run)]) == 2
    assert "not those" in capsys.readouterr().err


def test_backtesting_needs_no_jax(trained_run):
    code = f"""
import sys
for name in ("jax", "jaxlib", "flax", "optax", "chex", "orbax", "tensorboardX"):
    sys.modules[name] = None
from jtf.__main__ import main
sys.exit(main(["backtest", "--run", {str(trained_run)!r}, "--name", "without_jax"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert result(trained_run, "without_jax")["metrics"]["test"] == read_summary(trained_run)["metrics"]["test"]


def test_a_backtest_whose_reader_goes_away_ends_silently(trained_run):
    command = [sys.executable, "-m", "jtf.backtest", "--run", str(trained_run), "--name", "unread"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
