"""Copy bandwidth and matrix rate of this device, and each phase's share of its own floor.

The floors are counted in `benchmarks.floors`; 100 % means that nothing but more bandwidth or a faster matrix unit would
make the phase quicker. On a CPU a small working set lives in the caches, so a share may exceed 100 %.
"""

import argparse
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from benchmarks.floors import Rates
from benchmarks.measure import Row, add_timing_flags, make_parser, measure, report
from benchmarks.phases import Phase, measure_phases, resolve_for, synthetic_problem
from jtf.errors import run_command
from jtf_ppo.config import PPOConfig


def measure_rates(matrix_size: int = 0, copy_mib: int = 0, precision: str = "auto") -> Rates:
    """Measure the device; sizes of 0 are by device: large enough to leave its caches, small enough for seconds.

    Matrix products in float32, in the device's default precision, and in `precision`.
    """
    gpu = jax.default_backend() == "gpu"
    size = matrix_size or (8192 if gpu else 2048)
    narrow = gpu or precision == "bfloat16"
    matrix = {dtype: matrix_rate(size, dtype) for dtype in (("float32", "bfloat16") if narrow else ("float32",))}
    return Rates(matrix, copy_bandwidth(copy_mib or (2048 if gpu else 256)))


def matrix_rate(size: int, dtype: str) -> float:
    """Operations a second of a ``[size, size]`` product of normal numbers with float32 result."""
    left, right = jax.random.normal(jax.random.key(0), (2, size, size), dtype)

    def product(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.matmul(left, right, preferred_element_type=jnp.float32)

    return 2.0 * size**3 / measure(product, left, right, repeats=10).fastest_seconds


def copy_bandwidth(mebibytes: int) -> float:
    """Bytes a second, read plus written, of adding 1 to a float32 array (a plain copy might be elided)."""
    array = jnp.ones(mebibytes * 2**18, jnp.float32)
    return 2.0 * array.nbytes / measure(lambda x: x + 1.0, array, repeats=10).fastest_seconds


def phase_row(phase: Phase, config: PPOConfig, rates: Rates) -> Row:
    """Return one phase beside its floor."""
    floor = phase.work.seconds(rates, config.precision)
    return {
        "engine": config.engine,
        "phase": phase.name,
        "seconds": phase.measurement.run_seconds,
        "Gflop": phase.work.flops / 1e9,
        "MB": phase.work.bytes / 1e6,
        "bound": phase.work.bound(rates, config.precision),
        "floor s": floor,
        "share of floor": floor / phase.measurement.run_seconds,
        "temp MB": phase.measurement.temporary_bytes / 1e6,
    }


def rates_summary(rates: Rates) -> Row:
    """Return the rates in the units people know."""
    return {
        **{f"matrix {name} GFLOP/s": rate / 1e9 for name, rate in rates.matrix.items()},
        "copy GB/s": rates.copy / 1e9,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    gpu = jax.default_backend() == "gpu"
    parser = make_parser(__doc__)
    add_timing_flags(parser)
    parser.add_argument("--matrix-size", type=int, default=0, help="0: by device")
    parser.add_argument("--copy-mib", type=int, default=0, help="0: by device")
    parser.add_argument("--num-bars", type=int, default=140_000 if gpu else 8_000)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--bar-envs", type=int, default=16_384 if gpu else 4_096, help="environments, row engine")
    parser.add_argument("--sample-envs", type=int, default=512 if gpu else 16, help="environments, sample engine")
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[512, 256, 128])
    parser.add_argument("--update-epochs", type=int, default=10)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    rates = measure_rates(args.matrix_size, args.copy_mib)
    data = synthetic_problem(args.num_bars, args.window)
    rows = []
    for engine, num_envs in (("rows", args.bar_envs), ("samples", args.sample_envs)):
        config = PPOConfig(
            engine=engine,
            num_envs=num_envs,
            num_steps=args.num_steps,
            hidden_sizes=tuple(args.hidden_sizes),
            update_epochs=args.update_epochs,
        )
        config = resolve_for(data[0], config)
        phases = measure_phases(data, config, repeats=args.repeats, budget_seconds=args.budget_seconds)
        rows += [phase_row(phase, config, rates) for phase in phases]
    report("roofline", rows, args, rates_summary(rates))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
