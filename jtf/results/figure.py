"""``equity.png``: the policy against buying and holding, a panel per segment. Needs the curves alone; no JAX."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = {"in-sample": "#e8e8e8", "selection": "#fdf1d3", "unseen": "#e3f1e3", "unknown": "#ffffff"}
POLICY_COLOUR, HELD_COLOUR = "#1f4e9c", "#8a8a8a"
NARROWEST = 0.45
"""Least width of a panel, as a share of the widest."""
MOST_POINTS = 4_000
"""Points drawn of a curve: more than a pixel has room for."""


def equity_png(curves: pd.DataFrame, title: str, text: dict[str, str]) -> bytes:
    """Return a PNG of the equity curves; `text` becomes its metadata (name -> value)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = list(curves.groupby("segment", sort=False, observed=True))
    sizes = np.array([len(part) for _, part in parts], float)
    widths = np.maximum(sizes / sizes.max(), NARROWEST)
    figure = Figure(figsize=(6.5 + 2.0 * (len(parts) - 1), 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(parts), width_ratios=widths, squeeze=False)[0]
    for axes, (name, part) in zip(panels, parts, strict=True):
        _draw_segment(axes, str(name), part)
    panels[0].set_ylabel("return after costs")
    figure.suptitle(title, fontsize=11)
    figure.legend(*_legend(panels), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata=text)
    return buffer.getvalue()


def _draw_segment(axes: "Axes", name: str, part: pd.DataFrame) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import PercentFormatter

    times = part["time"].dt.tz_convert(None).to_numpy()
    every = max(1, len(part) // MOST_POINTS)
    drawn = np.unique(np.append(np.arange(0, len(part), every), len(part) - 1))
    gains = {}
    for column, label, colour in (
        ("buy_and_hold", "buy and hold", HELD_COLOUR),
        ("equity", "policy", POLICY_COLOUR),
    ):
        gain = part[column].to_numpy() / part[column].iloc[0] - 1.0
        axes.plot(times[drawn], gain[drawn], color=colour, linewidth=1.2, label=label)
        gains[column] = gain[-1]
    for seen, first, last in label_stretches(part["seen"].to_numpy()):
        axes.axvspan(times[first], times[last], color=SHADES[seen], zorder=0, linewidth=0, label=seen)
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.margins(x=0)
    axes.set_title(f"{name}\npolicy {gains['equity']:+.1%}\nbuy and hold {gains['buy_and_hold']:+.1%}", fontsize=9)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    locator = AutoDateLocator(minticks=2, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.tick_params(labelsize=8)


def label_stretches(labels: np.ndarray) -> list[tuple[str, int, int]]:
    """Return ``(label, first, last)`` of the runs of equal labels ``[T]``, each reaching to the start of the next."""
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    ends = np.append(starts[1:], len(labels) - 1)
    return [(str(labels[first]), int(first), int(last)) for first, last in zip(starts, ends, strict=True)]


def _legend(panels: Any) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
