"""Environment parameters: traced numbers and static switches, in plain Python so that the mirror shares them.

`jtf_env.environment` registers both dataclasses as pytrees (numbers are leaves, switches are static), so a
`vmap` over `fee` is a cost curve and a change of `fee` never compiles again.
"""

from dataclasses import dataclass, field, fields, replace
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal

from jtf_env.assets import ASSETS
from jtf_env.errors import ParamsError

Fill = Literal["next_open", "close"]


@dataclass(frozen=True)
class RewardWeights:
    """Weight of each reward component (`jtf_env.rewards` has the formulas); zero leaves one out.

    The default is the net log return alone. Its sum over an episode is the log growth of equity, so no policy that
    earns less has a higher sum. Every other weight lets one in (``docs/environment.md`` has examples).
    """

    pnl: float = 1.0
    """Net log return of equity over the step."""
    direction: float = 0.0
    """Held exposure times the sign of the price move."""
    dsr: float = 0.0
    """Differential Sharpe ratio (Moody and Saffell 2001, section II-D)."""
    stop_tp: float = 0.0
    """+1 when a take-profit fills, -1 when a stop-loss fills."""
    slippage: float = 0.0
    """Minus the costs paid in this step."""
    magnitude: float = 0.0
    """Held exposure times the size of the price move, clipped."""
    drawdown: float = 0.0
    """Minus the current drawdown."""
    clipped_pnl: float = 0.0
    """Net log return of equity over the step, clipped."""


RewardPreset = Literal["log_return", "log_return_clipped", "composite"]
DEFAULT_REWARD: RewardPreset = "log_return"

REWARD_PRESETS: dict[str, RewardWeights] = {
    "log_return": RewardWeights(),
    "log_return_clipped": RewardWeights(pnl=0.0, clipped_pnl=1.0),
    "composite": RewardWeights(
        pnl=0.40, direction=0.15, dsr=0.10, stop_tp=0.10, slippage=0.06, magnitude=0.05, drawdown=0.03
    ),
}
"""Named weights; `composite` is the seed's."""


@dataclass(frozen=True)
class EnvParams:
    """Everything a step needs beside the market. All fractions are plain numbers (0.01 = 1 %)."""

    fee: float = 0.0
    """Fee on the traded notional, a side, as a fraction."""
    slippage: float = 2e-4
    """How far every fill is moved against the trader, as a fraction of the price."""
    initial_equity: float = 100_000.0
    """Equity at reset, USD."""
    max_position: float = 1.0
    """Notional of a full position as a fraction of equity."""
    max_drawdown: float = 0.5
    """Drawdown from the peak (fraction) beyond which the episode terminates: ruin."""
    stop_loss: float = 0.0
    """Adverse move from the average entry price (fraction) that closes the position; 0 is off."""
    take_profit: float = 0.0
    """Favourable move from the average entry price (fraction) that closes the position; 0 is off."""
    episode_bars: int = 512
    """Steps after which an episode is truncated; 0 runs to the end of the data."""
    reward_scale: float = 100.0
    """Multiplies log returns before weighting, so that one unit is about one per cent."""
    dsr_decay: float = 0.01
    """Decay rate eta of the moving moments in the differential Sharpe ratio."""
    reward: RewardWeights = field(default_factory=RewardWeights)
    """Component weights."""
    fill: Fill = "next_open"
    """Static. Where an order decided at the close of bar i fills: open of bar i+1, or that close."""
    allow_short: bool = True
    """Static. Whether SELL goes through zero into a short."""


TRACED_FIELDS = tuple(f.name for f in fields(EnvParams) if f.name not in ("fill", "allow_short"))
STATIC_FIELDS = ("fill", "allow_short")


def make_params(
    asset_class: str = "us_equity", reward: str | RewardWeights = DEFAULT_REWARD, **overrides: Any
) -> EnvParams:
    """Return validated parameters with the asset class's default costs; `overrides` win.

    Crypto is spot: not shortable by default (`jtf_env.assets`). Raises `ParamsError` naming the field and its range.
    """
    if asset_class not in tuple(ASSETS):
        raise ParamsError(f"asset_class {asset_class!r} is not one of {', '.join(ASSETS)}.")
    if not isinstance(reward, RewardWeights):
        if reward not in tuple(REWARD_PRESETS):
            raise ParamsError(f"reward {reward!r} is not one of {', '.join(REWARD_PRESETS)}.")
        reward = REWARD_PRESETS[reward]
    unknown = sorted(set(overrides) - {f.name for f in fields(EnvParams)})
    if unknown:
        known = ", ".join(f.name for f in fields(EnvParams))
        raise ParamsError(f"{unknown[0]!r} is no environment parameter; they are {known}.")
    asset = ASSETS[asset_class]
    values = {"fee": asset.fee, "slippage": asset.slippage, "allow_short": asset.allow_short, **overrides}
    return check_params(replace(EnvParams(reward=reward), **values))


RANGES: dict[str, tuple[float, float]] = {
    "fee": (0.0, 0.5),
    "slippage": (0.0, 0.5),
    "initial_equity": (1e-6, 1e12),
    "max_position": (1e-6, 10.0),
    "max_drawdown": (1e-6, 1.0),
    "stop_loss": (0.0, 0.99),
    "take_profit": (0.0, 100.0),
    "episode_bars": (0, 2**31 - 1),
    "reward_scale": (1e-9, 1e9),
    "dsr_decay": (1e-9, 1.0),
}
"""Allowed range of every number, ends included."""


def check_params(params: EnvParams) -> EnvParams:
    """Return `params`, or raise `ParamsError` for a value outside its range. Host values only (not traced)."""
    for name, (low, high) in RANGES.items():
        value = getattr(params, name)
        number = isinstance(value, Integral if name == "episode_bars" else Real)
        if not number or not low <= value <= high:
            raise ParamsError(f"{name}={value!r} is outside {low:g}..{high:g}; set it inside that range.")
    for name in (f.name for f in fields(RewardWeights)):
        weight = getattr(params.reward, name, None)
        if not isinstance(weight, Real) or not isfinite(weight):
            raise ParamsError(f"reward weight {name}={weight!r} is not a finite number.")
    if params.fill not in ("next_open", "close"):
        raise ParamsError(f"fill={params.fill!r} is not 'next_open' or 'close'.")
    if not isinstance(params.allow_short, bool):
        raise ParamsError(f"allow_short={params.allow_short!r} is not true or false.")
    return params
