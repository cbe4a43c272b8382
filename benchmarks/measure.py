"""Timing with lower, compile and run apart; memory, device and versions; tables; one JSON file of results a device."""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jtf.results.run_directory import write_json

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")

Row = dict[str, Any]


def clock() -> float:
    """Return seconds: the CPU's where this process is pinned to one core, the wall's otherwise.

    On one core a process's CPU seconds are what the wall's would be if nobody else used the core.
    """
    return time.process_time() if len(os.sched_getaffinity(0)) == 1 else time.perf_counter()


@dataclass(frozen=True)
class Measurement:
    """One compiled function, timed. Seconds are wall seconds, sizes bytes."""

    lower_seconds: float
    """Tracing and lowering to StableHLO."""
    compile_seconds: float
    run_seconds: float
    """Median over the repeats."""
    fastest_seconds: float
    cpu_seconds: float
    """Median over the repeats of what all threads of the process worked."""
    repeats: int
    temporary_bytes: int
    """Scratch the program allocates beside its arguments and results."""
    argument_bytes: int
    output_bytes: int
    compiler_flops: float
    """XLA's own count; it sees one pass of every loop, so the benchmarks count by arithmetic (`benchmarks.floors`)."""


def measure(
    function: Callable[..., Any], *args: Any, carry: bool = False, repeats: int = 5, budget_seconds: float = 5.0
) -> Measurement:
    """Lower, compile and run ``function(*args)``, a function of pytrees.

    Parameters
    ----------
    carry: the function returns a tuple whose first part is its next first argument; that argument is donated, as
        the trainer does.
    repeats, budget_seconds: runs to time after the first one, cut short when the budget is spent. A first run that
        spends it all is the measurement: nothing compiles in it, it only warms caches.
    """
    if carry:
        args = (jax.tree.map(jnp.copy, args[0]), *args[1:])
    began = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=(0,) if carry else ()).lower(*args)
    lower_seconds = time.perf_counter() - began
    began = time.perf_counter()
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - began
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    while not seconds or (len(seconds) <= repeats and sum(seconds) < budget_seconds):
        began, worked = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(compiled(*args))
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - worked)
        if carry:
            args = (result[0], *args[1:])
    timed = seconds[1:] or seconds
    memory = compiled.memory_analysis()
    cost = compiled.cost_analysis() or {}
    return Measurement(
        lower_seconds,
        compile_seconds,
        statistics.median(timed),
        min(timed),
        statistics.median(cpu_seconds[1:] or cpu_seconds),
        len(timed),
        memory.temp_size_in_bytes,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        float(cost.get("flops", 0.0)),
    )


def peak_bytes() -> int:
    """Peak memory of this process so far: on the device, or where the device does not say (CPU) resident."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def device_info() -> dict[str, Any]:
    """Return what a figure depends on beside the code: device, processor, versions."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor()


def device_slug(info: dict[str, Any]) -> str:
    """Return the file name of a device's results, e.g. ``cpu_2_cores`` or ``nvidia_h100_80gb_hbm3``."""
    name = f"cpu {info['cpu_count']} cores" if info["platform"] == "cpu" else info["device_kind"]
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the flags every benchmark has."""
    parser = argparse.ArgumentParser(
        description=(description or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file, one file a device")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--label", default="", help="keep this result beside others of the same benchmark")
    return parser


def add_timing_flags(parser: argparse.ArgumentParser) -> None:
    """Add how often a compiled function is run."""
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each function, after one more")
    parser.add_argument("--budget-seconds", type=float, default=5.0, help="seconds after which no further run starts")


def report(
    name: str,
    rows: Sequence[Row],
    args: argparse.Namespace,
    summary: Row | None = None,
    details: Sequence[Row] = (),
) -> None:
    """Print device, table and summary, and merge them into the device's JSON file under the benchmark's name.

    `details` are written and not printed.
    """
    info = device_info()
    print(f"\n{name} on {info['platform']} ({info['device_kind']}, {info['processor']}, {info['cpu_count']} CPU cores)")
    print(", ".join(f"{key} {info[key]}" for key in ("python", *PACKAGES)), end="\n\n")
    print(format_table(rows))
    for key, value in (summary or {}).items():
        print(f"{key}: {show(value)}")
    if args.no_write:
        return
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "no_write", "label")}
    record = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": info,
        "settings": settings,
        "rows": list(rows),
        "summary": summary or {},
        **({"details": list(details)} if details else {}),
    }
    path = args.out / f"{device_slug(info)}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[f"{name} {args.label}".strip()] = record
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(sorted(results.items())))
    print(f"written to {path}")


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as text, one aligned column a key; a key that a row lacks is left blank."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([show(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def show(value: Any) -> str:
    """Return a number with three significant digits or more, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value) if value is not None else "-"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
