"""The built-in market of a symbol: seeded by the symbol's name, with a hidden drift whose best use is known.

Bar `i` returns ``drift[i] + noise_scale[i] * t``: the drift is a stationary AR(1) process, the noise a Student-t
variable of unit variance times an intraday smile. Equities also gap overnight. Nothing but past prices shows the
drift; the best linear forecast of it is the Kalman filter over close-to-close returns (an overnight gap counts as
noise, since no feature tells it from the bar's own move), and the optimum trades that forecast against the default
costs of the asset class.

An equity bar has the drift of the *regime* market: coefficient .95, 6 basis points, noise 20. A crypto trade costs
27 basis points a side instead of 2, so its drift lasts longer (coefficient .98) under noise of 25.
"""

import hashlib
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pandas as pd

from jtf.known_optimum.programme import (
    Process,
    ar1_process,
    follow_policy,
    kalman_forecast,
    nearest_state,
    net_log_return,
    solve,
)
from jtf.splits import Segment
from jtf_env.assets import AssetClass, asset_class_of
from jtf_env.bars import Bars, make_bars
from jtf_env.params import EnvParams
from jtf_env.sessions import exchange_schedule

LAST_DAY = pd.Timestamp("2025-06-30", tz="UTC")
"""Last day of every synthetic market, fixed so that the bars of a name never change."""
BAR = pd.Timedelta(minutes=15)
TAIL_FREEDOM = 5
"""Degrees of freedom of the Student-t noise: excess kurtosis 6."""
WICK = 0.4
"""Mean distance of high and low beyond the bar's body, in noise deviations."""


@dataclass(frozen=True)
class Recipe:
    """Numbers of a synthetic market; deviations are fractions of the price a bar."""

    coefficient: float
    """AR(1) coefficient of the drift a bar."""
    drift: float
    """Stationary standard deviation of the drift."""
    noise: float
    """Standard deviation of the noise, root mean square over the day."""
    smile: float
    """How much noisier the ends of a session are than its middle: 1 doubles it."""
    gap: float
    """Standard deviation of the overnight gap; 0 for markets that never close."""
    price: float
    """Typical first price, USD."""


RECIPES: dict[AssetClass, Recipe] = {
    "us_equity": Recipe(coefficient=0.95, drift=6e-4, noise=20e-4, smile=1.0, gap=80e-4, price=50.0),
    "crypto": Recipe(coefficient=0.98, drift=6e-4, noise=25e-4, smile=0.3, gap=0.0, price=5_000.0),
}


@dataclass(frozen=True, eq=False)
class SyntheticMarket:
    """Bars of a synthetic market with what is hidden in them."""

    bars: Bars
    drift: np.ndarray
    """``[T]`` hidden drift: expected simple return of bar `i` from its open to its close."""
    noise_scale: np.ndarray
    """``[T]`` standard deviation of that return about its drift."""
    forecast: np.ndarray
    """``[T]`` Kalman forecast of the drift of bar ``i + 1`` at the close of bar `i`."""
    process: Process
    """The forecast as a Markov process, for `jtf.known_optimum.programme.solve`. It takes the noise as its average."""

    @property
    def states(self) -> np.ndarray:
        """``[T]`` state of `process` at the close of every bar."""
        return nearest_state(self.forecast, self.process.drift)

    def optimum_actions(self, params: EnvParams, segment: Segment) -> np.ndarray:
        """Return ``[T]`` actions of the best trader of the forecast, flat at the start of `segment`."""
        return follow_policy(solve(self.process, params).actions, self.states, params, segment.start)

    def optimum_return(self, params: EnvParams, segment: Segment) -> float:
        """Return the log growth of equity, net of costs, of the best trader of the forecast over `segment`."""
        return net_log_return(self.bars, self.optimum_actions(params, segment), params, segment)


def synthetic_bars(symbol: str, *, asset_class: AssetClass | None = None, years: float = 2.0) -> Bars:
    """Return the built-in bars of `symbol`: the same name gives the same bars, on every machine."""
    return synthetic_market(symbol, asset_class=asset_class, years=years).bars


def synthetic_market(symbol: str, *, asset_class: AssetClass | None = None, years: float = 2.0) -> SyntheticMarket:
    """Return the built-in market of `symbol` over the last `years` before `LAST_DAY`, with its hidden drift."""
    asset_class = asset_class_of(symbol, asset_class)
    recipe = RECIPES[asset_class]
    rng = np.random.default_rng(list(hashlib.sha256(symbol.upper().encode()).digest()))
    timestamps, progress, opens_session = _calendar(asset_class, years)
    count = len(timestamps)

    noise_scale = recipe.noise * _smile(progress, recipe.smile)
    drift = ar1_path(rng, count, recipe.coefficient, recipe.drift)
    gap = np.where(opens_session, recipe.gap * _student_t(rng, count), 0.0)
    gap[0] = 0.0
    move = drift + noise_scale * _student_t(rng, count)
    start = recipe.price * np.exp(rng.normal(0.0, 0.7))
    frame = price_frame(rng, timestamps, start, move, gap, noise_scale)
    bars = make_bars(frame, symbol, asset_class=asset_class, source="synthetic")

    seen_noise = np.sqrt(noise_scale**2 + np.where(opens_session, recipe.gap**2, 0.0))
    forecast, unknown = kalman_forecast((1 + gap) * (1 + move) - 1, seen_noise, recipe.coefficient, recipe.drift)
    known = np.sqrt(recipe.drift**2 - unknown.mean())
    process = ar1_process(recipe.coefficient, known, float(np.mean(seen_noise**2)))
    return SyntheticMarket(bars, drift, noise_scale, forecast, process)


def _calendar(asset_class: AssetClass, years: float) -> tuple[pd.DatetimeIndex, np.ndarray, np.ndarray]:
    """Return bar starts ``[T]``, the share of the session elapsed at mid-bar ``[T]``, and first bars ``[T]`` bool."""
    stop = LAST_DAY + pd.Timedelta(days=1)
    start = (stop - pd.Timedelta(days=365 * years)).normalize()
    if asset_class == "crypto":
        timestamps = pd.date_range(start, stop, freq=BAR, inclusive="left")
        per_day = pd.Timedelta(days=1) // BAR
        index = np.arange(len(timestamps)) % per_day
        return timestamps, (index + 0.5) / per_day, np.zeros(len(timestamps), bool)
    schedule = exchange_schedule(start.year, stop.year)
    sessions = (schedule.open >= start) & (schedule.open < stop)
    counts = np.asarray((schedule.close - schedule.open)[sessions] // BAR)
    ends = np.cumsum(counts)
    index = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    timestamps = schedule.open[sessions].repeat(counts) + index * BAR
    return timestamps, (index + 0.5) / np.repeat(counts, counts), index == 0


def _smile(progress: np.ndarray, depth: float) -> np.ndarray:
    """Return ``[T]`` the parabola ``1 + depth * y**2``, `y` from -1 (open) to 1 (close), scaled to unit mean square."""
    return (1 + depth * (2 * progress - 1) ** 2) / np.sqrt(1 + 2 * depth / 3 + depth**2 / 5)


def _student_t(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw ``[count]`` Student-t variables of unit variance."""
    return rng.standard_t(TAIL_FREEDOM, count) * np.sqrt(1 - 2 / TAIL_FREEDOM)


def ar1_path(rng: np.random.Generator, count: int, coefficient: float, deviation: float) -> np.ndarray:
    """Draw ``[count]`` values of a stationary Gaussian AR(1) process with this standard deviation."""
    shocks = rng.normal(0.0, deviation, count)
    shocks[1:] *= np.sqrt(1 - coefficient**2)
    return np.array(list(accumulate(shocks.tolist(), lambda value, shock: coefficient * value + shock)))


def price_frame(
    rng: np.random.Generator,
    timestamps: pd.DatetimeIndex,
    start: float,
    move: np.ndarray,
    gap: np.ndarray,
    noise_scale: np.ndarray,
) -> pd.DataFrame:
    """Return OHLCV rows ``[T]`` whose bars open `gap` away from the last close and return `move` from there.

    `gap` and `move` are simple returns ``[T]``. Highs, lows and volumes carry no information about later bars.
    """
    close = start * np.cumprod((1 + gap) * (1 + move))
    open_ = np.concatenate([[start], close[:-1]]) * (1 + gap)
    wicks = WICK * noise_scale * rng.exponential(size=(2, len(move)))
    volume = 1e5 * noise_scale / noise_scale.mean() * np.exp(rng.normal(0.0, 0.5, len(move)))
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * (1 + wicks[0]),
        "low": np.minimum(open_, close) / (1 + wicks[1]),
        "close": close,
        "volume": volume.round(),
    }
    return pd.DataFrame(columns, index=timestamps)
