"""The NumPy mirror: the same names as `jtf_env`, float64, no JAX; for backtests and live decisions."""

from jtf_env.mirror.account import Observation, account_columns
from jtf_env.mirror.backtest import Backtest, Decide, Fill, replay, run_backtest
from jtf_env.mirror.environment import (
    EnvState,
    StepResult,
    autoreset_step,
    autoreset_step_at,
    observe,
    reset,
    reset_at,
    start_row,
    step,
)
from jtf_env.mirror.market import Market, build_market, fold_market, market_segment, scale_market
from jtf_env.scaler import Scaler, fit_scaler

__all__ = [
    "Backtest",
    "Decide",
    "EnvState",
    "Fill",
    "Market",
    "Observation",
    "Scaler",
    "StepResult",
    "account_columns",
    "autoreset_step",
    "autoreset_step_at",
    "build_market",
    "fit_scaler",
    "fold_market",
    "market_segment",
    "observe",
    "replay",
    "reset",
    "reset_at",
    "run_backtest",
    "scale_market",
    "start_row",
    "step",
]
