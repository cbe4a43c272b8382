"""Everything between a command line and the first update: bars, splits, markets, sizes. All refusals happen here."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jtf.config import RunConfig, env_params, learner_config, named_flag, run_layout
from jtf.data import bars_sha256, load_bars
from jtf.environment import TradingData, make_environment, make_validation, on_device
from jtf.errors import UserError
from jtf.results.metrics import annualisation
from jtf.splits import Segment, split_bars
from jtf_env.bars import Bars, check_enough_bars
from jtf_env.errors import ParamsError
from jtf_env.layouts import Layout
from jtf_env.market import build_market, market_segment, scale_market
from jtf_env.params import EnvParams
from jtf_env.scaler import Scaler, fit_scaler
from jtf_env.versions import ENV_VERSION, FEATURES_VERSION
from jtf_ppo.config import PPOConfig, resolve
from jtf_ppo.errors import ConfigError
from jtf_ppo.types import Environment, Validation


@dataclass(frozen=True, eq=False)
class Task:
    """A training run, ready to start."""

    config: RunConfig
    """With every size the device decided filled in."""
    learner: PPOConfig
    bars: Bars
    data_sha256: str
    layout: Layout
    segments: dict[str, Segment]
    scaler: Scaler
    params: EnvParams
    environment: Environment
    training_data: TradingData
    validation: Validation

    @property
    def synthetic(self) -> bool:
        """Whether the bars are the built-in market's."""
        return self.config.data is None

    @property
    def identity(self) -> dict[str, str]:
        """What the checkpoints of this run belong to."""
        return {
            "features version": str(FEATURES_VERSION),
            "environment version": str(ENV_VERSION),
            "layout": self.layout.hash(self.config.window),
            "data": self.data_sha256,
        }


def prepare(config: RunConfig) -> Task:
    """Load, check, split and standardise; raises the errors of a user's mistake before anything is written."""
    layout = run_layout(config)
    bars = load_bars(config.symbol, config.data, asset_class=config.asset_class, extended_hours=config.extended_hours)
    refuse_jumps(bars, config.allow_jumps)
    check_enough_bars(bars, layout, config.window)
    segments = split_bars(len(bars), layout.first_bar(config.window), config.window, config.split)
    with named_flag("--env.", ParamsError):
        params = env_params(config, bars.asset_class)
    with named_flag("--ppo.", ConfigError):
        learner = resolve(
            learner_config(config.ppo), jax.default_backend(), layout.address_only, len(segments["train"])
        )
    data = config.data.resolve() if config.data is not None else None
    resolved = replace(config, data=data, ppo=replace(config.ppo, **vars(learner)))

    natural = build_market(bars, layout, window=config.window, dtype=jnp.float64)
    train = slice(None, segments["train"].stop)
    scaler = fit_scaler(np.asarray(natural.features)[train], np.asarray(natural.context)[train], layout.warmup)
    market = scale_market(natural, scaler)
    pieces = {name: market_segment(market, part.start, part.stop) for name, part in segments.items()}
    traced = on_device(params)
    return Task(
        config=resolved,
        learner=learner,
        bars=bars,
        data_sha256=bars_sha256(bars),
        layout=layout,
        segments=segments,
        scaler=scaler,
        params=params,
        environment=make_environment(pieces["train"]),
        training_data=(pieces["train"], traced),
        validation=make_validation(pieces["validation"], traced, annualisation(bars.bars_per_year)),
    )


def refuse_jumps(bars: Bars, allow: bool) -> None:
    """Raise `UserError` where prices jump between sessions as an unadjusted split makes them, unless allowed."""
    if bars.report.jumps and not allow:
        time, before, after = bars.report.jumps[0]
        raise UserError(
            f"{bars.source} jumps from {before:g} to {after:g} at {time} ({len(bars.report.jumps)} such moves), "
            "likely an unadjusted split; adjust the prices, or pass --allow-jumps."
        )


def device_name() -> str:
    """Return the kind and name of the device the run uses, e.g. ``gpu (NVIDIA H100 80GB HBM3)``."""
    device = jax.devices()[0]
    return f"{jax.default_backend()} ({device.device_kind})"


def notes(task: Task) -> list[str]:
    """Return what a reader of the results should know about the bars and the device, as sentences."""
    report = task.bars.report
    missing = sum(gap[2] for gap in report.gaps)
    found: list[tuple[Any, str]] = [
        (report.dropped_after_close, f"Bars dropped after a close: {report.dropped_after_close}."),
        (
            report.dropped_extended_hours,
            f"Bars dropped outside regular hours: {report.dropped_extended_hours} (--extended-hours keeps them).",
        ),
        (report.dropped_no_session, f"Bars dropped on days without a session: {report.dropped_no_session}."),
        (report.gaps, f"Holes inside sessions: {len(report.gaps)}, {missing} bars; nothing was filled in."),
        (
            report.missing_sessions,
            f"Scheduled sessions without bars: {', '.join(report.missing_sessions[:5])}"
            + (f" and {len(report.missing_sessions) - 5} more." if len(report.missing_sessions) > 5 else "."),
        ),
        (report.jumps, f"Moves beyond 35 % between sessions, allowed: {len(report.jumps)}."),
        (jax.default_backend() == "cpu", "JAX found no GPU; the run used the CPU."),
    ]
    return [sentence for present, sentence in found if present]
