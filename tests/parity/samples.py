"""Bars for the parity tests: real ones, a fat-tailed walk, and a walk that freezes to meet every guard."""

from pathlib import Path

import numpy as np
import pandas as pd

from jtf_env.bars import Bars, make_bars
from jtf_env.layouts import GROUPS, Layout

ROWS = 8000
"""Every sample has as many bars, so that JAX compiles one program for all of them."""


EVERY_COLUMN = Layout(
    "every_column",
    tuple(group for group in GROUPS.values() if group.source != "state" and group.name != "base6"),
)
"""Every column of every layout that is a function of the bars (base7 begins with base6): a layout's are among them."""


def real_bars(folder: Path, symbol: str) -> Bars:
    return make_bars(pd.read_parquet(folder / f"{symbol}_15Min.parquet"), symbol)[:ROWS]


def bars_from_closes(
    close: np.ndarray, spread: np.ndarray, volume: np.ndarray | float = 1.0, start: str = "2024-02-26"
) -> Bars:
    """Crypto bars; `spread` is the share by which high and low leave the body of the bar."""
    opens = np.concatenate([close[:1], close[:-1]])
    frame = pd.DataFrame(
        {
            "open": opens,
            "high": np.maximum(opens, close) * (1.0 + spread),
            "low": np.minimum(opens, close) * (1.0 - spread),
            "close": close,
            "volume": np.broadcast_to(volume, close.shape),
        },
        index=pd.date_range(start, periods=len(close), freq="15min", tz="UTC"),
    )
    return make_bars(frame, "BTC/USD")


def walk_bars(rows: int = ROWS, seed: int = 1) -> Bars:
    """A random walk with Student-t returns; every fourth bar is half as wild as the others. Volumes are skewed."""
    rng = np.random.default_rng(seed)
    returns = 0.002 * rng.standard_t(4, rows) * np.where(np.arange(rows) % 4 == 0, 0.5, 1.0)
    close, spread = 30_000.0 * np.exp(np.cumsum(returns)), 0.001 * rng.random(rows)
    return bars_from_closes(close, spread, np.exp(rng.normal(3.0, 1.0, rows)))


def frozen_bars(rows: int = ROWS, seed: int = 2) -> Bars:
    """A walk that stands still for 150 of every 500 bars, from bar 0 on: denominators vanish. No volume is known."""
    rng = np.random.default_rng(seed)
    moving = np.arange(rows) % 500 >= 150
    close = 101.37 * np.exp(np.cumsum(np.where(moving, rng.normal(0.0, 0.004, rows), 0.0)))
    return bars_from_closes(close, np.where(moving, 0.002 * rng.random(rows), 0.0), volume=0.0)


def columns_of(market) -> dict[str, np.ndarray]:
    """All columns of a market by name, bar columns first."""
    table = np.concatenate([np.asarray(market.features), np.asarray(market.context)], axis=1)
    return dict(zip(market.column_names, table.T, strict=True))
