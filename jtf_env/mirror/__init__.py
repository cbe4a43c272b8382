"""The NumPy mirror: the same names as `jtf_env`, float64, no JAX; for backtests and live decisions."""

from jtf_env.mirror.market import Market, build_market, market_segment, scale_market
from jtf_env.scaler import Scaler, fit_scaler

__all__ = ["Market", "Scaler", "build_market", "fit_scaler", "market_segment", "scale_market"]
