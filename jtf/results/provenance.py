"""Which bars a policy was trained on, which ones chose it, and which ones it never saw. No JAX."""

import numpy as np
import pandas as pd

from jtf.splits import Fold

LABELS = ("in-sample", "selection", "unseen")
"""Trained on; used to choose the best update; neither."""
Spans = dict[str, list[list[str]]]
"""Label -> stretches of time ``[first bar, last bar]``, ISO UTC, both included; what is in no stretch is unseen."""


def seen_spans(fold: Fold, timestamps: pd.DatetimeIndex) -> Spans:
    """Return what a run of this fold of its bars ``timestamps [T]`` has seen.

    Bars before the first decision count as in-sample (the scaler was fitted on them), bars of an embargo as what comes
    before it.
    """
    parts = [(part.start, "in-sample") for part in fold.train]
    parts.append((fold.validation.start, "selection"))
    parts += [(test.start, "unseen") for test in (fold.test, *fold.further_tests)]
    parts.sort()
    starts = [0, *(start for start, _ in parts[1:]), len(timestamps)]
    spans: Spans = {"in-sample": [], "selection": []}
    for (_, name), start, stop in zip(parts, starts[:-1], starts[1:], strict=True):
        if name in spans:
            spans[name].append([_iso(timestamps, start), _iso(timestamps, stop - 1)])
    return spans


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
