"""What the hourly context is worth: 51 against 58 columns on the planted hourly market and on real bars, several seeds.

Planted: share of the known optimum on unseen bars, every seed another market and another network. Real (``--real``
FOLDER): net log return on the validation segment after the default costs of the asset class, every seed another
network. ``best`` is the best validation of a run, chosen on the very bars it is scored on; ``final`` is not chosen.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import jax
import numpy as np

from benchmarks.learning import (
    Curve,
    learn,
    learn_planted,
    num_bars_for,
    optimum_returns,
    real_problem,
    shared_compilations,
)
from benchmarks.measure import Row, make_parser, report
from benchmarks.pictures import new_figure, save_figure
from jtf.data.planted import TRAIN_BARS, UNSEEN_BARS, planted_hourly
from jtf.errors import run_command
from jtf_env.layouts import get_layout
from jtf_ppo import PPOConfig

PLANTED = "planted hourly"
LAYOUTS = ("v5.5.0", "v5.6.0")


def planted_row(args: argparse.Namespace, layout: str, seed: int) -> Row:
    """Train one layout on one planted market."""
    num_bars = num_bars_for(args.train_bars, args.unseen_bars)
    planted = planted_hourly(num_bars, seed, layout, unseen_bars=args.unseen_bars)
    optimum, train_optimum = optimum_returns(planted)
    curve = learn_planted(planted, make_config(args, seed))
    return curve_row(PLANTED, layout, seed, curve, optimum, train_optimum)


def real_row(args: argparse.Namespace, layout: str, seed: int, symbol: str) -> Row:
    """Train one layout on the training segment of real bars, split as `jtf.train` splits them."""
    training, validation, params = real_problem(symbol, args.real, layout)
    curve = learn(training, validation, params, make_config(args, seed))
    return curve_row(symbol, layout, seed, curve, 1.0, 1.0)


def curve_row(market: str, layout: str, seed: int, curve: Curve, unseen_unit: float, train_unit: float) -> Row:
    """Return one run's line, in units of the optimum or, with units of 1, in log returns."""
    return {
        "market": market,
        "layout": layout,
        "columns": get_layout(layout).count,
        "seed": seed,
        "best": curve.best.unseen / unseen_unit,
        "final": curve.final.unseen / unseen_unit,
        "train final": curve.final.train / train_unit,
        "best update": curve.best.update,
        "seconds": curve.final.seconds,
    }


def make_config(args: argparse.Namespace, seed: int) -> PPOConfig:
    """Return the learner's settings."""
    return PPOConfig(
        total_steps=args.updates * args.num_envs * args.num_steps,
        num_envs=args.num_envs,
        num_steps=args.num_steps,
        minibatch_size=args.minibatch_size,
        update_epochs=args.update_epochs,
        hidden_sizes=tuple(args.hidden_sizes),
        learning_rate=args.learning_rate,
        feature_noise=args.feature_noise,
        validation_interval=args.validation_interval,
        seed=seed,
    )


def medians(rows: Sequence[Row]) -> Row:
    """Return the median best of both layouts in every market, and their ratio in the planted one."""
    summary: Row = {}
    for market in dict.fromkeys(row["market"] for row in rows):
        for layout in LAYOUTS:
            values = [row["best"] for row in rows if row["market"] == market and row["layout"] == layout]
            summary[f"{market}, {get_layout(layout).count} columns, median best"] = statistics.median(values)
    small, joint = (summary[f"{PLANTED}, {get_layout(layout).count} columns, median best"] for layout in LAYOUTS)
    return summary | {f"{PLANTED}, 58 / 51 columns": joint / small}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw every seed as a dot and the median as a bar, one panel a market."""
    markets = list(dict.fromkeys(row["market"] for row in rows))
    figure, panels = new_figure(len(markets))
    for market, axes in zip(markets, panels, strict=True):
        for place, layout in enumerate(LAYOUTS):
            values = [row["best"] for row in rows if row["market"] == market and row["layout"] == layout]
            axes.bar(place, statistics.median(values), width=0.6, color=("#9aa7b3", "#2f6f9f")[place])
            axes.plot(place + np.linspace(-0.12, 0.12, len(values)), values, "o", color="black", markersize=4)
        axes.set_xticks(range(len(LAYOUTS)), [f"{get_layout(name).count} columns\n{name}" for name in LAYOUTS])
        planted = market == PLANTED
        axes.set_title(f"{market}: best on {'unseen' if planted else 'validation'} bars")
        axes.set_ylabel("share of the known optimum" if planted else "net log return")
        axes.axhline(1.0 if planted else 0.0, color="grey", linewidth=1, linestyle="--")
    save_figure(figure, path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    gpu = jax.default_backend() == "gpu"
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--train-bars", type=int, default=TRAIN_BARS)
    parser.add_argument("--unseen-bars", type=int, default=UNSEEN_BARS)
    parser.add_argument("--real", type=Path, help="folder of SYMBOL_15Min files; adds real bars, needs pyarrow")
    parser.add_argument("--symbols", nargs="+", default=["SPY", "BTCUSDT"], help="with --real")
    parser.add_argument("--updates", type=int, default=14)
    parser.add_argument("--num-envs", type=int, default=8192 if gpu else 2048)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--minibatch-size", type=int, default=2048)
    parser.add_argument("--update-epochs", type=int, default=6)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[64])
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--feature-noise", type=float, default=1.0)
    parser.add_argument("--validation-interval", type=int, default=1, help="updates")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/joint_model.png"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    rows = []
    with shared_compilations():
        for market in (PLANTED, *(args.symbols if args.real else ())):
            for layout, seed in product(LAYOUTS, args.seeds):
                print(f"{market}, {layout}, seed {seed}", flush=True)
                row = planted_row if market == PLANTED else partial(real_row, symbol=market)
                rows.append(row(args, layout=layout, seed=seed))
    report("joint_model", rows, args, medians(rows))
    if not args.no_write:
        draw(rows, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
