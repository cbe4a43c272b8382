"""The figures of the page as pictures (PNG), drawn from the same arrays. No JAX."""

import calendar
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jtf.report.series import Rolling, Series, drawdown
from jtf.splits import judged_segment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POLICY, HELD, UP, DOWN, FAINT = "#0072b2", "#b35c00", "#009e73", "#d55e00", "#5c6570"
"""Colours of Okabe and Ito (2008), which colour-blind readers tell apart; the orange is darkened for thin lines."""
MOST_POINTS = 3_000
"""Points drawn of a line."""


def pictures(
    content: Mapping[str, Any], series: Mapping[str, Series], lines: Mapping[str, Rolling], fills: pd.DataFrame
) -> dict[str, bytes]:
    """Return the pictures of the judged segment and of the training, by file name.

    `content` is the `report_content`, `lines` are the rolling lines by segment, `fills` those of every segment.
    """
    name = judged_segment(series)
    one, title = series[name], f"{content['symbol']}, {name}"
    curves = (one.times, one.equity, one.buy_and_hold, one.members.values())
    found = {
        "equity.png": picture(title, (3, 1), lambda axes: draw_equity(axes, *curves)),
        "months.png": picture(title, (1,), lambda axes: draw_months(axes[0], content["segments"][name]["monthly"])),
        "rolling.png": picture(title, (2, 1), lambda axes: draw_rolling(axes, one, lines[name])),
        "price.png": picture(title, (3, 1), lambda axes: draw_price(axes, one, fills[fills["segment"] == name])),
    }
    if content["training"] is not None:
        panels = [panel for panel in content["training"]["panels"] if panel["lines"]]
        found["training.png"] = picture(
            f"{content['symbol']}, training",
            (1,) * len(panels),
            lambda axes: draw_training(axes, panels),
            1.4 * len(panels),
        )
    return found


def picture(title: str, ratios: tuple[int, ...], draw: Callable[[Any], None], height: float = 4.8) -> bytes:
    """Return a PNG of panels one below the other, of these heights, that share their horizontal axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(9, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(ratios), 1, height_ratios=ratios, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(title, fontsize=11)
    draw(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def thinned(values: np.ndarray) -> np.ndarray:
    """Return rows ``[P]`` that keep the picture of ``values [T]``: the lowest and the highest of every bin."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), MOST_POINTS // 2 + 1).astype(int)
    extremes = [first + pick(values[first:end]) for first, end in pairwise(edges) for pick in (np.argmin, np.argmax)]
    return np.unique([0, *extremes, len(values) - 1])


def draw_line(axes: "Axes", times: Any, values: np.ndarray, **style: Any) -> None:
    """Draw a line over time, thinned."""
    rows = thinned(np.nan_to_num(values))
    axes.plot(times[rows].tz_convert(None).to_numpy(), values[rows], **style)


def draw_equity(
    axes: Any,
    times: pd.DatetimeIndex,
    equity: np.ndarray,
    held: np.ndarray,
    members: Iterable[np.ndarray],
    name: str = "policy",
) -> None:
    """Draw growth of 1 over ``times [T]``, members (or paths) as a fan, and the drawdown below."""
    for one in members:
        draw_line(axes[0], times, one / one[0], color=POLICY, alpha=0.3, linewidth=0.8)
    for curve, colour, style, label in ((held, HELD, ":", "buy and hold"), (equity, POLICY, "-", name)):
        draw_line(axes[0], times, curve / curve[0], color=colour, linestyle=style, label=label)
        draw_line(axes[1], times, drawdown(curve), color=colour, linestyle=style, linewidth=1)
    axes[0].set_ylabel("growth of 1")
    axes[0].legend(frameon=False, fontsize=9, loc="best")
    axes[1].set_ylabel("drawdown")
    percent(axes[1])


def draw_months(axes: "Axes", monthly: Mapping[str, Any]) -> None:
    """Draw the months of the policy as a heat map."""
    years = sorted({year for year, _, _ in monthly["policy"]})
    grid = np.full((len(years), 12), np.nan)
    for year, month, value in monthly["policy"]:
        grid[years.index(year), month - 1] = value
        axes.text(month - 1, years.index(year), f"{100 * value:.1f}", ha="center", va="center", fontsize=8)
    largest = max(float(np.nanmax(np.abs(grid))), 1e-9) * 1.6
    axes.imshow(grid, cmap="PuOr", vmin=-largest, vmax=largest, aspect="auto")
    axes.set_xticks(range(12), calendar.month_abbr[1:])
    axes.set_yticks(range(len(years)), [str(year) for year in years])
    axes.set_xlabel("return of the policy after costs, %")


def draw_rolling(axes: Any, series: Series, lines: Rolling) -> None:
    """Draw the rolling Sharpe ratio and the exposure."""
    times = series.times[lines.rows]
    draw_line(axes[0], times, lines.buy_and_hold, color=HELD, linestyle=":", label="buy and hold")
    draw_line(axes[0], times, lines.sharpe, color=POLICY, label="policy")
    draw_line(axes[1], times, lines.exposure, color=POLICY)
    axes[0].set_ylabel(f"Sharpe ratio, {lines.window:,} bars")
    axes[0].legend(frameon=False, fontsize=9, loc="upper left")
    axes[1].set_ylabel("exposure")
    percent(axes[1])


def draw_price(axes: Any, series: Series, fills: pd.DataFrame) -> None:
    """Draw the price with the fills of the segment, and the position below."""
    draw_line(axes[0], series.times, series.close, color=FAINT, linewidth=1)
    for side, marker, colour in (("buy", "^", UP), ("sell", "v", DOWN)):
        own = fills[fills["side"] == side]
        stamps = pd.to_datetime(own["time"], utc=True, format="ISO8601").dt.tz_localize(None)
        axes[0].scatter(stamps, own["price"], s=14, marker=marker, color=colour, label=side, zorder=3)
    axes[0].legend(frameon=False, fontsize=9, loc="upper left")
    draw_line(axes[1], series.times, np.nan_to_num(series.position), color=POLICY, linewidth=1)
    axes[0].set_ylabel("price, USD")
    axes[1].set_ylabel("position")
    percent(axes[1])


def draw_training(axes: Any, panels: list[dict[str, Any]]) -> None:
    """Draw the training curves, a panel a metric, a line a member."""
    for one, panel in zip(axes, panels, strict=True):
        for line in panel["lines"]:
            values = [np.nan if value is None else value for value in line["value"]]
            one.plot(line["update"], values, linewidth=1, label=f"seed {line['seed']}")
        one.set_ylabel(panel["title"].replace(", ", "\n"), fontsize=8)
        if panel["share"]:
            percent(one)
    if len(panels[0]["lines"]) > 1:
        axes[0].legend(frameon=False, fontsize=8, ncols=5, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    axes[-1].set_xlabel("update")


def draw_folds(axes: "Axes", folds: Sequence[Mapping[str, Any]]) -> None:
    """Draw the strip of a walk-forward: the return of every fold in and out of sample, and what it is compared with."""
    places = np.arange(len(folds))
    kinds = {
        "in_sample": ("in-sample", FAINT), "out_of_sample": ("out of sample", POLICY),
        "buy_and_hold": ("buy and hold", HELD),
    }  # fmt: skip
    for offset, (key, (label, colour)) in zip((-0.25, 0.0, 0.25), kinds.items(), strict=True):
        axes.bar(places + offset, [fold[key]["total_return"] for fold in folds], 0.25, color=colour, label=label)
    members = [fold["members"] for fold in folds]
    axes.scatter(
        np.repeat(places, [len(some) for some in members]), np.concatenate(members), marker="_", color="black", s=60,
        zorder=3, label="members",
    )  # fmt: skip
    axes.set_xticks(places, [f"{fold['name']}\n{fold['start'][:7]}" for fold in folds])
    _returns(axes)


def draw_symbols(axes: "Axes", symbols: Sequence[Mapping[str, Any]]) -> None:
    """Draw the median return of every symbol with the range over its folds, beside buying and holding."""
    values, places = [one["values"] for one in symbols], np.arange(len(symbols))
    middle, held = (np.array([one[name] for one in values]) for name in ("median", "buy_and_hold"))
    reach = np.abs(np.array([[one["least"], one["most"]] for one in values]) - middle[:, None]).T
    axes.errorbar(places - 0.1, middle, reach, fmt="o", color=POLICY, label="policy, median and range of the folds")
    axes.plot(places + 0.1, held, "D", color=HELD, label="buy and hold, median of the folds")
    axes.set_xticks(places, [one["symbol"] for one in symbols])
    axes.margins(x=0.2)
    _returns(axes)


def _returns(axes: "Axes") -> None:
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set_ylabel("return after costs")
    axes.legend(frameon=False, fontsize=9)
    percent(axes)


def draw_paths(axes: "Axes", sharpes: Sequence[tuple[str, float]], held: float | None) -> None:
    """Draw the Sharpe ratio of every path, in order of size, and that of buying and holding."""
    axes.bar([f"path {name}" for name, _ in sharpes], [value for _, value in sharpes], 0.6, color=POLICY)
    if held is not None:
        axes.axhline(held, color=HELD, linestyle=":", label="buy and hold")
        axes.legend(frameon=False, fontsize=9)
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set_ylabel("Sharpe ratio")


def percent(axes: "Axes") -> None:
    """Label an axis in per cent."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
