"""Seconds until a policy earns 90 % of the known optimum on unseen bars of the planted regime market, both engines.

Steps a second can be inflated by adding environments; this cannot. Both engines train the same network on the same
bars with the same noise; each has the rollout and minibatch sizes that suit it (flags). The clock starts when training
is called and stops at the first validation at or above the level, so that it counts validations too.
"""

import argparse
import sys
from collections.abc import Sequence

import jax

from benchmarks.learning import Curve, learn_planted, num_bars_for, optimum_returns
from benchmarks.measure import Row, make_parser, report
from jtf.data.planted import TRAIN_BARS, UNSEEN_BARS, planted_regime
from jtf_ppo import PPOConfig


def curve_row(engine: str, curve: Curve, optimum: float, level: float) -> Row:
    """Return the table's line of one engine; times are blank where the level was not reached."""
    point = curve.first_at(level * optimum)
    config = curve.config
    return {
        "engine": engine,
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
    parser.add_argument("--engines", nargs="+", choices=("bars", "samples"), default=["bars", "samples"])
    parser.add_argument("--train-bars", type=int, default=TRAIN_BARS)
    parser.add_argument("--unseen-bars", type=int, default=UNSEEN_BARS)
    parser.add_argument("--level", type=float, default=0.9, help="share of the optimum that counts as reached")
    parser.add_argument("--max-seconds", type=float, default=75.0, help="limit of one engine, compile included")
    parser.add_argument("--bar-envs", type=int, default=8192 if gpu else 512)
    parser.add_argument("--sample-envs", type=int, default=1024 if gpu else 64)
    parser.add_argument("--bar-minibatch", type=int, default=2048)
    parser.add_argument("--sample-minibatch", type=int, default=8192 if gpu else 1024)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--bar-updates", type=int, default=60, help="length of the learning-rate schedule, bar engine")
    parser.add_argument("--sample-updates", type=int, default=300, help="the same, sample engine")
    parser.add_argument("--validation-interval", type=int, default=2, help="updates")
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[128, 64])
    parser.add_argument("--update-epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def make_config(args: argparse.Namespace, engine: str) -> PPOConfig:
    """Return the learner's settings of one engine."""
    num_envs, minibatch, updates = {
        "bars": (args.bar_envs, args.bar_minibatch, args.bar_updates),
        "samples": (args.sample_envs, args.sample_minibatch, args.sample_updates),
    }[engine]
    return PPOConfig(
        engine=engine,
        total_steps=updates * num_envs * args.num_steps,
        num_envs=num_envs,
        num_steps=args.num_steps,
        minibatch_size=minibatch,
        update_epochs=args.update_epochs,
        hidden_sizes=tuple(args.hidden_sizes),
        learning_rate=args.learning_rate,
        validation_interval=args.validation_interval,
        seed=args.seed,
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    planted = planted_regime(num_bars_for(args.train_bars, args.unseen_bars), args.seed, unseen_bars=args.unseen_bars)
    optimum, _ = optimum_returns(planted)
    limits = {"max_seconds": args.max_seconds, "enough": args.level * optimum}
    rows = []
    for engine in args.engines:
        print(f"{engine}: at most {args.max_seconds:g} s", flush=True)
        curve = learn_planted(planted, make_config(args, engine), **limits)
        rows.append(curve_row(engine, curve, optimum, args.level))
    times = {row["engine"]: row["without compile"] for row in rows}
    summary: Row = {"optimum, net log return on unseen bars": optimum}
    if times.get("bars") and times.get("samples"):
        summary["samples / bars, compile excluded"] = times["samples"] / times["bars"]
    report("time_to_quality", rows, args, summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
