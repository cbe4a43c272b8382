"""Seconds until a policy earns 90 % of the known optimum on unseen bars of the *regime* market: ours beside its peers.

Steps a second can be inflated by adding environments; this cannot. Every trainer has the same hidden layer and bars,
and settings of its own: those that `benchmarks.peer_search` found, where it searched. Our learner has feature noise and
dropout; the peers (extra ``bench``) have not. Each run is a process pinned to ``--cores`` cores and ends at the level
or the limit only; with ``--hold`` at the limit alone. Finished runs are kept in ``--runs``, so that the whole can be
run in pieces. `benchmarks.quality` says what the clocks count.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.measure import Row, make_parser, report
from benchmarks.pictures import new_figure, save_figure
from benchmarks.quality import TRAINERS, Job, QualityRun, add_run_flags, choose_settings, run_all, run_row
from jtf.errors import run_command

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "time_to_quality.png"
LABELS = {"rows": "jtf, row engine", "samples": "jtf, sample engine", "purejaxrl": "PureJaxRL-style PPO",
          "rejax": "rejax PPO", "sb3": "Stable-Baselines3 PPO", "cleanrl": "CleanRL-style PPO"}  # fmt: skip


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=["rows", "purejaxrl"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each another market and another network")
    parser.add_argument("--level", type=float, default=0.9, help="normalised score that counts as reached")
    parser.add_argument("--max-seconds", type=float, default=900.0, help="limit of one run, compile included")
    parser.add_argument("--picture", type=Path, help=f"PNG of score against seconds, e.g. {PICTURE.name} (matplotlib)")
    parser.add_argument("--hold", action="store_true", help="go on to the limit: does a run that arrived stay there?")
    add_run_flags(parser, "time_to_quality_runs.jsonl")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    settings = {trainer: choose_settings(trainer) for trainer in args.trainers}
    level = None if args.hold else args.level
    jobs = [
        Job(trainer, seed, settings[trainer], level, args.max_seconds, args.train_bars, args.unseen_bars)
        for trainer, seed in product(args.trainers, args.seeds)
    ]
    runs = run_all(jobs, args.cores, args.runs)
    rows = [run_row(job, run, args.level) for job, run in zip(jobs, runs, strict=True)]
    details = [{**vars(job), "points": run.points} for job, run in zip(jobs, runs, strict=True)]
    report("time_to_quality", rows, args, summarise(rows), details)
    if args.picture is not None:
        draw(jobs, runs, args)
    return 0


def summarise(rows: Sequence[Row]) -> Row:
    """Return the median seconds of every trainer, and how many times ours the others took, compile excluded."""
    summary: Row = {}
    for trainer, runs in by_trainer(rows).items():
        reached = f"{sum(row['reached'] for row in runs)} of {len(runs)} reached"
        bound = "" if most_arrived(runs) else ", at least"
        with_compile = median(row["seconds"] or row["last second"] for row in runs)
        summary[f"{trainer}, {reached}, median seconds{bound}"] = with_compile
        summary[f"{trainer}, without compile{bound}"] = median(seconds_without_compile(row) for row in runs)
    return summary | ratios(rows)


def seconds_without_compile(row: Row) -> float:
    """Return the seconds to the level, or to the limit where it was not reached."""
    return row["without compile"] or row["last second"] - row["compile s"]


def ratios(rows: Sequence[Row]) -> Row:
    """Return how many times as long the others took, compile excluded, as medians of their seeds.

    Where a run never arrived its time is the limit it ran into. Where half of the runs did not, the ratio is a bound
    and says "at least".
    """
    runs_of = by_trainer(rows)
    seconds = {trainer: median(map(seconds_without_compile, runs)) for trainer, runs in runs_of.items()}
    arrived = {trainer: most_arrived(runs) for trainer, runs in runs_of.items()}
    if not arrived.get("rows"):
        return {}
    return {
        f"{trainer} / rows{'' if arrived[trainer] else ', at least'}": seconds[trainer] / seconds["rows"]
        for trainer in seconds
        if trainer != "rows"
    }


def most_arrived(runs: Sequence[Row]) -> bool:
    """Whether the median of the times is a time and not a limit."""
    return 2 * sum(row["reached"] for row in runs) > len(runs)


def by_trainer(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of every trainer, in the order in which they come."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row["trainer"], []).append(row)
    return grouped


def draw(jobs: Sequence[Job], runs: Sequence[QualityRun], args: argparse.Namespace) -> None:
    """Draw the score against the run's clock, a line a seed."""
    figure, (axes,) = new_figure(1)
    colours = {trainer: f"C{index}" for index, trainer in enumerate(args.trainers)}
    labelled: set[str] = set()
    for job, run in zip(jobs, runs, strict=True):
        seconds, scores = zip(*run.points, strict=True)
        label = None if job.trainer in labelled else LABELS[job.trainer]
        labelled.add(job.trainer)
        colour = colours[job.trainer]
        axes.plot(seconds, scores, color=colour, label=label, marker=".", linewidth=1)
    axes.axhline(args.level, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="seconds, compile included", ylabel="normalised score, unseen bars")
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False)
    save_figure(figure, args.picture)


if __name__ == "__main__":
    sys.exit(run_command(main))
