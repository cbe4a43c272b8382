"""Search the settings of trainers on the *regime* market, as many for each, on seeds that no comparison uses.

The first setting of a trainer is that of ``benchmarks.quality.UNSEARCHED``; the others are drawn from the ranges below
with one generator. Every setting trains with every seed until the level or the limit. The best is the one whose seeds
reach the level most often; then the one whose median time is shortest; then the one whose median best score is highest.
It is written to ``benchmarks/results/peer_search.json``, where `time_to_quality` and `peers` find it.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import Row, device_info, format_table, make_parser
from benchmarks.quality import FOUND, TRAINERS, UNSEARCHED, Job, QualityRun, Settings, add_run_flags, run_all
from jtf.errors import run_command
from jtf.results.run_directory import write_json

SHARED: dict[str, tuple[Any, ...]] = {
    "num_steps": (32, 64, 128, 256),
    "update_epochs": (2, 4, 10),
    "learning_rate": (1e-4, 3e-4, 1e-3, 3e-3),
    "gamma": (0.95, 0.98, 0.991),
    "gae_lambda": (0.8, 0.9, 0.95),
    "ent_coef": (0.0, 0.005, 0.015),
}
RANGES: dict[str, dict[str, tuple[Any, ...]]] = {
    "rows": {
        **SHARED,
        "num_steps": (128,),
        "num_envs": (1024, 4096, 8192, 16_384),
        "minibatch_size": (1024, 2048, 4096),
        "feature_noise": (0.2, 0.4, 1.0),
        "dropout": (0.0, 0.5),
        "updates": (8, 12, 24),
    },
    "samples": {
        **SHARED,
        "num_envs": (16, 64, 256),
        "minibatch_size": (256, 1024),
        "feature_noise": (0.2, 0.4, 1.0),
        "dropout": (0.0, 0.5),
        "updates": (150, 300, 600),
    },
    "purejaxrl": {**SHARED, "num_envs": (16, 64, 256), "minibatch_size": (256, 1024, 4096)},
    "rejax": {**SHARED, "num_envs": (16, 64, 256), "minibatch_size": (256, 1024, 4096)},
    "sb3": {**SHARED, "num_envs": (4, 8, 16, 32), "minibatch_size": (64, 256, 1024)},
    "cleanrl": {**SHARED, "num_envs": (4, 8, 16, 32), "minibatch_size": (64, 256, 1024)},
}
"""What is drawn from, by trainer. The hidden layer is the same for all."""


def candidates(trainer: str, count: int, seed: int = 0) -> list[Settings]:
    """Return `count` different settings: the unsearched one and uniform draws from the ranges.

    A draw whose minibatch is larger than the rollout is drawn again.
    """
    rng = np.random.default_rng(seed)
    found = [UNSEARCHED[trainer]]
    while len(found) < count:
        drawn = {name: options[rng.integers(len(options))] for name, options in RANGES[trainer].items()}
        settings = {**UNSEARCHED[trainer], **drawn}
        fits = trainer == "rows" or settings["minibatch_size"] <= settings["num_envs"] * settings["num_steps"]
        if fits and settings not in found:
            found.append(settings)
    return found


def rank(runs: Sequence[QualityRun], level: float) -> tuple[float, float, float]:
    """Return what sorts the settings, the best first: seeds short of the level, median seconds to it, median best."""
    seconds = [run.seconds_to(level) for run in runs]
    times = [math.inf if second is None else second for second in seconds]
    return sum(second is None for second in seconds), median(times), -median(run.best for run in runs)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=["rows", "purejaxrl", "rejax"])
    parser.add_argument("--settings", type=int, default=8, help="of each trainer, the unsearched one included")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6], help="each another market and another network")
    parser.add_argument("--level", type=float, default=0.9, help="normalised score that ends a run")
    parser.add_argument("--max-seconds", type=float, default=90.0, help="limit of one run, compile included")
    parser.add_argument("--found", type=Path, default=FOUND, help="JSON file of the best settings")
    add_run_flags(parser, "peer_search_runs.jsonl")
    return parser.parse_args(argv)


def search(trainer: str, args: argparse.Namespace) -> list[Row]:
    """Return a line a setting, the best first."""
    chosen = candidates(trainer, args.settings)
    jobs = [
        Job(trainer, seed, settings, args.level, args.max_seconds, args.train_bars, args.unseen_bars)
        for settings in chosen
        for seed in args.seeds
    ]
    runs = run_all(jobs, args.cores, args.runs)
    count = len(args.seeds)
    by_setting = [runs[first : first + count] for first in range(0, len(runs), count)]
    order = sorted(range(len(chosen)), key=lambda index: rank(by_setting[index], args.level))
    return [
        {
            "trainer": trainer,
            "setting": index,
            "reached": sum(run.seconds_to(args.level) is not None for run in by_setting[index]),
            "best scores": [round(run.best, 3) for run in by_setting[index]],
            "seconds": [run.seconds_to(args.level) for run in by_setting[index]],
            **chosen[index],
        }
        for index in order
    ]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    found = json.loads(args.found.read_text()) if args.found.exists() else {}
    for trainer in args.trainers:
        rows = search(trainer, args)
        print(f"\n{format_table(rows)}\n")
        best = rows[0]
        found[trainer] = {
            "settings": {name: best[name] for name in UNSEARCHED[trainer]},
            "searched": {
                "settings": args.settings, "seeds": args.seeds, "max_seconds": args.max_seconds, "level": args.level,
                "cores": args.cores, "device": device_info(),
            },
            "table": rows,
        }  # fmt: skip
    if not args.no_write:
        write_json(args.found, dict(sorted(found.items())))
        print(f"written to {args.found}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
