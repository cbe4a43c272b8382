"""Seven markets whose best policy is known: what the learning checks are run on.

============= ====================================================== ==========================================
market        the next bar's return                                  what the policy sees
============= ====================================================== ==========================================
next_bar      ``+-20 bp * |normal|``, sign independent               its sign in `SIGNAL_COLUMN`; long only
hourly        ``PULL * h1_return`` + noise of 20 bp                  real context, real `HOURLY_COLUMN`, distractor
regime        hidden AR(1) drift (.95, 6 bp) + noise of 20 bp        drift in its units + unit noise in the column
costly_regime the same (.99, 3 bp) + noise of 30 bp                  as regime
drift         3 bp + noise of 5 bp                                   a column of noise; long only
noise         noise of 20 bp, mean 0 over the training bars          a column of noise
shuffled      as next_bar                                            next_bar's column, permuted in time; long only
============= ====================================================== ==========================================

Markets trade 24/7 and open where the last bar closed. A trade costs 2 bp a side, in drift and costly_regime 27 bp;
shorts are allowed but where the table says so. In next_bar and its control long-only makes a change of mind one order
instead of three.

In *hourly* the row a decision reads carries the drift of the bar it trades: ``h1_return`` of bar `i` (the clock hour
before the hour of bar `i`) drives bar ``i + 1``; its context is real, and so is the return column, from whose window
the previous hour can be worked out; the 50 other bar columns are distractors of unit deviation. That table is a
choice: with the real features in all 51 columns both layouts learn the training bars by heart and lose on unseen
ones, and with the return column alone the 51 columns come close to the 58 (0.83 against 0.95, seed 0). The other
tables hold the known column; their other columns are blank, or independent normal variables of deviation
`distractor`, and nothing but the known column tells anything, so the stated optimum is exact.

Distractors ask for more bars, not for a better learner: with 50 distractor columns of unit deviation, 100-bar windows
and 14 000 training bars, ridge regression at the penalty of unit feature noise correlates with the *regime* forecast to
0.57 on unseen bars (normalised score about 0.6), without distractor to 0.96 (share 0.95 to 1).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jtf.data.synthetic import BAR, ar1_path, price_frame
from jtf.known_optimum.programme import (
    Process,
    Solution,
    address_only_rule,
    ar1_process,
    bin_probabilities,
    coin_process,
    constant_process,
    follow_policy,
    kalman_forecast,
    nearest_state,
    net_log_return,
    solve,
    symmetric_grid,
)
from jtf.splits import Fold, Segment, embargo_bars
from jtf_env.bars import Bars, check_enough_bars, make_bars
from jtf_env.layouts import DEFAULT_LAYOUT, DEFAULT_WINDOW, get_layout
from jtf_env.market import Market, build_market, device_rows
from jtf_env.params import EnvParams, make_params
from jtf_env.stretches import stretch_rows

SIGNAL_COLUMN = "momentum"
"""Bar column that carries the signal of the markets with distractor tables."""
NOISE = 20e-4
"""Standard deviation of a bar's noise, as a fraction of the price."""
MEAN_MOVE = NOISE * float(np.sqrt(2 / np.pi))
"""*next_bar*: mean size of a move."""
COST, REAL_COST = 2e-4, 27e-4
"""Of a trade, a side, as a fraction: slippage of a liquid equity, and fee and slippage of crypto spot."""
COEFFICIENT, DRIFT = 0.95, 6e-4
"""*regime*: AR(1) coefficient a bar and standard deviation of the hidden drift."""
COSTLY_COEFFICIENT, COSTLY_DRIFT, COSTLY_NOISE = 0.99, 3e-4, 30e-4
"""*costly_regime*: the same, and the noise around it."""
RISE, RISE_NOISE, RISE_START = 3e-4, 5e-4, 0.01
"""*drift*: the constant drift a bar, the noise around it, and the first price: it doubles every 2 300 bars."""
PULL, HOURLY_NOISE = 0.16, 20e-4
"""*hourly*: drift as a share of the previous hour's return (standard deviation 6.3 bp), and the noise around it.

One context column shows it; 5 100 window inputs, all but 100 of them distractor, hide it."""
HOURLY_COLUMN = "return"
"""*hourly*: the bar column that is real: the previous hour's return can be worked out from its window."""
PER_HOUR = 4
TRAIN_BARS, UNSEEN_BARS = 14_000, 20_000
"""Defaults. The share of a good policy varies by about 0.03 (regime) or 0.05 (hourly) over so many unseen bars."""
NUM_BARS = 316 + TRAIN_BARS + UNSEEN_BARS
"""Warm-up and window (200) and the embargo (116) besides."""
FIRST_DAY = pd.Timestamp("2024-01-01", tz="UTC")


@dataclass(frozen=True, eq=False)
class KnownOptimumMarket:
    """A market, its environment parameters, and what the best trader in it knows."""

    name: str
    bars: Bars
    natural: Market
    """All ``T`` rows, float64; the columns have about unit deviation, or are blank."""
    params: EnvParams
    """Log-return reward, the cost as slippage, no fee, no ruin before equity is gone."""
    process: Process
    states: np.ndarray
    """``[T]`` state of `process` at the close of every bar."""
    unseen_bars: int
    """The last bars, which training never sees."""

    @property
    def train(self) -> Segment:
        """Training bars: from the first decision bar up to the embargo (window + 16 bars)."""
        return _train_segment(self.natural.num_bars, self.natural.layout.name, self.unseen_bars)

    @property
    def unseen(self) -> Segment:
        """The last `unseen_bars` bars."""
        return Segment(self.natural.num_bars - self.unseen_bars, self.natural.num_bars)

    def fold(self, validation: Segment, test: Segment) -> Fold:
        """Return the fold that learns from `train`."""
        return Fold((self.train,), validation, test)

    @cached_property
    def solution(self) -> Solution:
        """The optimum: position-aware, so an upper bound of what an address-only policy can expect."""
        return solve(self.process, self.params)

    def optimum_actions(self, segment: Segment) -> np.ndarray:
        """Return ``[T]`` actions of the optimum, flat at the start of `segment`."""
        return follow_policy(self.solution.actions, self.states, self.params, segment.start)

    def address_only_actions(self) -> np.ndarray:
        """Return ``[T]`` actions of the optimum's hold band, for a policy that does not know its position."""
        return address_only_rule(self.solution, self.params)[self.states]

    def net_log_return(self, actions: np.ndarray, segment: Segment) -> float:
        """Return the log growth of equity over `segment`, net of costs, of one action a bar ``[T]`` (NumPy mirror)."""
        return net_log_return(self.bars, actions, self.params, segment)

    def normalised_score(self, actions: np.ndarray, segment: Segment | None = None) -> float:
        """Return the net log return of ``actions [T]`` over the optimum's, on the same bars (default: `unseen`).

        1 is the optimum, 0 is flat.
        """
        segment = segment or self.unseen
        best = self.net_log_return(self.optimum_actions(segment), segment)
        if best == 0.0:
            raise ValueError(f"market {self.name!r} has no edge to score against; use net_log_return.")
        return self.net_log_return(actions, segment) / best


@dataclass(frozen=True)
class Spec:
    """How a market is drawn."""

    name: str
    num_bars: int
    seed: int
    layout: str
    unseen_bars: int
    distractor: float
    """Deviation of the columns that tell nothing."""
    cost: float
    """Of a trade, a side, as a fraction."""

    def market(
        self,
        bars: Bars,
        natural: Market,
        process: Process,
        states: np.ndarray | None = None,
        allow_short: bool = True,
    ) -> KnownOptimumMarket:
        """Return the market of these bars and columns; without `states` the process has only one."""
        params = make_params("us_equity", "log_return", slippage=self.cost, allow_short=allow_short, max_drawdown=1.0)
        states = np.zeros(self.num_bars, np.int64) if states is None else states
        return KnownOptimumMarket(self.name, bars, natural, params, process, states, self.unseen_bars)


def known_market(
    name: str,
    num_bars: int = NUM_BARS,
    seed: int = 0,
    layout: str = DEFAULT_LAYOUT,
    *,
    unseen_bars: int = UNSEEN_BARS,
    distractor: float = 0.0,
    cost: float | None = None,
) -> KnownOptimumMarket:
    """Return the market of a name in `MARKETS`.

    Parameters
    ----------
    unseen_bars: the last bars, which training never sees.
    distractor: deviation of the columns that tell nothing; *hourly* has its own.
    cost: of a trade, a side, as a fraction; None is the market's own.
    """
    recipe = MARKETS[name]
    cost = recipe.cost if cost is None else cost
    return recipe.build(Spec(name, num_bars, seed, layout, unseen_bars, distractor, cost))


def next_bar_market(spec: Spec) -> KnownOptimumMarket:
    """Return the market whose signal column is the sign of the next bar's return."""
    rng = np.random.default_rng([0, spec.seed])
    sign, bars = _coin_bars(rng, spec.num_bars)
    process = coin_process(MEAN_MOVE, NOISE**2 - MEAN_MOVE**2)
    return spec.market(
        bars, _signal_table(rng, bars, sign, spec), process, (sign > 0).astype(np.int64), allow_short=False
    )


def shuffled_market(spec: Spec) -> KnownOptimumMarket:
    """Return the control of `next_bar_market`: the same prices, its signal column permuted in time."""
    rng = np.random.default_rng([0, spec.seed])
    sign, bars = _coin_bars(rng, spec.num_bars)
    table = _signal_table(rng, bars, rng.permutation(sign), spec)
    return spec.market(bars, table, constant_process(NOISE**2), allow_short=False)


def noise_market(spec: Spec) -> KnownOptimumMarket:
    """Return the market without drift: every trade costs and none pays.

    The mean move of the training bars is exactly 0. Drawn by chance (0.2 bp over 14 000 bars) it would be a drift like
    any other to a learner, who could not tell it from a true one and would be right to hold.
    """
    rng = np.random.default_rng([1, spec.seed])
    move = rng.normal(0.0, NOISE, spec.num_bars)
    train = _train_segment(spec.num_bars, spec.layout, spec.unseen_bars)
    move[train.start + 1 : train.stop] -= move[train.start + 1 : train.stop].mean()
    bars = _bars(rng, move)
    table = _signal_table(rng, bars, rng.standard_normal(spec.num_bars), spec)
    return spec.market(bars, table, constant_process(NOISE**2))


def drift_market(spec: Spec) -> KnownOptimumMarket:
    """Return the market that rises by a constant drift: the best is to buy once and hold.

    The cost of a trade is nine times the drift of a bar. The signal column is noise.
    """
    rng = np.random.default_rng([4, spec.seed])
    bars = _bars(rng, rng.normal(RISE, RISE_NOISE, spec.num_bars), RISE_NOISE, RISE_START)
    table = _signal_table(rng, bars, rng.standard_normal(spec.num_bars), spec)
    return spec.market(bars, table, constant_process(RISE_NOISE**2, RISE), allow_short=False)


def regime_market(spec: Spec) -> KnownOptimumMarket:
    """Return the market whose slow hidden drift shows through unit noise in the signal column.

    The optimum is the exact Kalman filter of that column, traded by dynamic programming.
    """
    return _regime(np.random.default_rng([2, spec.seed]), spec, COEFFICIENT, DRIFT, NOISE)


def costly_regime_market(spec: Spec) -> KnownOptimumMarket:
    """Return `regime_market` with a slower and smaller drift, whose trades cost nine times its deviation."""
    return _regime(np.random.default_rng([5, spec.seed]), spec, COSTLY_COEFFICIENT, COSTLY_DRIFT, COSTLY_NOISE)


def _regime(
    rng: np.random.Generator, spec: Spec, coefficient: float, deviation: float, noise: float
) -> KnownOptimumMarket:
    drift = ar1_path(rng, spec.num_bars, coefficient, deviation)
    bars = _bars(rng, drift + rng.normal(0.0, noise, spec.num_bars), noise)
    signal = drift / deviation + rng.standard_normal(spec.num_bars)
    table = _signal_table(rng, bars, signal / np.sqrt(2), spec)
    forecast, unknown = kalman_forecast(signal * deviation, np.full(spec.num_bars, deviation), coefficient, deviation)
    known = float(np.sqrt(deviation**2 - unknown[-1]))
    process = ar1_process(coefficient, known, noise**2 + float(unknown[-1]))
    return spec.market(bars, table, process, nearest_state(forecast, process.drift))


def hourly_market(spec: Spec) -> KnownOptimumMarket:
    """Return the market whose drift follows the previous completed clock hour's return, with its real columns."""
    rng = np.random.default_rng([3, spec.seed])
    move, previous, running = _hourly_moves(rng.normal(0.0, HOURLY_NOISE, spec.num_bars))
    bars = _bars(rng, move)
    process, states = _hourly_process(previous, running)
    table = distract_columns(rng, build_market(bars, spec.layout, dtype=jnp.float64), HOURLY_COLUMN)
    return spec.market(bars, table, process, states)


def distract_columns(rng: np.random.Generator, market: Market, kept: str) -> Market:
    """Return `market` with independent standard normal distractors in every bar column but `kept`; context stays."""
    distractors = rng.standard_normal(market.features.shape, np.float32).astype(np.float64)
    keep = np.asarray(market.layout.bar_columns) == kept
    columns = np.where(keep[None, :], np.asarray(market.features), distractors)
    with jax.enable_x64(True):
        return replace(market, features=jnp.asarray(columns))


def _train_segment(num_bars: int, layout: str, unseen_bars: int) -> Segment:
    first_bar = get_layout(layout).first_bar(DEFAULT_WINDOW)
    segment = Segment(first_bar, num_bars - unseen_bars - embargo_bars(DEFAULT_WINDOW))
    if segment.stop < segment.start + 2:
        raise ValueError(f"{num_bars} bars leave none for training before {unseen_bars} unseen ones.")
    return segment


def _bars(rng: np.random.Generator, move: np.ndarray, noise: float = NOISE, start: float = 100.0) -> Bars:
    """Return 24/7 bars with the simple returns ``move [T]``, whose noise has deviation `noise`, from a price in USD."""
    count = len(move)
    timestamps = pd.date_range(FIRST_DAY, periods=count, freq=BAR)
    frame = price_frame(rng, timestamps, start, move, np.zeros(count), np.full(count, noise))
    return make_bars(frame, "KNOWN", asset_class="crypto", source="known")


def _coin_bars(rng: np.random.Generator, num_bars: int) -> tuple[np.ndarray, Bars]:
    """Return the sign of the next bar's return ``[T]`` and the bars."""
    move = rng.normal(0.0, NOISE, num_bars + 1)
    return np.sign(move[1:]), _bars(rng, move[:-1])


def _signal_table(rng: np.random.Generator, bars: Bars, signal: np.ndarray, spec: Spec) -> Market:
    """Return a market with ``signal [T]`` in `SIGNAL_COLUMN` and distractors elsewhere."""
    chosen, distractor = get_layout(spec.layout), spec.distractor
    check_enough_bars(bars, chosen, DEFAULT_WINDOW)
    features = distractor * rng.standard_normal((len(bars), len(chosen.bar_columns)), np.float32)
    context = distractor * rng.standard_normal((len(bars), len(chosen.context_columns)), np.float32)
    features[:, chosen.bar_columns.index(SIGNAL_COLUMN)] = signal
    first_bar = chosen.first_bar(DEFAULT_WINDOW)
    prices = {name: getattr(bars, name) for name in ("open", "high", "low", "close")}
    with jax.enable_x64(True):
        columns = {"features": features.astype(np.float64), "context": context.astype(np.float64)} | prices
        return Market(
            **{name: jnp.asarray(column) for name, column in columns.items()},
            tradable=jnp.asarray(bars.tradable),
            **device_rows(stretch_rows([(first_bar, len(bars))], len(bars))),
            layout=chosen,
            window=DEFAULT_WINDOW,
            first_bar=first_bar,
        )


def _hourly_moves(noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``[T]`` returns of the bars, ``h1_return`` at every bar, and the hour's return so far.

    An hour's return runs from the close of its first bar to the close of its last, as `h1_return` defines it.
    """
    rows = []
    previous = running = drift = 0.0
    for bar, shock in enumerate(noise.tolist()):
        move = drift + shock
        if bar % PER_HOUR == 0:
            previous, running = running, 0.0
        else:
            running = (1 + running) * (1 + move) - 1
        drift = PULL * previous
        rows.append((move, previous, running))
    move, previous_hour, hour_so_far = np.array(rows).T
    return move, previous_hour, hour_so_far


def _hourly_process(previous: np.ndarray, running: np.ndarray, size: int = 41) -> tuple[Process, np.ndarray]:
    """Return the process of *hourly* and the ``[T]`` state at every bar.

    A state is (bar of the hour, return of the previous hour, return of this hour so far): at the end of the
    hour the latter becomes the former. Hour returns are AR(1) with coefficient ``3 * PULL``.
    """
    persistence = (PER_HOUR - 1) * PULL
    grid = symmetric_grid(HOURLY_NOISE * np.sqrt((PER_HOUR - 1) / (1 - persistence**2)), size)
    transition = bin_probabilities(grid[None, :] + PULL * grid[:, None], HOURLY_NOISE, grid)
    shape = (PER_HOUR, size, size)

    def expect(value: np.ndarray) -> np.ndarray:
        cube = value.reshape(*shape, -1)
        ahead = np.empty_like(cube)
        ahead[:-1] = transition @ cube[1:]
        ahead[-1] = cube[0, :, size // 2]
        return ahead.reshape(value.shape)

    drift = np.broadcast_to(PULL * grid[:, None], shape).reshape(-1)
    phase = np.arange(len(previous)) % PER_HOUR
    coordinates = (phase, nearest_state(previous, grid), nearest_state(running, grid))
    return Process(drift, HOURLY_NOISE**2, expect), np.ravel_multi_index(coordinates, shape)


class Recipe(NamedTuple):
    """A kind of market."""

    build: Callable[[Spec], KnownOptimumMarket]
    cost: float = COST
    """Of a trade where none is asked for, a side, as a fraction."""


MARKETS: dict[str, Recipe] = {
    "next_bar": Recipe(next_bar_market),
    "hourly": Recipe(hourly_market),
    "regime": Recipe(regime_market),
    "noise": Recipe(noise_market),
    "shuffled": Recipe(shuffled_market),
    "drift": Recipe(drift_market, REAL_COST),
    "costly_regime": Recipe(costly_regime_market, REAL_COST),
}
"""By name."""
