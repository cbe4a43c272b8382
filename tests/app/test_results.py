"""Results are data: what is written is what was measured, can be recomputed, and names what it was derived from."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jtf
from jtf.data import load_bars
from jtf.errors import UserError
from jtf.models.policy import Policy, member_outputs
from jtf.models.policy_file import FILE_NAME, save_policy
from jtf.results import tables
from jtf.results.evaluation import evaluate
from jtf.results.luck import SharpeLuck
from jtf.results.provenance import seen_spans
from jtf.results.results import MemberResult, RunResult, measure, read_result, write_results
from jtf.results.tables import PROBABILITIES, table_fills, trade_table
from jtf.results.trades import trades_from_fills
from jtf.results.verdict import Verdict
from jtf.splits import SplitConfig, split
from jtf_env.actions import HOLD
from jtf_env.mirror.backtest import replay, run_backtest
from jtf_env.mirror.market import build_market
from jtf_env.params import make_params
from jtf_env.scaler import Scaler
from tests.app.test_inference import WINDOW, random_policy
from tests.parity import test_closed_loop as closed_loop

TABLES = ("curves", "fills", "trades", "observations")


@pytest.fixture(scope="module")
def bars(bars_folder):
    return load_bars("AAAUSDT", bars_folder)


@pytest.fixture(scope="module")
def policy(bars) -> Policy:
    """A policy that takes every action often, of an asset that may be sold short, with a stop."""
    base = replace(random_policy(), env_params=make_params("us_equity", stop_loss=0.02))
    usual = member_outputs(base.members[0], base.market(bars)).logits[200:].mean(axis=0)
    head = base.members[0]["policy"] | {"bias": base.members[0]["policy"]["bias"] - usual}
    return replace(base, members=(base.members[0] | {"policy": head},))


@pytest.fixture(scope="module")
def fold(bars, policy):
    return split(len(bars), policy.layout.first_bar(WINDOW), WINDOW, SplitConfig())


@pytest.fixture(scope="module")
def segments(fold):
    return fold.segments


@pytest.fixture(scope="module")
def market(bars, policy):
    return policy.market(bars)


@pytest.fixture(scope="module")
def result(bars, policy, market, fold, segments) -> RunResult:
    measured = measure(policy, bars, market, segments, seen_spans(fold, bars.timestamps))
    return RunResult.from_measured(
        measured,
        notes=["A note on the bars."],
        symbol="AAAUSDT",
        members=(MemberResult(3, policy.sha256, 7, measured.metrics),),
        verdict=Verdict("DROP", ("A reason.",)),
        luck=SharpeLuck(0.9, 0.5, 3, 1.2, None),
        summary={"status": "finished"},
    )


@pytest.fixture(scope="module")
def written(result, tmp_path_factory) -> RunResult:
    return write_results(tmp_path_factory.mktemp("results"), result)


def test_what_is_read_is_what_was_written(written):
    found = read_result(written.directory)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(found, name), getattr(written, name), check_exact=True)
    for name in (
        "symbol", "metrics", "baselines", "accounts", "random", "cost_sweep", "luck", "members", "verdict", "optimum",
        "seen", "notes", "directory",
    ):  # fmt: skip
        assert getattr(found, name) == getattr(written, name), name
    assert found.metrics["test"].total_return == written.metrics["test"].total_return and found.seeds == (3,)


def test_trades_csv_is_recomputed_from_fills_csv_and_the_bars(written, bars, policy):
    fills = list(table_fills(read_result(written.directory).fills))
    spans = json.loads((written.directory / "summary.json").read_text())["derived"]["segments"]
    again = []
    for name, span in spans.items():
        last = bars.timestamps.get_loc(pd.Timestamp(span["end"]))
        own = (fill for segment, fill in fills if segment == name)
        again += [(name, trade) for trade in trades_from_fills(own, last, bars.close[last], policy.env_params)]
    table = read_result(written.directory).trades
    pd.testing.assert_frame_equal(trade_table(again, bars, policy.env_params.fill), table, check_exact=True)
    assert len(fills) > len(table) > 8 and set(table["reason"]) == {"signal", "stop", "end"}


def test_the_net_of_a_segments_trades_is_its_change_of_equity(written):
    for name, curve in written.curves.groupby("segment", sort=False):
        net = written.trades.loc[written.trades["segment"] == name, "net"].sum()
        assert net == pytest.approx(curve["equity"].iloc[-1] - curve["equity"].iloc[0], rel=1e-9)


def test_curves_have_a_row_per_bar_of_every_segment(written, bars, segments):
    for name, segment in segments.items():
        curve = written.curves[written.curves["segment"] == name]
        assert list(curve["time"]) == list(bars.timestamps[segment.start : segment.stop])
        np.testing.assert_array_equal(curve["close"], bars.close[segment.start : segment.stop])


def test_curves_hold_what_the_backtest_and_the_policy_said(written, policy, market, segments):
    part = segments["test"]
    backtest = run_backtest(market, policy.decider(market), policy.env_params, part.start, part.stop)
    curve = written.curves[written.curves["segment"] == "test"]
    for name in ("equity", "costs"):
        np.testing.assert_array_equal(curve[name], getattr(backtest, name), name)
    np.testing.assert_array_equal(curve["position"], backtest.positions)
    np.testing.assert_array_equal(curve["level"], backtest.levels)
    np.testing.assert_array_equal(curve["action"].iloc[:-1], backtest.actions)
    assert curve["action"].isna().tolist() == [False] * (len(part) - 1) + [True]
    probabilities = curve.filter(like="p_").to_numpy()
    np.testing.assert_allclose(probabilities, policy.probabilities(market)[part.start : part.stop], 1e-6)
    np.testing.assert_array_equal(probabilities[:-1].argmax(axis=1), backtest.actions)
    np.testing.assert_allclose(curve["value"], policy.values(market)[part.start : part.stop], 1e-6)


def test_observations_are_the_standardised_columns_of_the_last_segment(written, market, segments):
    part, found = segments["test"], read_result(written.directory).observations
    assert list(found) == ["segment", "time", *market.column_names] and set(found["segment"]) == {"test"}
    columns = np.concatenate([market.features, market.context], axis=1)[part.start : part.stop]
    np.testing.assert_array_equal(found[list(market.column_names)].to_numpy(), columns.astype(np.float16))


def test_observations_lead_back_to_natural_units(written, bars, policy, segments):
    found = read_result(written.directory).observations
    natural = build_market(bars, policy.layout, window=WINDOW).features[segments["test"].start :, 5]
    rsi = policy.layout.columns[5]
    assert rsi == "rsi"
    again = found[rsi].astype(float) * found.attrs["std"][5] + found.attrs["mean"][5]
    np.testing.assert_allclose(again, natural, rtol=2e-3, atol=2e-3)


def test_only_the_last_bars_of_a_long_segment_are_observed(bars, policy, market, segments, monkeypatch):
    monkeypatch.setattr(tables, "MOST_OBSERVED", 50)
    observed = measure(policy, bars, market, {"test": segments["test"]}).observations
    assert len(observed) == 50 and observed["time"].iloc[-1] == bars.timestamps[segments["test"].stop - 1]


def test_bars_after_ruin_have_no_action_no_position_and_the_equity_that_was_left(bars, policy, segments):
    poor = replace(policy, env_params=replace(policy.env_params, max_drawdown=0.01))
    measured = measure(poor, bars, poor.market(bars), {"train": segments["train"]})
    end = pd.Timestamp(measured.derived["segments"]["train"]["end"])
    after = measured.curves[measured.curves["time"] > end]
    assert len(after) > 100 and after[["action", "position", "level"]].isna().all(axis=None)
    assert (after["equity"] == after["equity"].iloc[0]).all() and (after["costs"] == 0).all()
    assert any("ruined" in note for note in measured.notes)


def test_the_summary_names_parameters_costs_span_and_files(written, policy, bars, segments):
    derived = json.loads((written.directory / "summary.json").read_text())["derived"]
    assert derived["params_sha256"] == policy.sha256
    assert derived["env_params"]["fee"] == policy.env_params.fee
    first, last = segments["test"].start, segments["test"].stop - 1
    span = derived["segments"]["test"]
    assert [span["start"], span["end"]] == [bars.timestamps[row].isoformat() for row in (first, last)]
    assert set(derived["files"]) == {
        "curves.parquet", "fills.csv", "trades.csv", "observations.parquet", "equity.png",
    }  # fmt: skip


def test_parquet_and_picture_carry_the_hash_of_the_parameters(written, policy):
    assert pd.read_parquet(written.directory / "curves.parquet").attrs == {"params_sha256": policy.sha256}
    assert policy.sha256.encode() in (written.directory / "equity.png").read_bytes()


@pytest.mark.parametrize("name", ["curves.parquet", "fills.csv", "trades.csv", "observations.parquet", "equity.png"])
def test_a_file_that_is_not_the_one_the_summary_names_is_refused(result, tmp_path, name):
    write_results(tmp_path, result)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    with pytest.raises(UserError, match=f"{name} is stale"):
        read_result(tmp_path)


def test_results_of_another_policy_than_the_runs_say_that_they_are_stale(result, policy, tmp_path):
    folder = tmp_path / "backtests" / "test"
    folder.mkdir(parents=True)
    (tmp_path / "best").mkdir()
    write_results(folder, result)
    save_policy(policy, tmp_path / "best" / FILE_NAME)
    assert read_result(folder).notes == result.notes
    changed = policy.members[0] | {"value": {"kernel": np.zeros((4, 1)), "bias": np.zeros(1)}}
    save_policy(replace(policy, members=(changed,)), tmp_path / "best" / FILE_NAME)
    assert "Stale" in read_result(folder).notes[-1]


def test_a_folder_without_results_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "summary.json").write_text('{"status": "interrupted", "metrics": null}')
    with pytest.raises(UserError, match="has no results"):
        read_result(tmp_path)


def test_a_position_open_at_the_end_is_a_note_with_what_closing_would_cost(bars, policy, market, segments):
    params = replace(policy.env_params, stop_loss=0.0)
    held = replace(policy, members=(policy.members[0] | {"policy": always(3)},), env_params=params)
    measured = measure(held, bars, market, {"test": segments["test"]})
    (trade,) = measured.trades.to_dict("records")
    assert trade["open_at_end"] and measured.metrics["test"].num_trades == 0
    assert measured.metrics["test"].open_position == pytest.approx(1.0, abs=0.1)
    (note,) = measured.notes
    assert (
        note.startswith("On test, a long position of ")
        and f"closing there would cost {trade['closing_cost']:,.2f} USD" in note
    )


def always(action: int) -> dict[str, np.ndarray]:
    """A head that prefers one action at every bar."""
    return {"kernel": np.zeros((4, 8)), "bias": np.eye(8)[action]}


def test_standing_aside_leaves_empty_tables_that_can_be_read(bars, policy, market, segments, tmp_path):
    aside = replace(policy, members=(policy.members[0] | {"policy": always(HOLD)},))
    measured = measure(aside, bars, market, {"test": segments["test"]})
    written = write_results(tmp_path, RunResult.from_measured(measured, symbol="X", summary={"status": "finished"}))
    found = read_result(tmp_path)
    assert (len(found.fills), len(found.trades), found.seen) == (0, 0, None)
    assert list(found.trades) == list(written.trades)


def test_the_parts_of_a_span_multiply_to_the_whole(bars, policy, market, fold, segments):
    whole = {"all": type(segments["test"])(segments["train"].start, len(bars))}
    measured = measure(policy, bars, market, whole, seen_spans(fold, bars.timestamps))
    parts = ("in-sample", "selection", "unseen")
    assert tuple(measured.metrics) == ("all", *parts) == tuple(measured.baselines)
    for table in (measured.metrics, {name: pair["buy_and_hold"] for name, pair in measured.baselines.items()}):
        product = np.prod([1 + table[part].total_return for part in parts])
        assert product == pytest.approx(1 + table["all"].total_return, rel=1e-12)
    assert sum(measured.metrics[part].num_trades for part in parts) == measured.metrics["all"].num_trades


def test_the_share_of_the_decisions_training_saw_is_counted_in_bars(bars, policy, market, fold, segments):
    whole = {"all": type(segments["test"])(segments["train"].start, len(bars))}
    measured = measure(policy, bars, market, whole, seen_spans(fold, bars.timestamps))
    counts = np.diff([segments["train"].start, segments["validation"].start, segments["test"].start, len(bars) - 1])
    assert list(measured.seen.values()) == pytest.approx(list(counts / counts.sum()))


def test_a_segment_measured_alone_is_the_segment_of_a_run(result, policy, market, bars, segments):
    alone, _ = evaluate(replay(policy.actions(market)), market, policy.env_params, segments["test"], bars.bars_per_year)
    assert asdict(result.metrics["test"]) == asdict(alone)


def test_results_are_exported_by_the_package(written):
    found = jtf.read_result(Path(written.directory))
    assert isinstance(found, jtf.RunResult) and isinstance(found, RunResult)


def test_reading_a_result_imports_neither_jax_nor_scipy():
    code = "import sys, jtf.results.results; sys.exit(bool({'jax', 'scipy', 'arch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_column_of_the_files_is_documented(written):
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    for name in ("curves", "fills", "trades"):
        section = page.split(f"## {name}.")[1].split("## ")[0]
        documented = set(re.findall(r"\w+", section))
        assert set(getattr(written, name).columns) - set(PROBABILITIES[1:-1]) <= documented, name


def test_a_policy_that_reads_its_account_is_measured_in_a_closed_loop(bars, segments, tmp_path):
    layout, window = closed_loop.TOY, closed_loop.WINDOW
    params, scaler = closed_loop.random_params(np.random.default_rng(1), 6, 6), Scaler(np.zeros(6), np.ones(6))
    policy = Policy(
        members=(params,), seeds=(0,), scaler=scaler, symbol="AAAUSDT",
        layout=layout, window=window, bars_per_year=35_040.0, env_params=make_params("us_equity"),
    )  # fmt: skip
    market = policy.market(bars)
    measured = measure(policy, bars, market, {"test": segments["test"]})
    backtest = run_backtest(
        market,
        lambda observation: int(policy.probabilities_at(market, observation).argmax()),
        policy.env_params,
        segments["test"].start,
        segments["test"].stop,
    )
    np.testing.assert_array_equal(measured.curves["equity"], backtest.equity)
    assert not measured.curves.filter(like="p_").shape[1] and len(measured.fills) > 1
    written = write_results(tmp_path, RunResult.from_measured(measured, symbol="X", summary={"status": "finished"}))
    pd.testing.assert_frame_equal(read_result(tmp_path).curves, written.curves)
