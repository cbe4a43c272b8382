"""Small hand-made markets: random or given prices, arbitrary feature columns."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jtf_env.layouts import Layout, get_layout
from jtf_env.market import Market, device_rows
from jtf_env.mirror.market import Market as MirrorMarket
from jtf_env.stretches import stretch_rows

Prices = dict[str, np.ndarray]


def random_prices(num_bars: int, seed: int, volatility: float = 0.005, untradable: float = 0.0) -> Prices:
    """Random OHLC ``[T]`` in whole cents around 100 USD, with gaps between bars and some untradable bars."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(volatility * rng.standard_t(4, num_bars)) - volatility * 1.5)
    close = np.maximum(close, 1.0)
    open_ = np.r_[close[0], close[:-1]] * np.exp(volatility * 0.4 * rng.standard_normal(num_bars))
    high = np.maximum(open_, close) * np.exp(volatility * rng.exponential(0.5, num_bars))
    low = np.minimum(open_, close) * np.exp(-volatility * rng.exponential(0.5, num_bars))
    cents = {"open": open_, "high": high, "low": low, "close": close}
    prices = {name: np.round(values, 2) for name, values in cents.items()}
    prices["tradable"] = rng.random(num_bars) >= untradable
    return prices


def bar_prices(rows: Sequence[Sequence[float]], tradable: Sequence[bool] | None = None) -> Prices:
    """OHLC given as rows ``(open, high, low, close)``."""
    columns = np.array(rows, float).T
    prices = dict(zip(("open", "high", "low", "close"), columns, strict=True))
    prices["tradable"] = np.ones(len(rows), bool) if tradable is None else np.array(tradable)
    return prices


def make_markets(prices: Prices, window: int = 3, layout: str | Layout = "v5.6.0") -> tuple[Market, MirrorMarket]:
    """The same prices and random feature columns as a JAX market and as a mirror market."""
    shape = get_layout(layout)
    num_bars = len(prices["close"])
    rng = np.random.default_rng(0)
    tables = {
        "features": rng.standard_normal((num_bars, len(shape.bar_columns))),
        "context": rng.standard_normal((num_bars, len(shape.columns_from("context")))),
    }
    arrays = {**tables, **prices}
    rows = stretch_rows([(window - 1, num_bars)], num_bars)
    static = {"layout": shape, "window": window, "first_bar": window - 1}
    device = {name: jnp.asarray(array, bool if name == "tradable" else jnp.float32) for name, array in arrays.items()}
    return Market(**device, **device_rows(rows), **static), MirrorMarket(**arrays, **rows._asdict(), **static)
