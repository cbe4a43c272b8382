"""What the figures draw: one segment as arrays ``[T]``, and what follows from them. No JAX."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from jtf.results.figure import label_stretches
from jtf.results.tables import MEMBER_EQUITY

ROLLING_YEARS = 0.25
"""Length of the rolling window, years; in a short segment a quarter of it."""
ROLLING_POINTS = 1_500
"""Points a rolling line is drawn with."""


@dataclass(frozen=True, eq=False)
class Series:
    """One segment, a value a bar ``[T]``. Money is in USD."""

    name: str
    times: pd.DatetimeIndex
    """Bar starts, UTC."""
    close: np.ndarray
    equity: np.ndarray
    buy_and_hold: np.ndarray
    """Equity of buying and holding."""
    position: np.ndarray
    """Signed notional as a fraction of equity; NaN after ruin."""
    action: np.ndarray
    """int8; -1 where no decision was made."""
    seen: list[tuple[str, int, int]]
    """``(label, first row, last row)`` of the stretches of bars that training saw, selected on, or never saw."""
    members: dict[int, np.ndarray]
    """Seed -> equity of that member alone; empty for a run of one member."""


def segment_series(curves: pd.DataFrame) -> dict[str, Series]:
    """Return the series of every segment of the curves of a result, in their order."""
    parts = curves.groupby("segment", sort=False, observed=True)
    return {str(name): _series(str(name), part) for name, part in parts}


def _series(name: str, part: pd.DataFrame) -> Series:
    seeds = [int(column.removeprefix(MEMBER_EQUITY)) for column in map(str, part) if column.startswith(MEMBER_EQUITY)]
    return Series(
        name=name,
        times=pd.DatetimeIndex(part["time"]),
        close=part["close"].to_numpy(),
        equity=part["equity"].to_numpy(),
        buy_and_hold=part["buy_and_hold"].to_numpy(),
        position=part["position"].to_numpy(),
        action=part["action"].fillna(-1).to_numpy(np.int8),
        seen=label_stretches(part["seen"].to_numpy()),
        members={seed: part[f"{MEMBER_EQUITY}{seed}"].to_numpy(np.float64) for seed in seeds},
    )


def drawdown(equity: np.ndarray) -> np.ndarray:
    """Return the ``[T]`` falls from the highest equity so far, as fractions in -1..0."""
    return equity / np.maximum.accumulate(equity) - 1.0


class Rolling(NamedTuple):
    """Rolling lines, a point every few bars; a Sharpe ratio is NaN where the returns do not vary."""

    rows: np.ndarray
    """``[P]`` int64, row of the segment at which each window ends."""
    window: int
    """Bars."""
    sharpe: np.ndarray
    """``[P]``, annualised."""
    buy_and_hold: np.ndarray
    """``[P]``, annualised."""
    exposure: np.ndarray
    """``[P]`` mean size of the position, as a fraction of equity."""


def rolling(series: Series, bars_per_year: float) -> Rolling:
    """Return the Sharpe ratio and the exposure over the bars before each point."""
    size = len(series.equity)
    window = max(2, min(round(bars_per_year * ROLLING_YEARS), size // 4))
    rows = np.unique(np.linspace(window, size - 1, min(ROLLING_POINTS, max(1, size - window))).astype(np.int64))
    return Rolling(
        rows=rows,
        window=window,
        sharpe=_rolling_sharpe(series.equity, rows, window, bars_per_year),
        buy_and_hold=_rolling_sharpe(series.buy_and_hold, rows, window, bars_per_year),
        exposure=_rolling_sum(np.nan_to_num(np.abs(series.position)), rows, window) / window,
    )


def _rolling_sharpe(equity: np.ndarray, rows: np.ndarray, window: int, bars_per_year: float) -> np.ndarray:
    """Return `metrics.sharpe` of the `window` returns that end at each of `rows`."""
    returns = np.append(0.0, np.diff(equity) / equity[:-1])
    mean = _rolling_sum(returns, rows, window) / window
    square = _rolling_sum((returns - returns.mean()) ** 2, rows, window) / window
    variance = (square - (mean - returns.mean()) ** 2) * window / (window - 1)
    # Rounding leaves about 1e-16 of the squares where the returns are constant.
    known = variance > 1e-12 * max(float(np.mean(returns**2)), 1e-300)
    ratio = mean / np.sqrt(np.where(known, variance, 1.0)) * np.sqrt(bars_per_year)
    return np.where(known, ratio, np.nan)


def _rolling_sum(values: np.ndarray, rows: np.ndarray, window: int) -> np.ndarray:
    """Return the sum of the `window` values that end at each of `rows`."""
    total = np.append(0.0, np.cumsum(values))
    return total[rows + 1] - total[rows + 1 - window]


def monthly_returns(times: pd.DatetimeIndex, equity: np.ndarray, timezone: str) -> list[tuple[int, int, float]]:
    """Return ``(year, month, return)`` of every month with a bar, by the exchange's clock.

    The first month begins at the first bar. One plus the return of the whole is the product of one plus the months'.
    """
    local = times.tz_convert(timezone)
    months = local.year.to_numpy() * 12 + local.month.to_numpy() - 1
    last = np.flatnonzero(np.append(months[1:] != months[:-1], True))
    before = np.append(equity[0], equity[last[:-1]])
    return [
        (int(months[row] // 12), int(months[row] % 12 + 1), float(equity[row] / start - 1.0))
        for row, start in zip(last, before, strict=True)
    ]
