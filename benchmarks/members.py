"""Seconds for several members in one program beside as many single runs, compile included.

A member of a run is the single run with its seed. The single runs compile anew each, as processes of their own would;
what starting Python and reading bars takes is left out on both sides. Where fewer single runs were made than there are
members, their number and mean stand in the table.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import jax

from benchmarks.measure import Row, make_parser, report
from benchmarks.phases import resolve_for, synthetic_problem
from jtf.environment import TradingData, make_environment
from jtf.errors import run_command
from jtf_ppo import PPOConfig, train


def timed_run(data: TradingData, config: PPOConfig, num_members: int) -> Row:
    """Train `num_members` from nothing compiled; return the seconds, and those of them that compiled."""
    jax.clear_caches()
    began = time.perf_counter()
    result = train(make_environment(data[0]), data, config, num_members=num_members)
    return {"seconds": time.perf_counter() - began, "compile s": result.compile_seconds, "steps": result.steps}


def members_row(data: TradingData, config: PPOConfig, num_members: int, singles: Sequence[Row]) -> Row:
    """Time a run of `num_members`, beside as many of `singles`."""
    print(f"{num_members} members", flush=True)
    together = timed_run(data, config, num_members)
    alone = statistics.fmean(row["seconds"] for row in singles[:num_members])
    return {
        "members": num_members,
        "seconds": together["seconds"],
        "compile s": together["compile s"],
        "steps/s": together["steps"] / together["seconds"],
        "mean single run s": alone,
        "single runs made": min(num_members, len(singles)),
        "single runs / members": num_members * alone / together["seconds"],
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--single-runs", type=int, default=5, help="single runs to make, with seeds 0, 1, ...")
    parser.add_argument("--num-bars", type=int, default=9_000)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--total-steps", type=int, default=PPOConfig.total_steps)
    parser.add_argument("--num-envs", type=int, help="by default as jtf.train chooses")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)  # Compiling is part of what is measured.
    try:
        return run(args)
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def run(args: argparse.Namespace) -> int:
    """Make the single runs and then those of several members, and report."""
    data = synthetic_problem(args.num_bars, args.window)
    settings = PPOConfig(total_steps=args.total_steps, num_envs=args.num_envs, checkpoint_interval=0)
    config = resolve_for(data[0], settings)
    singles = []
    for seed in range(args.single_runs):
        print(f"single run {seed}", flush=True)
        singles.append(timed_run(data, replace(config, seed=seed), 1))
    rows = [members_row(data, config, number, singles) for number in args.members]
    sizes = {"bars": args.num_bars, "updates": config.total_updates, "environments": config.num_envs}
    report("members", rows, args, sizes)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
