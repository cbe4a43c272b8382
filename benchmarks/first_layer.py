"""The three ways to do the first layer, forward and weight gradient: what ``first_layer="auto"`` picks by.

``gather`` unfolds windows and multiplies, ``conv`` hands blocks to XLA's convolution, ``fft`` is overlap-save in
float32. A minibatch of `R` rows is made of ``R / L`` blocks of `L` consecutive rows, as in training.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from benchmarks.measure import Row, add_timing_flags, make_parser, measure, report
from jtf.errors import run_command
from jtf_ppo.window_dense import WindowDense, block_length

METHODS = ("gather", "conv", "fft")


def forward_and_gradient(graph: nnx.GraphDef, method: str) -> Callable[[nnx.State, Array, Array, Array], tuple]:
    """Return ``(params, features, context, cotangent) -> (output, gradient of the parameters)``."""

    def run(params: nnx.State, features: Array, context: Array, cotangent: Array) -> tuple[Array, nnx.State]:
        output, pullback = jax.vjp(lambda p: nnx.merge(graph, p).blocks(features, context, method), params)
        return output, pullback(cotangent)[0]

    return run


def measure_method(args: argparse.Namespace, method: str, precision: str, rows: int, width: int) -> Row:
    """Return the table's line of one implementation at one size."""
    length = block_length(args.window)
    blocks = max(1, rows // length)
    layer = WindowDense(
        args.window, args.num_features, args.num_context, width, dtype=jnp.dtype(precision), rngs=nnx.Rngs(params=0)
    )
    graph, params = nnx.split(layer)
    keys = jax.random.split(jax.random.key(1), 3)
    features = jax.random.normal(keys[0], (blocks, length + args.window - 1, args.num_features))
    context = jax.random.normal(keys[1], (blocks, length, args.num_context))
    cotangent = jax.random.normal(keys[2], (blocks, length, width))
    function = forward_and_gradient(graph, method)
    measured = measure(
        function, params, features, context, cotangent, repeats=args.repeats, budget_seconds=args.budget_seconds
    )
    used = blocks * length
    return {
        "rows": used,
        "width": width,
        "method": method,
        "precision": precision,
        "run s": measured.run_seconds,
        "min s": measured.fastest_seconds,
        "rows/s": used / measured.run_seconds,
        "dense GFLOP/s": 4e-9 * used * args.window * args.num_features * width / measured.run_seconds,
        "compile s": measured.compile_seconds,
        "temp MB": measured.temporary_bytes / 1e6,
    }


def fastest(rows: Sequence[Row]) -> Row:
    """Return the fastest implementation of every size, by the median."""
    best: dict[str, Row] = {}
    for row in rows:
        size = f"fastest at {row['rows']:,} rows x {row['width']}"
        if size not in best or row["run s"] < best[size]["run s"]:
            best[size] = row
    return {size: f"{row['method']} {row['precision']}" for size, row in best.items()}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    gpu = jax.default_backend() == "gpu"
    parser = make_parser(__doc__)
    add_timing_flags(parser)
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 16_384, 131_072] if gpu else [2048, 8192])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--num-features", type=int, default=51)
    parser.add_argument("--num-context", type=int, default=7)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    gpu = jax.default_backend() == "gpu"
    lines = [
        measure_method(args, method, precision, rows, width)
        for rows in args.rows
        for width in args.widths
        for method in METHODS
        for precision in (("float32", "bfloat16") if gpu and method != "fft" else ("float32",))
    ]
    report("first_layer", lines, args, fastest(lines))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
