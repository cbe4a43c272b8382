"""Everything between settings and the first update: bars, splits, markets, sizes. All refusals happen here."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from jtf.compile_cache import use_compile_cache
from jtf.config import RunConfig, config_to_dict, env_params, learner_config, run_layout
from jtf.data import BARS_SETTINGS, bars_sha256, load_bars
from jtf.data.check import bars_record, is_made, notes_on_bars, refuse_bars
from jtf.data.synthetic import SyntheticMarket, synthetic_market
from jtf.flags import errors_name_flags
from jtf.models.policy import Params, Policy
from jtf.problem import Problem, make_problem
from jtf.results.provenance import seen_spans
from jtf.results.run_directory import git_revision, json_ready, library_versions
from jtf.splits import Fold, Segment, split
from jtf_env.bars import Bars, check_enough_bars, has_extended_hours
from jtf_env.errors import ParamsError
from jtf_env.layouts import Layout
from jtf_env.market import Market, build_market
from jtf_env.mirror import market as mirror_market
from jtf_env.params import EnvParams
from jtf_env.versions import ENV_VERSION, FEATURES_VERSION
from jtf_ppo.config import PPOConfig, resolve
from jtf_ppo.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Task:
    """A training run, ready to start."""

    config: RunConfig
    """With every size the device decided filled in."""
    learner: PPOConfig
    data: "SymbolData"
    problem: Problem
    lengths: tuple[int, int] | None = None
    """Rows that training and validation data are padded to; None pads nothing."""

    @property
    def bars(self) -> Bars:
        """All bars of the symbol."""
        return self.data.bars

    @property
    def data_sha256(self) -> str:
        """Hash of the bars."""
        return self.data.sha256

    @property
    def layout(self) -> Layout:
        """Columns the policy sees."""
        return self.data.layout

    @property
    def params(self) -> EnvParams:
        """Costs, fills and stops."""
        return self.data.params

    @property
    def synthetic(self) -> bool:
        """Whether the bars are made, not traded."""
        return is_made(self.bars)

    @property
    def segments(self) -> dict[str, Segment]:
        """Rows of train, validation and test."""
        return self.problem.fold.segments

    @property
    def seeds(self) -> tuple[int, ...]:
        """One a member."""
        return tuple(range(self.config.seed, self.config.seed + self.config.members))

    @property
    def identity(self) -> dict[str, str]:
        """What the checkpoints of this run belong to."""
        return {
            "features version": str(FEATURES_VERSION),
            "environment version": str(ENV_VERSION),
            "layout": self.layout.hash(self.config.window),
            "data": self.data_sha256,
            "fold": self.fold_sha256,
            "seeds": " ".join(map(str, self.seeds)),
            "settings": self.settings_sha256,
        }

    @property
    def fold_sha256(self) -> str:
        """Hash of the rows that are trained, selected and tested on, and of what their data are padded to."""
        return _sha256([asdict(self.problem.fold), self.lengths])[:16]

    @property
    def settings_sha256(self) -> str:
        """Hash of the settings that decide an update; how long the run goes on is not among them."""
        lengths = ("total_steps", "validation_interval", "checkpoint_interval", "patience", "seed")
        learner = {name: value for name, value in vars(self.learner).items() if name not in lengths}
        run = [self.config.cost_warmup, self.config.standardise]
        settings = [learner, asdict(self.params), asdict(self.config.split), *run]
        return _sha256(settings)[:16]


@dataclass(frozen=True, eq=False)
class SymbolData:
    """What all folds of a symbol share, whatever is learnt on them."""

    bars: Bars
    sha256: str
    layout: Layout
    window: int
    params: EnvParams

    @cached_property
    def natural(self) -> Market:
        """The float64 market of all bars in natural units."""
        return build_market(self.bars, self.layout, window=self.window, dtype=jnp.float64)

    @cached_property
    def mirror(self) -> mirror_market.Market:
        """The same tables in NumPy: what a policy is measured on, once standardised."""
        return mirror_market.build_market(self.bars, self.layout, window=self.window)

    def optimum_return(self, segment: Segment) -> float | None:
        """Return the net log return of the best possible trader over a segment; None where it is not known."""
        return None if self.built_in is None else self.built_in.optimum_return(self.params, segment)

    @cached_property
    def built_in(self) -> SyntheticMarket | None:
        """The built-in market that the bars are; None for others."""
        if self.bars.source != "synthetic":
            return None
        return synthetic_market(self.bars.symbol, asset_class=self.bars.asset_class)

    @property
    def first_bar(self) -> int:
        """First bar a decision can be made on."""
        return self.layout.first_bar(self.window)


def prepare(config: RunConfig, bars: Bars | None = None) -> Task:
    """Load (unless `bars` are given), check, split and standardise; raises a user's mistakes before any writing."""
    data = load_symbol(config, bars)
    return make_task(
        config, data, split(len(data.bars), data.first_bar, config.window, config.split, data.bars.bar_minutes)
    )


def load_symbol(config: RunConfig, bars: Bars | None = None) -> SymbolData:
    """Load (unless `bars` are given) and check the bars of a run; raises a user's mistakes."""
    if config.compile_cache:
        use_compile_cache()
    layout = run_layout(config)
    if bars is None:
        bars = load_run_bars(config)
    refuse_bars(bars, config.allow_jumps)
    check_enough_bars(bars, layout, config.window)
    with errors_name_flags(EnvParams, "env.", ParamsError):
        params = env_params(config, bars.asset_class)
    return SymbolData(bars, bars_sha256(bars), layout, config.window, params)


def resolve_learner(config: RunConfig, layout: Layout, train_bars: int) -> PPOConfig:
    """Return the learner's settings with every size the device decides; raises a user's mistakes."""
    with errors_name_flags(PPOConfig, "ppo.", ConfigError):
        return resolve(learner_config(config.ppo), jax.default_backend(), layout.address_only, train_bars)


def make_task(config: RunConfig, data: SymbolData, fold: Fold, lengths: tuple[int, int] | None = None) -> Task:
    """Return the task of one fold of a symbol; `lengths` as in `make_problem`."""
    learner = resolve_learner(config, data.layout, fold.train_bars)
    where = config.data.resolve() if config.data is not None else None
    return Task(
        config=replace(config, data=where, ppo=replace(config.ppo, **vars(learner))),
        learner=learner,
        data=data,
        lengths=lengths,
        problem=make_problem(
            data.natural,
            fold,
            data.params,
            data.bars.bars_per_year,
            lengths=lengths,
            cost_warmup=cost_warmup(config),
            long_run=config.standardise == "long_run",
        ),
    )


def cost_warmup(config: RunConfig) -> float:
    """Return the share of the run over which costs rise; a run that lengthens another begins at full costs."""
    return 0.0 if config.continue_from is not None else config.cost_warmup


def load_run_bars(config: RunConfig) -> Bars:
    """Return the bars a run's settings name."""
    return load_bars(config.symbol, config.data, **bars_settings(config))


def bars_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings of a run that say how its bars are read."""
    return {name: getattr(config, name) for name in BARS_SETTINGS}


def make_policy(task: Task, members: dict[int, Params]) -> Policy:
    """Return the policy of these members (seed -> parameters), as it is saved and backtested."""
    return Policy(
        members=tuple(members.values()),
        seeds=tuple(members),
        scaler=task.problem.scaler,
        symbol=task.config.symbol,
        layout=task.layout,
        window=task.config.window,
        env_params=task.params,
        bars_per_year=task.bars.bars_per_year,
        bar_minutes=task.bars.bar_minutes,
        data_kind="synthetic" if task.synthetic else "file",
        asset_class=task.bars.asset_class,
        extended_hours=has_extended_hours(task.bars),
    )


def device_name() -> str:
    """Return the kind and name of the device the run uses, e.g. ``gpu (NVIDIA H100 80GB HBM3)``."""
    device = jax.devices()[0]
    return f"{jax.default_backend()} ({device.device_kind})"


def notes(task: Task) -> list[str]:
    """Return what a reader of the results should know about the bars and the device, as sentences."""
    cpu = ["JAX found no GPU; the run used the CPU."] if jax.default_backend() == "cpu" else []
    return notes_on_bars(task.bars) + cpu


def config_record(task: Task) -> dict[str, Any]:
    """Return the content of ``config.json``: every resolved setting, the data, versions, device, revision."""
    settings = config_to_dict(task.config)
    return {
        "config": settings,
        "config_sha256": config_sha256(settings),
        "env_params": asdict(task.params),
        "layout": layout_record(task.layout, task.config.window),
        "data": bars_record(task.bars, task.data_sha256),
        "fold": asdict(task.problem.fold),
        "segments": {name: asdict(part) for name, part in task.segments.items()},
        "spans": seen_spans(task.problem.fold, task.bars.timestamps),
        "versions": library_versions(),
        "device": device_name(),
        "git_revision": git_revision(),
    }


def config_sha256(settings: dict[str, Any]) -> str:
    """Return the SHA-256 of settings as they stand in ``config.json``."""
    return _sha256(settings)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(json_ready(value), sort_keys=True).encode()).hexdigest()


def layout_record(layout: Layout, window: int) -> dict[str, Any]:
    """Return what identifies a layout."""
    return {"name": layout.name, "hash": layout.hash(window), "obs_dim": layout.obs_dim(window)}
