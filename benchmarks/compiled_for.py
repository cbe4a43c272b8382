"""Compile every program for a GPU that is not there, and price it by a stated model. Compiled for, never run on.

XLA compiles for a GPU that is only described (`benchmarks.targets`), so that its optimised program is the real one:
fusions, loops and memory. What it would take is a model, stated in the JSON, and no measurement: a number of seconds a
launch, and for each kernel the longer of its bytes at a share of the memory bandwidth and its operations at a share of
the peak rate. The model does not know atomics that collide, caches, or a launch that hides behind a kernel.
Kernels that XLA would time on the device and choose among (autotuning) are its defaults. Needs the extra ``[cuda12]``.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks.floors import Rates, Sizes, Work, env_work, epochs_work, policy_table_work, rollout_work
from benchmarks.hlo import Kernel, kernels, parse
from benchmarks.measure import PACKAGES, Row, format_table, make_parser
from benchmarks.phases import Iteration, epochs_only, step_randomly, synthetic_problem
from benchmarks.targets import NAMES, Target, load_target
from jtf.environment import make_environment, make_validation
from jtf.errors import UserError, run_command
from jtf.results.run_directory import write_json
from jtf_ppo.config import PPOConfig, resolve
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import make_engine, make_learner
from jtf_ppo.networks import network_graph
from jtf_ppo.types import PyTree

WORDS = "compiled for, never run on"
SMALL = 1_009
"""Bars of the market whose arrays are then only described at full length."""
NARROW = {"bf16": "bfloat16", "f16": "bfloat16"}
"""Input types of products that run on the tensor cores; all others take the float32 rate."""


PRINTED_ELSEWHERE = ("out", "no_write", "label", "hlo")


@dataclass(frozen=True)
class Model:
    """What a kernel is taken to cost."""

    launch_seconds: float = 3e-6
    """For each kernel, beside its work."""
    bandwidth_share: float = 0.75
    """Of the memory bandwidth that a kernel reaches."""
    peak_share: float = 0.6
    """Of the peak rate that a kernel reaches; arithmetic outside products counts one operation of a multiply-add."""

    def rates(self, target: Target) -> Rates:
        """Return what the floors are computed with: the same shares, no launches."""
        return Rates({name: self.peak_share * peak for name, peak in target.peak.items()}, self.copy(target))

    def copy(self, target: Target) -> float:
        """Return the bytes a second a kernel reaches."""
        return self.bandwidth_share * target.bandwidth

    def seconds(self, kernel: Kernel, target: Target) -> float:
        """Return what one launch of a kernel takes."""
        rates = self.rates(target)
        arithmetic = sum(
            flops / rates.matrix[NARROW.get(kind, "float32")] for kind, flops in kernel.matrix_flops.items()
        )
        arithmetic += 2 * kernel.scalar_ops / rates.matrix["float32"]
        return self.launch_seconds + max(kernel.bytes / rates.copy, arithmetic)


@dataclass(frozen=True)
class Job:
    """One program to compile."""

    name: str
    function: Callable[..., Any]
    args: tuple[PyTree, ...]
    """Described, not allocated."""
    steps: int
    """Iterations its launches are divided by: steps of the rollout, of the optimiser, or bars."""
    unit: str
    works: tuple[Work, ...]
    """Parts that wait for one another: their floors add up."""
    donates: bool = False
    updates: bool = False
    """Whether it takes environment steps, so that steps a second mean something."""


def describe(tree: PyTree, device: jax.Device) -> PyTree:
    """Return the arrays of `tree` as shapes on `device`."""
    sharding = SingleDeviceSharding(device)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def stretch(tree: PyTree, rows: int, wanted: int) -> PyTree:
    """Return the shapes of `tree` with leading axes of length `rows` made `wanted` long."""

    def leaf(x: Any) -> jax.ShapeDtypeStruct:
        shape = jnp.shape(x)
        return jax.ShapeDtypeStruct((wanted, *shape[1:]) if shape[:1] == (rows,) else shape, jnp.result_type(x))

    return jax.tree.map(leaf, tree)


def gpu_config(num_envs: int, num_rows: int, args: argparse.Namespace) -> PPOConfig:
    """Return the settings a GPU resolves, at one number of environments."""
    config = PPOConfig(
        num_envs=num_envs, minibatch_size=args.minibatch_size, update_epochs=10, first_layer=args.first_layer
    )
    return resolve(config, "gpu", address_only=True, num_rows=num_rows)


def make_jobs(num_envs: int, args: argparse.Namespace, device: jax.Device) -> Iterator[Job]:
    """Yield the programs of one number of environments: env only, rollout, epochs, update, validation.

    Of a validation the decisions; the host replays them while the next update runs.
    """
    small = synthetic_problem(SMALL)
    market = small[0]
    sizes = Sizes(args.num_bars - market.first_bar, market.window, market.features.shape[1], market.context.shape[1], 8)
    config = gpu_config(num_envs, sizes.num_rows, args)
    data = describe(stretch(small, market.num_bars, args.num_bars), device)
    env = make_environment(market)
    learner, graph = make_learner(env, config), network_graph(env, config)
    key = describe(jax.eval_shape(partial(jax.random.key, 0)), device)
    state = describe(jax.eval_shape(learner.init, key, data), device)
    hyper = describe(jax.eval_shape(partial(make_hyper, config)), device)
    engine = make_engine(env, config, graph, data)
    it = Iteration(env, data, config, engine, graph, state, hyper, sizes)
    collected = (state.params, state.rollout_state, key, hyper, data)
    batch = describe(jax.eval_shape(engine.collect, *collected)[1], device)

    def epochs(state: PyTree, both: tuple[PyTree, PyTree], hyper: PyTree) -> PyTree:
        return epochs_only(replace(it, hyper=hyper))(state, both)

    yield Job(
        "env only", partial(step_randomly, env, config), (state.rollout_state.env_state, key, data),
        config.num_steps, "step", (env_work(config),), donates=True, updates=True,
    )  # fmt: skip
    table, rollout = policy_table_work(config, sizes), rollout_work(config, sizes)
    stepping = Work(rollout.flops - table.flops, rollout.bytes - table.bytes)
    learning = epochs_work(config, sizes)
    yield Job("rollout", engine.collect, collected, config.num_steps, "step", (table, stepping), updates=True)
    optimiser_steps = config.update_epochs * engine.num_minibatches
    yield Job(
        "epochs", epochs, (state, (data, batch), hyper), optimiser_steps, "optimiser step", (learning,), donates=True
    )
    yield Job(
        "update", learner.update, (state, hyper, data), optimiser_steps, "optimiser step",
        (table, stepping, learning),
        donates=True, updates=True,
    )  # fmt: skip
    check = make_validation(*small, annualisation=1.0)
    held_out = describe(stretch(check.data, market.num_bars, args.validation_bars), device)

    def decide(params: PyTree, data: PyTree) -> PyTree:
        assert check.parts is not None
        return check.parts.decide(learner.evaluate(params), data)

    seen = replace(sizes, num_rows=args.validation_bars - market.first_bar)
    decisions = policy_table_work(replace(config, precision="float32"), seen)
    yield Job("validation", decide, (state.params, held_out), args.validation_bars, "bar", (decisions,))


def price(job: Job, config: PPOConfig, target: Target, model: Model, hlo: Path | None = None) -> tuple[Row, list[Row]]:
    """Compile one program; return its line of the table, and its kernels."""
    began = time.perf_counter()
    lowered = jax.jit(job.function, donate_argnums=(0,) if job.donates else ()).lower(*job.args)
    lower_seconds = time.perf_counter() - began
    began = time.perf_counter()
    compiled = lowered.compile(compiler_options={"xla_gpu_autotune_level": 0})
    compile_seconds = time.perf_counter() - began
    text = compiled.as_text()
    if hlo is not None:
        hlo.mkdir(parents=True, exist_ok=True)
        (hlo / f"{job.name.replace(' ', '_')}_{config.num_envs}.hlo").write_text(text)
    memory, found = compiled.memory_analysis(), list(kernels(parse(text)))
    seconds = sum(kernel.times * model.seconds(kernel, target) for kernel in found)
    launches = sum(kernel.times for kernel in found)
    row: Row = {
        "envs": config.num_envs,
        "program": job.name,
        "compile s": compile_seconds,
        "temp MB": memory.temp_size_in_bytes / 1e6,
        "argument MB": memory.argument_size_in_bytes / 1e6,
        "kernels": launches,
        "kernels a step": launches / job.steps,
        "step": job.unit,
        "Tflop": sum(kernel.times * sum(kernel.matrix_flops.values()) for kernel in found) / 1e12,
        "GB": sum(kernel.times * kernel.bytes for kernel in found) / 1e9,
        "launch s": launches * model.launch_seconds,
        "model s": seconds,
        "lower s": lower_seconds,
    }
    precision = "float32" if job.name == "validation" else config.precision
    row["floor s"] = sum(work.seconds(model.rates(target), precision) for work in job.works)
    row["x floor"] = seconds / row["floor s"]
    if job.updates:
        row["model steps/s"] = config.batch_size / seconds
    return row, [_detail(job, kernel, model.seconds(kernel, target)) for kernel in found]


def _detail(job: Job, kernel: Kernel, seconds: float) -> Row:
    return {
        "program": job.name,
        "kernel": kernel.name,
        "source": kernel.source,
        "launches": kernel.times,
        "MB": kernel.bytes / 1e6,
        "Gflop": sum(kernel.matrix_flops.values()) / 1e9,
        "seconds": kernel.times * seconds,
    }


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("target", choices=NAMES, help="the GPU to compile for")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[8_192, 65_536])
    parser.add_argument("--num-bars", type=int, default=140_000)
    parser.add_argument("--validation-bars", type=int, default=21_000)
    parser.add_argument("--update-epochs", type=int, default=10)
    parser.add_argument("--minibatch-size", type=int, help="rows; by the learner's default for a GPU")
    parser.add_argument("--first-layer", choices=("auto", "gather", "conv", "fft"), default="auto")
    parser.add_argument("--programs", nargs="+", help="only these, e.g. update; default all")
    parser.add_argument("--hlo", type=Path, help="folder for the text of the optimised programs")
    parser.add_argument("--kernels", type=int, default=12, help="costliest kernels of each program that are kept")
    return parser.parse_args(argv)


def device_for(target: Target) -> jax.Device:
    """Return the described GPU as a device that programs can be compiled for."""
    try:
        topology = topologies.get_topology_desc(platform="cuda", target_config=target.config(), topology="1x1x1")
    except Exception as error:
        raise UserError(f"XLA's CUDA compiler is missing ({error}); install jtf[cuda12].") from error
    return topology.devices[0]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    jax.config.update("jax_platforms", "cpu")  # No GPU is opened, also where there is one.
    target, model = load_target(args.target), Model()
    device = device_for(target)
    rows, details = [], []
    for num_envs in args.num_envs:
        config = gpu_config(num_envs, args.num_bars, args)
        for job in make_jobs(num_envs, args, device):
            if args.programs and job.name not in args.programs:
                continue
            row, found = price(job, config, target, model, args.hlo)
            rows.append(row)
            print(f"{job.name}, {num_envs:,} environments: compiled in {row['compile s']:.1f} s", flush=True)
            costliest = sorted(found, key=lambda detail: -detail["seconds"])[: args.kernels]
            details += [{"envs": num_envs, **detail} for detail in costliest]
    print(f"\n{WORDS} {target.name}\n\n{format_table(rows)}")
    if not args.no_write:
        record = {
            "words": f"{WORDS} {target.name}",
            "compiled": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            **{name: version(name) for name in (*PACKAGES, "jax-cuda12-plugin")},
            "model": asdict(model) | {"peak": target.peak, "memory_bandwidth": target.bandwidth},
            "settings": {
                key: value for key, value in vars(args).items() if key not in ("out", "no_write", "label", "hlo")
            },
            "learner": asdict(config),
            "rows": rows,
            "kernels": details,
        }
        path = args.out / f"{'_'.join(filter(None, ('compiled_for', args.target, args.label)))}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
        print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
