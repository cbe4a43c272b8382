"""How learning checks are judged and printed, with the training replaced; trainings are in `tests/learning`."""

import json

import pytest

from jtf.known_optimum import checks
from jtf.known_optimum.checks import SHORT, LearningCheck, make_market, run_check
from jtf.selftest import main


@pytest.fixture
def measured(monkeypatch):
    """Let every check measure 0.5."""
    monkeypatch.setattr(checks, "measure_seed", lambda check, seed: 0.5)


def test_a_score_below_its_bound_fails(measured):
    assert not run_check(LearningCheck("regime", 1, 0.51), range(1)).passed


def test_a_score_at_its_bound_passes(measured):
    assert run_check(LearningCheck("regime", 1, 0.5), range(1)).passed


def test_an_exposure_above_its_bound_fails(measured):
    assert not run_check(LearningCheck("noise", 1, 0.49, "exposure"), range(1)).passed


def test_the_value_is_the_median_of_the_seeds(monkeypatch):
    monkeypatch.setattr(checks, "measure_seed", lambda check, seed: [0.1, 0.9, 0.8][seed])
    assert run_check(LearningCheck("regime", 1, 0.5), range(3)).value == 0.8


def test_a_failed_check_ends_with_exit_code_one_and_json_says_which(measured, capsys):
    assert main(["--json"]) == 1
    results = json.loads(capsys.readouterr().out)
    assert {(result["market"], result["cost"]): result["passed"] for result in results}["noise", 27e-4] is False
    assert len(results) == len(SHORT)


def test_only_the_checks_of_the_named_markets_run(measured, capsys):
    main(["--json", "--markets", "drift", "noise"])
    assert [result["market"] for result in json.loads(capsys.readouterr().out)] == ["drift", "noise", "noise"]


def test_a_check_that_a_single_training_can_miss_runs_three_seeds_in_a_short_selftest(monkeypatch, capsys):
    monkeypatch.setattr(checks, "measure_seed", lambda check, seed: [0.5, 0.92, 0.95][seed])
    assert main(["--json", "--markets", "costly_regime"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["value"] == 0.92


def test_a_market_without_a_check_is_one_sentence_and_exit_code_two(measured, capsys):
    assert main(["--markets", "regimes"]) == 2
    assert "--markets regimes: no check has this name" in capsys.readouterr().err


def test_the_check_bars_come_after_training_and_validation():
    known = make_market(SHORT[0], "v5.6.0", 0)
    check = checks.check_segment(SHORT[0], known)
    assert known.train.stop + checks.EMBARGO == known.unseen.start
    assert check.start - checks.EMBARGO == known.unseen.start + checks.VALIDATION_BARS
    assert known.train.stop - known.train.start == SHORT[0].train_bars
