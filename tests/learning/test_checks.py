"""Learning is proven: the selftest's checks, short ones in every run, the design's bounds over five seeds as `slow`."""

import pytest

from jtf.selftest import FULL, SHORT, describe, run_check


def name(check):
    return f"{check.market}-{check.measure}"


@pytest.mark.parametrize("check", SHORT, ids=name)
def test_a_short_training_passes_the_exam(check):
    result = run_check(check, range(1))
    assert result.passed, describe(result)


@pytest.mark.slow
@pytest.mark.parametrize("check", FULL, ids=name)
def test_the_median_of_five_seeds_reaches_the_bound_of_the_design(check):
    result = run_check(check, range(5))
    assert result.passed, describe(result)
