"""The selftest's grading and output, with the training replaced: the trainings themselves are in `tests/learning`."""

import json

import pytest

from jtf import selftest
from jtf.selftest import SHORT, Exam, main, make_planted, sit


@pytest.fixture
def measured(monkeypatch):
    """Let every exam measure 0.5."""
    monkeypatch.setattr(selftest, "measure", lambda exam, seed: 0.5)


def test_a_share_below_its_bound_fails(measured):
    assert not sit(Exam("regime", 1, 0.51), range(1)).passed


def test_a_share_at_its_bound_passes(measured):
    assert sit(Exam("regime", 1, 0.5), range(1)).passed


def test_an_exposure_above_its_bound_fails(measured):
    assert not sit(Exam("noise", 1, 0.49, "exposure"), range(1)).passed


def test_the_grade_is_the_median_of_the_seeds(monkeypatch):
    monkeypatch.setattr(selftest, "measure", lambda exam, seed: [0.1, 0.9, 0.8][seed])
    assert sit(Exam("regime", 1, 0.5), range(3)).value == 0.8


def test_a_failed_exam_ends_with_exit_code_one_and_json_says_which(measured, capsys):
    assert main(["--json"]) == 1
    grades = json.loads(capsys.readouterr().out)
    assert {grade["market"]: grade["passed"] for grade in grades}["noise"] is False
    assert len(grades) == len(SHORT)


def test_the_exam_bars_come_after_training_and_validation():
    planted = make_planted(SHORT[0], "v5.6.0", 0)
    exam = selftest.exam_segment(planted)
    assert planted.train.stop + selftest.EMBARGO == planted.unseen.start
    assert exam.start - selftest.EMBARGO == planted.unseen.start + selftest.VALIDATION_BARS
    assert planted.train.stop - planted.train.start == SHORT[0].train_bars
