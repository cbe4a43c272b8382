"""Folds beside those of skfolio; combinatorial purged cross-validation: what is held out, kept apart, and its paths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.model_selection import CombinatorialPurgedCV, WalkForward

from jtf.errors import UserError
from jtf.splits import Segment, SplitConfig, combinatorial, combined_paths, embargo_bars, walk_forward
from jtf_env.stretches import check_stretches, stretch_rows

pytestmark = pytest.mark.quick

WINDOW, FIRST = 8, 108
EMBARGO = embargo_bars(WINDOW)
BARS = FIRST + 1_200
USUAL = combinatorial(BARS, FIRST, WINDOW, SplitConfig())


def rows(*segments: Segment) -> np.ndarray:
    return np.concatenate([np.arange(segment.start, segment.stop) for segment in segments])


def test_six_groups_two_at_a_time_are_fifteen_fits_and_five_paths():
    assert len(USUAL) == 15 and len(combined_paths(6, 2)) == 5


def test_every_group_is_held_out_equally_often_and_they_hold_every_bar():
    held_out = [group for one in USUAL for group in one.tests]
    assert np.bincount(held_out).tolist() == [5] * 6
    groups = {group: test for one in USUAL for group, test in one.tests.items()}
    np.testing.assert_array_equal(rows(*(groups[group] for group in range(6))), np.arange(FIRST, BARS))


@pytest.mark.parametrize(("groups", "tested"), [(6, 2), (7, 3), (4, 2)])
@pytest.mark.parametrize("remainder", [0, 5])
def test_splits_and_paths_are_those_of_skfolio(groups, tested, remainder):
    config = SplitConfig(train=0.9, validation=0.02)
    found = combinatorial(FIRST + 1_260 + remainder, FIRST, WINDOW, config, groups, tested)
    theirs = CombinatorialPurgedCV(groups, tested, purged_size=EMBARGO, embargo_size=0)
    splits = list(theirs.split(np.zeros((1_260 + remainder, 1))))
    assert len(splits) == len(found)
    for one, (train, tests) in zip(found, splits, strict=True):
        for test, expected in zip(one.tests.values(), tests, strict=True):
            np.testing.assert_array_equal(rows(test) - FIRST, expected)
        held_out = np.concatenate(
            [rows(one.validation), np.arange(one.validation.start - EMBARGO, one.validation.start)]
        )
        np.testing.assert_array_equal(np.sort(np.concatenate([rows(*one.train), held_out])) - FIRST, train)
    ids = theirs.get_path_ids()
    for path, combination_of in enumerate(combined_paths(groups, tested)):
        for group, index in enumerate(combination_of):
            assert ids[index][list(found[index].tests).index(group)] == path


@pytest.mark.parametrize("scheme", ["rolling", "expanding"])
def test_walk_forward_folds_are_those_of_skfolio(scheme):
    folds = walk_forward(BARS, FIRST, WINDOW, SplitConfig(), 4, scheme)
    begin, size = folds[0].train[0].start, len(folds[0].test)
    learnt = folds[0].validation.stop - begin
    theirs = WalkForward(size, learnt, expand_train=scheme == "expanding", purged_size=EMBARGO)
    splits = list(theirs.split(np.zeros((BARS - begin, 1))))
    assert len(splits) == len(folds)
    for fold, (train, test) in zip(folds, splits, strict=True):
        np.testing.assert_array_equal(rows(fold.test) - begin, test)
        np.testing.assert_array_equal(np.arange(fold.train[0].start, fold.validation.stop) - begin, train)


def test_a_path_has_every_group_once_and_no_two_paths_share_one():
    paths = combined_paths(6, 2)
    for path in paths:
        assert all(group in USUAL[index].tests for group, index in enumerate(path))
    assert all(len({path[group] for path in paths}) == 5 for group in range(6))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.integers(2, 7).flatmap(lambda groups: st.tuples(st.just(groups), st.integers(1, groups - 1))),
    st.integers(0, 500),
    st.sampled_from([SplitConfig(), SplitConfig(embargo=8), SplitConfig(train=0.5, validation=0.05)]),
)
def test_no_window_reaches_from_one_part_into_another(sizes, more, config):
    num_bars = FIRST + 2_000 + more
    ends = stretch_rows([(FIRST, num_bars)], num_bars).segment_end
    try:
        found = combinatorial(num_bars, FIRST, WINDOW, config, *sizes)
    except UserError as error:
        assert "does not fit" in str(error)
        return
    embargo = EMBARGO if config.embargo is None else config.embargo
    for one in found:
        check_stretches([(part.start, part.stop) for part in one.train], ends, WINDOW)
        for test in one.tests.values():
            for part in (*one.train, one.validation):
                gap = max(test.start - part.stop, part.start - test.stop)
                assert gap >= embargo and len(part) >= 2
        for part in one.train:
            assert max(one.validation.start - part.stop, part.start - one.validation.stop) >= embargo


def test_the_fold_of_a_combination_tests_every_group_held_out():
    for one in USUAL:
        assert {group: one.fold.segments[one.segment_of(group)] for group in one.tests} == one.tests
        assert (one.fold.train, one.fold.validation) == (one.train, one.validation)


def test_a_fit_learns_from_bars_after_its_test_unless_it_tests_the_last_groups():
    late = [one.fold.learns_after_test for one in USUAL]
    assert late == [True] * 14 + [False]


def test_validation_has_its_share_of_what_is_not_tested():
    for one in USUAL:
        learnt = sum(map(len, one.train)) + len(one.validation)
        assert len(one.validation) / (learnt + EMBARGO) == pytest.approx(0.15 / 0.85, abs=0.01)


def test_a_history_too_short_is_refused_with_the_number_needed():
    with pytest.raises(UserError, match=r"at least (\d+) are needed") as caught:
        combinatorial(FIRST + 100, FIRST, WINDOW, SplitConfig())
    needed = int(str(caught.value).split("at least ")[1].split(" ")[0])
    found = combinatorial(needed, FIRST, WINDOW, SplitConfig())
    assert min(len(part) for one in found for part in (*one.train, one.validation)) >= 2
    with pytest.raises(UserError):
        combinatorial(needed - 1, FIRST, WINDOW, SplitConfig())


@pytest.mark.parametrize(("groups", "tested"), [(6, 0), (6, 6), (1, 1)])
def test_groups_that_leave_nothing_to_test_or_to_learn_from_are_refused(groups, tested):
    with pytest.raises(UserError, match="cannot be"):
        combinatorial(BARS, FIRST, WINDOW, SplitConfig(), groups, tested)
