"""Training on one market, validated on another: what the learning benchmarks share."""

import argparse
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.compilation_cache import compilation_cache

from benchmarks.measure import Row, clock
from benchmarks.phases import CRYPTO_BARS_PER_YEAR, resolve_for
from jtf.data import load_bars
from jtf.environment import ValidationData, make_validation, validate
from jtf.known_optimum.markets import TRAIN_BARS, UNSEEN_BARS, KnownOptimumMarket
from jtf.problem import Problem, make_problem
from jtf.splits import SplitConfig, embargo_bars, split
from jtf_env.layouts import DEFAULT_WINDOW, LAYOUTS, get_layout
from jtf_env.market import build_market
from jtf_env.params import make_params
from jtf_ppo import PPOConfig, train
from jtf_ppo.types import PolicyFunctions, Validation


class Segments(NamedTuple):
    """The bars a policy is scored on."""

    unseen: ValidationData
    train: ValidationData


@dataclass(frozen=True)
class Point:
    """One validation: net log returns of the most likely actions."""

    update: int
    seconds: float
    """Wall seconds since training was called, compile included."""
    unseen: float
    train: float


@dataclass(frozen=True)
class Curve:
    """One training run."""

    points: tuple[Point, ...]
    compile_seconds: float
    steps: int
    steps_per_second: float
    config: PPOConfig
    """Resolved."""

    @property
    def best(self) -> Point:
        """The point of the best unseen return."""
        return max(self.points, key=lambda point: point.unseen)

    @property
    def final(self) -> Point:
        """The last point."""
        return self.points[-1]

    def first_at(self, level: float) -> Point | None:
        """The first point whose unseen return is at least `level`, if there is one."""
        return next((point for point in self.points if point.unseen >= level), None)


@dataclass
class Recorder:
    """Collects the validations of a run and ends it at a level or a time limit."""

    max_seconds: float
    enough: float
    began: float = field(default_factory=clock)
    points: list[Point] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)
    """When each update had ended."""

    def on_update(self, _: Any) -> None:
        """Record the end of an update."""
        self.updates.append(clock())

    @property
    def seconds_before_updates(self) -> float:
        """How long it took to the end of the first update, less a later one; infinite where there is no later one."""
        if len(self.updates) < 2:
            return math.inf
        return (self.updates[0] - self.began) - (self.updates[1] - self.updates[0])

    def on_validation(self, records: list[dict[str, float]], best: dict[int, Any], improved: list[bool]) -> None:
        """Record one validation of the only member."""
        self.record(int(records[0]["update"]), records[0]["val/score"], records[0]["val/train_score"])

    def record(self, update: int, unseen: float, train: float) -> None:
        """Add a point now."""
        self.points.append(Point(update, clock() - self.began, unseen, train))

    def should_stop(self) -> bool:
        """Whether the level is reached or the time is up; never before the first validation."""
        if not self.points:
            return False
        return self.points[-1].unseen >= self.enough or clock() - self.began > self.max_seconds


def score_both(policy: PolicyFunctions, data: Segments) -> dict[str, Array]:
    """Backtest the policy on both segments; the unseen one picks the best parameters."""
    return {"score": validate(policy, data.unseen)["score"], "train_score": validate(policy, data.train)["score"]}


def make_segments(problem: Problem) -> Segments:
    """Return what `score_both` takes; the score needs no annualisation."""
    return Segments(problem.validation.data, make_validation(*problem.data, 1.0).data)


def learn(problem: Problem, config: PPOConfig, *, max_seconds: float = math.inf, enough: float = math.inf) -> Curve:
    """Train on a problem; `max_seconds` or the unseen return `enough` may end the run early.

    What `config` leaves open is decided for this device. At least one validation is made.
    """
    config = resolve_for(problem.data[0], config)
    recorder = Recorder(max_seconds, enough)
    result = train(
        problem.environment,
        problem.data,
        config,
        validation=Validation(score_both, make_segments(problem)),
        on_update=recorder.on_update,
        on_validation=recorder.on_validation,
        should_stop=recorder.should_stop,
    )
    rate = result.steps_timed / result.run_seconds
    compile_seconds = min(result.compile_seconds, recorder.seconds_before_updates)  # The first is the wall's.
    return Curve(tuple(recorder.points), compile_seconds, result.steps, rate, config)


def known_problem(known: KnownOptimumMarket) -> Problem:
    """Return the problem of a market whose optimum is known: its training bars, validated on its unseen ones."""
    return make_problem(known.natural, known.fold(known.unseen, known.unseen), known.params, CRYPTO_BARS_PER_YEAR)


def learn_known(known: KnownOptimumMarket, config: PPOConfig, **limits: float) -> Curve:
    """Train on a known market's training bars, validate on its unseen ones."""
    return learn(known_problem(known), config, **limits)


@cache
def real_problem(symbol: str, folder: Path, layout: str, fee: float | None = None) -> Problem:
    """Return the problem of real bars, split as `jtf.train` splits them.

    `fee` replaces that of the asset class. Every layout starts at the latest warm-up of any, so that all are scored on
    the same bars.
    """
    bars = load_bars(symbol, folder)
    first_bar = max(known.first_bar() for known in LAYOUTS.values())
    fold = split(len(bars), first_bar, DEFAULT_WINDOW, SplitConfig())
    costs = {} if fee is None else {"fee": fee}
    params = make_params(bars.asset_class, "log_return", **costs)
    return make_problem(build_market(bars, layout, dtype=jnp.float64), fold, params, bars.bars_per_year)


def curve_row(curve: Curve, unseen_unit: float, train_unit: float) -> Row:
    """Return one run's line, its log returns divided by the units: 1, or the optimum's on the same bars."""
    unseen, train = curve.final.unseen / unseen_unit, curve.final.train / train_unit
    return {
        "best": curve.best.unseen / unseen_unit,
        "final": unseen,
        "train final": train,
        "gap": train - unseen,
        "best update": curve.best.update,
        "seconds": curve.final.seconds,
    }


def add_learning_flags(
    parser: argparse.ArgumentParser,
    *,
    updates: int,
    num_envs: int,
    update_epochs: int,
    learning_rate: float,
    validation_interval: int,
) -> None:
    """Add markets, seeds and the learner's sizes, with these defaults."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--train-bars", type=int, default=TRAIN_BARS)
    parser.add_argument("--unseen-bars", type=int, default=UNSEEN_BARS)
    parser.add_argument("--symbols", nargs="+", default=["SPY", "BTCUSDT"], help="with --real")
    parser.add_argument("--updates", type=int, default=updates)
    parser.add_argument("--num-envs", type=int, default=8192 if jax.default_backend() == "gpu" else num_envs)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--minibatch-size", type=int, default=2048)
    parser.add_argument("--update-epochs", type=int, default=update_epochs)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[64])
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--validation-interval", type=int, default=validation_interval, help="updates")


def learner_config(args: argparse.Namespace, seed: int, **settings: Any) -> PPOConfig:
    """Return the learner's settings of `add_learning_flags`, and more."""
    return PPOConfig(
        total_steps=args.updates * args.num_envs * args.num_steps,
        num_envs=args.num_envs,
        num_steps=args.num_steps,
        minibatch_size=args.minibatch_size,
        update_epochs=args.update_epochs,
        hidden_sizes=tuple(args.hidden_sizes),
        learning_rate=args.learning_rate,
        validation_interval=args.validation_interval,
        seed=seed,
        **settings,
    )


def optimum_returns(known: KnownOptimumMarket) -> tuple[float, float]:
    """Return the net log return of the optimum on unseen and on training bars."""
    unseen, training = (
        known.net_log_return(known.optimum_actions(segment), segment) for segment in (known.unseen, known.train)
    )
    return unseen, training


def num_bars_for(train_bars: int, unseen_bars: int, layout: str = "v5.6.0", window: int = 100) -> int:
    """Return how many bars a known market needs for that many training and unseen ones."""
    return get_layout(layout).first_bar(window) + train_bars + embargo_bars(window) + unseen_bars


@contextmanager
def shared_compilations() -> Iterator[None]:
    """Keep compiled programs in a temporary folder, so that runs that differ only in seed and data compile once."""
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        # JAX opens its cache once; only a reset makes it look at the setting again.
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", before[0])
            jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])
            compilation_cache.reset_cache()
