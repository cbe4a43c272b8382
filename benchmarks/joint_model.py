"""What the hourly context is worth: 51 against 58 columns on the known hourly market and on real bars, several seeds.

Known: normalised score on unseen bars, every seed another market and another network. Real (``--real FOLDER``):
 net log return on the validation segment after the default costs of the asset class, every seed another
network. ``best`` is the best validation of a run, chosen on the very bars it is scored on; ``final`` is not chosen.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.learning import (
    Curve,
    add_learning_flags,
    curve_row,
    learn,
    learn_known,
    learner_config,
    num_bars_for,
    optimum_returns,
    real_problem,
    shared_compilations,
)
from benchmarks.measure import Row, make_parser, report
from benchmarks.pictures import new_figure, save_figure
from jtf.errors import run_command
from jtf.known_optimum.markets import known_market
from jtf_env.layouts import get_layout

MARKET = "hourly"
KNOWN = f"known {MARKET}"
LAYOUTS = ("v5.5.0", "v5.6.0")


def known_row(args: argparse.Namespace, layout: str, seed: int) -> Row:
    """Train one layout on one known market."""
    num_bars = num_bars_for(args.train_bars, args.unseen_bars)
    known = known_market(MARKET, num_bars, seed, layout, unseen_bars=args.unseen_bars)
    curve = learn_known(known, learner_config(args, seed, feature_noise=args.feature_noise))
    return layout_row(KNOWN, layout, seed, curve, *optimum_returns(known))


def real_row(args: argparse.Namespace, layout: str, seed: int, symbol: str) -> Row:
    """Train one layout on the training segment of real bars, split as `jtf.train` splits them."""
    problem = real_problem(symbol, args.real, layout)
    curve = learn(problem, learner_config(args, seed, feature_noise=args.feature_noise))
    return layout_row(symbol, layout, seed, curve, 1.0, 1.0)


def layout_row(market: str, layout: str, seed: int, curve: Curve, unseen_unit: float, train_unit: float) -> Row:
    """Return one run's line, in units of the optimum or, with units of 1, in log returns."""
    columns = get_layout(layout).count
    return {
        "market": market,
        "layout": layout,
        "columns": columns,
        "seed": seed,
        **curve_row(curve, unseen_unit, train_unit),
    }


def medians(rows: Sequence[Row]) -> Row:
    """Return the medians of both layouts in every market, and their ratio in the known one."""
    summary: Row = {}
    for market, layout, figure in product(dict.fromkeys(row["market"] for row in rows), LAYOUTS, ("best", "final")):
        values = [row[figure] for row in rows if row["market"] == market and row["layout"] == layout]
        summary[f"{market}, {get_layout(layout).count} columns, median {figure}"] = statistics.median(values)
    for figure in ("best", "final"):
        small, joint = (summary[f"{KNOWN}, {get_layout(name).count} columns, median {figure}"] for name in LAYOUTS)
        summary[f"{KNOWN}, 58 / 51 columns, {figure}"] = joint / small
    return summary


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw how every seed ended as a dot and the median as a bar, one panel a market."""
    markets = list(dict.fromkeys(row["market"] for row in rows))
    figure, panels = new_figure(len(markets))
    for market, axes in zip(markets, panels, strict=True):
        for place, layout in enumerate(LAYOUTS):
            values = [row["final"] for row in rows if row["market"] == market and row["layout"] == layout]
            axes.bar(place, statistics.median(values), width=0.6, color=("#9aa7b3", "#2f6f9f")[place])
            axes.plot(place + np.linspace(-0.12, 0.12, len(values)), values, "o", color="black", markersize=4)
        axes.set_xticks(range(len(LAYOUTS)), [f"{get_layout(name).count} columns\n{name}" for name in LAYOUTS])
        known = market == KNOWN
        axes.set_title(f"{market}: {'unseen' if known else 'validation'} bars")
        axes.set_ylabel("share of the known optimum" if known else "net log return")
        axes.axhline(1.0 if known else 0.0, color="grey", linewidth=1, linestyle="--")
    save_figure(figure, path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_learning_flags(parser, updates=14, num_envs=2048, update_epochs=6, learning_rate=5e-4, validation_interval=1)
    parser.add_argument("--feature-noise", type=float, default=1.0)
    parser.add_argument("--real", type=Path, help="folder of SYMBOL_15Min files; adds real bars, needs pyarrow")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/joint_model.png"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    rows = []
    with shared_compilations():
        for market in (KNOWN, *(args.symbols if args.real else ())):
            for layout, seed in product(LAYOUTS, args.seeds):
                print(f"{market}, {layout}, seed {seed}", flush=True)
                row = known_row if market == KNOWN else partial(real_row, symbol=market)
                rows.append(row(args, layout=layout, seed=seed))
    report("joint_model", rows, args, medians(rows))
    if not args.no_write:
        draw(rows, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
