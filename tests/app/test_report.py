"""The page of a run: what it says is what the run directory holds, and nothing else is read."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from jtf.data import load_bars
from jtf.errors import UserError
from jtf.report import main, write_report
from jtf.report.arrays import fill_arrays, page_arrays
from jtf.report.content import better, report_content
from jtf.report.pack import pack_arrays, unpack_arrays
from jtf.report.page import page_html, script_json
from jtf.report.series import drawdown, monthly_returns, rolling, segment_series
from jtf.results.metrics import METRIC_NAMES, sharpe
from jtf.results.results import read_result, write_results
from jtf.results.run_directory import read_metrics, read_summary

MINUTES_15 = 35_040.0
NAMES = {"report.html", "report.json"}


@pytest.fixture(scope="module")
def reported(trained_run):
    """The tiny run, its page written; returns its directory."""
    assert main([str(trained_run)]) == 0
    return trained_run


@pytest.fixture(scope="module")
def twin(reported):
    return json.loads((reported / "report.json").read_text())


def embedded(directory, name):
    """Return what stands in the page's script element of that name."""
    page = (directory / "report.html").read_text()
    return re.search(rf'<script id="{name}" type="[^"]+">(.*?)</script>', page, re.S).group(1)


def test_the_page_holds_what_the_json_twin_says(reported, twin):
    assert json.loads(embedded(reported, "content")) == twin


def test_tiles_are_the_metrics_of_the_summary_beside_buying_and_holding(reported, twin):
    summary = read_summary(reported)
    for name, segment in twin["segments"].items():
        for tile in segment["tiles"]:
            if tile["name"] in METRIC_NAMES:
                assert tile["value"] == summary["metrics"][name][tile["name"]]
                assert tile["buy_and_hold"] == summary["baselines"][name]["buy_and_hold"][tile["name"]]
                assert "buy and hold" in tile["beside"]
        assert ("random" in {tile["name"] for tile in segment["tiles"]}) == (name == "test")
    assert [tile["name"] for tile in segment["tiles"]][:3] == ["total_return", "sharpe", "max_drawdown"]


def test_the_random_tile_is_the_share_of_random_timings_that_earn_less(reported, twin):
    (tile,) = (tile for tile in twin["segments"]["test"]["tiles"] if tile["name"] == "random")
    result = read_result(reported)
    own, drawn = result.metrics["test"].total_return, np.array(result.random.total_returns)
    assert tile["value"] == np.mean(drawn < own) and 0 < tile["value"] < 1
    assert tile["beside"].startswith(f"of {len(drawn)} draws")


def test_the_headline_sets_the_policy_beside_its_baselines(reported, twin):
    result = read_result(reported)
    others = result.baselines["test"]
    for found in (others["buy_and_hold"], others["moving_average_cross"]):
        assert f"{found.total_return:+.1%}" in twin["headline"]
    assert f"{result.random.percentile(50):+.1%} (median)" in twin["headline"]


def test_costs_are_a_share_of_the_initial_equity(reported, twin):
    result = read_result(reported)
    (tile,) = (tile for tile in twin["segments"]["test"]["tiles"] if tile["name"] == "costs")
    paid = result.fills.loc[result.fills["segment"] == "test", "cost"].sum()
    assert tile["value"] == pytest.approx(paid / result.derived["env_params"]["initial_equity"], rel=1e-9)


def test_the_verdict_and_its_reasons_are_those_of_the_run(reported, twin):
    assert twin["verdict"] == read_summary(reported)["verdict"] and twin["verdict"]["reasons"]


def test_arrays_of_the_page_are_the_curves(reported):
    arrays, result = unpack_arrays(embedded(reported, "arrays")), read_result(reported)
    for name, curve in result.curves.groupby("segment", sort=False):
        np.testing.assert_array_equal(arrays[f"{name}/equity"], curve["equity"].to_numpy(np.float32))
        times = pd.DatetimeIndex(arrays[f"{name}/time"].astype("int64") * 60 * 10**9, tz="UTC")
        np.testing.assert_array_equal(times, pd.DatetimeIndex(curve["time"]))


def test_fills_and_trades_of_the_page_lie_at_their_bars(reported):
    arrays, result = unpack_arrays(embedded(reported, "arrays")), read_result(reported)
    bars = load_bars("AAAUSDT", read_summary(reported)["data"]["source"])
    for name, curve in result.curves.groupby("segment", sort=False):
        first = bars.timestamps.get_loc(curve["time"].iloc[0])
        fills = result.fills[result.fills["segment"] == name]
        np.testing.assert_array_equal(arrays[f"{name}/fills/row"] + first, fills["bar"])
        trades = result.trades[result.trades["segment"] == name]
        np.testing.assert_array_equal(arrays[f"{name}/trades/exit"] + first, trades["exit_bar"])
        np.testing.assert_array_equal(arrays[f"{name}/trades/net"], trades["net"])


def test_the_inspector_has_the_columns_and_the_probabilities_of_every_observed_bar(reported, twin):
    arrays, result = unpack_arrays(embedded(reported, "arrays")), read_result(reported)
    bars, names = twin["observed"]["bars"], twin["observed"]["columns"]
    columns = arrays["observed/columns"].reshape(len(names), bars)
    np.testing.assert_array_equal(columns[5], result.observations[names[5]].to_numpy())
    odds = arrays["observed/probabilities"].reshape(8, bars)
    np.testing.assert_allclose(odds.sum(axis=0), 1.0, rtol=1e-5)
    test = result.curves[result.curves["segment"] == twin["observed"]["segment"]]
    np.testing.assert_array_equal(odds[3], test["p_BUY_75"].to_numpy(np.float32))
    assert twin["observed"]["groups"][0] == "base6" and twin["observed"]["groups"][-1] == "hourly_context7"


def test_a_fill_belongs_to_the_decision_that_ordered_it(reported):
    result = read_result(reported)
    series = segment_series(result.curves)["train"]
    fills = result.fills[result.fills["segment"] == "train"].head(2)
    known = fill_arrays(fills, series, "next_open")
    assert (series.action[known["fills/decided"]] > 0).all()  # HOLD orders nothing.
    some = pd.concat([fills, fills]).assign(reason=["signal", "signal", "stop", "take_profit"])
    rows = fill_arrays(some, series, "close")["fills/row"]
    assert (fill_arrays(some, series, "next_open")["fills/decided"] - rows).tolist() == [-1, -1, -1, -1]
    assert (fill_arrays(some, series, "close")["fills/decided"] - rows).tolist() == [0, 0, -1, -1]


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "float16", "float32", "float64"])
def test_packed_arrays_come_back_as_they_were(kind):
    values = np.random.default_rng(0).normal(0, 40, 500).astype(kind)
    found = unpack_arrays(pack_arrays({"a": values, "none": values[:0], "b": values[:7]}))
    for name, array in {"a": values, "none": values[:0], "b": values[:7]}.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.dtype(kind)


def test_the_same_run_gives_the_same_page(reported):
    before = (reported / "report.html").read_bytes()
    write_report(reported)
    assert (reported / "report.html").read_bytes() == before


def test_nothing_that_comes_from_data_becomes_markup(reported):
    result = read_result(reported)
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    series = segment_series(result.curves)
    lines = {name: rolling(one, MINUTES_15) for name, one in series.items()}
    content = report_content(replace(result, symbol=hostile, notes=(hostile,)), {}, [], series, lines)
    page = page_html(content, page_arrays(result, series, lines))
    assert "<img src=x" not in page and "alert(1)</script>" not in page
    assert "<" not in script_json(content) and json.loads(script_json(content))["symbol"] == hostile


def test_the_page_names_no_address_it_would_load(reported):
    page = (reported / "report.html").read_text()
    own = page.replace(embedded(reported, "plotly"), "").replace(embedded(reported, "content"), "")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", own)
    assert "default-src 'none'" in own


def test_pictures_are_left_beside_the_page(reported):
    names = {path.name for path in (reported / "figures").iterdir()}
    assert names == {"equity.png", "months.png", "price.png", "rolling.png", "training.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (reported / "figures").iterdir())


def test_the_report_runs_without_jax(reported):
    code = (
        "import sys\nfor name in ('jax', 'jaxlib', 'flax', 'optax', 'orbax'): sys.modules[name] = None\n"
        f"from jtf.report import main\nassert main([{str(reported)!r}]) == 0"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_backtest_has_a_page_without_verdict_and_training(trained_run):
    from jtf import backtest

    assert backtest.main(["--run", str(trained_run), "--segment", "all", "--name", "paged", "--in-sample"]) == 0
    content = json.loads((trained_run / "backtests" / "paged" / "report.json").read_text())
    assert content["kind"] == "backtest" and content["verdict"] is None and content["training"] is None
    assert list(content["segments"]) == ["all"] and list(content["parts"]) == ["in-sample", "selection", "unseen"]
    assert [label for label, _, _ in content["segments"]["all"]["seen"]] == ["in-sample", "selection", "unseen"]


def test_the_headline_says_how_many_of_the_bars_training_used(trained_run, twin):
    from jtf import backtest

    assert backtest.main(["--run", str(trained_run), "--segment", "all", "--name", "headline", "--in-sample"]) == 0
    content = json.loads((trained_run / "backtests" / "headline" / "report.json").read_text())
    result = read_result(trained_run / "backtests" / "headline")
    used = (result.curves["seen"] == "in-sample").mean()
    assert f"{used:.0%} of these bars are in-sample" in content["headline"]
    assert "in-sample" not in twin["headline"]


def test_a_flag_leaves_the_page_out(trained_run):
    from jtf import backtest

    assert backtest.main(["--run", str(trained_run), "--name", "unpaged", "--no-report"]) == 0
    assert not NAMES & {path.name for path in (trained_run / "backtests" / "unpaged").iterdir()}


def test_training_writes_the_page_and_prints_its_path(tiny_args, tmp_path, capsys):
    from jtf.train import main as train

    args = [argument for argument in tiny_args if argument != "--no-report"]
    assert train([*args, "--ppo.total-steps", "512", "--out", str(tmp_path)]) == 0
    (run,) = (tmp_path / "AAAUSDT").iterdir()
    assert f"report: {run / 'report.html'}" in capsys.readouterr().out.replace("\n", "")
    assert {path.name for path in run.iterdir()} > NAMES


def test_results_of_another_version_are_refused_in_one_sentence(reported, tmp_path, capsys):
    write_results(tmp_path, read_result(reported))
    summary = json.loads((tmp_path / "summary.json").read_text())
    del summary["accounts"]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    before = {path.name for path in tmp_path.iterdir()}
    assert main([str(tmp_path)]) == 2
    assert "was written by another version of jtf" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_an_unfinished_run_is_refused_with_the_way_to_finish_it(trained_run, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes((trained_run / "config.json").read_bytes())
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "has no results yet" in error and "--resume" in error
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_that_is_being_written_is_refused(trained_run, tmp_path):
    from jtf.results.run_directory import run_lock

    (tmp_path / "config.json").write_bytes((trained_run / "config.json").read_bytes())
    with run_lock(tmp_path), pytest.raises(UserError, match="is being written by process"):
        write_report(tmp_path)


def test_open_opens_the_page(reported, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main([str(reported), "--open"]) == 0
    assert opened == [(reported / "report.html").resolve().as_uri()]


def test_months_multiply_to_the_whole(reported):
    series = segment_series(read_result(reported).curves)["train"]
    months = monthly_returns(series.times, series.equity, "UTC")
    product = np.prod([1 + value for _, _, value in months])
    assert product == pytest.approx(series.equity[-1] / series.equity[0], rel=1e-12)


def test_a_month_ends_by_the_clock_of_the_exchange():
    # 1 March 02:00 UTC is still February in New York.
    times = pd.DatetimeIndex(["2023-02-28 20:00", "2023-03-01 02:00", "2023-03-01 15:00"], tz="UTC")
    equity = np.array([100.0, 110.0, 99.0])
    assert monthly_returns(times, equity, "America/New_York") == [
        (2023, 2, pytest.approx(0.1)),
        (2023, 3, pytest.approx(-0.1)),
    ]


def test_the_rolling_sharpe_ratio_is_that_of_the_metrics(reported):
    series = segment_series(read_result(reported).curves)["train"]
    lines = rolling(series, MINUTES_15)
    for point in (0, len(lines.rows) // 2, len(lines.rows) - 1):
        row = lines.rows[point]
        expected = sharpe(series.equity[row - lines.window : row + 1], MINUTES_15)
        assert lines.sharpe[point] == pytest.approx(expected, rel=1e-6)
        exposure = np.abs(series.position[row - lines.window + 1 : row + 1]).mean()
        assert lines.exposure[point] == pytest.approx(exposure, rel=1e-9)


def test_a_rolling_sharpe_ratio_without_variance_is_undefined(reported):
    series = segment_series(read_result(reported).curves)["train"]
    flat = replace(series, equity=np.full(len(series.equity), 1e5))
    assert np.isnan(rolling(flat, MINUTES_15).sharpe).all()


def test_drawdown_is_the_fall_from_the_highest_equity_so_far():
    assert drawdown(np.array([100.0, 110.0, 99.0, 120.0])) == pytest.approx([0, 0, -0.1, 0])


@pytest.mark.parametrize(
    ("metric", "policy", "held", "answer"),
    [
        ("total_return", 0.1, 0.2, False),
        ("max_drawdown", 0.1, 0.2, True),
        ("sharpe", None, 1.0, None),
        ("num_trades", 9, 0, None),
        ("sharpe", 1.0, 1.0, None),
    ],
)
def test_a_number_is_ranked_only_where_more_or_less_is_better(metric, policy, held, answer):
    assert better(metric, policy, held) is answer


def test_training_curves_have_a_line_a_member(reported, twin):
    records = read_metrics(reported)
    (panel,) = (panel for panel in twin["training"]["panels"] if panel["name"] == "train/kl")
    assert panel["lines"] == [
        {
            "seed": 0,
            "update": [record["update"] for record in records if "train/kl" in record],
            "value": [record["train/kl"] for record in records if "train/kl" in record],
        }
    ]
