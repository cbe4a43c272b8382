"""jtf_env: the market. Bars, sessions, features, layouts, orders, money, reward, and a NumPy mirror of them.

Names are loaded on first use, so that ``import jtf_env.mirror`` needs NumPy and pandas only.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Bars": "bars",
    "EnvParams": "environment",
    "EnvState": "environment",
    "InputError": "errors",
    "Layout": "layouts",
    "Market": "market",
    "RewardWeights": "environment",
    "Scaler": "scaler",
    "StepInfo": "environment",
    "StepResult": "environment",
    "account_columns": "account",
    "autoreset_step": "environment",
    "autoreset_step_at": "environment",
    "build_market": "market",
    "compute_hourly_window_indices": "sessions",
    "fit_scaler": "scaler",
    "fold_market": "market",
    "get_layout": "layouts",
    "layout_from_obs_dim": "layouts",
    "make_params": "params",
    "market_segment": "market",
    "observe": "environment",
    "reset": "environment",
    "reset_at": "environment",
    "scale_market": "market",
    "start_row": "environment",
    "step": "environment",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jtf_env' has no attribute {name!r}")
    return getattr(import_module(f"jtf_env.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
