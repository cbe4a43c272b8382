"""Training steps a second, and score after equal seconds, of this project's PPO and its peers, side by side.

*Speed*: all train on the same market, with the same 5 800-wide observation, the same hidden layers and the same epochs;
each sweeps its own sizes, and all run once more with equal samples an iteration. There ``jtf`` runs twice more: with
its default number of epochs, and without the feature noise that no peer has. ``jtf`` is the row engine;
``purejaxrl`` is `benchmarks.purejaxrl`; ``rejax`` is rejax's own PPO with its two networks; ``sb3`` is
Stable-Baselines3's with one trunk; ``cleanrl`` is a loop in CleanRL's style. Peers need the extra ``bench``. Compile
time is reported apart and excluded; collecting and learning are both included.

*Quality* (``--quality-seconds``): each trains on the known *regime* market with the same budget of seconds, compile
included, in a process pinned to ``--cores`` cores, with the settings `benchmarks.peer_search` found.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from operator import itemgetter
from typing import Any

import jax

from benchmarks.measure import Row, add_timing_flags, make_parser, measure, report
from benchmarks.peer import PEERS, PeerConfig, start_peer
from benchmarks.phases import resolve_for, start_iteration, synthetic_problem
from benchmarks.quality import Job, add_run_flags, choose_settings, run_all, run_row
from jtf.environment import TradingData
from jtf.errors import run_command
from jtf_ppo.config import PPOConfig
from jtf_ppo.learner import make_learner

TRAINERS = ("jtf", *PEERS)
VARIANTS = {
    "equal samples, default epochs": {"update_epochs": PPOConfig.update_epochs},
    "equal samples, no feature noise": {"feature_noise": 0.0},
}
"""What jtf changes in further runs with equal samples, by the name of the run."""


def run_jtf(data: TradingData, args: argparse.Namespace, num_envs: int, minibatch: int, **changes: Any) -> Row:
    """Measure one update of the row engine, but for `changes`; `minibatch` 0 is the device's default."""
    config = PPOConfig(
        engine="rows",
        num_envs=num_envs,
        num_steps=args.num_steps,
        minibatch_size=minibatch or None,
        hidden_sizes=tuple(args.hidden_sizes),
        update_epochs=args.update_epochs,
    )
    it = start_iteration(data, resolve_for(data[0], replace(config, **changes)))
    update = make_learner(it.env, it.config).update
    measured = measure(
        update, it.state, it.hyper, data, carry=True, repeats=args.repeats, budget_seconds=args.budget_seconds
    )
    samples = it.config.batch_size
    return {
        "trainer": "jtf",
        "envs": num_envs,
        "epochs": it.config.update_epochs,
        "minibatch": it.config.minibatch_size or 0,
        "samples": samples,
        "seconds": measured.run_seconds,
        "cpu s": measured.cpu_seconds,
        "runs": measured.repeats,
        "steps/s": samples / measured.run_seconds,
        "compile s": measured.lower_seconds + measured.compile_seconds,
    }


def run_peer(name: str, data: TradingData, args: argparse.Namespace, num_envs: int, minibatch: int) -> Row:
    """Measure one iteration of a peer: the median of some after the first."""
    samples = num_envs * args.num_steps
    config = PeerConfig(
        num_envs=num_envs,
        num_minibatches=max(1, samples // minibatch),
        num_steps=args.num_steps,
        update_epochs=args.update_epochs,
        hidden_sizes=tuple(args.hidden_sizes),
    )
    session = start_peer(name, data, config, seed=0)
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    while not seconds or (len(seconds) <= args.repeats and sum(seconds) < args.budget_seconds):
        began, worked = time.perf_counter(), time.process_time()
        session.iterate()
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - worked)
    timed = seconds[1:] or seconds
    return {
        "trainer": name,
        "envs": num_envs,
        "epochs": config.update_epochs,
        "minibatch": config.minibatch_size,
        "samples": samples,
        "seconds": statistics.median(timed),
        "cpu s": statistics.median(cpu_seconds[1:] or cpu_seconds),
        "runs": len(timed),
        "steps/s": samples / statistics.median(timed),
        "compile s": session.compile_seconds,
    }


def run_trainer(name: str, data: TradingData, args: argparse.Namespace, num_envs: int, minibatch: int) -> Row:
    """Announce and measure one setting."""
    print(f"{name}: {num_envs:,} x {args.num_steps} steps", flush=True)
    if name == "jtf":
        return run_jtf(data, args, num_envs, minibatch)
    return run_peer(name, data, args, num_envs, minibatch)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    gpu = jax.default_backend() == "gpu"
    parser = make_parser(__doc__)
    add_timing_flags(parser)
    parser.set_defaults(repeats=3)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--num-bars", type=int, default=140_000 if gpu else 8_000)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[512, 256, 128])
    parser.add_argument("--update-epochs", type=int, default=10)
    parser.add_argument(
        "--jtf-envs", type=int, nargs="+", default=[4096, 16_384, 65_536], help="sweep; minibatch by device"
    )
    parser.add_argument("--purejaxrl-envs", type=int, nargs="+", default=[256, 1024] if gpu else [16, 64], help="sweep")
    parser.add_argument("--rejax-envs", type=int, nargs="+", default=[256, 1024] if gpu else [16, 64], help="sweep")
    parser.add_argument("--sb3-envs", type=int, nargs="+", default=[8, 32] if gpu else [8], help="sweep")
    parser.add_argument("--cleanrl-envs", type=int, nargs="+", default=[8, 32] if gpu else [8], help="sweep")
    parser.add_argument("--minibatch-sizes", type=int, nargs="+", default=[256, 2048], help="sweep of the peers")
    parser.add_argument("--equal-envs", type=int, default=1024 if gpu else 64, help="environments of the equal run")
    parser.add_argument("--equal-trainers", nargs="*", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--no-speed", action="store_true", help="quality only")
    parser.add_argument("--quality-seconds", type=float, default=0.0, help="budget of each run; 0: no quality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the quality runs")
    parser.add_argument("--level", type=float, default=0.9, help="normalised score whose second is shown")
    add_run_flags(parser, "peers_runs.jsonl")
    return parser.parse_args(argv)


def sweep(name: str, data: TradingData, args: argparse.Namespace) -> list[Row]:
    """Return the rows of one trainer's sweep over its environments and minibatch sizes."""
    minibatches = [0] if name == "jtf" else args.minibatch_sizes
    settings = [(envs, size) for envs in getattr(args, f"{name}_envs") for size in minibatches]
    return [run_trainer(name, data, args, *setting) for setting in settings]


def compare(rows: Sequence[Row], label: str) -> Row:
    """Return how many times as many steps jtf's best row does as every peer's best: a second, and a CPU second.

    CPU seconds hardly depend on what else the machine does.
    """
    best = {
        name: max((r for r in rows if r["trainer"] == name), key=itemgetter("steps/s"), default=None)
        for name in TRAINERS
    }
    ours, ratios = best.pop("jtf"), {}
    for name, theirs in best.items():
        if ours and theirs:
            ratios[f"jtf / {name}, {label}"] = ours["steps/s"] / theirs["steps/s"]
            steps = ours["samples"] / theirs["samples"]
            ratios[f"jtf / {name}, {label}, by CPU seconds"] = steps * theirs["cpu s"] / ours["cpu s"]
    return ratios


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if not args.no_speed:
        speed(args)
    if args.quality_seconds:
        report("peers quality", quality_rows(args), args)
    return 0


def speed(args: argparse.Namespace) -> None:
    """Measure and report the steps a second."""
    data = synthetic_problem(args.num_bars, args.window)
    own = [row for name in args.trainers for row in sweep(name, data, args)]
    best_minibatch = {
        name: max((row for row in own if row["trainer"] == name), key=lambda row: row["steps/s"])["minibatch"]
        for name in args.trainers
    }
    names = [name for name in args.equal_trainers if name in args.trainers]
    equal = [run_trainer(name, data, args, args.equal_envs, best_minibatch[name]) for name in names]
    rows = [*({"run": "own best"} | row for row in own), *({"run": "equal samples"} | row for row in equal)]
    summary = compare(own, "own best settings") | compare(equal, "equal samples an iteration")
    for run, changes in VARIANTS.items() if "jtf" in names else ():
        print(run, flush=True)
        row = run_jtf(data, args, args.equal_envs, best_minibatch["jtf"], **changes)
        rows.append({"run": run} | row)
        summary |= compare([row, *(row for row in equal if row["trainer"] != "jtf")], run)
    report("peers", rows, args, summary)


def quality_rows(args: argparse.Namespace) -> list[Row]:
    """Return what each trainer reached with the same seconds on the *regime* market, a line a seed."""
    names = ["rows" if name == "jtf" else name for name in args.trainers]
    settings = {name: choose_settings(name) for name in names}
    jobs = [
        Job(name, seed, settings[name], None, args.quality_seconds, args.train_bars, args.unseen_bars)
        for name, seed in product(names, args.seeds)
    ]
    runs = run_all(jobs, args.cores, args.runs)
    return [run_row(job, run, args.level) for job, run in zip(jobs, runs, strict=True)]


if __name__ == "__main__":
    sys.exit(run_command(main))
