"""Walk-forward: cells computed once, killed and gone on with, stitched out of sample."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

import jtf
from jtf import train, walkforward
from jtf.errors import UserError
from jtf.experiment.stitched import STITCHED
from jtf.results.run_directory import read_metrics, read_summary
from tests.app.conftest import TINY, random_walk
from tests.app.kills import kill, numbers

FOLDS = ["--folds", "3", "--members", "2"]


@pytest.fixture(scope="module")
def flags(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("long")
    random_walk(1_600).to_parquet(folder / "AAAUSDT_15Min.parquet")
    return ["--symbol", "AAAUSDT", "--data", str(folder), *TINY, *FOLDS]


def walk(flags: list[str], out, *more: str) -> int:
    return walkforward.main([*flags, "--out", str(out), *more])


def only(folder):
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def finished(flags, tmp_path_factory):
    out = tmp_path_factory.mktemp("walk")
    assert walk(flags, out) == 0
    return out


def test_every_fold_is_a_run_and_the_ensemble_is_stitched_from_their_test_bars(finished):
    folder = only(finished / "walkforward")
    summary = json.loads((folder / "summary.json").read_text())
    curves = pd.read_parquet(folder / STITCHED)
    runs = [jtf.read_result(part["run"]) for part in summary["folds"]]
    growth = np.prod([1 + run.metrics["test"].total_return for run in runs])
    assert curves["equity"].iloc[-1] == pytest.approx(growth, rel=1e-12)
    assert list(curves)[2:] == ["equity", "buy_and_hold", "equity_0", "equity_1"]
    assert curves["time"].is_monotonic_increasing and curves["time"].is_unique
    assert summary["stitched"]["metrics"]["equity"]["total_return"] == pytest.approx(growth - 1, abs=1e-12)


def test_the_folds_are_judged_together(finished):
    summary = json.loads((only(finished / "walkforward") / "summary.json").read_text())
    runs = [jtf.read_result(part["run"]) for part in summary["folds"]]
    whole = summary["stitched"]["metrics"]["equity"]
    assert summary["metrics"]["test"]["total_return"] == pytest.approx(whole["total_return"], abs=1e-9)
    assert summary["metrics"]["test"]["max_drawdown"] == pytest.approx(whole["max_drawdown"], abs=1e-9)
    assert summary["metrics"]["test"]["num_trades"] == sum(run.metrics["test"].num_trades for run in runs)
    assert summary["verdict"]["status"] in ("REVIEW", "DROP") and summary["luck"]["num_trials"] == 1


def test_a_cell_counts_no_other_trial(finished):
    summary = json.loads((only(finished / "walkforward") / "summary.json").read_text())
    assert {jtf.read_result(part["run"]).luck.num_trials for part in summary["folds"]} == {1}


def test_the_stitched_curve_and_the_folds_as_one_record_say_the_same(finished):
    summary = json.loads((only(finished / "walkforward") / "summary.json").read_text())
    stitched, judged = summary["stitched"]["metrics"]["equity"], summary["metrics"]["test"]
    for name in ("total_return", "sharpe", "max_drawdown"):
        assert stitched[name] == pytest.approx(judged[name], rel=1e-9, abs=1e-12)


def test_a_bar_is_tested_in_one_fold_and_none_before_it_was_trained_or_selected_on(finished):
    summary = json.loads((only(finished / "walkforward") / "summary.json").read_text())
    ends = [(part["segments"]["validation"]["end"], part["segments"]["test"]["start"]) for part in summary["folds"]]
    assert len(ends) == 3 and all(validated < tested for validated, tested in ends)
    assert all(jtf.read_result(part["run"]).seen["unseen"] > 0 for part in summary["folds"])


def test_the_same_command_computes_nothing_again(finished, flags, capsys):
    cells = sorted((finished / "cells" / "AAAUSDT").iterdir())
    before = [(path / "summary.json").stat().st_mtime_ns for path in cells]
    assert walk(flags, finished) == 0
    assert "3 cells, 3 of them computed before" in capsys.readouterr().out
    assert [(path / "summary.json").stat().st_mtime_ns for path in cells] == before


def test_a_changed_setting_is_another_experiment_whose_cells_are_all_computed(finished, flags, tmp_path, capsys):
    out = shutil.copytree(finished, tmp_path / "out")
    assert walk(flags, out, "--env.slippage", "0.001") == 0
    assert "computed before" not in capsys.readouterr().out
    assert len(list((out / "cells" / "AAAUSDT").iterdir())) == 6 and len(list((out / "walkforward").iterdir())) == 2


def test_a_cell_is_the_run_of_its_own_settings(finished):
    cell = next((finished / "cells" / "AAAUSDT").iterdir())
    again = jtf.backtest(cell)
    assert again.metrics["test"] == jtf.read_result(cell).metrics["test"]


def test_killed_twice_and_started_again_everything_is_the_same(finished, flags, tmp_path):
    command, rng = [sys.executable, "-m", "jtf.walkforward", *flags, "--out", str(tmp_path)], np.random.default_rng(0)
    assert kill(command, tmp_path, rng, working=True) is not None
    kill(command, tmp_path, rng, working=True)
    assert walk(flags, tmp_path) == 0
    assert numbers(tmp_path) == numbers(finished)


def test_interrupted_it_goes_on_with_the_cell_that_was_broken_off(finished, flags, tmp_path, monkeypatch, capsys):
    asked = iter([False, True])
    monkeypatch.setattr("jtf.train.StopRequest.__call__", lambda self: next(asked, False))
    assert walk(flags, tmp_path) == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert walk(flags, tmp_path) == 0
    assert numbers(tmp_path) == numbers(finished)
    first = min((tmp_path / "cells" / "AAAUSDT").iterdir(), key=lambda path: (path / "config.json").stat().st_mtime_ns)
    updates = [record["update"] for record in read_metrics(first) if "train/kl" in record and record["seed"] == 0]
    assert updates == sorted(set(updates))


@pytest.mark.parametrize(
    ("flags_given", "named"),
    [
        (["--folds", "1"], "--folds 1"),
        (["--folds", "900"], "too few for 900 folds"),
        (["--members", "0"], "--members 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(flags, flags_given, named, tmp_path, capsys):
    assert walk(flags, tmp_path / "out", *flags_given) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cell_is_resumed_by_its_experiment_alone(flags, tmp_path, monkeypatch, capsys):
    asked = iter([False, True])
    monkeypatch.setattr("jtf.train.StopRequest.__call__", lambda self: next(asked, False))
    assert walk(flags, tmp_path) == 130
    cell = only(tmp_path / "cells" / "AAAUSDT")
    assert train.main(["--resume", str(cell)]) == 2
    assert "another fold of its bars; it is a cell of an experiment, so start the command" in capsys.readouterr().err
    assert read_summary(cell)["status"] == "interrupted"


def test_a_cell_with_the_result_of_another_fold_is_refused(finished, flags, tmp_path, capsys):
    out = shutil.copytree(finished, tmp_path / "out")
    cell = next((out / "cells" / "AAAUSDT").iterdir())
    summary = json.loads((cell / "summary.json").read_text())
    summary["fold"]["test"]["start"] += 1
    (cell / "summary.json").write_text(json.dumps(summary))
    assert walk(flags, out) == 2
    assert "is not of the fold of its cell" in capsys.readouterr().err


def test_an_edited_experiment_is_refused(finished, flags, tmp_path, capsys):
    out = shutil.copytree(finished, tmp_path / "out")
    path = only(out / "walkforward") / "experiment.json"
    path.write_text(path.read_text().replace('"fold_index": 1', '"fold_index": 7'))
    assert walk(flags, out) == 2
    assert "was edited" in capsys.readouterr().err


def test_a_cell_whose_files_were_edited_is_refused(finished, flags, tmp_path, capsys):
    out = shutil.copytree(finished, tmp_path / "out")
    cell = next((out / "cells" / "AAAUSDT").iterdir())
    (cell / "trades.csv").write_text("nothing\n")
    assert walk(flags, out) == 2
    assert f"Remove {cell}" in capsys.readouterr().err


def test_a_cell_that_diverges_is_reported_and_the_others_go_on(flags, tmp_path, monkeypatch, capsys):
    from jtf.experiment import executor

    def fail_first(cell, *arguments):
        if cell.fold_index == 0:
            raise UserError("it diverged.")
        return compute(cell, *arguments)

    compute = executor.compute
    monkeypatch.setattr(executor, "compute", fail_first)
    assert walk(flags, tmp_path) == 1
    out = capsys.readouterr().out
    assert "fold 0: failed" in out and "it diverged." in out and "1 of 3 cells failed" in out
    assert len(list((tmp_path / "cells" / "AAAUSDT").iterdir())) == 2
