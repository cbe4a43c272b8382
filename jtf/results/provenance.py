"""Which bars a policy was trained on, which ones chose it, and which ones it never saw. No JAX."""

import numpy as np
import pandas as pd

from jtf.splits import Segment

LABELS = ("in-sample", "selection", "unseen")
"""Trained on; used to choose the best update; neither."""
Spans = dict[str, list[list[str]]]
"""Label -> stretches of time ``[first bar, last bar]``, ISO UTC, both included; what is in no stretch is unseen."""


def seen_spans(segments: dict[str, Segment], timestamps: pd.DatetimeIndex) -> Spans:
    """Return what a run with these segments of its bars ``timestamps [T]`` has seen.

    Bars before the first decision count as in-sample (the scaler was fitted on them), bars of an embargo as what comes
    before it.
    """
    ends = {"in-sample": segments["validation"].start, "selection": segments["test"].start}
    starts = {"in-sample": 0, "selection": segments["validation"].start}
    return {name: [[_iso(timestamps, starts[name]), _iso(timestamps, ends[name] - 1)]] for name in ends}


def label_bars(timestamps: pd.DatetimeIndex, spans: Spans) -> np.ndarray:
    """Return the ``[T]`` labels (str) of bars by their time."""
    labels = np.full(len(timestamps), LABELS[2], dtype=object)
    for name in (LABELS[1], LABELS[0]):
        for first, last in spans.get(name, []):
            labels[(timestamps >= pd.Timestamp(first)) & (timestamps <= pd.Timestamp(last))] = name
    return labels


def label_shares(labels: np.ndarray) -> dict[str, float]:
    """Return the share of every label, in the order of `LABELS`."""
    return {name: float(np.mean(labels == name)) for name in LABELS}


def shares_text(shares: dict[str, float]) -> str:
    """Return the shares as a line, e.g. ``in-sample 71 %, selection 14 %, unseen 15 %``."""
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())


def _iso(timestamps: pd.DatetimeIndex, row: int) -> str:
    return timestamps[row].isoformat()
