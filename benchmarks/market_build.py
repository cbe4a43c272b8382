"""Building a market: all columns of a layout, and the hourly context alone, compile apart.

``build_market`` is a host function (calendar facts in NumPy, one jitted float64 program, rounding), so that its first
call minus the steady one is what tracing and compiling cost.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.measure import Row, make_parser, measure, report
from benchmarks.phases import CRYPTO_BARS_PER_YEAR
from jtf.data.synthetic import synthetic_bars
from jtf.errors import run_command
from jtf_env.bars import Bars
from jtf_env.features import bar_inputs, context_table
from jtf_env.layouts import get_layout
from jtf_env.market import build_market
from jtf_env.mirror import build_market as build_mirror_market
from jtf_env.sessions import compute_hourly_window_indices


def host_row(name: str, function: Callable[[], Any], repeats: int) -> Row:
    """Time a host function; the first call apart, because it may compile."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(jax.tree.leaves(function()))
        seconds.append(time.perf_counter() - began)
    steady = statistics.median(seconds[1:])
    return {"part": name, "first call s": seconds[0], "run s": steady}


def context_row(bars: Bars, layout: str, repeats: int) -> Row:
    """Time the compiled arithmetic of the hourly context (the hour ranges are an argument)."""
    with jax.enable_x64(True):
        inputs = bar_inputs(bars)
        context = partial(context_table, groups=get_layout(layout).groups, bars_per_hour=60 // bars.bar_minutes)
        measured = measure(context, inputs, repeats=repeats)
    return {
        "part": "hourly context, compiled",
        "first call s": measured.lower_seconds + measured.compile_seconds + measured.run_seconds,
        "run s": measured.run_seconds,
        "compile s": measured.lower_seconds + measured.compile_seconds,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--num-bars", type=int, default=140_000)
    parser.add_argument("--layout", default="v5.6.0")
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    years = args.num_bars / CRYPTO_BARS_PER_YEAR + 0.1
    bars = synthetic_bars("BTC/USD", years=years)[-args.num_bars :]
    ranges = partial(compute_hourly_window_indices, bars.timestamps, bars.session_ids)
    build = host_row("build_market", partial(build_market, bars, args.layout, window=args.window), args.repeats)
    rows = [
        build | {"compile s": build["first call s"] - build["run s"]},
        host_row("hour ranges (calendar, NumPy)", ranges, args.repeats),
        context_row(bars, args.layout, args.repeats),
    ]
    mirror = host_row("mirror build_market (NumPy)", partial(_mirror_columns, bars, args), repeats=1)
    context_seconds = rows[1]["run s"] + rows[2]["run s"]
    columns = get_layout(args.layout).count
    summary = {"bars": args.num_bars, "columns": columns, "hourly context ms": 1e3 * context_seconds}
    report("market_build", [*rows, mirror], args, summary)
    return 0


def _mirror_columns(bars: Bars, args: argparse.Namespace) -> np.ndarray:
    return build_mirror_market(bars, args.layout, window=args.window).features


if __name__ == "__main__":
    sys.exit(run_command(main))
