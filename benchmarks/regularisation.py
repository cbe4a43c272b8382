"""What keeps a policy from learning its training bars by heart: noise, decay and dropout on the known regime market.

Every setting is trained with several seeds, each another market and another network, to the end but for patience.
Shares are of the known optimum on the same bars; a share above 1 on training bars is memory. Distractor columns of
deviation ``distractor`` tell nothing and are what can be memorised. ``gap`` is the final training share minus the final
unseen one.
With ``--real FOLDER`` the same settings are trained on real bars instead, and all figures are net log returns a 1 000
bars on the training and the validation segment.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

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
from jtf_env.layouts import DEFAULT_LAYOUT

SETTINGS: dict[str, dict[str, Any]] = {
    "none": {"feature_noise": 0.0},
    "noise 0.3": {"feature_noise": 0.3},
    "noise 1": {"feature_noise": 1.0},
    "noise 2": {"feature_noise": 2.0},
    "weight decay 0.3": {"feature_noise": 0.0, "weight_decay": 0.3},
    "dropout 0.5": {"feature_noise": 0.0, "dropout": 0.5},
    "patience 3": {"feature_noise": 0.0, "patience": 3},
}


def known_row(args: argparse.Namespace, setting: str, seed: int) -> Row:
    """Train one setting on one known market, in units of its optimum."""
    num_bars = num_bars_for(args.train_bars, args.unseen_bars)
    known = known_market("regime", num_bars, seed, unseen_bars=args.unseen_bars, distractor=args.distractor)
    curve = learn_known(known, learner_config(args, seed, **SETTINGS[setting]))
    return setting_row("known regime", setting, seed, curve, *optimum_returns(known))


def real_row(args: argparse.Namespace, setting: str, seed: int, symbol: str) -> Row:
    """Train one setting on real bars, in net log returns a 1 000 bars."""
    problem = real_problem(symbol, args.real, DEFAULT_LAYOUT, args.fee)
    curve = learn(problem, learner_config(args, seed, **SETTINGS[setting]))
    units = (bars / 1000 for bars in (len(problem.fold.validation), problem.fold.train_bars))
    return setting_row(symbol, setting, seed, curve, *units)


def setting_row(market: str, setting: str, seed: int, curve: Curve, unseen_unit: float, train_unit: float) -> Row:
    """Return one run's line; the curve travels in it."""
    return {
        "market": market,
        "setting": setting,
        "seed": seed,
        **curve_row(curve, unseen_unit, train_unit),
        "updates": [point.update for point in curve.points],
        "unseen": [point.unseen / unseen_unit for point in curve.points],
    }


def medians(rows: Sequence[Row]) -> list[Row]:
    """Return one line a market and setting: medians over the seeds."""
    lines = []
    for market, setting in dict.fromkeys((row["market"], row["setting"]) for row in rows):
        runs = [row for row in rows if (row["market"], row["setting"]) == (market, setting)]
        line = {name: statistics.median(r[name] for r in runs) for name in ("best", "final", "train final", "gap")}
        seconds = sum(r["seconds"] for r in runs)
        lines.append({"market": market, "setting": setting, "seeds": len(runs), **line, "seconds": seconds})
    return lines


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the unseen share over the updates: median over the seeds, and their range."""
    figure, (axes,) = new_figure(1)
    for setting in dict.fromkeys(row["setting"] for row in rows):
        runs = [row for row in rows if row["setting"] == setting]
        if len({len(row["updates"]) for row in runs}) > 1:
            continue  # Patience ends every run elsewhere; until then its curve is that of "none".
        shares = np.array([row["unseen"] for row in runs])
        (line,) = axes.plot(runs[0]["updates"], np.median(shares, axis=0), label=setting)
        axes.fill_between(runs[0]["updates"], shares.min(0), shares.max(0), color=line.get_color(), alpha=0.12)
    axes.axhline(1.0, color="grey", linewidth=1, linestyle="--")
    axes.set_xlabel("updates")
    axes.set_ylabel("normalised score, unseen bars")
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--settings", nargs="+", choices=tuple(SETTINGS), default=list(SETTINGS))
    add_learning_flags(parser, updates=30, num_envs=1024, update_epochs=4, learning_rate=1e-3, validation_interval=3)
    parser.add_argument(
        "--distractor", type=float, default=0.3, help="standard deviation of the columns without meaning"
    )
    parser.add_argument("--real", type=Path, help="folder of SYMBOL_15Min files: real bars instead, needs pyarrow")
    parser.add_argument("--fee", type=float, help="with --real: share a side instead of the asset class's")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/regularisation.png"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    rows = []
    with shared_compilations():
        for setting, seed in product(args.settings, args.seeds):
            print(f"{setting}, seed {seed}", flush=True)
            if args.real is None:
                rows.append(known_row(args, setting, seed))
            else:
                rows += [real_row(args, setting, seed, symbol) for symbol in args.symbols]
    report("regularisation", medians(rows), args, details=rows)
    if args.real is None and not args.no_write:
        draw(rows, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
