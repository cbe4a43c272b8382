"""Learning is proven: the selftest's exams, short ones in every run, the design's bounds over five seeds as `slow`."""

import pytest

from jtf.selftest import FULL, SHORT, describe, sit


def name(exam):
    return f"{exam.market}-{exam.measure}"


@pytest.mark.parametrize("exam", SHORT, ids=name)
def test_a_short_training_passes_the_exam(exam):
    grade = sit(exam, range(1))
    assert grade.passed, describe(grade)


@pytest.mark.slow
@pytest.mark.parametrize("exam", FULL, ids=name)
def test_the_median_of_five_seeds_reaches_the_bound_of_the_design(exam):
    grade = sit(exam, range(5))
    assert grade.passed, describe(grade)
