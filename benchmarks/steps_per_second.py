"""Environment, rollout, update and whole-iteration steps a second of both engines, beside their arithmetic floors.

A step is one decision of one environment. Floors come from `benchmarks.floors` and the rates that
`benchmarks.roofline` measures; ``x floor`` is measured time over that. The sample engine is measured on layouts with
columns of the account, which it is for: the cost of its epochs is proportional to samples.
"""

import argparse
import sys
from collections.abc import Sequence

import jax

from benchmarks.floors import Rates
from benchmarks.measure import Row, add_timing_flags, make_parser, peak_bytes, report
from benchmarks.phases import Phase, measure_phases, resolve_for, synthetic_problem
from benchmarks.roofline import measure_rates, rates_summary
from jtf.errors import UserError, run_command
from jtf_ppo.config import PPOConfig


def phase_row(phase: Phase, layout: str, config: PPOConfig, rates: Rates) -> Row:
    """Return the table's line of one phase."""
    measured, floor = phase.measurement, phase.work.seconds(rates, config.precision)
    return {
        "layout": layout,
        "engine": config.engine,
        "envs": config.num_envs,
        "phase": phase.name,
        "steps/s": config.batch_size / measured.run_seconds,
        "run s": measured.run_seconds,
        "min s": measured.fastest_seconds,
        "cpu s": measured.cpu_seconds,
        "runs": measured.repeats,
        "floor s": floor,
        "x floor": measured.run_seconds / floor,
        "Gflop": phase.work.flops / 1e9,
        "XLA Gflop": measured.compiler_flops / 1e9,
        "MB": phase.work.bytes / 1e6,
        "lower s": measured.lower_seconds,
        "compile s": measured.compile_seconds,
        "temp MB": measured.temporary_bytes / 1e6,
        "temp B/sample": measured.temporary_bytes / config.batch_size,
        "argument MB": measured.argument_bytes / 1e6,
        "output MB": measured.output_bytes / 1e6,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    gpu = jax.default_backend() == "gpu"
    sweep = [4096, 16_384, 65_536] if gpu else [1024, 4096, 16_384]
    parser = make_parser(__doc__)
    add_timing_flags(parser)
    parser.add_argument("--num-bars", type=int, default=140_000 if gpu else 8_000)
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--num-envs", type=int, nargs="*", default=sweep, help="sweep, row engine")
    parser.add_argument("--sample-envs", type=int, nargs="*", default=[sweep[0]], help="sweep, sample engine")
    parser.add_argument("--layout", default="v5.6.0", help="layout of the row engine")
    parser.add_argument("--sample-layouts", nargs="*", default=["v2.4.0", "v2.7.0", "v5.3.0"], help="of the samples'")
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[512, 256, 128])
    parser.add_argument("--update-epochs", type=int, default=10)
    parser.add_argument("--minibatch-size", type=int, help="bars (row engine) or samples; by device")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--first-layer", choices=("auto", "gather", "conv", "fft"), default="auto")
    return parser.parse_args(argv)


def make_config(args: argparse.Namespace, engine: str, num_envs: int) -> PPOConfig:
    """Return the learner's settings of one sweep point, not resolved yet."""
    return PPOConfig(
        engine=engine,
        num_envs=num_envs,
        num_steps=args.num_steps,
        hidden_sizes=tuple(args.hidden_sizes),
        update_epochs=args.update_epochs,
        minibatch_size=args.minibatch_size,
        precision=args.precision,
        first_layer=args.first_layer,
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if not args.num_envs and not args.sample_envs:
        raise UserError("--num-envs and --sample-envs are both empty; name at least one size of either.")
    rates = measure_rates(precision=args.precision)
    rows = []
    sweeps = [("rows", args.layout, args.num_envs)]
    sweeps += [("samples", layout, args.sample_envs) for layout in args.sample_layouts]
    for engine, layout, sweep in sweeps:
        data = synthetic_problem(args.num_bars, args.window, layout)
        for num_envs in sweep:
            config = resolve_for(data[0], make_config(args, engine, num_envs))
            sizes = f"{num_envs:,} x {config.num_steps} steps, minibatch {config.minibatch_size:,}"
            print(f"{engine}, {layout}: {sizes}", flush=True)
            phases = measure_phases(data, config, repeats=args.repeats, budget_seconds=args.budget_seconds)
            rows += [phase_row(phase, layout, config, rates) for phase in phases]
    best = max(row["steps/s"] for row in rows if row["phase"] == "iteration")
    summary = {"best training steps/s": best, **rates_summary(rates), "peak MB": peak_bytes() / 1e6}
    report("steps_per_second", rows, args, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
