"""One pass over the bars, asking for a decision at every one: equity curve, positions and every fill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from jtf_env.actions import NUM_ACTIONS
from jtf_env.constants import BREAK_EVEN
from jtf_env.errors import InputError
from jtf_env.mirror.account import Observation, account_columns
from jtf_env.mirror.environment import reset_at
from jtf_env.mirror.market import Market
from jtf_env.mirror.orders import BarView, Execution, execute
from jtf_env.mirror.state import EnvState
from jtf_env.params import EnvParams

Decide = Callable[[Observation], int]
"""The decision at one bar: an observation in, an action (0..7) out."""

NO_ACCOUNT = np.zeros(0)


class Fill(NamedTuple):
    """Units bought or sold at one price. An order through zero is two fills: one closes, one opens."""

    bar: int
    """Bar it filled in."""
    side: int
    """1 bought, -1 sold."""
    units: float
    """Units traded, positive."""
    price: float
    """After slippage, USD."""
    fee: float
    """USD."""
    cost: float
    """Fee plus slippage, USD."""
    level_after: int
    """Position after the fill in quarters of the maximum, -4..4."""
    units_after: float
    """Units held after the fill, negative when short."""
    reason: str
    """``signal``, ``stop`` or ``take_profit``."""


@dataclass(frozen=True, eq=False)
class Backtest:
    """Result of `run_backtest`: ``N`` decisions between ``N + 1`` marks; mark 0 is before the first decision."""

    bars: np.ndarray
    """``[N + 1]`` int64, bar at whose close each mark is taken."""
    closes: np.ndarray
    """``[N + 1]`` float64, those closes, USD."""
    equity: np.ndarray
    """``[N + 1]`` float64, USD."""
    units: np.ndarray
    """``[N + 1]`` float64, units held, negative when short."""
    levels: np.ndarray
    """``[N + 1]`` int64, position in quarters of the maximum."""
    costs: np.ndarray
    """``[N + 1]`` float64, fees plus slippage of the step that ended at each mark, USD; 0 at mark 0."""
    actions: np.ndarray
    """``[N]`` int64, the decision at the close of ``bars[:-1]``."""
    fills: tuple[Fill, ...]
    """In order of time."""
    dropped_orders: int
    """Orders dropped at untradable bars."""
    terminated: bool
    """True when the account was ruined; the pass ends there."""

    @property
    def positions(self) -> np.ndarray:
        """``[N + 1]`` signed notional as a fraction of equity."""
        return self.units * self.closes / self.equity


def replay(actions: np.ndarray | Sequence[int]) -> Decide:
    """Return the decisions that were made before: ``actions [T]`` by row. The account is not read."""
    codes = np.asarray(actions).tolist()
    return lambda observation: codes[observation.row]


def backtest_rows(market: Market, start: int | None, stop: int | None) -> tuple[int, int]:
    """Return the rows ``[start, stop)`` of a backtest, defaults filled in; raise `InputError` outside one stretch."""
    start = market.first_bar if start is None else start
    end = int(market.segment_end[start]) + 1 if 0 <= start < market.num_bars else 0
    stop = end if stop is None else stop
    if not start < stop <= end:
        raise InputError(
            f"rows [{start}, {stop}) do not lie in one stretch of decision bars; those of the market begin at "
            f"{market.first_bar}" + (f" and the one of row {start} ends before {end}." if end else ".")
        )
    return start, stop


def run_backtest(
    market: Market, decide: Decide, params: EnvParams, start: int | None = None, stop: int | None = None
) -> Backtest:
    """Ask `decide` at every bar of ``[start, stop)`` and play its orders.

    Decisions are made at bars ``start .. stop - 2``; the last mark is at the close of ``stop - 1``. The defaults
    are the first decision bar of the market and the end of the stretch of `start`. ``episode_bars`` is ignored; ruin
    ends the pass. Raises `InputError` for rows that do not lie in one stretch of the market, and for a decision that
    is no action.
    """
    start, stop = backtest_rows(market, start, stop)
    columns = (market.open, market.high, market.low, market.close, market.tradable)
    opens, highs, lows, closes, tradable = (np.asarray(column[start:stop]).tolist() for column in columns)
    state = reset_at(start, market, params)
    address_only = market.layout.address_only
    account, peak = state.account, state.peak_equity
    marks = [(state.equity, 0.0, 0, 0.0)]
    actions: list[int] = []
    fills: list[Fill] = []
    dropped = 0
    for i in range(stop - 1 - start):
        j = i + 1
        seen = NO_ACCOUNT if address_only else account_columns(state, market.layout, params)
        action = decide(Observation(start + i, seen))
        if not 0 <= action < NUM_ACTIONS:
            raise InputError(f"the decision at row {start + i} is {action!r}; actions are 0 to {NUM_ACTIONS - 1}.")
        view = BarView(opens[j], highs[j], lows[j], closes[j], tradable[j], closes[i], tradable[i])
        done = execute(account, action, view, params)
        if done.legs:
            fills += step_fills(done, account.units, start + j, params)
        account = done.account
        equity = account.cash + account.units * view.close
        peak = max(peak, equity)
        dropped += done.dropped
        actions.append(action)
        marks.append((equity, account.units, account.level, sum(leg.cost for leg in done.legs) if done.legs else 0.0))
        if not address_only:
            state = next_state(state, done, equity)
        if equity <= peak - params.max_drawdown * peak:
            break
    rows = np.arange(start, start + len(marks))
    equities, units, levels, costs = (np.array(column) for column in zip(*marks, strict=True))
    return Backtest(
        bars=rows,
        closes=market.close[rows],
        equity=equities,
        units=units,
        levels=levels,
        costs=costs,
        actions=np.array(actions, dtype=np.int64),
        fills=tuple(fills),
        dropped_orders=dropped,
        terminated=bool(equities[-1] <= peak - params.max_drawdown * peak),
    )


def next_state(state: EnvState, done: Execution, equity: float) -> EnvState:
    """Return what account columns read of the account one bar later; the moments of the reward are left alone."""
    closed = [leg for leg in done.legs if leg.closes]
    return replace(
        state,
        **done.account._asdict(),
        bar=state.bar + 1,
        steps=state.steps + 1,
        equity=equity,
        peak_equity=max(state.peak_equity, equity),
        num_trades=state.num_trades + len(closed),
        num_wins=state.num_wins + sum(leg.pnl > BREAK_EVEN * state.equity for leg in closed),
        dropped_orders=state.dropped_orders + done.dropped,
    )


def step_fills(done: Execution, held: float, bar: int, params: EnvParams) -> list[Fill]:
    """Return the fills of the step that ends at `bar`, `held` units before it; legs without units are left out."""
    order_bar = bar if params.fill == "next_open" else bar - 1
    fills = []
    for leg in done.legs:
        held += leg.units
        if leg.units == 0:
            continue
        fills.append(
            Fill(
                bar=order_bar if leg.reason == "signal" else bar,
                side=1 if leg.units > 0 else -1,
                units=abs(leg.units),
                price=leg.price,
                fee=params.fee * leg.price * abs(leg.units),
                cost=leg.cost,
                level_after=0 if leg.closes else done.held_level,
                units_after=held,
                reason=leg.reason,
            )
        )
    return fills
