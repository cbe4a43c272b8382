"""Several symbols judged together, and the paths of combinatorial cross-validation."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jtf
from jtf import compare, evaluate, report, runs
from jtf.experiment.stitched import STITCHED
from jtf.results.results import NO_VERDICT, read_result
from jtf.results.verdict import Verdict, judge_symbols


def summary_of(path):
    return json.loads((path / "summary.json").read_text())


def test_every_symbol_has_its_folds_its_baselines_and_its_verdict(evaluated):
    symbols = summary_of(evaluated)["symbols"]
    assert list(symbols) == ["AAAUSDT", "BBBUSDT"]
    for record in symbols.values():
        tests = [fold["metrics"]["test"]["total_return"] for fold in record["folds"]]
        assert len(tests) == 2 and record["spread"]["folds"]["median"] == pytest.approx(np.median(tests))
        assert record["spread"]["members"]["count"] == 4
        assert {"buy_and_hold", "flat", "moving_average_cross", "perfect_foresight"} <= set(
            record["spread"]["baselines"]
        )
        assert record["verdict"]["status"] in ("DROP", "REVIEW")


def test_two_symbols_of_one_class_are_never_generalised_from(evaluated):
    verdict = summary_of(evaluated)["verdict"]
    assert verdict["status"] in ("DROP", "REVIEW")
    if verdict["status"] == "REVIEW":
        assert any("too few" in reason for reason in verdict["reasons"])


def test_an_evaluation_is_listed_and_shown(evaluated, capsys):
    assert runs.main(["list", "--out", str(evaluated.parent.parent)]) == 0
    assert runs.main(["show", str(evaluated)]) == 0
    text = capsys.readouterr().out
    assert "2-symbols-rolling" in text and "BBBUSDT" in text


def test_every_bar_is_tested_in_every_path_of_cross_validation(crossed):
    summary, curves = summary_of(crossed), pd.read_parquet(crossed / STITCHED)
    assert len(summary["folds"]) == 3 and list(curves)[2:] == ["buy_and_hold", "path_0", "path_1"]
    assert curves["time"].is_monotonic_increasing and curves["time"].is_unique
    assert set(curves["group"]) == {0, 1, 2} and not curves.isna().any().any()
    assert summary["verdict"] is None


def test_a_path_is_put_together_from_the_fits_that_held_its_groups_out(crossed):
    summary, curves = summary_of(crossed), pd.read_parquet(crossed / STITCHED)
    fits = [jtf.read_result(fold["run"]) for fold in summary["folds"]]
    # Fits hold out (0, 1), (0, 2), (1, 2): path 0 takes groups 0, 1 of fit 0 and group 2 of fit 1.
    growth = [1 + fits[0].metrics["test"].total_return, 1 + fits[0].metrics["test_2"].total_return]
    growth.append(1 + fits[1].metrics["test_2"].total_return)
    assert curves["path_0"].iloc[-1] == pytest.approx(np.prod(growth), rel=1e-12)


def test_a_fit_of_cross_validation_has_seen_no_bar_that_it_is_tested_on(crossed):
    for fold in summary_of(crossed)["folds"]:
        curves = jtf.read_result(fold["run"]).curves
        tested = curves[curves["segment"].str.startswith("test")]
        assert set(tested["seen"]) == {"unseen"}


def test_a_fit_that_learnt_from_bars_after_its_test_has_no_verdict_and_says_so(crossed):
    found = [read_result(fold["run"]) for fold in summary_of(crossed)["folds"]]
    assert [run.verdict is None for run in found] == [True, True, False]
    assert [NO_VERDICT in run.notes for run in found] == [True, True, False]


def test_the_judged_segment_of_a_fit_of_several_tests_is_the_first_one_on_page_and_terminal(crossed, capsys):
    run = summary_of(crossed)["folds"][0]["run"]
    assert list(read_result(run).derived["segments"]) == ["train", "validation", "test", "test_2"]
    assert report.main([run]) == 0 and runs.main(["show", run]) == 0
    page = json.loads((Path(run) / "report.json").read_text())
    assert page["judged"] == "test" and page["headline"].startswith("On test, ")
    assert page["observed"]["segment"] == "test"
    assert [name for name, one in page["segments"].items() if one["tiles"][-1]["name"] != "costs"] == ["test"]
    assert "(buy and hold: test)" in capsys.readouterr().out


def test_paths_are_shown_and_are_no_single_curve_to_compare(crossed, capsys):
    assert runs.main(["show", str(crossed)]) == 0
    assert "path 1" in capsys.readouterr().out
    assert compare.main([str(crossed), str(crossed)]) == 2
    assert "several paths" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], "--symbols is missing"),
        (["--symbols", "AAAUSDT,AAAUSDT"], "AAAUSDT twice"),
        (["--symbols", "AAAUSDT,../x"], "'../x' is no symbol"),
        (["--symbols", "AAAUSDT,NONE"], "NONE"),
        (["--symbols", "AAAUSDT", "--folds", "1"], "--folds 1"),
        (["--symbols", "AAAUSDT", "--folds", "900"], "AAAUSDT: 1600 bars are too few"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence_and_leaves_nothing(two_symbols, args, named, tmp_path, capsys):
    assert evaluate.main([*args, "--data", str(two_symbols), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


APPROVED, REVIEW, DROP = (Verdict(status, ("because.",)) for status in ("APPROVED", "REVIEW", "DROP"))
BOTH = ["us_equity", "us_equity", "us_equity", "crypto", "crypto"]
FIVE = [APPROVED] * 5


def together(verdicts, classes):
    names = [f"S{index}" for index in range(len(verdicts))]
    return judge_symbols(dict(zip(names, verdicts, strict=True)), dict(zip(names, classes, strict=True)))


def test_five_approved_symbols_of_two_classes_are_enough_where_they_are_half_of_all():
    assert together(FIVE + [DROP] * 5, BOTH + BOTH).status == "APPROVED"
    assert together(FIVE + [DROP] * 6, BOTH + BOTH + ["crypto"]).status == "REVIEW"


def test_symbols_that_failed_are_no_second_asset_class():
    judged = together(FIVE + [DROP] * 4, ["us_equity"] * 5 + ["crypto"] * 4)
    assert judged.status == "REVIEW"
    assert judged.reasons == ("All APPROVED symbols are us_equity: one asset class proves nothing about others.",)


def test_symbols_that_failed_do_not_make_few_approved_ones_enough():
    judged = together([APPROVED, DROP, APPROVED, REVIEW, APPROVED], BOTH)
    assert judged.reasons == ("3 of 5 symbols are APPROVED; fewer than 5 are too few to generalise from.",)


def test_one_asset_class_or_few_symbols_are_not_enough_whatever_they_earned():
    assert together(FIVE, ["crypto"] * 5).status == "REVIEW"
    assert together([APPROVED] * 4, BOTH[1:]).status == "REVIEW"


def test_symbols_that_all_failed_are_dropped():
    assert together([DROP] * 5, BOTH).status == "DROP"
    assert together([DROP] * 4 + [REVIEW], BOTH).status == "REVIEW"


def test_the_spread_of_random_timing_is_that_of_the_draws_of_every_fold(evaluated):
    for record in summary_of(evaluated)["symbols"].values():
        folds = [jtf.read_result(fold["run"]).random for fold in record["folds"]]
        for percent in (50, 95):
            found = record["spread"]["random"][f"percentile_{percent}"]
            assert found["median"] == pytest.approx(np.median([fold.percentile(percent) for fold in folds]))


def test_an_evaluation_prints_every_baseline_of_every_symbol(evaluated, capsys):
    assert runs.main(["show", str(evaluated)]) == 0
    text = capsys.readouterr().out
    table = text[text.index("beside the baselines") :]
    for record in summary_of(evaluated)["symbols"].values():
        found = record["spread"]
        medians = [one["median"] for one in (*found["baselines"].values(), *found["random"].values())]
        assert len(medians) == 6 and all(f"{median:+.1%}" in table for median in medians)
