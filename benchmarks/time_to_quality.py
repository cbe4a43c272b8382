"""Seconds until a policy earns 90 % of the known optimum on unseen bars of the known regime market, both engines.

Steps a second can be inflated by adding environments; this cannot. All trainers have the same network, epochs, horizon
and bars, and each the rollout and minibatch sizes that suit it (flags); the engines share their feature noise and
dropout, which the PureJaxRL-style peer (``--trainers rows purejaxrl``, needs the extra ``bench``) does not have. The
clock starts when training is called and stops at the first validation at or above the level, so that it counts
validations too.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from statistics import median
from typing import Any

import jax

from benchmarks.learning import Curve, learn_known, num_bars_for, optimum_returns
from benchmarks.measure import Row, make_parser, report
from benchmarks.peer_learning import learn_peer
from benchmarks.purejaxrl import PeerConfig
from jtf.errors import run_command
from jtf.known_optimum.markets import TRAIN_BARS, UNSEEN_BARS, KnownOptimumMarket, regime_market
from jtf_ppo import PPOConfig


def curve_row(curve: Curve, optimum: float, level: float) -> Row:
    """Return the table's line of one trainer; times are blank where the level was not reached."""
    point = curve.first_at(level * optimum)
    config = curve.config
    return {
        "envs": config.num_envs,
        "minibatch": config.minibatch_size,
        "reached": point is not None,
        "seconds": None if point is None else point.seconds,
        "without compile": None if point is None else point.seconds - curve.compile_seconds,
        "compile s": curve.compile_seconds,
        "steps": (point or curve.final).update * config.batch_size,
        "best share": curve.best.unseen / optimum,
        "last second": curve.final.seconds,
        "steps/s": curve.steps_per_second,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    gpu = jax.default_backend() == "gpu"
    parser = make_parser(__doc__)
    choices = ("rows", "samples", "purejaxrl")
    parser.add_argument("--trainers", nargs="+", choices=choices, default=["rows", "samples"])
    parser.add_argument("--train-bars", type=int, default=TRAIN_BARS)
    parser.add_argument("--unseen-bars", type=int, default=UNSEEN_BARS)
    parser.add_argument("--level", type=float, default=0.9, help="normalised score that counts as reached")
    parser.add_argument("--max-seconds", type=float, default=75.0, help="limit of one trainer, compile included")
    parser.add_argument("--bar-envs", type=int, default=8192)
    parser.add_argument("--sample-envs", type=int, default=1024 if gpu else 64, help="sample engine and peer")
    parser.add_argument("--bar-minibatch", type=int, default=2048)
    parser.add_argument("--sample-minibatch", type=int, default=8192 if gpu else 1024, help="sample engine and peer")
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--bar-updates", type=int, default=12, help="length of the row engine's schedule")
    parser.add_argument("--sample-updates", type=int, default=300, help="the same, sample engine and peer")
    parser.add_argument("--bar-validation-interval", type=int, default=1, help="updates")
    parser.add_argument("--sample-validation-interval", type=int, default=4, help="updates, sample engine and peer")
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--update-epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--ent-coef", type=float, default=0.0)
    parser.add_argument("--feature-noise", type=float, default=0.4, help="the engines; the peer has none")
    parser.add_argument("--dropout", type=float, default=0.5, help="the engines; the peer has none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each another market and another network")
    return parser.parse_args(argv)


def run(
    args: argparse.Namespace, trainer: str, known: KnownOptimumMarket, seed: int, limits: dict[str, float]
) -> Curve:
    """Train with one trainer."""
    common = {
        "num_steps": args.num_steps,
        "update_epochs": args.update_epochs,
        "hidden_sizes": tuple(args.hidden_sizes),
        "learning_rate": args.learning_rate,
        "gamma": args.gamma,
        "gae_lambda": args.gae_lambda,
        "ent_coef": args.ent_coef,
    }
    if trainer != "purejaxrl":
        return learn_known(known, make_config(args, trainer, seed, common), **limits)
    minibatches = max(1, args.sample_envs * args.num_steps // args.sample_minibatch)
    config = PeerConfig(num_envs=args.sample_envs, num_minibatches=minibatches, **common)
    schedule = {"updates": args.sample_updates, "validation_interval": args.sample_validation_interval}
    return learn_peer(known, config, seed=seed, **schedule, **limits)


def make_config(args: argparse.Namespace, engine: str, seed: int, common: dict[str, Any]) -> PPOConfig:
    """Return the learner's settings of one engine."""
    bars = engine == "rows"
    num_envs = args.bar_envs if bars else args.sample_envs
    updates = args.bar_updates if bars else args.sample_updates
    return PPOConfig(
        engine=engine,
        total_steps=updates * num_envs * args.num_steps,
        num_envs=num_envs,
        minibatch_size=args.bar_minibatch if bars else args.sample_minibatch,
        validation_interval=args.bar_validation_interval if bars else args.sample_validation_interval,
        feature_noise=args.feature_noise,
        dropout=args.dropout,
        seed=seed,
        **common,
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    rows = []
    for trainer, seed in product(args.trainers, args.seeds):
        print(f"{trainer}, seed {seed}: at most {args.max_seconds:g} s", flush=True)
        known = regime_market(num_bars_for(args.train_bars, args.unseen_bars), seed, unseen_bars=args.unseen_bars)
        optimum, _ = optimum_returns(known)
        curve = run(args, trainer, known, seed, {"max_seconds": args.max_seconds, "enough": args.level * optimum})
        rows.append({"trainer": trainer, "seed": seed, **curve_row(curve, optimum, args.level)})
    report("time_to_quality", rows, args, ratios(rows))
    return 0


def ratios(rows: Sequence[Row]) -> Row:
    """Return how many times as long the others took, compile excluded, as medians of their seeds.

    Where a run never arrived its time is the limit it ran into, and the ratio says "at least".
    """
    seconds = {
        trainer: median(row["without compile"] or row["last second"] - row["compile s"] for row in runs)
        for trainer, runs in by_trainer(rows).items()
    }
    arrived = {trainer: all(row["reached"] for row in runs) for trainer, runs in by_trainer(rows).items()}
    if not arrived.get("rows"):
        return {}
    return {
        f"{trainer} / rows{'' if arrived[trainer] else ', at least'}": seconds[trainer] / seconds["rows"]
        for trainer in seconds
        if trainer != "rows"
    }


def by_trainer(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of every trainer."""
    return {trainer: [row for row in rows if row["trainer"] == trainer] for trainer in {r["trainer"] for r in rows}}


if __name__ == "__main__":
    sys.exit(run_command(main))
