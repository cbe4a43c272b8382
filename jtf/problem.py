"""Everything between a command line and the first update: bars, splits, markets, sizes. All refusals happen here."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from jtf.config import RunConfig, env_params, learner_config, run_layout
from jtf.data import BARS_SETTINGS, bars_sha256, load_bars
from jtf.data.check import notes_on_bars, refuse_bars
from jtf.environment import TradingData, make_environment, make_validation, on_device
from jtf.flags import errors_name_flags
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
    bars = load_bars(config.symbol, config.data, **{name: getattr(config, name) for name in BARS_SETTINGS})
    refuse_bars(bars, config.allow_jumps)
    check_enough_bars(bars, layout, config.window)
    segments = split_bars(len(bars), layout.first_bar(config.window), config.window, config.split)
    with errors_name_flags(EnvParams, "env.", ParamsError):
        params = env_params(config, bars.asset_class)
    with errors_name_flags(PPOConfig, "ppo.", ConfigError):
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


def device_name() -> str:
    """Return the kind and name of the device the run uses, e.g. ``gpu (NVIDIA H100 80GB HBM3)``."""
    device = jax.devices()[0]
    return f"{jax.default_backend()} ({device.device_kind})"


def notes(task: Task) -> list[str]:
    """Return what a reader of the results should know about the bars and the device, as sentences."""
    cpu = ["JAX found no GPU; the run used the CPU."] if jax.default_backend() == "cpu" else []
    return notes_on_bars(task.bars) + cpu
