"""A tiny run from the command line: what it leaves behind, what it refuses, what repeats exactly."""

import json
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from jtf import train
from jtf.conclude import note_on_visits
from jtf.config import parse_config
from jtf.console import LiveLine
from jtf.data.synthetic import synthetic_market
from jtf.environment import first_bars_share, step_batch, validate
from jtf.models.policy_file import FILE_NAME, load_policy
from jtf.reporter import every
from jtf.results.evaluation import evaluate
from jtf.results.metrics import METRIC_NAMES, annualisation
from jtf.results.run_directory import read_config, read_metrics, read_summary
from jtf.task import prepare
from jtf_env.mirror.backtest import replay
from jtf_env.mirror.market import build_market
from jtf_ppo.types import PolicyFunctions
from tests.app.conftest import TINY


def records(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_directory(trained_run):
    names = {path.name.split(".")[0] if "tfevents" in path.name else path.name for path in trained_run.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "checkpoints", "best", "summary.json", "events"}


def test_the_summary_has_every_promised_key(trained_run):
    summary = read_summary(trained_run)
    assert summary["status"] == "finished"
    assert set(summary) >= {
        "symbol", "layout", "mode", "engine", "seeds", "device", "data", "perf", "metrics", "baselines", "verdict",
        "members", "ensemble", "training", "notes",
    }  # fmt: skip
    assert set(summary["data"]) >= {"kind", "bars", "start", "end", "sha256"}
    assert set(summary["metrics"]) == {"train", "validation", "test"}
    for metrics in (*summary["metrics"].values(), *summary["baselines"]["test"].values()):
        assert set(metrics) == set(METRIC_NAMES)
    assert set(summary["baselines"]["train"]) == {"buy_and_hold", "flat"}
    assert set(summary["baselines"]["test"]) - set(summary["baselines"]["train"]) == {
        "moving_average_cross", "perfect_foresight",
    }  # fmt: skip
    assert summary["verdict"]["status"] in ("APPROVED", "REVIEW", "DROP") and summary["verdict"]["reasons"]


def test_the_whole_run_took_longer_than_compiling_and_stepping(trained_run):
    summary = read_summary(trained_run)
    perf = summary["perf"]
    stepping = summary["steps"] / perf["steps_per_second"]
    assert perf["wall_seconds"] > perf["compile_seconds"] + stepping
    updates = [record for record in records(trained_run) if "perf/steps_per_second" in record]
    assert perf["steps_per_second"] == updates[-1]["perf/steps_per_second"]


def test_the_configuration_is_resolved_before_it_is_written(trained_run):
    ppo = read_config(trained_run)["config"]["ppo"]
    assert None not in ppo.values() and "auto" not in ppo.values()


def test_there_is_a_record_for_every_update_and_every_validation(trained_run):
    updates = [r["update"] for r in records(trained_run) if "train/kl" in r]
    validations = [r["update"] for r in records(trained_run) if "val/score" in r]
    assert updates == [1, 2, 3, 4] and validations == [2, 4]


def test_flat_earns_nothing_and_holds_always(trained_run):
    flat = read_summary(trained_run)["baselines"]["test"]["flat"]
    assert (flat["total_return"], flat["hold_share"], flat["num_trades"]) == (0.0, 1.0, 0)


def test_buying_and_holding_earns_the_price_move_less_costs(trained_run, tiny_args):
    task = prepare(parse_config(tiny_args))
    test = task.segments["test"]
    opened, closed = task.bars.open[test.start + 1], task.bars.close[test.stop - 1]
    earned = read_summary(trained_run)["baselines"]["test"]["buy_and_hold"]["total_return"]
    assert earned == pytest.approx(closed / opened - 1, abs=0.003)  # 2 bp of slippage, entered in two fills


def test_the_scaler_is_fitted_on_training_bars_only(tiny_args, bars_folder, tmp_path):
    task = prepare(parse_config(tiny_args))
    frame = pd.read_parquet(bars_folder / "AAAUSDT_15Min.parquet")
    columns = ["open", "high", "low", "close"]
    stop = task.segments["train"].stop
    frame.iloc[stop:, [frame.columns.get_loc(c) for c in columns]] *= 1.2
    frame.to_parquet(tmp_path / "AAAUSDT_15Min.parquet")
    other = prepare(parse_config([*tiny_args, "--data", str(tmp_path), "--allow-jumps"]))
    np.testing.assert_array_equal(task.problem.scaler.mean, other.problem.scaler.mean)
    np.testing.assert_array_equal(task.problem.scaler.std, other.problem.scaler.std)


def test_no_training_window_reaches_into_another_segment(tiny_args):
    task = prepare(parse_config(tiny_args))
    market, _ = task.problem.data
    start = task.segments["train"].start - (task.config.window - 1)
    np.testing.assert_allclose(market.close, task.bars.close[start : task.segments["train"].stop], rtol=1e-6)


def mirror_market(task):
    return build_market(task.bars, task.layout, task.problem.scaler, window=task.config.window)


def replayed(task, actions: np.ndarray) -> dict[str, float]:
    """Validation metrics on the device of ``actions [T]``."""
    logits = jax.nn.one_hot(jnp.asarray(actions), 8)
    start = task.segments["validation"].start - (task.config.window - 1)
    policy = PolicyFunctions(None, lambda table: (logits[start : task.segments["validation"].stop], None))
    metrics = jax.jit(lambda data: validate(policy, data))(task.problem.validation.data)
    return {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("flags", [[], ["--env.max-drawdown", "0.02"], ["--env.stop-loss", "0.003"]])
def test_validation_on_the_device_measures_what_the_mirror_measures(tiny_args, flags):
    task = prepare(parse_config([*tiny_args, *flags]))
    actions = np.random.default_rng(0).integers(0, 8, len(task.bars))
    ours = replayed(task, actions)
    part, per_year = task.segments["validation"], task.bars.bars_per_year
    metrics, backtest = evaluate(replay(actions), mirror_market(task), task.params, part, per_year)
    assert backtest.terminated == ("--env.max-drawdown" in flags) and metrics.num_trades >= 3
    theirs = asdict(metrics)
    for name in set(ours) - {"score"}:
        assert ours[name] == pytest.approx(theirs[name], rel=2e-3, abs=1e-5), name
    assert ours["score"] == pytest.approx(np.log1p(metrics.total_return), rel=1e-3)


def test_standing_aside_has_undefined_ratios_and_score_zero(tiny_args):
    task = prepare(parse_config(tiny_args))
    flat = replayed(task, np.zeros(len(task.bars), int))
    assert flat["score"] == 0.0 and flat["hold_share"] == 1.0
    assert all(np.isnan(flat[name]) for name in ("sharpe", "profit_factor", "direction_accuracy"))


def test_the_best_validation_of_training_is_the_summarys_validation(trained_run):
    summary = read_summary(trained_run)
    best = summary["training"][0]["best_validation"]["total_return"]
    assert best == pytest.approx(summary["metrics"]["validation"]["total_return"], rel=1e-3)


def test_restarts_are_spread_over_the_training_bars(tiny_args):
    task = prepare(parse_config(tiny_args))
    market, params = task.problem.data
    one_bar = replace(params, episode_bars=jnp.int32(1))
    state, _ = task.problem.environment.reset(jax.random.key(0), 512, (market, one_bar))
    bits = jax.random.bits(jax.random.key(1), (512,), jnp.uint32)
    _, step = jax.jit(step_batch)(bits, state, jnp.zeros(512, jnp.int32), (market, one_bar))
    starts = np.asarray(step.observation.row)
    last = market.num_bars - 2
    assert bool(step.truncated.all()) and starts.min() >= market.first_bar and starts.max() <= last
    expected = (market.first_bar + last) / 2
    assert abs(starts.mean() - expected) < 5 * (last - market.first_bar) / np.sqrt(12 * 512)


def test_equal_markets_share_one_environment(tiny_args):
    one, other = prepare(parse_config(tiny_args)), prepare(parse_config(tiny_args))
    assert one.problem.environment == other.problem.environment
    assert hash(one.problem.environment) == hash(other.problem.environment)


def test_the_same_command_ends_with_the_same_parameters(trained_run, tiny_args, tmp_path):
    assert train.main([*tiny_args, "--out", str(tmp_path)]) == 0
    (run,) = (tmp_path / "AAAUSDT").iterdir()
    assert read_summary(run)["members"] == read_summary(trained_run)["members"]


def test_another_seed_ends_with_other_parameters(trained_run, tiny_args, tmp_path):
    assert train.main([*tiny_args, "--seed", "1", "--out", str(tmp_path)]) == 0
    (run,) = (tmp_path / "AAAUSDT").iterdir()
    assert read_summary(run)["members"][0]["params_sha256"] != read_summary(trained_run)["members"][0]["params_sha256"]


@pytest.fixture
def small_synthetic_market(monkeypatch):
    """The built-in market cut to the length of the other tests' bars, so that nothing compiles anew."""
    whole = synthetic_market("AAA/USD", years=0.03)
    cut = {name: getattr(whole, name)[:1_000] for name in ("bars", "drift", "noise_scale", "forecast")}
    market = replace(whole, **cut)
    monkeypatch.setattr("jtf.data.synthetic.synthetic_bars", lambda symbol, asset_class: market.bars)
    monkeypatch.setattr("jtf.task.synthetic_market", lambda symbol, asset_class: market)


def test_synthetic_bars_are_said_to_be_synthetic_everywhere(small_synthetic_market, capsys, tmp_path):
    assert train.main(["--symbol", "AAA/USD", *TINY, "--out", str(tmp_path)]) == 0
    (run,) = (tmp_path / "AAAUSD").iterdir()
    summary = read_summary(run)
    assert "SYNTHETIC" in capsys.readouterr().out
    assert summary["data"]["kind"] == "synthetic" and summary["verdict"]["status"] != "APPROVED"
    assert load_policy(run / "best" / FILE_NAME).data_kind == "synthetic"
    assert set(summary["optimum"]["test"]) == {"log_return", "normalised_score"}


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--ppo.minibatch-size", "100000"], "--ppo.minibatch-size 100000"),
        (["--layout", "v9"], "v9"),
        (["--env.fee", "-1"], "--env.fee"),
        (["--symbol", "ZZZ"], "ZZZ_15Min.parquet"),
        (["--window", "600"], "bars"),
        (["--members", "0"], "--members 0"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(tiny_args, extra, named, tmp_path, capsys):
    assert train.main([*tiny_args, *extra, "--out", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_unadjusted_splits_are_refused_with_both_prices(real_data, capsys, tmp_path):
    assert train.main(["--symbol", "AAPL", "--data", str(real_data / "lean"), "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "645" in error and "92" in error and "--allow-jumps" in error


def test_annualisation_comes_from_the_bars_calendar(tiny_args):
    task = prepare(parse_config(tiny_args))
    assert float(task.problem.validation.data.annualisation) == pytest.approx(annualisation(35_040.0))


def test_a_read_only_folder_is_one_sentence(tiny_args, capsys, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied", "/nowhere/AAAUSDT")

    monkeypatch.setattr("jtf.run.create_run", refuse)
    assert train.main(tiny_args) == 2
    assert "access to '/nowhere/AAAUSDT' is denied" in capsys.readouterr().err


def test_a_disk_that_fills_up_leaves_one_sentence_and_a_failed_summary(tiny_args, capsys, monkeypatch, tmp_path):
    def full(self, records):
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr("jtf.results.run_directory.MetricsLog.write", full)
    assert train.main([*tiny_args, "--out", str(tmp_path)]) == 2
    (run,) = (tmp_path / "AAAUSDT").iterdir()
    assert "the disk is full" in capsys.readouterr().err
    assert read_summary(run)["status"] == "failed"


@pytest.mark.parametrize(("interval", "words"), [(0, "never"), (1, "every update"), (4, "every 4 updates")])
def test_an_interval_is_said_in_words(interval, words):
    assert every(interval) == words


def test_the_terminal_line_shows_what_a_person_watches():
    progress = LiveLine(Console(), "smoke cpu rows", 10)
    progress._latest = {
        "update": 3, "perf/steps_per_second": 1234.0, "perf/eta_seconds": 61.0, "train/return_bp": 0.5,
        "train/entropy": 1.2, "train/kl": 0.01, "train/action_share_0": 0.4, "train/action_share_2": 0.6,
        "val/total_return": 0.1, "val/profit_factor": float("nan"), "val/traded_share": 0.25,
    }  # fmt: skip
    assert progress.line() == (
        "smoke cpu rows | update 3/10 | 1,234 steps/s | ETA 1:01 | return +0.50 bp/step | entropy 1.20 | KL 0.0100 | "
        "HOLD 40 BUY 60 SELL 0 CLOSE 0 % | val +10.0% PF - traded 25%"
    )


@pytest.fixture(scope="module")
def run_of_three(tiny_args, tmp_path_factory):
    """Run directory of three members; seed 0 is the member of `trained_run`."""
    out = tmp_path_factory.mktemp("three")
    assert train.main([*tiny_args, "--members", "3", "--out", str(out)]) == 0
    (run,) = (out / "AAAUSDT").iterdir()
    return run


def test_a_member_of_three_is_the_single_run_with_its_seed(run_of_three, trained_run):
    members, (alone,) = read_summary(run_of_three)["members"], read_summary(trained_run)["members"]
    assert [member["seed"] for member in members] == [0, 1, 2]
    assert members[0] == alone


def test_with_one_member_the_ensembles_metrics_are_its_own(trained_run):
    summary = read_summary(trained_run)
    assert summary["metrics"] == summary["ensemble"]["metrics"] == summary["members"][0]["metrics"]
    assert summary["ensemble"]["params_sha256"] == summary["members"][0]["params_sha256"]


def test_the_ensemble_and_its_members_are_files_of_one_format(run_of_three):
    summary = read_summary(run_of_three)
    ensemble = load_policy(run_of_three / "best" / FILE_NAME)
    assert (ensemble.seeds, ensemble.sha256) == ((0, 1, 2), summary["ensemble"]["params_sha256"])
    for member in summary["members"]:
        alone = load_policy(run_of_three / "best" / f"member_{member['seed']}.safetensors")
        assert (alone.seeds, alone.sha256) == ((member["seed"],), member["params_sha256"])


def test_curves_hold_the_equity_of_every_member_alone(run_of_three):
    from jtf.results.results import read_result

    result = read_result(run_of_three)
    test = result.curves[result.curves["segment"] == "test"]
    for member in result.members:
        equity = test[f"equity_{member.seed}"].to_numpy()
        assert equity[-1] / equity[0] - 1 == pytest.approx(member.metrics["test"].total_return, abs=1e-6)


def test_there_is_a_record_for_every_member_and_update(run_of_three):
    updates = [(r["seed"], r["update"]) for r in records(run_of_three) if "train/kl" in r]
    assert sorted(updates) == [(seed, update) for seed in range(3) for update in range(1, 5)]


def test_several_members_are_shown_with_median_and_spread(run_of_three, capsys):
    from jtf.console import Terminal, print_members
    from jtf.results.results import read_result

    result = read_result(run_of_three)
    print_members(Terminal(width=120), result)
    returns = sorted(member.metrics["test"].total_return for member in result.members)
    lines = {
        line.split("│")[1].strip(): line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line
    }
    shown = [lines[name][4].strip() for name in ("median", "least", "most")]
    assert shown == [f"{returns[k]:.1%}" for k in (1, 0, 2)]


def test_a_run_says_how_often_training_visited_the_first_bars(trained_run):
    records = [record for record in read_metrics(trained_run) if "train/first_bars" in record]
    mean = sum(record["train/first_bars"] for record in records) / len(records)
    visits = read_summary(trained_run)["first_bar_visits"]
    market = prepare(parse_config(["--config", str(trained_run / "config.json")])).problem.data[0]
    assert visits == pytest.approx(mean / first_bars_share(market))


@pytest.mark.parametrize(("visits", "passes", "said"), [(0.3, 100, 1), (2.5, 100, 1), (0.3, 4, 0), (0.8, 100, 0)])
def test_first_bars_that_were_visited_too_seldom_or_too_often_are_a_note(visits, passes, said):
    assert len(note_on_visits(visits, passes)) == said
