"""Every setting of a training run: nested frozen dataclasses, each field a flag with its docstring as help."""

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import tyro
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from jtf.data.timeframes import Stamps, Timeframe
from jtf.errors import UserError
from jtf.flags import errors_name_flags, parse_flags
from jtf.results.run_directory import CONFIG, json_ready, read_config
from jtf.splits import SplitConfig
from jtf_env.assets import AssetClass
from jtf_env.errors import ParamsError
from jtf_env.layouts import DEFAULT_LAYOUT, DEFAULT_WINDOW, HourVisibility, Layout, get_layout
from jtf_env.params import (
    DEFAULT_REWARD,
    REWARD_PRESETS,
    EnvParams,
    Fill,
    RewardPreset,
    check_params,
    make_params,
)
from jtf_ppo.config import LARGEST_SEED, PPOConfig, check_config
from jtf_ppo.errors import ConfigError

Mode = Literal["smoke", "quick_test", "standard", "thorough", "production", "extended"]

MODE_STEPS: dict[str, int] = {
    "smoke": 200_000,
    "quick_test": 10_000_000,
    "standard": 50_000_000,
    "thorough": 100_000_000,
    "production": 200_000_000,
    "extended": 500_000_000,
}
"""Environment steps of each mode. A mode says how long, never what the hardware decides."""

SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9^=./_-]*")
"""What a symbol may be; it also names a folder and a file."""


@dataclass(frozen=True)
class RewardConfig:
    """Reward preset and, where given, single weights in its place."""

    preset: RewardPreset = DEFAULT_REWARD
    """Named set of weights. log_return is the money; the others can be raised by losing some (docs/environment.md)."""
    pnl: float | None = None
    """Weight of the net log return of equity. Default: the preset's."""
    direction: float | None = None
    """Weight of held exposure times the sign of the price move. Default: the preset's."""
    dsr: float | None = None
    """Weight of the differential Sharpe ratio. Default: the preset's."""
    stop_tp: float | None = None
    """Weight of stop-loss (-1) and take-profit (+1) fills. Default: the preset's."""
    slippage: float | None = None
    """Weight of the costs paid, negative. Default: the preset's."""
    magnitude: float | None = None
    """Weight of held exposure times the size of the price move. Default: the preset's."""
    drawdown: float | None = None
    """Weight of the current drawdown, negative. Default: the preset's."""
    clipped_pnl: float | None = None
    """Weight of the net log return of equity, clipped. Default: the preset's."""


@dataclass(frozen=True)
class EnvConfig:
    """The market's rules: costs, fills, stops, endings, reward."""

    fee: float | None = None
    """Fee on the traded notional, a side (fraction). Default: 0 for US equity, 0.0025 for crypto."""
    slippage: float | None = None
    """How far a fill is moved against the trader (fraction). Default: 0.0002."""
    allow_short: bool | None = None
    """Whether SELL goes through zero into a short. Default: yes for US equity, no for crypto (spot)."""
    fill: Fill = EnvParams.fill
    """Where an order decided at the close of a bar fills: open of the next bar, or that close."""
    initial_equity: float = EnvParams.initial_equity
    """Equity at the start of every episode and backtest, USD."""
    max_position: float = EnvParams.max_position
    """Notional of a full position as a fraction of equity."""
    max_drawdown: float = EnvParams.max_drawdown
    """Drawdown from the peak (fraction) that ends an episode: ruin."""
    stop_loss: float = EnvParams.stop_loss
    """Adverse move from the average entry price (fraction) that closes the position; 0 is off."""
    take_profit: float = EnvParams.take_profit
    """Favourable move from the average entry price (fraction) that closes the position; 0 is off."""
    episode_bars: int = EnvParams.episode_bars
    """Steps after which a training episode is cut; 0 runs to the end of the data. Backtests are never cut."""
    reward_scale: float = EnvParams.reward_scale
    """Multiplies log returns in the reward."""
    dsr_decay: float = EnvParams.dsr_decay
    """Decay rate of the moving moments in the differential Sharpe ratio."""
    reward: RewardConfig = field(default_factory=RewardConfig)


@dataclass(frozen=True)
class LearnerConfig(PPOConfig):
    """The learner. Sizes left out are chosen by the device and printed at start."""

    total_steps: Annotated[int, tyro.conf.arg(aliases=["--total-steps"])] = PPOConfig.total_steps
    """Environment steps of each member. The mode chooses it where it is not given."""
    seed: tyro.conf.Suppress[int] = 0
    """Set by the top-level --seed."""


@dataclass(frozen=True)
class RunConfig:
    """Train one trading policy for one symbol; validate, backtest and save it."""

    symbol: str = ""
    """Symbol to train, e.g. CLSK, SPY, BTC/USD, BTCUSDT. Default: none, it must be named."""
    data: Path | None = None
    """Folder of SYMBOL_15Min.parquet (or .csv) files, or one such file. Default: the built-in SYNTHETIC market."""
    timeframe: Timeframe = "15Min"
    """Length of the bars. Finer rows, or files such as SYMBOL_1Min.csv, are put together; coarser ones are refused."""
    start: str | None = None
    """Date or time (UTC) from which bars are used, e.g. 2023-01-01. Default: the first."""
    end: str | None = None
    """Date or time (UTC) from which on bars are left out. Default: none is left out."""
    stamps: Stamps = "start"
    """Whether the times in the file are the starts or the ends of their bars."""
    mode: Mode = "smoke"
    """How long to train, --ppo.total-steps in one word: 200k, 10M, 50M, 100M, 200M or 500M environment steps."""
    layout: str = DEFAULT_LAYOUT
    """Observation layout: v5.6.0 (58 columns, with hourly context), v5.5.0 (51, without), v2.3.0 (53, older), or with
    columns of the account v2.4.0 (56), v2.7.0 (59), v5.3.0 (65)."""
    seed: int = 0
    """Seed of everything random. Same command, same seed, same device: same parameters."""
    members: int = 1
    """Policies to train, with seeds SEED, SEED + 1, ...; together they are the saved ensemble."""
    out: Path = Path("runs")
    """Folder of the run directories."""
    report: bool = True
    """Write report.html, the page of the run, at the end."""
    config: Path | None = None
    """A run's config.json, whose settings become the defaults of the other flags. Default: none."""
    resume: Path | None = None
    """Unfinished run directory to go on with, with its own settings; flags that contradict them are refused. Default: a
    new run."""
    continue_from: Annotated[Path | None, tyro.conf.arg(name="continue")] = None
    """Finished run directory to lengthen to --total-steps, as a new run with its settings. Default: none."""
    cost_warmup: float = 1.0
    """Share of the training over which fee and slippage rise from 0 to full; 0 is off. Validations and backtests are
    always at full costs. A run that lengthens another by --continue begins at full costs."""
    standardise: Literal["long_run", "bar"] = "long_run"
    """Deviation that the windowed columns are divided by: of a bar, or in the long run, which is larger for slow
    columns (a mean of 100 bars) and keeps the policy from overfitting them."""
    window: int = DEFAULT_WINDOW
    """Bars the policy sees at once."""
    hour_visibility: HourVisibility = "previous"
    """previous: a bar sees the hour before its own. at_close: the bar that closes an hour sees that hour."""
    asset_class: AssetClass | None = None
    """Calendar, costs and shorting. Default: as the symbol is spelled; BTC-USD, BTC/USD, BTCUSD, SOLUSDC are crypto."""
    extended_hours: bool = False
    """Keep bars outside regular hours; otherwise they are dropped and counted."""
    compile_cache: bool = True
    """Keep compiled programs in the user's cache directory, so that the next start of the same sizes is quicker."""
    allow_jumps: bool = False
    """Use bars although a price jumps (an unadjusted split) or spikes (a bad tick) by over 35 %, crypto 50 %."""
    ppo: LearnerConfig = field(default_factory=LearnerConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    split: SplitConfig = field(default_factory=SplitConfig)


RESUMABLE_CHANGES = ("data", "out", "report", "resume", "continue_from", "config", "compile_cache")
"""Settings that may differ on --resume: where things lie (data are compared by hash), and what decides no number."""
LENGTH_FLAGS = {"--mode", "--total-steps", "--ppo.total-steps"}
"""Flags that make a run of stored settings another length, so that what follows from the length is chosen anew."""
PATHS = ("data", "out", "config", "resume", "continue_from")
"""Fields of `RunConfig` that are paths."""


Config = TypeVar("Config", bound=RunConfig)


def parse_config(args: Sequence[str] | None = None, prog: str = "jtf train") -> RunConfig:
    """Return the configuration of a training; exits 2 on a flag or value that does not exist.

    With ``--resume`` or ``--continue`` the defaults are the run's own settings, and any flag that changes one of them
    is refused (`UserError`).
    """
    args = sys.argv[1:] if args is None else args
    first = parse_flags(RunConfig, _without_help(args), prog)
    if first.resume is not None and first.continue_from is not None:
        raise UserError("--resume goes on with an unfinished run, --continue lengthens a finished one; give only one.")
    if first.resume is not None:
        return _like_run(first.resume, "resume", args, prog)
    if first.continue_from is not None:
        return _like_run(first.continue_from, "continue_from", args, prog)
    return parse_new(RunConfig, args, prog)


def parse_new(cls: type[Config], args: Sequence[str], prog: str) -> Config:
    """Return the checked `cls` that a command line describes; exits 2 on a flag or value that does not exist."""
    return check_run_config(parse_unchecked(cls, args, prog))


def parse_unchecked(cls: type[Config], args: Sequence[str], prog: str) -> Config:
    """Return the `cls` that a command line describes; exits 2 on a flag or value that does not exist.

    Mode and ``--config`` are read first, since they decide the defaults of other flags.
    """
    first = parse_flags(cls, _without_help(args), prog)
    stored = cls() if first.config is None else cls(**vars(_read_settings(first.config)))
    length: dict[str, Any] = {}
    typed = {token.partition("=")[0].replace("_", "-") for token in args}
    if first.config is None or typed & LENGTH_FLAGS:
        # Another length of the run: what followed from the stored one is chosen anew.
        steps = stored.ppo.total_steps if "--mode" not in typed and first.config is not None else MODE_STEPS[first.mode]
        length = {"total_steps": steps, "validation_interval": None, "checkpoint_interval": None}
        length |= {"num_envs": None, "minibatch_size": None}
    default = replace(stored, config=first.config, ppo=replace(stored.ppo, **length))
    config = parse_flags(cls, args, prog, default)
    return replace(config, ppo=replace(config.ppo, seed=config.seed))


def _without_help(args: Sequence[str]) -> list[str]:
    """Help waits for the last reading: it shows the defaults of the mode, or of the run to go on with."""
    return [token for token in args if token not in ("-h", "--help")]


def check_run_config(config: Config) -> Config:
    """Return `config`, or raise the error that names the first setting which cannot work. Reads no data."""
    if not config.symbol.strip():
        raise UserError("--symbol is missing; name the symbol to train, e.g. --symbol CLSK.")
    if not SYMBOL.fullmatch(config.symbol):
        raise UserError(f"--symbol {config.symbol!r} is no symbol; use letters, digits and . / - _ = ^, e.g. BRK.B.")
    if not isinstance(config.members, int) or config.members < 1:
        raise UserError(f"--members {config.members} must be a whole number of at least 1.")
    last = config.seed + config.members - 1
    if not 0 <= config.seed <= last <= LARGEST_SEED:
        raise UserError(f"--seed {config.seed} with --members {config.members} must lie in 0..{LARGEST_SEED}.")
    if not 0.0 <= config.cost_warmup <= 1.0:
        raise UserError(f"--cost-warmup {config.cost_warmup} must lie in 0..1; 0 is off.")
    if config.window < 2:
        raise UserError(f"--window {config.window} must be at least 2.")
    run_layout(config)
    with errors_name_flags(PPOConfig, "ppo.", ConfigError):
        check_config(config.ppo)
    with errors_name_flags(EnvParams, "env.", ParamsError):
        env_params(config, config.asset_class or "us_equity")
    return config


def run_layout(config: RunConfig) -> Layout:
    """Return the layout of a run."""
    return get_layout(config.layout, config.hour_visibility)


def env_params(config: RunConfig, asset_class: str) -> EnvParams:
    """Return validated environment parameters: the asset class's defaults under what was given."""
    values = {name: value for name, value in vars(config.env).items() if name != "reward" and value is not None}
    weights = {n: v for n, v in vars(config.env.reward).items() if n != "preset" and v is not None}
    reward = replace(REWARD_PRESETS[config.env.reward.preset], **weights)
    return check_params(make_params(asset_class, reward, **values))


def learner_config(config: LearnerConfig) -> PPOConfig:
    """Return the plain settings the learner knows."""
    return PPOConfig(**{f.name: getattr(config, f.name) for f in dataclasses.fields(PPOConfig)})


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """Return `config` as JSON-ready values; `config_from_dict` reverses it."""
    return json_ready(asdict(config))


def config_from_dict(values: dict[str, Any], where: str) -> RunConfig:
    """Rebuild a configuration; raise `UserError` naming `where` for keys this version does not know."""
    nested: dict[str, type] = {"ppo": LearnerConfig, "env": EnvConfig, "split": SplitConfig, "reward": RewardConfig}
    return _build(RunConfig, values, nested, where)


def _build(cls: type, values: dict[str, Any], nested: dict[str, type], where: str) -> Any:
    unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
    if unknown:
        raise UserError(f"{where} has settings this version does not know ({', '.join(unknown)}); train anew.")

    kinds = get_type_hints(cls)

    def read(name: str, value: Any) -> Any:
        if name in nested and isinstance(value, dict):
            return _build(nested[name], value, nested, where)
        if name in PATHS and isinstance(value, str):
            return Path(value)
        value = tuple(value) if isinstance(value, list) else value
        try:
            return check_type(value, kinds[name], collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError:
            raise UserError(f"{where} has {name}={json.dumps(value)}, which is no value of it; mend it.") from None

    return cls(**{name: read(name, value) for name, value in values.items()})


def _read_settings(file: Path) -> RunConfig:
    """Return the settings of a run by its ``config.json``, or its directory; where it lay and ran is left out."""
    stored = config_from_dict(read_config(file)["config"], str(file))
    return replace(stored, out=RunConfig.out, config=None, resume=None, continue_from=None)


def _like_run(run: Path, how: Literal["resume", "continue_from"], args: Sequence[str], prog: str) -> RunConfig:
    """Return the settings of `run` for going on with it; `how` is the field that names it."""
    stored = config_from_dict(read_config(run)["config"], str(run / CONFIG))
    base = replace(stored, resume=run) if how == "resume" else replace(stored, resume=None, continue_from=run)
    typed = parse_flags(RunConfig, args, prog, base)
    allowed = {"ppo.total_steps"} if how == "continue_from" else set()
    changed = [
        name
        for name in differing_flags(base, typed)
        if name not in allowed and name.split(".")[0] not in RESUMABLE_CHANGES
    ]
    if changed:
        raise UserError(
            f"{', '.join('--' + name.replace('_', '-') for name in changed)} contradicts the settings of {run}; "
            "leave it out, or start a new run."
        )
    if how == "continue_from" and typed.ppo.total_steps <= stored.ppo.total_steps:
        raise UserError(
            f"--continue {run} needs --total-steps beyond the {stored.ppo.total_steps:,} that run was made for."
        )
    return replace(typed, ppo=replace(typed.ppo, seed=typed.seed))


def differing_flags(one: Any, other: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of the fields in which two configurations differ."""
    names = []
    for item in dataclasses.fields(one):
        a, b = getattr(one, item.name), getattr(other, item.name)
        if dataclasses.is_dataclass(a):
            names += differing_flags(a, b, f"{prefix}{item.name}.")
        elif a != b:
            names.append(f"{prefix}{item.name}")
    return names
