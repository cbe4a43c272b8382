"""Figures for the documentation; matplotlib is imported only where one is drawn."""

from pathlib import Path
from typing import Any


def new_figure(num_panels: int) -> tuple[Any, list[Any]]:
    """Return a figure and its panels side by side, without any display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * num_panels, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(1, num_panels, i + 1) for i in range(num_panels)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG, making its folder, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"picture in {path}")
