"""jtf: train one trading policy per symbol from 15-minute bars that also sees the hourly picture.

Names are loaded on first use, so that ``import jtf`` needs nothing but Python.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Policy": "models.policy",
    "RunResult": "results.results",
    "fit": "run",
    "load_bars": "data",
    "read_result": "results.results",
}

__all__ = sorted((*_HOME, "backtest"))


def __getattr__(name: str) -> Any:
    if name == "backtest":  # The module is callable, so that ``import jtf.backtest`` changes nothing.
        return import_module("jtf.backtest")
    if name not in _HOME:
        raise AttributeError(f"module 'jtf' has no attribute {name!r}")
    return getattr(import_module(f"jtf.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
