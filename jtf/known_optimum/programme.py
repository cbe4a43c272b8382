"""The best a trader can do in a known market, computed by dynamic programming. NumPy only.

What the trader knows at the close of a bar is a finite Markov `Process`; together with the position level it
decides everything that is worth knowing. Axis letters: `[S]` process states, `[L]` position levels ``-4..4``,
`[A]` actions, `[T]` bars.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from jtf.splits import Segment
from jtf_env.actions import BUY_75, CLOSE, HOLD, LEVELS, NUM_ACTIONS, SELL_75, next_level_table
from jtf_env.bars import Bars
from jtf_env.layouts import DEFAULT_LAYOUT, get_layout
from jtf_env.mirror import Market
from jtf_env.mirror.backtest import Backtest, replay, run_backtest
from jtf_env.params import EnvParams
from jtf_env.stretches import stretch_rows

TOLERANCE = 1e-7
"""Value iteration stops when the gain is known to this many log-return units a bar (0.001 basis points)."""
MAX_ITERATIONS = 20_000
GRID_HALF_WIDTH = 4.0
"""Signal grids reach this many stationary standard deviations to either side."""

Expect = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Process:
    """A finite Markov process of the knowledge that forecasts the next bar."""

    drift: np.ndarray
    """``[S]`` expected simple return of the next bar in every state, as a fraction."""
    variance: float
    """Variance of that return about its expectation."""
    expect: Expect
    """Maps values ``[S, L]`` of the next bar's states to their expectation given this bar's state, ``[S, L]``."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A stationary policy of a process and what it earns."""

    actions: np.ndarray
    """``[S, L]`` int action in every state at every level."""
    gain: float
    """Expected net log return a bar."""


def constant_process(variance: float, drift: float = 0.0) -> Process:
    """One state that always forecasts `drift`: of 0 the best policy is to stay flat."""
    return Process(np.full(1, drift), variance, lambda value: value)


def coin_process(drift: float, variance: float) -> Process:
    """Two equally likely states, independent from bar to bar, forecasting ``-drift`` and ``+drift``."""
    return Process(np.array([-drift, drift]), variance, lambda value: np.broadcast_to(value.mean(axis=0), value.shape))


def ar1_process(coefficient: float, deviation: float, variance: float, size: int = 201) -> Process:
    """AR(1) forecast of stationary standard deviation `deviation` on `size` equal bins (Tauchen 1986).

    `variance` is that of a bar's return about the forecast. State `s` forecasts ``drift[s]``.
    """
    drift = symmetric_grid(deviation, size)
    transition = bin_probabilities(coefficient * drift, deviation * np.sqrt(1 - coefficient**2), drift)
    return Process(drift, variance, lambda value: transition @ value)


def symmetric_grid(deviation: float, size: int) -> np.ndarray:
    """Return `size` equally spaced values over ``+-GRID_HALF_WIDTH * deviation``."""
    return np.linspace(-1.0, 1.0, size) * GRID_HALF_WIDTH * deviation


def nearest_state(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the ``[T]`` index of the grid value nearest to each of `values` ``[T]``; the ends catch the rest."""
    step = grid[1] - grid[0]
    return np.clip(np.rint((values - grid[0]) / step), 0, len(grid) - 1).astype(np.int64)


def bin_probabilities(means: np.ndarray, deviation: float, grid: np.ndarray) -> np.ndarray:
    """Return P(nearest grid value is j) for normal variables of these means: ``[..., G]``, rows sum to one."""
    edges = (grid[1:] + grid[:-1]) / 2
    below = ndtr((edges - means[..., None]) / deviation)
    ends = np.zeros((*below.shape[:-1], 1))
    return np.diff(np.concatenate([ends, below, ends + 1], axis=-1), axis=-1)


def kalman_forecast(
    observed: np.ndarray, observed_deviation: np.ndarray, coefficient: float, deviation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Forecast a hidden AR(1) drift one bar ahead from noisy sights of it (Kalman 1960, scalar case).

    Parameters
    ----------
    observed, observed_deviation
        ``[T]`` what is seen of the drift of bar `i` at its close, and the standard deviation of its noise.
    coefficient, deviation
        AR(1) coefficient a bar and stationary standard deviation of the drift.

    Returns
    -------
    mean, variance
        ``[T]`` of the drift of bar ``i + 1``, given ``observed[: i + 1]``.
    """
    mean, variance = 0.0, deviation**2
    innovation = deviation**2 * (1 - coefficient**2)
    forecasts = []
    for value, noise in zip(observed.tolist(), (observed_deviation**2).tolist(), strict=True):
        gain = variance / (variance + noise)
        mean = coefficient * (mean + gain * (value - mean))
        variance = coefficient**2 * (1 - gain) * variance + innovation
        forecasts.append((mean, variance))
    means, variances = np.array(forecasts).T
    return means, variances


def solve(process: Process, params: EnvParams, allowed: np.ndarray | None = None) -> Solution:
    """Maximise the mean net log return a bar by damped relative value iteration (Puterman 1994, 8.5.4-5).

    Position-aware: the policy knows its level, which an address-only policy does not, so the gain is an upper
    bound for those. `allowed` ``[S, A]`` bool restricts the actions by state; a single allowed action in every
    state evaluates that address-only rule. Costs are fee plus slippage on the traded fraction of equity.
    """
    levels, following, cost = position_tables(params)
    step_return = process.drift[:, None] * levels - levels**2 * process.variance / 2
    barred = np.zeros((len(process.drift), NUM_ACTIONS)) if allowed is None else np.where(allowed, 0.0, -np.inf)
    value = np.zeros_like(step_return)
    for _ in range(MAX_ITERATIONS):
        ahead = step_return + process.expect(value)
        options = ahead[:, following] - cost + barred[:, None, :]
        change = options.max(axis=-1) - value
        value += change / 2
        value -= value[0, LEVELS]
        if np.ptp(change) < TOLERANCE:
            break
    return Solution(options.argmax(axis=-1), float((change.max() + change.min()) / 2))


def position_tables(params: EnvParams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions ``[L]`` (fraction of equity), the level after each action and what it costs, ``[L, A]``."""
    levels = np.arange(-LEVELS, LEVELS + 1) / LEVELS * params.max_position
    following = next_level_table(params.allow_short) + LEVELS
    return levels, following, (params.fee + params.slippage) * np.abs(levels[following] - levels[:, None])


def foresight_actions(opens: np.ndarray, closes: np.ndarray, tradable: np.ndarray, params: EnvParams) -> np.ndarray:
    """Return the ``[T - 1]`` actions that grow equity most, net of costs, for a trader who knows every price.

    Backward induction over the bars whose opens and closes (USD) and `tradable` are ``[T]``; positions are fractions of
    equity, as in `solve`, so that drift inside a level is left out. The last position is marked, not closed.
    """
    levels, following, cost = position_tables(params)
    next_open = params.fill == "next_open"
    fill = opens[1:] if next_open else closes[:-1]
    fillable = tradable[1:] if next_open else tradable[:-1]
    before = _log_growth(fill / closes[:-1] - 1, levels)
    after = _log_growth(closes[1:] / fill - 1, levels)
    value, choices = np.zeros(len(levels)), np.full((len(fill), len(levels)), HOLD)
    rows = np.arange(len(levels))
    for bar in range(len(fill) - 1, -1, -1):
        value = value + after[bar]
        if fillable[bar]:
            options = value[following] - cost
            choices[bar] = options.argmax(axis=1)
            value = options[rows, choices[bar]]
        value = value + before[bar]
    return follow_policy(choices, np.arange(len(fill)), params)


def _log_growth(move: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(1.0 + move[:, None] * levels, 1e-12))  # A bar that ruins a level is never chosen.


def address_only_rule(solution: Solution, params: EnvParams) -> np.ndarray:
    """Return ``[S]`` actions of the rule with a hold band that needs no knowledge of its own position.

    Where the best policy would buy out of the lowest level it says BUY_75, where it would sell out of the highest
    SELL_75 (CLOSE when short positions are not allowed), where both CLOSE, else HOLD; repeating a capped action
    trades nothing.
    With proportional costs the best policy is such a band (Davis and Norman 1990); what the rule loses is that an
    order moves at most three levels and cannot ask where it starts.
    """
    following = next_level_table(params.allow_short)
    lowest, highest = (-LEVELS if params.allow_short else 0), LEVELS
    at_lowest = solution.actions[:, lowest + LEVELS]
    at_highest = solution.actions[:, highest + LEVELS]
    buys = following[lowest + LEVELS, at_lowest] > lowest
    sells = following[highest + LEVELS, at_highest] < highest
    sell = SELL_75 if params.allow_short else CLOSE
    return np.select([buys & sells, buys, sells], [CLOSE, BUY_75, sell], HOLD)


def follow_policy(policy: np.ndarray, states: np.ndarray, params: EnvParams, start: int = 0) -> np.ndarray:
    """Return the ``[T]`` actions of a position-aware policy ``[S, L]`` that is flat before bar `start`.

    `states` ``[T]`` is the process state at the close of every bar. Before `start` the action is HOLD.
    """
    following = next_level_table(params.allow_short).tolist()
    actions, level = np.full(len(states), HOLD), 0
    choices = policy[states]
    for bar in range(start, len(states)):
        action = int(choices[bar, level + LEVELS])
        actions[bar] = action
        level = following[level + LEVELS][action]
    return actions


def backtest_actions(bars: Bars, actions: np.ndarray, params: EnvParams, segment: Segment) -> Backtest:
    """Return the backtest of one action a bar ``[T]`` over `segment` (NumPy mirror)."""
    # A backtest of known actions reads prices only, so the market needs no columns.
    nothing = np.zeros((len(bars), 0))
    prices = (bars.open, bars.high, bars.low, bars.close, bars.tradable)
    rows = stretch_rows([(0, len(bars))], len(bars))
    market = Market(nothing, nothing, *prices, *rows, get_layout(DEFAULT_LAYOUT), window=1, first_bar=0)
    return run_backtest(market, replay(actions), params, segment.start, segment.stop)


def net_log_return(bars: Bars, actions: np.ndarray, params: EnvParams, segment: Segment) -> float:
    """Return the log growth of equity over `segment`, net of costs, of one action a bar ``[T]``."""
    return float(np.log(backtest_actions(bars, actions, params, segment).equity[-1] / params.initial_equity))
