"""The benchmarks run end to end at tiny sizes; what compiles long is measured once and shared."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    __main__,
    defaults,
    first_layer,
    inference,
    joint_model,
    market_build,
    members,
    metrics,
    peer_search,
    peers,
    pictures,
    pinned,
    quality,
    regularisation,
    report,
    roofline,
    steps_per_second,
    time_to_quality,
    walkforward,
)
from benchmarks.floors import (
    Rates,
    Sizes,
    Work,
    env_work,
    epochs_work,
    kernel_transform_flops,
    num_parameters,
    policy_table_work,
    rollout_work,
    row_flops,
    visited_rows,
)
from benchmarks.learning import Curve, Point, known_problem, learn_known, num_bars_for, shared_compilations
from benchmarks.measure import clock, device_info, device_slug, format_table, measure
from benchmarks.peer import PEERS, Session, dense_row_logits, host_row_logits
from benchmarks.phases import Phase, epochs_only, measure_phases, resolve_for, start_iteration, synthetic_problem
from benchmarks.pinned import core_groups, run_jobs
from benchmarks.quality import (
    OURS,
    TRAINERS,
    UNSEARCHED,
    Job,
    QualityRun,
    choose_settings,
    ours_config,
    peer_config,
    run_job,
    score_logits,
)
from jtf.data.synthetic import synthetic_market
from jtf.errors import UserError, run_command
from jtf.known_optimum.markets import known_market
from jtf.run import settings_config
from jtf.splits import Segment
from jtf.task import load_symbol
from jtf_env.environment import observe, reset_at
from jtf_env.market import fold_market, scale_market
from jtf_env.scaler import fit_scaler
from jtf_ppo import PPOConfig
from jtf_ppo.learner import make_learner

RATES = Rates(matrix={"float32": 1e9}, copy=1e9)


TINY = PPOConfig(
    total_steps=32, num_envs=4, num_steps=4, hidden_sizes=(8,), update_epochs=1, first_layer="gather",
    minibatch_size=64, validation_interval=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def phases() -> list[Phase]:
    """The two phases that compile quickly."""
    data = synthetic_problem(num_bars=400, window=8)
    measured = measure_phases(data, resolve_for(data[0], TINY), repeats=1, budget_seconds=0.1)
    return list(islice(measured, 2))


@pytest.fixture(scope="module")
def curve() -> Curve:
    """A run of two updates."""
    return learn_known(known_market("regime", num_bars_for(300, 200), unseen_bars=200), TINY)


def drawn(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> dict[Path, Any]:
    """The figures a benchmark draws, by the path it would write them to."""
    figures: dict[Path, Any] = {}
    monkeypatch.setattr(benchmark, "save_figure", lambda figure, path: figures.update({path: figure}))
    return figures


def result(folder: Path, name: str) -> dict[str, Any]:
    """The record a benchmark wrote."""
    return json.loads((folder / f"{device_slug(device_info())}.json").read_text())[name]


def test_the_list_names_every_benchmark_with_its_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main() == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(__main__.BENCHMARKS)
    assert all(len(line.split()) > 5 for line in lines)


def test_a_measured_function_leaves_the_callers_array_usable() -> None:
    start = jnp.zeros(3)
    measure(lambda x: (x + 1.0, 0), start, carry=True, repeats=2)
    assert start.sum() == 0.0


def test_a_function_that_spends_the_budget_at_once_is_run_once() -> None:
    assert measure(jnp.sin, jnp.zeros(3), repeats=5, budget_seconds=0.0).repeats == 1


def test_tables_leave_missing_cells_blank() -> None:
    assert format_table([{"a": 1, "b": 2.0}, {"a": 1234567}]).splitlines()[-1].strip() == "1,234,567"


def test_operations_of_a_network_by_hand() -> None:
    sizes = Sizes(num_rows=10, window=4, num_features=3, num_context=2, num_actions=5)
    config = PPOConfig(
        engine="rows", first_layer="gather", hidden_sizes=(8, 6), num_envs=1, minibatch_size=10, update_epochs=10
    )
    quiet = replace(config, feature_noise=0.0)
    # First layer 2 * (4*3 + 2) * 8 = 224; then 2*8*6 + 2*6*(5+1) = 96 + 72 = 168.
    assert row_flops(config, sizes) == (224, 168)
    # Ten rows, ten epochs, two passes of the first layer and three of the rest; one more of each under noise.
    assert epochs_work(quiet, sizes).flops == 10 * 10 * (2 * 224 + 3 * 168)
    assert epochs_work(config, sizes).flops == 10 * 10 * (3 * 224 + 4 * 168)
    # (4*3 + 2 + 1) * 8 + (8+1) * 6 + (6+1) * 6
    assert num_parameters(config, sizes) == 120 + 54 + 42


def test_operations_of_samples_with_an_account_by_hand() -> None:
    sizes = Sizes(num_rows=10, window=4, num_features=3, num_context=2, num_actions=5, num_account=6)
    config = PPOConfig(
        engine="samples", first_layer="gather", hidden_sizes=(8, 6), num_envs=100, num_steps=4, minibatch_size=40
    )
    # A row 224 as above, the account 2 * 6 * 8 = 96, the rest 168. All ten rows are visited; ten epochs, with noise.
    config = replace(config, update_epochs=10)
    assert rollout_work(config, sizes).flops == 10 * 224 + 400 * (96 + 168)
    assert epochs_work(config, sizes).flops == 10 * (10 * 3 * 224 + 400 * (3 * 96 + 4 * 168))
    assert num_parameters(config, sizes) == 216 + 6 * 8


def test_the_floor_of_an_epoch_counts_the_rows_that_a_rollout_visits() -> None:
    sizes = Sizes(num_rows=100_000, window=4, num_features=3, num_context=2, num_actions=5)
    config = PPOConfig(engine="rows", first_layer="gather", hidden_sizes=(8, 6), num_envs=10, minibatch_size=100)
    # 10 stretches of 128 rows in blocks of 8, hardly overlapping: 128 + 8 / 2 each.
    assert visited_rows(config, sizes) == pytest.approx(10 * 132, rel=0.01)
    assert visited_rows(replace(config, num_envs=10_000), sizes) == 100_000


def test_bytes_of_a_rollout_by_hand() -> None:
    sizes = Sizes(num_rows=10, window=4, num_features=3, num_context=2, num_actions=5)
    config = PPOConfig(engine="rows", first_layer="gather", hidden_sizes=(8, 6), num_envs=2, num_steps=3)
    # State each way, a bar's prices, a random word.
    assert env_work(config).bytes == 6 * (112 + 17 + 4)
    # Ten rows of 3 + 2 numbers in, 5 + 1 out, 216 parameters, 4 bytes each.
    assert policy_table_work(config, sizes) == Work(10 * (224 + 168), 4 * (10 * (5 + 6) + 216))
    # 4 edges gathered; 15 stored and read back; two values, an advantage written and read twice; five sums updated.
    per_sample = 133 + 4 * 4 + 15 + (15 + 5 * 4) + 5 * 2 * 4
    assert rollout_work(config, sizes) == Work(3920, 4 * 326 + 6 * per_sample)


def test_operations_of_the_fourier_products_by_hand() -> None:
    # Window 4: blocks of 5 rows and their history fill 8 points, 5 frequencies. Per block [2, 6] x [6, 8] a frequency
    # (real and imaginary parts), then twice [3, 5] x [5, 8]; once a minibatch the kernel, [10, 4] x [4, 3 * 8].
    sizes = Sizes(num_rows=10, window=4, num_features=3, num_context=0, num_actions=5)
    config = PPOConfig(engine="rows", first_layer="fft", hidden_sizes=(8,))
    assert row_flops(config, sizes)[0] == (5 * 2 * 2 * 6 * 8 + 2 * 2 * 3 * 5 * 8) / 5
    assert kernel_transform_flops(config, sizes) == 2 * 10 * 4 * 24


def test_a_floor_is_the_longer_of_arithmetic_and_memory() -> None:
    assert Work(flops=2e9, bytes=1e9).seconds(RATES, "float32") == 2.0
    assert Work(flops=1e9, bytes=3e9).seconds(RATES, "float32") == 3.0


def test_an_iteration_starts_with_its_environment_and_policy_table(phases: list[Phase]) -> None:
    assert [phase.name for phase in phases] == ["env only", "policy table"]


@pytest.mark.parametrize("engine", ["rows", "samples"])
def test_the_epochs_alone_take_the_updates_optimiser_steps(engine: str) -> None:
    data = synthetic_problem(num_bars=400, window=8)
    config = resolve_for(data[0], replace(TINY, engine=engine, minibatch_size=8))
    it = start_iteration(data, config)
    _, batch, _ = jax.eval_shape(
        it.engine.collect, it.state.params, it.state.rollout_state, jax.random.key(0), it.hyper, data
    )
    whole, _ = jax.eval_shape(make_learner(it.env, config).update, it.state, it.hyper, data)
    alone, _ = jax.eval_shape(epochs_only(it), it.state, (data, batch))
    assert alone == whole


def test_steps_per_second_prints_measured_time_over_the_floor(
    phases: list[Phase], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    iteration = replace(phases[-1], name="iteration")
    monkeypatch.setattr(steps_per_second, "measure_phases", lambda *args, **timing: [*phases, iteration])
    monkeypatch.setattr(steps_per_second, "measure_rates", lambda precision: RATES)
    flags = "--num-bars 400 --window 8 --num-envs 4 --num-steps 4 --hidden-sizes 8 --minibatch-size 8 --sample-envs 2"
    flags += " --sample-layouts v2.7.0"
    assert steps_per_second.main([*flags.split(), "--out", str(tmp_path)]) == 0
    row = result(tmp_path, "steps_per_second")["rows"][-1]
    assert row["x floor"] == pytest.approx(row["run s"] / row["floor s"])


def test_roofline_prints_every_phases_share_of_its_floor(
    phases: list[Phase], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(roofline, "measure_phases", lambda *args, **timing: phases)
    flags = "--matrix-size 64 --copy-mib 1 --num-bars 400 --window 8 --bar-envs 16 --sample-envs 8"
    assert roofline.main([*flags.split(), "--out", str(tmp_path)]) == 0
    rows = result(tmp_path, "roofline")["rows"]
    assert [row["phase"] for row in rows] == 2 * [phase.name for phase in phases]
    assert [row["share of floor"] for row in rows] == pytest.approx([row["floor s"] / row["seconds"] for row in rows])


RUN = QualityRun(compile_seconds=10.0, steps=100, steps_per_second=5.0, points=[[11.0, 0.5], [20.0, 0.9], [30.0, 0.8]])


def test_a_second_benchmark_is_added_to_the_devices_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(time_to_quality, "run_all", lambda jobs, cores, kept: [RUN] * len(jobs))
    for label in ("one", "two"):
        time_to_quality.main(["--trainers", "rows", "--label", label, "--out", str(tmp_path)])
    assert result(tmp_path, "time_to_quality one")["rows"] == result(tmp_path, "time_to_quality two")["rows"]


def test_time_to_quality_says_when_a_level_was_reached_and_when_it_was_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(time_to_quality, "run_all", lambda jobs, cores, kept: [RUN] * len(jobs))
    for level, expected in (("0.9", (True, 20.0, 10.0)), ("1", (False, None, None))):
        time_to_quality.main(["--trainers", "rows", "--level", level, "--out", str(tmp_path)])
        row = result(tmp_path, "time_to_quality")["rows"][0]
        assert (row["reached"], row["seconds"], row["without compile"]) == expected


def test_time_to_quality_draws_the_scores_of_every_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(time_to_quality, "run_all", lambda jobs, cores, kept: [RUN] * len(jobs))
    figures = drawn(time_to_quality, monkeypatch)
    flags = f"--trainers rows rejax --seeds 0 1 --picture {tmp_path / 'a.png'} --no-write"
    time_to_quality.main(flags.split())
    (axes,) = figures[tmp_path / "a.png"].axes
    assert [list(line.get_ydata()) for line in axes.lines[:4]] == [[0.5, 0.9, 0.8]] * 4
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["jtf, row engine", "rejax PPO"]


@pytest.mark.parametrize(("flags", "level"), [("", 0.9), ("--hold", None)])
def test_a_run_that_holds_goes_on_beyond_the_level(flags: str, level: float | None, monkeypatch, tmp_path) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr(time_to_quality, "run_all", lambda given, *_: jobs.extend(given) or [RUN] * len(given))
    time_to_quality.main(["--trainers", "rows", *flags.split(), "--out", str(tmp_path)])
    assert [job.level for job in jobs] == [level]


def test_on_one_core_the_clock_is_the_cpus_and_on_more_the_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.time.process_time", lambda: 1.0)
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: 2.0)
    for cores, expected in (({0}, 1.0), ({0, 1}, 2.0)):
        monkeypatch.setattr("benchmarks.measure.os.sched_getaffinity", lambda _, cores=cores: cores)
        assert clock() == expected


@pytest.mark.slow  # Trains at the size that is measured.
def test_a_curve_has_a_point_a_validation(curve: Curve) -> None:
    assert [point.update for point in curve.points] == [1, 2]


def test_shared_compilations_end_with_the_block() -> None:
    before = jax.config.jax_compilation_cache_dir
    with shared_compilations():
        assert jax.config.jax_compilation_cache_dir != before
    assert jax.config.jax_compilation_cache_dir == before


@pytest.mark.slow  # Trains at the size that is measured.
def test_joint_model_compares_both_layouts_and_draws_them(
    curve: Curve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(joint_model, "learn_known", lambda *args: curve)
    monkeypatch.setattr(joint_model, "MARKET", "regime")
    figures = drawn(joint_model, monkeypatch)
    flags = f"--train-bars 300 --unseen-bars 200 --seeds 0 1 --picture {tmp_path / 'joint.png'}"
    assert joint_model.main([*flags.split(), "--out", str(tmp_path)]) == 0
    record = result(tmp_path, "joint_model")
    assert {row["columns"] for row in record["rows"]} == {51, 58}
    (axes,) = figures[tmp_path / "joint.png"].axes
    medians = [record["summary"][f"{joint_model.KNOWN}, {columns} columns, median final"] for columns in (51, 58)]
    assert [bar.get_height() for bar in axes.patches] == medians


@pytest.mark.slow  # Trains at the size that is measured.
def test_regularisation_reports_the_gap_of_every_setting(
    curve: Curve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(regularisation, "learn_known", lambda *args: curve)
    figures = drawn(regularisation, monkeypatch)
    flags = f"--train-bars 300 --unseen-bars 200 --seeds 0 --picture {tmp_path / 'regularisation.png'}"
    assert regularisation.main([*flags.split(), "--out", str(tmp_path)]) == 0
    record = result(tmp_path, "regularisation")
    assert [row["setting"] for row in record["rows"]] == list(regularisation.SETTINGS)
    assert all(run["gap"] == run["train final"] - run["final"] for run in record["details"])
    (axes,) = figures[tmp_path / "regularisation.png"].axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert all(lines[run["setting"]] == run["unseen"] for run in record["details"])


def test_a_figure_is_written_as_a_picture_in_a_folder_made_for_it(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    figure, panels = pictures.new_figure(2)
    pictures.save_figure(figure, tmp_path / "new" / "a.png")
    height, width, _ = image.imread(tmp_path / "new" / "a.png").shape
    assert (len(panels), width, height) == (2, 2 * 624, 432)


def test_first_layer_names_the_fastest_implementation(tmp_path: Path) -> None:
    flags = "--rows 16 --widths 4 --window 4 --num-features 2 --num-context 1 --repeats 1 --budget-seconds 0.1"
    assert first_layer.main([*flags.split(), "--out", str(tmp_path)]) == 0
    record = result(tmp_path, "first_layer")
    assert {row["method"] for row in record["rows"]} == set(first_layer.METHODS)
    (best,) = record["summary"].values()
    fastest = min(record["rows"], key=lambda row: row["run s"])
    assert best == f"{fastest['method']} {fastest['precision']}"


def test_market_build_times_the_hourly_context_alone(tmp_path: Path) -> None:
    flags = "--num-bars 400 --window 8 --repeats 1 --layout v5.6.0"
    assert market_build.main([*flags.split(), "--out", str(tmp_path)]) == 0
    record = result(tmp_path, "market_build")
    seconds = {row["part"]: row["run s"] for row in record["rows"]}
    parts = seconds["hour ranges (calendar, NumPy)"] + seconds["hourly context, compiled"]
    assert record["summary"]["hourly context ms"] == pytest.approx(1e3 * parts)


@pytest.mark.slow  # Compiles two trainings of the size that is measured.
def test_members_stand_beside_as_many_single_runs(tmp_path: Path) -> None:
    flags = [
        "--members",
        "1",
        "3",
        "--single-runs",
        "2",
        "--num-bars",
        "400",
        "--window",
        "8",
        "--total-steps",
        "64",
        "--num-envs",
        "8",
    ]
    assert members.main([*flags, "--out", str(tmp_path)]) == 0
    one, three = result(tmp_path, "members")["rows"]
    assert (one["single runs made"], three["single runs made"]) == (1, 2)
    assert three["compile s"] < three["seconds"]
    assert three["single runs / members"] == pytest.approx(3 * three["mean single run s"] / three["seconds"])


def test_inference_times_a_session_beside_other_runtimes(tmp_path: Path) -> None:
    flags = "--hidden-sizes 8 --members 1 --history 400 --updates 20"
    assert inference.main([*flags.split(), "--out", str(tmp_path)]) == 0
    rows = result(tmp_path, "inference")["rows"]
    assert len(rows) == 4 and all(0 < row["p50 ms"] <= row["p99 ms"] for row in rows)


def test_metrics_times_accounts_and_baselines(tmp_path: Path) -> None:
    flags = "--num-bars 2000 --baseline-bars 500 --repeats 1"
    assert metrics.main([*flags.split(), "--out", str(tmp_path)]) == 0
    record = result(tmp_path, "metrics")
    assert len(record["rows"]) == 3 and record["summary"]["trades"] > 30


def test_a_walk_forward_stands_beside_as_many_single_trainings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def spent(verb: str, flags: Sequence[str], folder: Path) -> walkforward.Spent:
        asked.append(" ".join([verb, *flags]))
        return walkforward.Spent(30.0, 40.0) if verb == "walkforward" else walkforward.Spent(10.0, 8.0 + len(asked))

    monkeypatch.setattr(walkforward, "timed_command", spent)
    sizes = ["--folds", "2", "--members", "3", "--singles", "2"]
    assert walkforward.main([*sizes, "--symbol", "AAA", "--out", str(tmp_path)]) == 0
    assert asked[1:] == [
        "train --symbol AAA --mode smoke --seed 0",
        "train --symbol AAA --mode smoke --seed 1",
        "walkforward --symbol AAA --mode smoke --folds 2 --members 3",
    ]
    (record,) = (found["walkforward"] for found in map(json.loads, (path.read_text() for path in tmp_path.iterdir())))
    assert record["summary"] == {"walk-forward / singles": 0.5, "by CPU seconds": pytest.approx(40 / (6 * 10.5))}


def test_report_writes_the_page_of_a_random_policy(tmp_path: Path) -> None:
    assert report.main(["--num-bars", "2000", "--repeats", "1", "--no-draw", "--out", str(tmp_path)]) == 0
    record = result(tmp_path, "report")
    assert record["rows"][0]["part"] == "page, twin, pictures" and 1 < record["summary"]["page MB"] < 8


TINY_PEERS = (
    "--num-bars 400 --window 8 --num-steps 4 --hidden-sizes 8 --update-epochs 1 --repeats 1 --budget-seconds 0.1"
)


def test_peers_run_the_purejaxrl_style_trainer(tmp_path: Path) -> None:
    pytest.importorskip("gymnax")
    flags = f"{TINY_PEERS} --trainers purejaxrl --purejaxrl-envs 4 --minibatch-sizes 8 --equal-trainers"
    assert peers.main([*flags.split(), "--out", str(tmp_path)]) == 0
    (row,) = result(tmp_path, "peers")["rows"]
    assert (row["samples"], row["minibatch"]) == (16, 8)


def test_peers_compare_default_epochs_and_no_noise_with_equal_samples(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run_jtf(data: Any, args: Any, num_envs: int, minibatch: int, **changes: float) -> dict[str, Any]:
        epochs, noise = changes.get("update_epochs", args.update_epochs), changes.get("feature_noise", 1.0)
        cpu = epochs * (3.0 + noise)
        return {"trainer": "jtf", "minibatch": minibatch, "samples": 8192, "steps/s": 8192 / cpu, "cpu s": cpu}

    peer = {"trainer": "purejaxrl", "minibatch": 256, "samples": 8192, "steps/s": 8192 / 60, "cpu s": 120.0}
    monkeypatch.setattr(peers, "synthetic_problem", lambda num_bars, window: None)
    monkeypatch.setattr(peers, "run_jtf", run_jtf)
    monkeypatch.setattr(peers, "run_peer", lambda *setting: peer)
    assert peers.main(["--trainers", "jtf", "purejaxrl", "--out", str(tmp_path)]) == 0
    ratios = json.loads(next(tmp_path.glob("*.json")).read_text())["peers"]["summary"]
    # 10 epochs are 40 s, 4 are 16 s, 10 without noise 30 s; the peer's are 60 s on two cores.
    assert ratios["jtf / purejaxrl, equal samples an iteration"] == 1.5
    assert ratios["jtf / purejaxrl, equal samples, default epochs"] == 60 / 16
    assert ratios["jtf / purejaxrl, equal samples, no feature noise"] == 2.0
    assert ratios["jtf / purejaxrl, equal samples, no feature noise, by CPU seconds"] == 4.0


@pytest.mark.filterwarnings("ignore")  # Those of other projects' libraries are theirs.
@pytest.mark.parametrize("peer", ["rejax", "sb3", "cleanrl"])
def test_peers_run_the_trainers_of_other_libraries(peer: str, tmp_path: Path) -> None:
    pytest.importorskip("rejax" if peer == "rejax" else "stable_baselines3")
    flags = f"{TINY_PEERS} --trainers {peer} --{peer}-envs 2 --minibatch-sizes 8 --equal-trainers"
    with jax.numpy_rank_promotion("allow"):
        assert peers.main([*flags.split(), "--out", str(tmp_path)]) == 0
    (row,) = result(tmp_path, "peers")["rows"]
    assert (row["samples"], row["steps/s"]) == (8, pytest.approx(8 / row["seconds"]))


def test_peers_refuse_minibatches_that_do_not_divide_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    flags = f"{TINY_PEERS} --trainers purejaxrl --purejaxrl-envs 4 --minibatch-sizes 5 --equal-trainers --no-write"
    assert run_command(lambda: peers.main(flags.split())) == 2
    assert "16 samples do not divide into 3 minibatches" in capsys.readouterr().err


def test_peers_give_every_trainer_the_same_seconds_for_quality(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr(peers, "run_all", lambda given, cores, kept: jobs.extend(given) or [RUN] * len(given))
    assert peers.main(["--no-speed", "--quality-seconds", "60", "--out", str(tmp_path)]) == 0
    assert [row["trainer"] for row in result(tmp_path, "peers quality")["rows"]] == ["rows", *PEERS]
    assert {(job.level, job.max_seconds) for job in jobs} == {(None, 60.0)}


SMALL = {"train_bars": 300, "unseen_bars": 200}
TINY_SETTINGS = {"num_envs": 4, "num_steps": 8, "update_epochs": 1, "hidden_sizes": [8], "minibatch_size": 16}


def test_a_peer_learns_until_its_time_is_up_and_is_scored_after_it() -> None:
    pytest.importorskip("gymnax")
    run = run_job(Job("purejaxrl", 0, TINY_SETTINGS, None, 1e-9, **SMALL))
    assert (len(run.points), run.steps) == (1, 32)
    assert run.points[0][0] == pytest.approx(run.compile_seconds + run.steps / run.steps_per_second)


@pytest.mark.parametrize(("level", "iterations"), [(0.0, 1), (0.5, 3), (None, 5)])
def test_a_peer_ends_at_its_level_or_its_limit_only(
    level: float | None, iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, scores = [0.0], iter([0.1, 0.4, 0.5, 0.3, 0.2, 0.1])

    def iterate() -> None:
        clock[0] += 10.0

    session = Session(iterate, lambda market: np.zeros((market.num_bars, 8)), 1.0)
    monkeypatch.setattr(quality, "clock", lambda: clock[0])
    monkeypatch.setattr(quality, "start_peer", lambda *_: session)
    monkeypatch.setattr(quality, "optimum_returns", lambda known: (1.0, 1.0))
    monkeypatch.setattr(quality, "score_logits", lambda logits, data: next(scores))
    run = run_job(Job("purejaxrl", 0, TINY_SETTINGS, level, 51.0, **SMALL))
    assert [seconds for seconds, _ in run.points] == [11.0, 21.0, 31.0, 41.0, 51.0][:iterations]


def test_our_schedule_that_ends_below_the_level_is_followed_by_one_twice_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter(range(0, 100, 10))
    monkeypatch.setattr(quality, "clock", lambda: float(next(seconds)))
    lengths: list[int] = []

    def learn(problem: Any, config: PPOConfig, *, max_seconds: float, enough: float) -> Curve:
        lengths.append(config.total_steps)
        score = 0.0 if len(lengths) < 3 else 1e9
        return Curve((Point(1, 4.0, score, 0.0),), 2.0, config.total_steps, 100.0, config)

    monkeypatch.setattr(quality, "learn", learn)
    run = run_job(Job("rows", 0, UNSEARCHED["rows"], 0.9, 100.0, **SMALL))
    assert [length / lengths[0] for length in lengths] == [1, 2, 4]
    assert [second for second, _ in run.points] == [4.0, 14.0, 24.0]
    assert run.compile_seconds == 6.0


def test_every_unsearched_setting_is_one_its_trainer_takes() -> None:
    for trainer, settings in UNSEARCHED.items():
        job = Job(trainer, 0, settings, None, 1.0)
        config = ours_config(job, 0) if trainer in OURS else peer_config(settings)
        assert (config.num_envs, config.minibatch_size) == (settings["num_envs"], settings["minibatch_size"])
    assert tuple(UNSEARCHED) == TRAINERS


def test_dense_windows_inside_and_outside_jax_are_those_of_the_environment() -> None:
    market, params = synthetic_problem(num_bars=400, window=8)
    weights = np.random.default_rng(0).normal(size=(8 * 58, 3)).astype(np.float32)
    inside = dense_row_logits(lambda w, x: x.reshape(len(x), -1) @ w)(jnp.asarray(weights), market)
    outside = host_row_logits(lambda x: x @ weights, market)
    row = market.num_bars - 1
    seen = observe(market, reset_at(row, market, params), params)
    np.testing.assert_allclose(inside, outside, 1e-4, 1e-4)
    np.testing.assert_allclose(inside[row], seen.reshape(-1) @ weights, 1e-4, 1e-4)
    assert not np.any(outside[: market.first_bar])


def test_a_peers_score_is_the_log_return_that_the_numpy_mirror_earns() -> None:
    known = known_market("regime", num_bars_for(300, 200), unseen_bars=200)
    data = known_problem(known).validation.data
    actions = known.optimum_actions(known.unseen)
    logits = np.eye(8, dtype=np.float32)[actions[-data.market.num_bars :]]
    earned = known.net_log_return(actions, known.unseen)
    assert float(score_logits(logits, data)) == pytest.approx(earned, rel=1e-3)


ECHO = """
import json, os, sys
print("noise")
print(json.dumps([json.loads(sys.argv[1])["n"], len(os.sched_getaffinity(0))]))
"""


def test_pinned_jobs_run_on_their_cores_and_are_not_run_again(tmp_path: Path) -> None:
    kept = tmp_path / "new" / "runs.jsonl"
    jobs = [{"n": 1}, {"n": 2}]
    assert run_jobs([sys.executable, "-c", ECHO], jobs, 1, kept) == [[1, 1], [2, 1]]
    assert run_jobs([sys.executable, "-c", "raise SystemExit(3)"], jobs[::-1], 1, kept) == [[2, 1], [1, 1]]


def test_a_pinned_job_that_fails_is_said_and_what_was_done_before_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "runs.jsonl"
    run_jobs([sys.executable, "-c", ECHO], [{"n": 1}], 1, kept)
    with pytest.raises(UserError, match="failed: no such market"):
        run_jobs([sys.executable, "-c", "raise SystemExit('no such market')"], [{"n": 1}, {"n": 2}], 1, kept)
    assert run_jobs([sys.executable, "-c", ECHO], [{"n": 1}], 1, kept) == [[1, 1]]


def test_pinned_jobs_never_share_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned.os, "sched_getaffinity", lambda _: {3, 0, 1, 5, 7})
    assert core_groups(2) == [[0, 1], [3, 5]]
    with pytest.raises(UserError, match=r"--cores 6 is outside 1\.\.5"):
        core_groups(6)


def test_the_search_writes_the_setting_that_reaches_the_level_soonest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    third = peer_search.candidates("rejax", 4)[2]
    never = replace(RUN, points=[[11.0, 0.7]])
    monkeypatch.setattr(
        peer_search, "run_all", lambda jobs, cores, kept: [RUN if job.settings == third else never for job in jobs]
    )
    found = tmp_path / "found.json"
    assert peer_search.main(["--trainers", "rejax", "--settings", "4", "--found", str(found)]) == 0
    assert choose_settings("rejax", found) == third
    assert choose_settings("sb3", found) == UNSEARCHED["sb3"]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_setting_of_a_search_is_another_and_one_its_trainer_takes(trainer: str) -> None:
    settings = peer_search.candidates(trainer, 12)
    assert settings[0] == UNSEARCHED[trainer]
    assert len({json.dumps(one, sort_keys=True) for one in settings}) == 12
    for one in settings:
        config = ours_config(Job(trainer, 0, one, None, 1.0), 0) if trainer in OURS else peer_config(one)
        assert config.minibatch_size == one["minibatch_size"]


def test_time_to_quality_is_at_least_the_limit_where_the_peer_never_arrived() -> None:
    bars = {"trainer": "rows", "reached": True, "without compile": 2.0, "last second": 3.0, "compile s": 1.0}
    peer = {"trainer": "purejaxrl", "reached": False, "without compile": None, "last second": 110.0, "compile s": 10.0}
    assert time_to_quality.ratios([bars, peer]) == {"purejaxrl / rows, at least": 50.0}


def test_the_median_of_times_is_no_bound_where_most_runs_arrived() -> None:
    ours = {"trainer": "rows", "reached": True, "without compile": 2.0, "last second": 3.0, "compile s": 1.0}
    arrived = [{**ours, "trainer": "rejax", "without compile": seconds} for seconds in (10.0, 20.0)]
    missing = {**ours, "trainer": "rejax", "reached": False, "without compile": None, "last second": 61.0}
    assert time_to_quality.ratios([ours, *arrived, missing]) == {"rejax / rows": 10.0}
    assert time_to_quality.ratios([ours, arrived[0], missing]) == {"rejax / rows, at least": 17.5}


def test_a_sweep_over_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: steps_per_second.main(["--num-envs", "--sample-envs", "--no-write"])) == 2
    assert "both empty" in capsys.readouterr().err


def test_bfloat16_has_a_measured_matrix_rate_on_a_cpu_too() -> None:
    assert set(roofline.measure_rates(64, 1, "bfloat16").matrix) == {"float32", "bfloat16"}


def test_peers_name_a_missing_library_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    flags = f"{TINY_PEERS} --trainers sb3 --no-write"
    assert run_command(lambda: peers.main(flags.split())) == 2
    message = capsys.readouterr().err.strip()
    assert "torch is not installed" in message
    assert 'pip install "jtf[bench]"' in message
    assert "\n" not in message


def test_benchmarks_import_where_only_the_engines_libraries_are_installed() -> None:
    # Not rich: flax itself needs it.
    absent = ["tyro", "pyarrow", "exchange_calendars", "safetensors", "tensorboardX"]
    absent += ["gymnasium", "gymnax", "matplotlib", "torch", "stable_baselines3", "rejax"]
    program = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({absent!r}))
from benchmarks.__main__ import BENCHMARKS
for name in BENCHMARKS:
    if name != "verdict_proof":  # It runs the application's whole pipeline.
        importlib.import_module("benchmarks." + name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


TINY_RUN: dict[str, Any] = {
    "total_steps": 1_024, "num_envs": 8, "num_steps": 64, "hidden_sizes": (4,), "update_epochs": 1,
    "minibatch_size": 4_096, "first_layer": "gather",
}  # fmt: skip


@pytest.fixture
def two_markets(monkeypatch: pytest.MonkeyPatch) -> None:
    """One market to choose on, one to report on, trained for an instant."""
    monkeypatch.setattr(defaults, "CHOSEN_ON", ("CLSK",))
    monkeypatch.setattr(defaults, "REPORTED_ON", ("AAA",))
    monkeypatch.setattr(defaults, "START", defaults.START | TINY_RUN)


def test_defaults_scores_members_and_ensembles_and_keeps_finished_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_markets: None
) -> None:
    figures = drawn(defaults, monkeypatch)
    flags = ["--settings", "start", "noise 2", "--reported", "noise 2", "--members", "1", "2", "--out", str(tmp_path)]
    flags += ["--cells", str(tmp_path / "cells.jsonl"), "--picture", str(tmp_path / "defaults.png")]
    assert defaults.main(flags) == 0
    record = result(tmp_path, "defaults")
    rows = [(row["setting"], row["markets"], row["members"]) for row in record["rows"]]
    assert rows == [("start", "chosen on", 1), ("noise 2", "chosen on", 1), ("noise 2", "reported on", 2)]
    assert [len(cell["best"]) for cell in record["details"]] == [1, 1, 2]
    # An ensemble of one is its member.
    assert record["details"][0]["ensemble"] == record["details"][0]["best"][0]
    assert len(figures) == 1
    monkeypatch.setattr(defaults, "train_cell", lambda *cell: pytest.fail(f"{cell} was trained again"))
    assert defaults.main(flags) == 0
    assert result(tmp_path, "defaults")["details"] == record["details"]


def test_defaults_counts_the_money_that_the_mirror_counts() -> None:
    data = load_symbol(settings_config({"symbol": "CLSK"}))
    segment = Segment(11_000, 11_400)
    natural = data.natural
    test = fold_market(scale_market(natural, fit_scaler(natural.features, natural.context)), [(11_000, 11_400)])
    market = synthetic_market("CLSK")
    actions = market.optimum_actions(data.params, segment)
    found = defaults.log_growth(actions[segment.start - data.window + 1 : segment.stop], test, data.params)
    assert found == pytest.approx(market.optimum_return(data.params, segment), abs=1e-4)
