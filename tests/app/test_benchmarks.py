"""The benchmarks run end to end at tiny sizes; what compiles long is measured once and shared."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import (
    __main__,
    first_layer,
    joint_model,
    market_build,
    metrics,
    peers,
    pictures,
    regularisation,
    roofline,
    steps_per_second,
    time_to_quality,
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
)
from benchmarks.learning import Curve, learn_known, num_bars_for, shared_compilations
from benchmarks.measure import device_info, device_slug, format_table, measure
from benchmarks.peer_learning import learn_peer
from benchmarks.phases import Phase, epochs_only, measure_phases, resolve_for, start_iteration, synthetic_problem
from benchmarks.purejaxrl import PeerConfig
from jtf.errors import run_command
from jtf.known_optimum.markets import regime_market
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
    return learn_known(regime_market(num_bars_for(300, 200), unseen_bars=200), TINY)


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
    config = PPOConfig(engine="rows", first_layer="gather", hidden_sizes=(8, 6), num_envs=1, minibatch_size=10)
    quiet = replace(config, feature_noise=0.0)
    # First layer 2 * (4*3 + 2) * 8 = 224; then 2*8*6 + 2*6*(5+1) = 96 + 72 = 168.
    assert row_flops(config, sizes) == (224, 168)
    # Ten rows, ten epochs, two passes of the first layer and three of the rest; one more of each under noise.
    assert epochs_work(quiet, sizes).flops == 10 * 10 * (2 * 224 + 3 * 168)
    assert epochs_work(config, sizes).flops == 10 * 10 * (3 * 224 + 4 * 168)
    # (4*3 + 2 + 1) * 8 + (8+1) * 6 + (6+1) * 6
    assert num_parameters(config, sizes) == 120 + 54 + 42


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
    # (real and imaginary parts), then [5, 10] x [10, 8]; once a minibatch the kernel, [10, 4] x [4, 3 * 8].
    sizes = Sizes(num_rows=10, window=4, num_features=3, num_context=0, num_actions=5)
    config = PPOConfig(engine="rows", first_layer="fft", hidden_sizes=(8,))
    assert row_flops(config, sizes)[0] == (5 * 2 * 2 * 6 * 8 + 2 * 5 * 10 * 8) / 5
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


def test_a_second_benchmark_is_added_to_the_devices_file(curve: Curve, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_to_quality, "learn_known", lambda *args, **limits: curve)
        for label in ("one", "two"):
            flags = f"--trainers rows --train-bars 300 --unseen-bars 200 --label {label}"
            time_to_quality.main([*flags.split(), "--out", str(tmp_path)])
    assert result(tmp_path, "time_to_quality one")["rows"] == result(tmp_path, "time_to_quality two")["rows"]


def test_a_level_that_was_not_reached_is_said_so(curve: Curve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(time_to_quality, "learn_known", lambda *args, **limits: curve)
    flags = "--trainers rows --train-bars 300 --unseen-bars 200 --level 1000"
    assert time_to_quality.main([*flags.split(), "--out", str(tmp_path)]) == 0
    row = result(tmp_path, "time_to_quality")["rows"][0]
    assert (row["reached"], row["seconds"]) == (False, None)


def test_a_curve_has_a_point_a_validation(curve: Curve) -> None:
    assert [point.update for point in curve.points] == [1, 2]


def test_shared_compilations_end_with_the_block() -> None:
    before = jax.config.jax_compilation_cache_dir
    with shared_compilations():
        assert jax.config.jax_compilation_cache_dir != before
    assert jax.config.jax_compilation_cache_dir == before


def test_joint_model_compares_both_layouts_and_draws_them(
    curve: Curve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(joint_model, "learn_known", lambda *args: curve)
    monkeypatch.setattr(joint_model, "hourly_market", regime_market)
    figures = drawn(joint_model, monkeypatch)
    flags = f"--train-bars 300 --unseen-bars 200 --seeds 0 1 --picture {tmp_path / 'joint.png'}"
    assert joint_model.main([*flags.split(), "--out", str(tmp_path)]) == 0
    record = result(tmp_path, "joint_model")
    assert {row["columns"] for row in record["rows"]} == {51, 58}
    (axes,) = figures[tmp_path / "joint.png"].axes
    medians = [record["summary"][f"{joint_model.KNOWN}, {columns} columns, median final"] for columns in (51, 58)]
    assert [bar.get_height() for bar in axes.patches] == medians


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


def test_metrics_times_accounts_and_baselines(tmp_path: Path) -> None:
    flags = "--num-bars 2000 --baseline-bars 500 --repeats 1"
    assert metrics.main([*flags.split(), "--out", str(tmp_path)]) == 0
    record = result(tmp_path, "metrics")
    assert len(record["rows"]) == 3 and record["summary"]["trades"] > 30


TINY_PEERS = (
    "--num-bars 400 --window 8 --num-steps 4 --hidden-sizes 8 --update-epochs 1 --repeats 1 --budget-seconds 0.1"
)


def test_peers_run_the_purejaxrl_style_trainer(tmp_path: Path) -> None:
    pytest.importorskip("gymnax")
    flags = f"{TINY_PEERS} --trainers purejaxrl --purejaxrl-envs 4 --minibatch-sizes 8 --equal-trainers"
    assert peers.main([*flags.split(), "--out", str(tmp_path)]) == 0
    (row,) = result(tmp_path, "peers")["rows"]
    assert (row["samples"], row["minibatch"]) == (16, 8)


def test_peers_run_stable_baselines3_on_the_gymnasium_adapter(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    flags = f"{TINY_PEERS} --trainers sb3 --sb3-envs 2 --minibatch-sizes 8 --equal-trainers"
    assert peers.main([*flags.split(), "--out", str(tmp_path)]) == 0
    (row,) = result(tmp_path, "peers")["rows"]
    assert (row["samples"], row["steps/s"]) == (8, pytest.approx(8 / row["seconds"]))


def test_peers_refuse_minibatches_that_do_not_divide_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gymnax")
    flags = f"{TINY_PEERS} --trainers purejaxrl --purejaxrl-envs 4 --minibatch-sizes 5 --equal-trainers --no-write"
    assert run_command(lambda: peers.main(flags.split())) == 2
    assert "16 samples do not divide into 3 minibatches" in capsys.readouterr().err


def test_the_peer_learns_until_its_time_is_up() -> None:
    pytest.importorskip("gymnax")
    known = regime_market(num_bars_for(300, 200), unseen_bars=200)
    config = PeerConfig(num_envs=4, num_minibatches=2, num_steps=8, update_epochs=1, hidden_sizes=(8,))
    limits = {"max_seconds": math.inf, "enough": math.inf}
    curve = learn_peer(known, config, updates=3, validation_interval=2, **limits)
    assert [point.update for point in curve.points] == [2, 3]
    assert curve.steps == 3 * 32
    assert len(learn_peer(known, config, updates=3, validation_interval=1, max_seconds=0.0, enough=1.0).points) == 1


def test_time_to_quality_is_at_least_the_limit_where_the_peer_never_arrived() -> None:
    bars = {"trainer": "rows", "reached": True, "without compile": 2.0, "last second": 3.0, "compile s": 1.0}
    peer = {"trainer": "purejaxrl", "reached": False, "without compile": None, "last second": 110.0, "compile s": 10.0}
    assert time_to_quality.ratios([bars, peer]) == {"purejaxrl / rows, at least": 50.0}


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
    absent += ["gymnasium", "gymnax", "matplotlib", "torch", "stable_baselines3"]
    program = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({absent!r}))
from benchmarks.__main__ import BENCHMARKS
for name in BENCHMARKS:
    importlib.import_module("benchmarks." + name)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
