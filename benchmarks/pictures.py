"""Figures for the documentation; matplotlib is imported only where one is drawn."""

from pathlib import Path
from typing import Any


def new_figure(num_panels: int, across: int | None = None) -> tuple[Any, list[Any]]:
    """Return a figure and its panels, `across` of them (default: all) side by side, without any display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = across or num_panels
    down = -(-num_panels // across)
    figure = Figure(figsize=(5.2 * across, 3.6 * down), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(down, across, i + 1) for i in range(num_panels)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG, making its folder, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"picture in {path}")
