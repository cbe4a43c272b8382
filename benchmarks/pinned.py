"""Many jobs, each a process pinned to CPU cores of its own; what is done is kept line by line and not done again.

With one core a job, two run side by side on two cores and neither takes the other's time; they still share the memory's
bandwidth. Every job compiles anew: no compilation cache is read or written.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

from jtf.errors import UserError
from jtf.results.run_directory import write_atomically

Job = Mapping[str, Any]
Result = dict[str, Any]


def run_jobs(command: Sequence[str], jobs: Sequence[Job], cores: int, kept: Path) -> list[Result]:
    """Return the result of every job, in order; those that `kept` has are not run.

    A job runs as ``command JSON`` on `cores` cores, as many side by side as fit, and prints its result as JSON in its
    last line. It becomes a line of `kept`, so that an interrupted series goes on where it was. Raises `UserError` with
    what a job that failed said last.
    """
    groups = core_groups(cores)
    done = read_kept(kept)
    missing = [job for job in jobs if job_key(job, cores) not in done]
    print(
        f"{len(jobs) - len(missing)} of {len(jobs)} runs in {kept}; {len(groups)} side by side on {cores} core(s) each"
    )
    free: SimpleQueue[list[int]] = SimpleQueue()
    for group in groups:
        free.put(group)
    writing = Lock()

    def run(job: Job) -> None:
        group = free.get()
        try:
            result = run_pinned([*command, json.dumps(job)], group)
        finally:
            free.put(group)
        print(f"cores {group}: done", flush=True)
        with writing:
            done[job_key(job, cores)] = result
            append_line(kept, {"job": job, "cores": cores, "result": result})

    pool = ThreadPoolExecutor(len(groups))
    try:
        for future in [pool.submit(run, job) for job in missing]:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return [done[job_key(job, cores)] for job in jobs]


def core_groups(cores: int) -> list[list[int]]:
    """Return disjoint groups of `cores` of the CPU cores this process may use; `UserError` where there is none."""
    usable = sorted(os.sched_getaffinity(0))
    if not 1 <= cores <= len(usable):
        raise UserError(f"--cores {cores} is outside 1..{len(usable)}, the cores this process may use.")
    return [usable[first : first + cores] for first in range(0, len(usable) - cores + 1, cores)]


def run_pinned(command: Sequence[str], cpus: Sequence[int]) -> Result:
    """Return what the last line of the output of `command` says, run on these cores only."""
    taskset = shutil.which("taskset")
    if taskset is None:
        raise UserError("taskset is not installed; install util-linux.")
    print(f"cores {list(cpus)}: {command[-1]}", flush=True)
    done = subprocess.run(
        [taskset, "--cpu-list", ",".join(map(str, cpus)), *command],
        env=os.environ | {"OMP_NUM_THREADS": str(len(cpus)), "JAX_ENABLE_COMPILATION_CACHE": "false"},
        text=True,
        capture_output=True,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{' '.join(command)} failed: {said[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def job_key(job: Job, cores: int) -> str:
    """Return what makes a kept result the result of `job`."""
    return json.dumps({"job": job, "cores": cores}, sort_keys=True)


def read_kept(path: Path) -> dict[str, Result]:
    """Return the kept results by `job_key`."""
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {job_key(record["job"], record["cores"]): record["result"] for record in records}


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record to a JSONL file, making its folder; a kill leaves the file as it was before or after."""
    before = path.read_text() if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{before}{json.dumps(record)}\n")
