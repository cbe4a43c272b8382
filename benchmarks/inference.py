"""Decisions on one core: `Session.update`, import and memory, beside ONNX Runtime and a dense NumPy network.

Every row is a process of its own with one thread, in which what inference does not need cannot be imported. A session
computes the columns of the new bar and the network; the other two are given the finished observation.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, make_parser, report
from benchmarks.metrics import random_walk
from jtf.errors import run_command
from jtf.models.bundle import write_bundle
from jtf.models.formats import onnx_bytes
from jtf.models.policy import Params, Policy
from jtf_env.bars import COLUMNS, Bars
from jtf_env.layouts import DEFAULT_LAYOUT, DEFAULT_WINDOW, get_layout
from jtf_env.mirror import build_market, fit_scaler
from jtf_env.params import make_params

BLOCKED = ("jax", "jaxlib", "flax", "optax", "orbax", "pyarrow", "scipy", "matplotlib", "plotly", "rich", "tyro")

START = """
import json, sys, time
began = time.perf_counter()
for name in {blocked}:
    sys.modules[name] = None

def memory():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

def seconds(step, inputs):
    times = []
    for one in inputs:
        start = time.perf_counter()
        step(one)
        times.append(time.perf_counter() - start)
    return times[len(times) // 10:]
"""
SESSION = """
import jtf
jtf.Policy
imported = time.perf_counter()
import pandas as pd
frame = pd.read_csv("bars.csv", parse_dates=["timestamp"])
began_load = time.perf_counter()
policy = jtf.Policy.load("policy.zip")
session = policy.start(frame.iloc[:-{updates}])
started = time.perf_counter()
records = frame.iloc[-{updates}:].to_dict("records")
times = seconds(session.update, records)
print(json.dumps([imported - began, started - began_load, memory(), times]))
"""
STREAM = """
import numpy as np
import jtf
policy = jtf.Policy.load("policy.zip")
from jtf.models.stream import WindowStream
imported = started = time.perf_counter()
rows = np.random.default_rng(0).normal(size=(400 + {updates}, policy.network.kernel.shape[1]))
stream, context = WindowStream(policy.network.kernel, rows[:400], 400), np.zeros(7)
times = seconds(lambda row: policy.network.outputs(stream.push(row), context), rows[400:])
print(json.dumps([imported - began, 0.0, memory(), times]))
"""
DENSE = """
import numpy as np
import jtf
imported = time.perf_counter()
policy = jtf.Policy.load("policy.zip")
network = policy.network
kernel = network.kernel.reshape(-1, network.kernel.shape[2])
started = time.perf_counter()
windows = np.random.default_rng(0).normal(size=({updates}, len(kernel))).astype(np.float32)
context = np.zeros(7)
times = seconds(lambda window: network.outputs(window @ kernel, context), windows)
print(json.dumps([imported - began, started - imported, memory(), times]))
"""
ONNX = """
import numpy as np
import onnxruntime
imported = time.perf_counter()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
run = onnxruntime.InferenceSession("policy.onnx", options, providers=["CPUExecutionProvider"]).run
started = time.perf_counter()
size = ({updates}, 1, *{size})
inputs = np.random.default_rng(0).normal(size=size).astype(np.float32)
times = seconds(lambda observation: run(None, {{"observation": observation}}), inputs)
print(json.dumps([imported - began, started - imported, memory(), times]))
"""
PROGRAMS = {
    "jtf, columns and network": SESSION,
    "jtf, network": STREAM,
    "dense NumPy, network": DENSE,
    "ONNX Runtime, network": ONNX,
}


def random_policy(bars: Bars, sizes: Sequence[int], members: int) -> Policy:
    """Return a policy of random weights whose scaler fits `bars`."""
    layout, rng = get_layout(DEFAULT_LAYOUT), np.random.default_rng(0)
    natural = build_market(bars, layout)

    def layer(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 1.0 / np.sqrt(np.prod(shape[:-1])), shape).astype(np.float32)

    def dense(inputs: int, outputs: int) -> Params:
        return {"kernel": layer(inputs, outputs), "bias": layer(outputs)}

    def member() -> Params:
        bar, context = natural.features.shape[1], natural.context.shape[1]
        kernels = {"kernel": layer(DEFAULT_WINDOW, bar, sizes[0]), "context_kernel": layer(context, sizes[0])}
        hidden = {f"hidden_{k}": dense(sizes[k], sizes[k + 1]) for k in range(len(sizes) - 1)}
        first = {"first": kernels | {"bias": layer(sizes[0])}}
        return first | hidden | {"policy": dense(sizes[-1], 8), "value": dense(sizes[-1], 1)}

    return Policy(
        members=tuple(member() for _ in range(members)),
        seeds=tuple(range(members)),
        scaler=fit_scaler(natural.features, natural.context, natural.first_bar),
        symbol=bars.symbol,
        layout=layout,
        window=DEFAULT_WINDOW,
        env_params=make_params(bars.asset_class),
        bars_per_year=bars.bars_per_year,
    )


def write_files(folder: Path, policy: Policy, bars: Bars) -> None:
    """Write what the processes read."""
    import pandas as pd

    write_bundle(folder / "policy.zip", policy, {})
    (folder / "policy.onnx").write_bytes(onnx_bytes(policy))
    pd.DataFrame({name: getattr(bars, name) for name in COLUMNS}, bars.timestamps).to_csv(folder / "bars.csv")


def measure(name: str, folder: Path, updates: int) -> Row:
    """Return a row of the table: one process."""
    blocked = BLOCKED if "ONNX" not in name else ()
    size = (DEFAULT_WINDOW, get_layout(DEFAULT_LAYOUT).count)
    code = START.format(blocked=blocked) + PROGRAMS[name].format(updates=updates, size=size)
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | one_thread | paths, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    imported, loaded, memory, times = json.loads(done.stdout)
    return {
        "program": name,
        "p50 ms": 1e3 * float(np.quantile(times, 0.5)),
        "p99 ms": 1e3 * float(np.quantile(times, 0.99)),
        "import s": imported,
        "load and start s": loaded,
        "memory MB": memory,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[512, 256, 128])
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--history", type=int, default=5_000, help="bars before the first update")
    parser.add_argument("--updates", type=int, default=2_000, help="decisions; the first tenth warms up")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    bars = random_walk(args.history + args.updates)
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), random_policy(bars, args.hidden_sizes, args.members), bars)
        rows = [measure(program, Path(name), args.updates) for program in PROGRAMS]
    report("inference", rows, args, {"hidden sizes": str(args.hidden_sizes), "members": args.members})
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
