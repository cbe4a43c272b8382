"""Seconds of a walk-forward beside those of as many single trainings, each a process of its own.

Both are whole commands: starting Python, reading bars, training, measuring and the page. The single trainings find
their programs in the compilation cache, filled by one that is not counted; the walk-forward, whose data are padded to
one shape, compiles its own. Only some of the single trainings are made, and their mean stands for each.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Row, make_parser, report
from jtf.errors import UserError, run_command


class Spent(NamedTuple):
    """What a process took."""

    wall: float
    """Seconds."""
    cpu: float
    """Processor seconds of all its threads: what is left to compare by where others use the machine too."""


def timed_command(verb: str, flags: Sequence[str], folder: Path) -> Spent:
    """Run ``python -m jtf.<verb>`` in a process of its own; its results and compiled programs go to `folder`."""
    command = [sys.executable, "-m", f"jtf.{verb}", *flags, "--out", str(folder / "runs")]
    before, began = cpu_of_children(), time.perf_counter()
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{' '.join(command)} failed: {said[-1]}")
    return Spent(time.perf_counter() - began, cpu_of_children() - before)


def cpu_of_children() -> float:
    """Return the processor seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_all(args: argparse.Namespace, folder: Path) -> tuple[list[Row], Row]:
    """Return a row a command, and how the walk-forward compares with its single trainings."""
    flags = ["--symbol", args.symbol, "--mode", args.mode, *(["--data", str(args.data)] if args.data else [])]
    first = timed_command("train", flags, folder)
    singles = [timed_command("train", [*flags, "--seed", str(seed)], folder) for seed in range(args.singles)]
    sizes = ["--folds", str(args.folds), "--members", str(args.members)]
    whole = timed_command("walkforward", [*flags, *sizes], folder)
    trainings = args.folds * args.members
    mean = Spent(*(statistics.fmean(values) for values in zip(*singles, strict=True)))
    named = {
        "jtf.train, compiling": first,
        **{f"jtf.train, seed {seed}": spent for seed, spent in enumerate(singles)},
        f"{trainings} x their mean": Spent(trainings * mean.wall, trainings * mean.cpu),
        f"jtf.walkforward, {args.folds} folds x {args.members} members": whole,
    }
    rows: list[Row] = [{"command": name, "seconds": one.wall, "CPU s": one.cpu} for name, one in named.items()]
    return rows, {
        "walk-forward / singles": whole.wall / mean.wall / trainings,
        "by CPU seconds": whole.cpu / mean.cpu / trainings,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--symbol", default="SPY")
    parser.add_argument("--data", type=Path, help="folder of bars; by default the built-in market")
    parser.add_argument("--mode", default="smoke")
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--singles", type=int, default=3, help="single trainings to make, with seeds 0, 1, ...")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows, summary = measure_all(args, Path(folder))
    args.data = None if args.data is None else str(args.data)
    report("walkforward", rows, args, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
