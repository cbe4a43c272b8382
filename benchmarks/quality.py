"""Score against seconds: one trainer with one seed on the *regime* market, until a level or a limit.

``python -m benchmarks.quality '{"trainer": "rejax", "seed": 0, ...}'`` runs one `Job` and prints its `QualityRun` as
the last line; `benchmarks.pinned` runs many. The score is normalised: 1 is the known optimum on the unseen bars, 0 is
flat.

The clock of ours counts its validations, which choose its parameters. The clock of a peer stands still while it is
scored, because nothing is chosen by it. Both count compiling; it is also given apart. On one core the clock is the
CPU's, so that other work on the machine is not counted; on more it is the wall's.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.learning import Curve, known_problem, learn, num_bars_for, optimum_returns
from benchmarks.measure import RESULTS, Row, clock
from benchmarks.peer import PEERS, PeerConfig, start_peer
from benchmarks.pinned import run_jobs
from jtf.environment import ValidationData, validate
from jtf.errors import UserError, run_command
from jtf.known_optimum.markets import TRAIN_BARS, UNSEEN_BARS, KnownOptimumMarket, known_market
from jtf_ppo import PPOConfig
from jtf_ppo.types import PolicyFunctions

OURS = ("rows", "samples")
TRAINERS = (*OURS, *PEERS)

Settings = dict[str, Any]

FOUND = RESULTS / "peer_search.json"
"""What `benchmarks.peer_search` found, by trainer."""

COMMON: Settings = {
    "num_steps": 128,
    "update_epochs": 10,
    "hidden_sizes": [128],
    "learning_rate": 1e-3,
    "gamma": 0.98,
    "gae_lambda": 0.95,
    "ent_coef": 0.0,
}
"""Network, epochs and horizon: those of the learning check of this market."""
REGULARISED: Settings = {"feature_noise": 0.4, "dropout": 0.5}
"""What the peers do not have."""
UNSEARCHED: dict[str, Settings] = {
    "rows": {**COMMON, **REGULARISED, "num_envs": 8192, "minibatch_size": 2048, "updates": 12},
    "samples": {**COMMON, **REGULARISED, "num_envs": 64, "minibatch_size": 1024, "updates": 300},
    "purejaxrl": {**COMMON, "num_envs": 64, "minibatch_size": 1024},
    "rejax": {**COMMON, "num_envs": 64, "minibatch_size": 1024},
    "sb3": {**COMMON, "num_envs": 8, "minibatch_size": 256},
    "cleanrl": {**COMMON, "num_envs": 8, "minibatch_size": 256},
}
"""Settings of every trainer that no search has found better ones for (`benchmarks.peer_search`)."""


def choose_settings(trainer: str, found: Path = FOUND) -> Settings:
    """Return the settings that the search found best for a trainer, or the unsearched ones, and print which."""
    searched = json.loads(found.read_text()) if found.exists() else {}
    print(f"{trainer}: settings {f'that {found} found' if trainer in searched else 'that no search has chosen'}")
    return searched[trainer]["settings"] if trainer in searched else UNSEARCHED[trainer]


@dataclass(frozen=True)
class Job:
    """One training to run."""

    trainer: str
    seed: int
    """Another market and another network."""
    settings: Settings
    level: float | None
    """Normalised score that ends the run; None to go on to the limit."""
    max_seconds: float
    """Limit on the run's clock."""
    train_bars: int = TRAIN_BARS
    unseen_bars: int = UNSEEN_BARS


@dataclass(frozen=True)
class QualityRun:
    """What a job came to."""

    compile_seconds: float
    steps: int
    """Samples trained on."""
    steps_per_second: float
    """Without compiling; a peer's without scoring too."""
    points: list[list[float]]
    """``[seconds since the start, normalised score on unseen bars]``, one a scoring."""

    @property
    def best(self) -> float:
        """The best score."""
        return max(score for _, score in self.points)

    @property
    def last_second(self) -> float:
        """When the run was scored last."""
        return self.points[-1][0]

    def seconds_to(self, level: float) -> float | None:
        """Return the second of the first score of at least `level`, if there is one."""
        return next((seconds for seconds, score in self.points if score >= level), None)


def level_of(job: Job) -> float:
    """Return the score that ends the run."""
    return math.inf if job.level is None else job.level


def run_job(job: Job) -> QualityRun:
    """Train until the score reaches the level or the clock the limit, whichever is first; nothing else ends a run."""
    if job.trainer not in TRAINERS:
        raise UserError(f"trainer {job.trainer!r} is not one of {', '.join(TRAINERS)}.")
    num_bars = num_bars_for(job.train_bars, job.unseen_bars)
    known = known_market("regime", num_bars, job.seed, unseen_bars=job.unseen_bars)
    return run_ours(job, known) if job.trainer in OURS else run_peer(job, known)


def run_ours(job: Job, known: KnownOptimumMarket) -> QualityRun:
    """Train this project's learner; a schedule that ends too soon is followed by one of twice the length, from scratch.

    The clock goes on. Each schedule has a network and draws of its own. None begins that could not finish compiling.
    """
    optimum, _ = optimum_returns(known)
    problem = known_problem(known)
    began = clock()
    points: list[list[float]] = []
    curves: list[Curve] = []
    so_far = longest_compile = 0.0
    while not points or (points[-1][1] < level_of(job) and so_far + longest_compile < job.max_seconds):
        config = ours_config(job, attempt=len(curves))
        curves.append(learn(problem, config, max_seconds=job.max_seconds - so_far, enough=level_of(job) * optimum))
        points += [[so_far + point.seconds, point.unseen / optimum] for point in curves[-1].points]
        so_far = clock() - began
        longest_compile = max(curve.compile_seconds for curve in curves)
    steps = sum(curve.steps for curve in curves)
    compiling = sum(curve.compile_seconds for curve in curves)
    return QualityRun(compiling, steps, steps / (points[-1][0] - compiling), points)


def ours_config(job: Job, attempt: int) -> PPOConfig:
    """Return the learner's settings of an attempt: each has twice the updates of the one before."""
    settings = dict(job.settings)
    updates = settings.pop("updates") * 2**attempt
    settings["hidden_sizes"] = tuple(settings["hidden_sizes"])
    return PPOConfig(
        engine=job.trainer,
        total_steps=updates * settings["num_envs"] * settings["num_steps"],
        validation_interval=1 if job.trainer == "rows" else 4,
        seed=job.seed + 1000 * attempt,
        **settings,
    )


def run_peer(job: Job, known: KnownOptimumMarket) -> QualityRun:
    """Train a peer; scored after every iteration, later after every 5 % more of its clock."""
    optimum, _ = optimum_returns(known)
    problem = known_problem(known)
    data: ValidationData = problem.validation.data
    config = peer_config(job.settings)
    session = start_peer(job.trainer, problem.data, config, job.seed)
    points: list[list[float]] = []
    iterations, seconds, due = 0, session.compile_seconds, 0.0
    while not points or (seconds < job.max_seconds and points[-1][1] < level_of(job)):
        began = clock()
        session.iterate()
        seconds += clock() - began
        iterations += 1
        if seconds >= due or seconds >= job.max_seconds:
            points.append([seconds, float(score_logits(session.row_logits(data.market), data)) / optimum])
            due = 1.05 * seconds
    steps = iterations * config.batch_size
    return QualityRun(session.compile_seconds, steps, steps / (seconds - session.compile_seconds), points)


def peer_config(settings: Settings) -> PeerConfig:
    """Return a peer's settings; ``minibatch_size`` stands for the number of minibatches."""
    rest = {name: value for name, value in settings.items() if name != "minibatch_size"}
    samples = settings["num_envs"] * settings.get("num_steps", PeerConfig.num_steps)
    minibatches = max(1, samples // settings["minibatch_size"])
    return PeerConfig(num_minibatches=minibatches, **(rest | {"hidden_sizes": tuple(settings["hidden_sizes"])}))


@jax.jit
def score_logits(logits: Array | np.ndarray, data: ValidationData) -> Array:
    """Return the log return of equity when the most likely action of ``logits [T, A]`` is taken at every bar."""
    zeros = jnp.zeros(data.market.num_bars)
    policy = PolicyFunctions(_no_account, lambda table: (jnp.asarray(logits), zeros))
    return validate(policy, data)["score"]


def _no_account(*_: Any) -> Any:
    raise AssertionError("peers are scored on layouts without account columns only")


def run_row(job: Job, run: QualityRun, level: float) -> Row:
    """Return a run's line of a table; times are blank where the level was not reached."""
    seconds = run.seconds_to(level)
    return {
        "trainer": job.trainer,
        "seed": job.seed,
        "reached": seconds is not None,
        "seconds": seconds,
        "without compile": None if seconds is None else seconds - run.compile_seconds,
        "compile s": run.compile_seconds,
        "best score": run.best,
        "last score": run.points[-1][1],
        "last second": run.last_second,
        "steps": run.steps,
        "steps/s": run.steps_per_second,
    }


def run_all(jobs: Sequence[Job], cores: int, kept: Path) -> list[QualityRun]:
    """Run every job in a process of its own (`benchmarks.pinned`); those in `kept` are not run again."""
    command = [sys.executable, "-m", "benchmarks.quality"]
    return [QualityRun(**result) for result in run_jobs(command, [asdict(job) for job in jobs], cores, kept)]


def add_run_flags(parser: argparse.ArgumentParser, kept: str) -> None:
    """Add what every series of runs has: sizes of the market, cores of a run, and the file of finished runs."""
    parser.add_argument("--train-bars", type=int, default=TRAIN_BARS)
    parser.add_argument("--unseen-bars", type=int, default=UNSEEN_BARS)
    parser.add_argument("--cores", type=int, default=1, help="of each run; as many run side by side as fit")
    parser.add_argument("--runs", type=Path, default=RESULTS / kept, help="JSONL of finished runs; not run again")


def main(argv: Sequence[str] | None = None) -> int:
    (text,) = sys.argv[1:] if argv is None else argv
    print(json.dumps(asdict(run_job(Job(**json.loads(text))))))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
