"""The training curves of the page, a column a metric and member, thinned out. No JAX."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jtf.results.health import alarm_history

SHARES = ("val/total_return", "train/clip_fraction", "train/explained_variance", "val/hold_share")
"""Metrics that are drawn in per cent."""
CURVES = {
    "val/total_return": "validation return",
    "val/num_trades": "validation trades",
    "train/return_bp": "return, bp a step",
    "train/entropy": "entropy, nats",
    "train/kl": "KL, nats",
    "train/clip_fraction": "clip fraction",
    "train/explained_variance": "explained variance",
    "val/hold_share": "share of HOLD",
}
"""Metric of ``metrics.jsonl`` -> title of its panel."""
MOST_POINTS = 300
"""Points drawn of a curve."""


def training_content(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the curves of every member and all alarms, ended ones too; None for a backtest, which has none."""
    if not records:
        return None
    return {
        "panels": [
            {"name": name, "title": title, "share": name in SHARES, "lines": lines(records, name)}
            for name, title in CURVES.items()
        ],
        "alarms": [alarm._asdict() for alarm in alarm_history(map(dict, records))],
    }


def lines(records: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the curve of one metric, a line a member: ``seed``, ``update`` and ``value``, thinned to `MOST_POINTS`."""
    members: dict[int, list[tuple[int, float | None]]] = {}
    for record in records:
        if name in record:
            members.setdefault(record["seed"], []).append((record["update"], record[name]))
    found = []
    for seed, points in members.items():
        kept = np.unique(np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).astype(int))
        updates, values = zip(*(points[index] for index in kept), strict=True)
        found.append({"seed": seed, "update": list(updates), "value": list(values)})
    return found
