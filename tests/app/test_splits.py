"""Walk-forward folds: what lies where, for any length of history."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtf.config import parse_config
from jtf.errors import UserError
from jtf.experiment.cells import Cell
from jtf.splits import SplitConfig, walk_forward

pytestmark = pytest.mark.quick

WINDOW, FIRST = 10, 30
COUNTS = st.integers(2, 12)
BARS = st.integers(4_000, 60_000)
SCHEMES = st.sampled_from(["rolling", "expanding"])


def folds(bars: int, count: int, scheme: str = "rolling", **shares):
    return walk_forward(bars, FIRST, WINDOW, SplitConfig(**shares), count, scheme)


@settings(deadline=None, max_examples=200)
@given(BARS, COUNTS, SCHEMES)
def test_test_segments_lie_end_to_end_up_to_the_last_bar(bars, count, scheme):
    tests = [fold.test for fold in folds(bars, count, scheme)]
    assert all(one.stop == other.start for one, other in itertools.pairwise(tests))
    assert tests[-1].stop == bars and len({len(test) for test in tests}) == 1


@settings(deadline=None, max_examples=200)
@given(BARS, COUNTS, SCHEMES)
def test_segments_of_a_fold_are_apart_by_the_embargo_and_after_the_warm_up(bars, count, scheme):
    for fold in folds(bars, count, scheme):
        (train,) = fold.train
        assert train.start >= FIRST
        assert fold.validation.start - train.stop == fold.test.start - fold.validation.stop == WINDOW + 16


@settings(deadline=None, max_examples=100)
@given(BARS, COUNTS)
def test_rolling_folds_have_one_shape_and_use_all_but_a_few_bars(bars, count):
    found = folds(bars, count)
    assert len({(len(fold.train[0]), len(fold.validation), len(fold.test)) for fold in found}) == 1
    assert found[0].train[0].start - FIRST <= 2 * count + 3


@settings(deadline=None, max_examples=100)
@given(BARS, COUNTS)
def test_expanding_folds_train_on_all_bars_before_what_they_hold_out(bars, count):
    rolling, expanding = folds(bars, count), folds(bars, count, "expanding")
    assert all(fold.train[0].start == FIRST for fold in expanding)
    assert [fold.test for fold in expanding] == [fold.test for fold in rolling]
    assert [fold.train[0].stop for fold in expanding] == [fold.train[0].stop for fold in rolling]


def test_a_history_too_short_says_how_many_bars_are_needed_and_that_many_are_enough():
    with pytest.raises(UserError, match=r"90 bars are too few for 4 folds: at least (\d+) are needed") as refusal:
        folds(90, 4)
    needed = int(str(refusal.value).split("at least ")[1].split()[0])
    assert len(folds(needed, 4)) == 4
    with pytest.raises(UserError):
        folds(needed - 12, 4)


def test_one_fold_is_refused():
    with pytest.raises(UserError, match="--folds 1 must be at least 2"):
        folds(5_000, 1)


def test_the_key_of_a_cell_depends_on_what_decides_its_result_and_on_nothing_else():
    config = parse_config(["--symbol", "SPY"])
    cell = Cell(config, folds(5_000, 3)[0], 0, (100, 100), "hash of bars")
    same = replace(config, report=False, compile_cache=False, out=Path("elsewhere"))
    assert replace(cell, config=same, fold_index=2).key == cell.key
    others = [replace(config, seed=1), replace(config, members=2), replace(config, ppo=replace(config.ppo, gamma=0.9))]
    keys = {replace(cell, config=other).key for other in others}
    keys |= {replace(cell, fold=folds(5_000, 3)[1]).key, replace(cell, data_sha256="other").key}
    assert len(keys | {cell.key}) == 6
