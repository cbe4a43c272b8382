"""Training on one market, validated on another: what the learning benchmarks share."""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental.compilation_cache import compilation_cache

from benchmarks.measure import Row
from benchmarks.phases import resolve_for
from benchmarks.purejaxrl import PeerConfig
from jtf.data import load_bars
from jtf.environment import ValidationData, make_environment, make_validation, on_device, validate
from jtf.known_optimum.markets import TRAIN_BARS, UNSEEN_BARS, KnownOptimumMarket
from jtf.splits import EMBARGO_EXTRA, SplitConfig, split_bars
from jtf_env.layouts import DEFAULT_WINDOW, LAYOUTS, get_layout
from jtf_env.market import Market, build_market, market_segment, scale_market
from jtf_env.params import EnvParams, make_params
from jtf_env.scaler import fit_scaler
from jtf_ppo import PPOConfig, train
from jtf_ppo.types import Policy, Validation


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
    config: PPOConfig | PeerConfig
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
    began: float = field(default_factory=time.perf_counter)
    points: list[Point] = field(default_factory=list)

    def on_validation(self, metrics: dict[str, float], params: dict[str, Any], is_best: bool) -> None:
        """Record one validation."""
        seconds = time.perf_counter() - self.began
        self.points.append(Point(int(metrics["update"]), seconds, metrics["val/score"], metrics["val/train_score"]))

    def should_stop(self) -> bool:
        """Whether the level is reached or the time is up; never before the first validation."""
        if not self.points:
            return False
        return self.points[-1].unseen >= self.enough or time.perf_counter() - self.began > self.max_seconds


def score_both(policy: Policy, data: Segments) -> dict[str, Array]:
    """Backtest the policy on both segments; the unseen one picks the best parameters."""
    return {"score": validate(policy, data.unseen)["score"], "train_score": validate(policy, data.train)["score"]}


def make_segments(training: Market, unseen: Market, params: EnvParams) -> Segments:
    """Return what `score_both` takes; the score needs no annualisation."""
    return Segments(*(make_validation(market, params, 1.0).data for market in (unseen, training)))


def learn(
    training: Market,
    unseen: Market,
    params: EnvParams,
    config: PPOConfig,
    *,
    max_seconds: float = math.inf,
    enough: float = math.inf,
) -> Curve:
    """Train on one market, validate on the other; `max_seconds` or the unseen return `enough` may end the run early.

    What `config` leaves open is decided for this device. At least one validation is made.
    """
    config = resolve_for(training, config)
    traced = on_device(params)
    segments = make_segments(training, unseen, traced)
    recorder = Recorder(max_seconds, enough)
    result = train(
        make_environment(training),
        (training, traced),
        config,
        validation=Validation(score_both, segments),
        on_validation=recorder.on_validation,
        should_stop=recorder.should_stop,
    )
    rate = result.metrics["perf/steps_per_second"]
    return Curve(tuple(recorder.points), result.compile_seconds, result.steps, rate, config)


def learn_known(known: KnownOptimumMarket, config: PPOConfig, **limits: float) -> Curve:
    """Train on a known market's training bars, validate on its unseen ones."""
    return learn(known.segment(known.train), known.segment(known.unseen), known.params, config, **limits)


@cache
def real_problem(symbol: str, folder: Path, layout: str, fee: float | None = None) -> tuple[Market, Market, EnvParams]:
    """Return training market, validation market and parameters of real bars, split and scaled as `jtf.train` does.

    `fee` replaces that of the asset class. Every layout starts at the latest warm-up of any, so that all are scored on
    the same bars.
    """
    bars = load_bars(symbol, folder)
    first_bar = max(known.first_bar() for known in LAYOUTS.values())
    segments = split_bars(len(bars), first_bar, DEFAULT_WINDOW, SplitConfig())
    natural = build_market(bars, layout, dtype=jnp.float64)
    rows = slice(None, segments["train"].stop)
    scaler = fit_scaler(
        np.asarray(natural.features)[rows], np.asarray(natural.context)[rows], get_layout(layout).warmup
    )
    market = scale_market(natural, scaler)
    training, validation = (
        market_segment(market, segments[name].start, segments[name].stop) for name in ("train", "validation")
    )
    costs = {} if fee is None else {"fee": fee}
    return training, validation, make_params(bars.asset_class, "log_return", **costs)


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
    return get_layout(layout).first_bar(window) + train_bars + window + EMBARGO_EXTRA + unseen_bars


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
