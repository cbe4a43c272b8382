"""Learning is proven: the selftest's cheap checks in every run, the design's bounds over five seeds as `slow`."""

import pytest

from jtf.known_optimum.checks import FULL, SHORT, run_check
from jtf.selftest import result_line
from jtf_env.layouts import DEFAULT_LAYOUT


def name(check):
    cost = "" if check.cost is None else f"-{1e4 * check.cost:.0f}bp"
    layout = "" if check.layout == DEFAULT_LAYOUT else f"-{check.layout}"
    return f"{check.market}{layout}-{check.measure}{cost}"


def cheap(check):
    # costly_regime takes as long as nine others, and real costs deter what a control trades at 2 bp; `slow` has both.
    return check.market != "costly_regime" and check.cost is None


@pytest.mark.parametrize("check", [check for check in SHORT if cheap(check)], ids=name)
def test_a_short_training_passes_the_check(check):
    result = run_check(check, range(1))
    assert result.passed, result_line(result)


@pytest.mark.slow
@pytest.mark.parametrize("check", FULL, ids=name)
def test_the_median_of_five_seeds_reaches_the_bound_of_the_design(check):
    result = run_check(check, range(5))
    assert result.passed, result_line(result)
