"""What training saw: labels of bars by their time, each fact by hand."""

import pandas as pd
import pytest

from jtf.results.provenance import label_bars, label_shares, seen_spans, shares_text
from jtf.splits import Fold, Segment

pytestmark = pytest.mark.quick

TIMES = pd.date_range("2024-01-01", periods=10, freq="15min", tz="UTC")
FOLD = Fold(train=(Segment(2, 4),), validation=Segment(5, 7), test=Segment(8, 10))


def test_bars_before_the_first_decision_and_of_an_embargo_count_as_what_they_belong_to():
    labels = label_bars(TIMES, seen_spans(FOLD, TIMES))
    assert labels.tolist() == ["in-sample"] * 5 + ["selection"] * 3 + ["unseen"] * 2


def test_a_test_span_before_and_between_training_bars_is_unseen():
    fold = Fold(train=(Segment(3, 4), Segment(7, 8)), validation=Segment(9, 10), test=Segment(5, 7))
    labels = label_bars(TIMES, seen_spans(fold, TIMES))
    assert labels.tolist() == ["in-sample"] * 5 + ["unseen"] * 2 + ["in-sample"] * 2 + ["selection"]


def test_bars_are_labelled_by_time_whatever_their_row():
    assert label_bars(TIMES[4:6], seen_spans(FOLD, TIMES)).tolist() == ["in-sample", "selection"]


def test_bars_before_and_after_those_of_training_are_unseen():
    other = TIMES[:1] - pd.Timedelta("15min"), TIMES[-1:] + pd.Timedelta("15min")
    assert [label_bars(times, seen_spans(FOLD, TIMES)).item() for times in other] == ["unseen", "unseen"]


def test_what_was_trained_on_and_selected_on_is_in_sample():
    both = [[TIMES[0].isoformat(), TIMES[1].isoformat()]]
    assert label_bars(TIMES[:2], {"in-sample": both, "selection": both}).tolist() == ["in-sample"] * 2


def test_training_bars_on_both_sides_of_a_test_span_are_two_stretches():
    spans = {"in-sample": [[TIMES[0].isoformat()] * 2, [TIMES[2].isoformat()] * 2]}
    assert label_bars(TIMES[:3], spans).tolist() == ["in-sample", "unseen", "in-sample"]


def test_shares_are_a_line():
    labels = label_bars(TIMES, seen_spans(FOLD, TIMES))
    assert shares_text(label_shares(labels)) == "in-sample 50 %, selection 30 %, unseen 20 %"
