"""Seconds until a policy earns 90 % of the known optimum on unseen bars of the planted regime market, both engines.

Steps a second can be inflated by adding environments; this cannot. All trainers have the same network, epochs and bars,
and each the rollout and minibatch sizes that suit it (flags); the engines share their feature noise, which the
PureJaxRL-style peer (``--trainers bars purejaxrl``, needs the extra ``bench``) does not have. The clock starts when
training is called and stops at the first validation at or above the level, so that it counts validations too.
"""

import argparse
import sys
from collections.abc import Sequence

import jax

from benchmarks.learning import Curve, learn_planted, num_bars_for, optimum_returns
from benchmarks.measure import Row, make_parser, report
from benchmarks.peer_learning import learn_peer
from benchmarks.purejaxrl import PeerConfig
from jtf.data.planted import TRAIN_BARS, UNSEEN_BARS, Planted, planted_regime
from jtf.errors import run_command
from jtf_ppo import PPOConfig


def curve_row(trainer: str, curve: Curve, optimum: float, level: float) -> Row:
    """Return the table's line of one trainer; times are blank where the level was not reached."""
    point = curve.first_at(level * optimum)
    config = curve.config
    return {
        "trainer": trainer,
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
    choices = ("bars", "samples", "purejaxrl")
    parser.add_argument("--trainers", nargs="+", choices=choices, default=["bars", "samples"])
    parser.add_argument("--train-bars", type=int, default=TRAIN_BARS)
    parser.add_argument("--unseen-bars", type=int, default=UNSEEN_BARS)
    parser.add_argument("--level", type=float, default=0.9, help="share of the optimum that counts as reached")
    parser.add_argument("--max-seconds", type=float, default=75.0, help="limit of one trainer, compile included")
    parser.add_argument("--bar-envs", type=int, default=8192 if gpu else 512)
    parser.add_argument("--sample-envs", type=int, default=1024 if gpu else 64, help="sample engine and peer")
    parser.add_argument("--bar-minibatch", type=int, default=2048)
    parser.add_argument("--sample-minibatch", type=int, default=8192 if gpu else 1024, help="sample engine and peer")
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--bar-updates", type=int, default=40, help="length of the bar engine's schedule")
    parser.add_argument("--sample-updates", type=int, default=300, help="the same, sample engine and peer")
    parser.add_argument("--validation-interval", type=int, default=2, help="updates")
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[128, 64])
    parser.add_argument("--update-epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def run(args: argparse.Namespace, trainer: str, planted: Planted, limits: dict[str, float]) -> Curve:
    """Train with one trainer."""
    if trainer != "purejaxrl":
        return learn_planted(planted, make_config(args, trainer), **limits)
    samples = args.sample_envs * args.num_steps
    config = PeerConfig(
        num_envs=args.sample_envs,
        num_minibatches=max(1, samples // args.sample_minibatch),
        num_steps=args.num_steps,
        update_epochs=args.update_epochs,
        hidden_sizes=tuple(args.hidden_sizes),
        learning_rate=args.learning_rate,
    )
    schedule = {"updates": args.sample_updates, "validation_interval": args.validation_interval}
    return learn_peer(planted, config, **schedule, **limits)


def make_config(args: argparse.Namespace, engine: str) -> PPOConfig:
    """Return the learner's settings of one engine."""
    bars = engine == "bars"
    num_envs = args.bar_envs if bars else args.sample_envs
    updates = args.bar_updates if bars else args.sample_updates
    return PPOConfig(
        engine=engine,
        total_steps=updates * num_envs * args.num_steps,
        num_envs=num_envs,
        num_steps=args.num_steps,
        minibatch_size=args.bar_minibatch if bars else args.sample_minibatch,
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
    for trainer in args.trainers:
        print(f"{trainer}: at most {args.max_seconds:g} s", flush=True)
        curve = run(args, trainer, planted, limits)
        rows.append(curve_row(trainer, curve, optimum, args.level))
    report("time_to_quality", rows, args, {"optimum, net log return": optimum, **ratios(rows)})
    return 0


def ratios(rows: Sequence[Row]) -> Row:
    """Return how many times as long the others took, compile excluded; at least that where one never arrived."""
    bars = next((row["without compile"] for row in rows if row["trainer"] == "bars"), None)
    if bars is None:
        return {}
    others = (row for row in rows if row["trainer"] != "bars")
    return {
        f"{row['trainer']} / bars{'' if row['reached'] else ', at least'}": (
            row["without compile"] or row["last second"] - row["compile s"]
        )
        / bars
        for row in others
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
