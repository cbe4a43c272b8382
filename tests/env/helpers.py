"""Small bars for the tests of this folder."""

import numpy as np
import pandas as pd

from jtf_env.bars import Bars, make_bars


def bars_from_close(close: np.ndarray, spread: np.ndarray | float = 0.0) -> Bars:
    """24/7 bars with these closes, each opening at the close before, wicks of the share `spread` of the price."""
    open_ = np.concatenate([close[:1], close[:-1]])
    frame = pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) * (1 + spread),
            "low": np.minimum(open_, close) * (1 - spread),
            "close": close,
            "volume": np.ones(len(close)),
        },
        index=pd.date_range("2024-01-01", periods=len(close), freq="15min", tz="UTC", name="timestamp"),
    )
    return make_bars(frame, "BTC/USD")


def random_bars(count: int, seed: int = 0) -> Bars:
    """A 24/7 random walk of 0.3 % a bar from 100 USD."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.003, count)))
    return bars_from_close(close, np.abs(rng.normal(0, 0.001, count)))
