"""``jtf.backtest``: the same numbers as training reported, on any span, without JAX."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

import jtf
from jtf import backtest, train
from jtf.errors import UserError
from jtf.models.policy_file import FILE_NAME, load_policy
from jtf.results.run_directory import read_summary
from jtf_env.params import EnvParams


def result(run, name: str) -> dict:
    return read_summary(run / "backtests" / name)


@pytest.mark.parametrize("segment", ["train", "validation", "test"])
def test_a_segments_metrics_equal_the_summarys(trained_run, segment):
    assert backtest.main(["--run", str(trained_run), "--segment", segment, "--in-sample"]) == 0
    assert result(trained_run, segment)["metrics"][segment] == read_summary(trained_run)["metrics"][segment]


def test_baselines_equal_the_summarys(trained_run):
    assert backtest.main(["--run", str(trained_run), "--name", "again"]) == 0
    assert result(trained_run, "again")["baselines"]["test"] == read_summary(trained_run)["baselines"]["test"]


def test_trades_are_a_table_with_times_and_profits(tiny_args, tmp_path):
    # These two settings make the tiny policy trade.
    flags = ["--standardise", "bar", "--cost-warmup", "0", "--out", str(tmp_path)]
    assert train.main([*tiny_args, *flags]) == 0
    (trained_run,) = (tmp_path / "AAAUSDT").iterdir()
    assert backtest.main(["--run", str(trained_run), "--segment", "train", "--in-sample"]) == 0
    with (trained_run / "backtests" / "train" / "trades.csv").open() as file:
        rows = list(csv.DictReader(file))
    closed = [row for row in rows if row["open_at_end"] == "False"]
    metrics = result(trained_run, "train")["metrics"]["train"]
    assert len(closed) == metrics["num_trades"] > 0
    assert sum(float(row["net"]) > 0 for row in closed) / len(closed) == pytest.approx(metrics["win_rate"])
    assert all(row["entry_time"] <= row["exit_time"] and row["entry_time"].endswith("+00:00") for row in rows)


def test_a_span_of_dates_is_half_open(trained_run):
    args = ["--run", str(trained_run), "--start", "2024-01-05", "--end", "2024-01-06T12:00", "--name", "span"]
    assert backtest.main([*args, "--in-sample"]) == 0
    span = result(trained_run, "span")["derived"]["segments"]["all"]
    assert (span["start"], span["end"]) == ("2024-01-05T00:00:00+00:00", "2024-01-06T11:45:00+00:00")


def test_other_bars_are_replayed_from_their_first_warm_bar(trained_run, bars_folder, tmp_path):
    shutil.copy(bars_folder / "BBBUSDT_15Min.parquet", tmp_path / "AAAUSDT_15Min.parquet")
    assert backtest.main(["--run", str(trained_run), "--data", str(tmp_path), "--name", "other", "--in-sample"]) == 0
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
        *[(["--name", name], "--name") for name in ("../../../escape", "/tmp/escape", "", ".", "..", "a/b", "a\\b")],
    ],
)
def test_what_cannot_be_played_is_one_sentence_without_a_header_or_a_file(trained_run, args, named, capsys):
    before = sorted(trained_run.parent.rglob("*"))
    assert backtest.main(["--run", str(trained_run), *args]) == 2
    out, error = capsys.readouterr()
    assert named in error and error.count("\n") == 1 and out == ""
    assert sorted(trained_run.parent.rglob("*")) == before


def with_a_jump(bars_folder, folder) -> None:
    """Bars of the run's symbol whose prices are divided by 7 from the middle on."""
    frame = pd.read_parquet(bars_folder / "AAAUSDT_15Min.parquet")
    frame.iloc[500:, :4] /= 7
    frame.to_parquet(folder / "AAAUSDT_15Min.parquet")


def test_bars_that_training_refuses_are_refused_unless_allowed(trained_run, bars_folder, tmp_path, capsys):
    with_a_jump(bars_folder, tmp_path)
    args = ["--run", str(trained_run), "--data", str(tmp_path), "--name", "jump", "--in-sample"]
    assert backtest.main(args) == 2
    assert "likely an unadjusted split" in capsys.readouterr().err
    assert backtest.main([*args, "--allow-jumps"]) == 0
    assert "note: Moves from bar to bar beyond" in capsys.readouterr().out


def test_a_run_that_was_trained_with_jumps_is_played_with_them(trained_run, bars_folder, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    with_a_jump(bars_folder, tmp_path)
    config = json.loads((run / "config.json").read_text())
    config["config"]["allow_jumps"] = True
    (run / "config.json").write_text(json.dumps(config))
    assert backtest.main(["--run", str(run), "--data", str(tmp_path), "--in-sample"]) == 0


def test_a_span_that_training_saw_is_said_and_measured_apart(trained_run, capsys):
    assert backtest.main(["--run", str(trained_run), "--segment", "all", "--in-sample"]) == 0
    record, out = result(trained_run, "all"), capsys.readouterr().out
    shares = {name: round(100 * share) for name, share in record["seen"].items()}
    assert sum(shares.values()) == pytest.approx(100, abs=1) and all(shares.values())
    assert f"in-sample {shares['in-sample']} %, selection {shares['selection']} %, unseen {shares['unseen']} %" in out
    assert list(record["metrics"]) == ["all", "in-sample", "selection", "unseen"]


def test_a_span_after_training_is_unseen(trained_run, capsys):
    assert backtest.main(["--run", str(trained_run)]) == 0
    assert "in-sample 0 %, selection 0 %, unseen 100 %" in capsys.readouterr().out
    assert list(result(trained_run, "test")["metrics"]) == ["test"]


@pytest.mark.parametrize("span", [["--segment", "train"], ["--segment", "validation"], ["--start", "2024-01-05"]])
def test_bars_that_training_saw_are_refused_unless_they_are_asked_for(trained_run, span, capsys):
    before = sorted(trained_run.rglob("*"))
    assert backtest.main(["--run", str(trained_run), *span]) == 2
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and "or accept them with --in-sample" in error and out == ""
    assert sorted(trained_run.rglob("*")) == before


def test_the_refusal_of_seen_bars_names_the_first_unseen_one(trained_run):
    with pytest.raises(UserError, match="selected on") as refused:
        jtf.backtest(trained_run, segment="all")
    first = read_summary(trained_run)["derived"]["segments"]["test"]["start"]
    assert f"play bars from {first[:16]} on" in str(refused.value)
    assert jtf.backtest(trained_run, start=first).seen["unseen"] == 1.0


def test_bars_of_the_same_pair_spelled_otherwise_are_seen_too(trained_run, bars_folder):
    bars = replace(jtf.load_bars("AAAUSDT", bars_folder), symbol="AAA-USDT")
    with pytest.raises(UserError, match="was trained on"):
        jtf.backtest(trained_run, bars)


def test_a_backtest_leaves_what_a_run_leaves(trained_run):
    assert backtest.main(["--run", str(trained_run), "--segment", "validation", "--name", "files", "--in-sample"]) == 0
    here, there = jtf.read_result(trained_run / "backtests" / "files"), jtf.read_result(trained_run)
    assert set(here.derived["files"]) == set(there.derived["files"])
    assert here.derived["params_sha256"] == there.derived["params_sha256"]
    own = there.fills[there.fills["segment"] == "validation"].reset_index(drop=True)
    pd.testing.assert_frame_equal(here.fills, own, check_exact=True)


def test_from_python_a_run_a_result_and_its_policy_are_played_alike(trained_run, bars_folder):
    bars = jtf.load_bars("AAAUSDT", bars_folder)
    before = sorted(trained_run.rglob("*"))
    run = jtf.backtest(trained_run, segment="all", in_sample=True)
    of_result = jtf.backtest(jtf.read_result(trained_run), bars, in_sample=True)
    assert run.metrics["all"].total_return == of_result.metrics["all"].total_return
    assert run.metrics["all"] == jtf.backtest(trained_run, bars_folder, in_sample=True).metrics["all"]
    frame = pd.read_parquet(bars_folder / "AAAUSDT_15Min.parquet")
    assert jtf.backtest(trained_run / "best" / FILE_NAME, frame).metrics["all"] == run.metrics["all"]
    alone = jtf.backtest(load_policy(trained_run / "best" / FILE_NAME), frame)
    assert alone.metrics["all"] == run.metrics["all"] and alone.seen is None
    assert run.directory is None and sorted(trained_run.rglob("*")) == before


def test_all_bars_are_those_of_the_file_even_where_training_was_cut_to_dates(trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["config"]["end"] = "2024-01-08"
    (run / "config.json").write_text(json.dumps(config))
    span = jtf.backtest(run, segment="all", in_sample=True).derived["segments"]["all"]
    assert span["end"] == read_summary(trained_run)["data"]["end"]


def test_from_python_a_run_is_played_on_test_as_the_command_does(trained_run):
    assert list(jtf.backtest(trained_run).metrics) == ["test"]
    assert list(jtf.backtest(trained_run, segment="validation", in_sample=True).metrics) == ["validation"]


def test_a_policy_alone_has_no_segments(trained_run, bars_folder):
    with pytest.raises(UserError, match="a policy alone has no test segment"):
        jtf.backtest(trained_run / "best" / FILE_NAME, segment="test")
    with pytest.raises(UserError, match="`segment` train excludes `bars`"):
        jtf.backtest(trained_run, bars_folder, segment="train")


def test_a_policy_alone_has_no_bars(trained_run):
    with pytest.raises(UserError, match="has no bars"):
        jtf.backtest(load_policy(trained_run / "best" / FILE_NAME))


def test_jtf_backtest_is_a_function_and_a_module_whatever_was_imported_first():
    code = """
import jtf
found = jtf.backtest
import jtf.backtest as module
assert found is module is jtf.backtest and callable(found) and callable(module.main)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_bars_of_another_length_than_the_policys_are_refused(trained_run, bars_folder):
    frame = pd.read_parquet(bars_folder / "AAAUSDT_15Min.parquet")
    hourly = jtf.load_bars("AAAUSDT", frame, timeframe="1Hour")
    with pytest.raises(UserError, match="60-minute bars and the policy was trained on 15-minute bars"):
        jtf.backtest(load_policy(trained_run / "best" / FILE_NAME), hourly)


def test_a_ruined_account_is_said(trained_run, monkeypatch, capsys):
    careful = replace(load_policy(trained_run / "best" / FILE_NAME), env_params=EnvParams(max_drawdown=1e-4, fee=0.01))
    monkeypatch.setattr("jtf.backtest.load_policy", lambda path: careful)
    assert backtest.main(["--run", str(trained_run), "--segment", "train", "--name", "ruined", "--in-sample"]) == 0
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


def test_an_end_before_the_start_is_one_sentence(trained_run, capsys):
    assert backtest.main(["--run", str(trained_run), "--start", "2024-01-08", "--end", "2024-01-05"]) == 2
    assert "leaves 0 bars between --start and --end" in capsys.readouterr().err
