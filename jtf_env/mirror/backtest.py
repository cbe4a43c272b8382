"""One pass over the bars with known actions: equity curve, positions, and a ledger of round trips."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jtf_env.errors import InputError
from jtf_env.mirror.market import Market
from jtf_env.mirror.orders import Account, BarView, Leg, execute
from jtf_env.params import EnvParams


class Trade(NamedTuple):
    """One round trip: from flat (or a flip) to flat (or a flip)."""

    entry_bar: int
    """Bar of the first fill."""
    exit_bar: int
    """Bar of the last fill, or the last bar of the backtest when still open."""
    direction: int
    """1 long, -1 short."""
    entry_price: float
    """Average price of all units entered, after slippage, USD."""
    exit_price: float
    """Average price of all units left, after slippage, USD."""
    units: float
    """All units entered, positive."""
    pnl: float
    """Profit after all costs, USD: ``direction * units * (exit_price - entry_price) - fees``."""
    costs: float
    """Fees plus slippage, USD."""
    bars_held: int
    """``exit_bar - entry_bar``."""
    exit_reason: str
    """``signal``, ``stop``, ``take_profit``; ``end`` marks a position still open at the last close, no exit costs."""


@dataclass(frozen=True, eq=False)
class Backtest:
    """Result of `run_backtest`; entry 0 of the curves is the account before the first decision."""

    bars: np.ndarray
    """``[N]`` int64, bar at whose close each entry of the curves is marked."""
    equity: np.ndarray
    """``[N]`` float64, USD."""
    positions: np.ndarray
    """``[N]`` float64, signed notional as a fraction of equity."""
    levels: np.ndarray
    """``[N]`` int64, position in quarters of the maximum."""
    trades: tuple[Trade, ...]
    """Round trips in order of their exit."""
    dropped_orders: int
    """Orders dropped at untradable bars."""
    traded_notional: float
    """Notional of all fills, USD."""
    costs: float
    """Fees plus slippage of all fills, USD."""
    terminated: bool
    """True when the account was ruined; the curves end there."""


@dataclass
class _Ledger:
    """Collects the legs of the open round trip and writes finished ones to `trades`."""

    trades: list[Trade] = field(default_factory=list)
    entry_bar: int = 0
    direction: int = 0
    entered: float = 0.0
    entry_value: float = 0.0
    exit_value: float = 0.0
    costs: float = 0.0
    notional: float = 0.0
    total_costs: float = 0.0

    def record(self, leg: Leg, bar: int) -> None:
        value = abs(leg.units) * leg.price
        self.notional += value
        self.total_costs += leg.cost
        if leg.adds:
            if self.direction == 0:
                self.entry_bar, self.direction = bar, 1 if leg.units > 0 else -1
            self.entered += abs(leg.units)
            self.entry_value += value
        else:
            self.exit_value += value
        self.costs += leg.cost
        if leg.closes:
            self.close(bar, leg.pnl, leg.reason)

    def close(self, bar: int, pnl: float, reason: str) -> None:
        units = self.entered
        prices = (self.entry_value / units, self.exit_value / units) if units else (0.0, 0.0)
        self.trades.append(
            Trade(self.entry_bar, bar, self.direction, *prices, units, pnl, self.costs, bar - self.entry_bar, reason)
        )
        self.direction = 0
        self.entered = self.entry_value = self.exit_value = self.costs = 0.0

    def close_at_end(self, account: Account, bar: int, price: float) -> None:
        """Mark the open position at the last close; nothing is sold and nothing is paid."""
        if account.level != 0:
            self.exit_value += abs(account.units) * price
            self.close(bar, account.cash + account.units * price - account.cash_at_entry, "end")


def run_backtest(
    market: Market,
    actions: np.ndarray | Sequence[int],
    params: EnvParams,
    start: int | None = None,
    stop: int | None = None,
) -> Backtest:
    """Play ``actions [T]`` (the action at every bar, known in advance) over the rows ``[start, stop)``.

    Decisions are made at bars ``start .. stop - 2``; the last mark is at the close of ``stop - 1``. The defaults
    are the whole market from its first decision bar. ``episode_bars`` is ignored; ruin ends the pass. Raises
    `InputError` for rows that the market does not have.
    """
    start = market.first_bar if start is None else start
    stop = market.num_bars if stop is None else stop
    if not market.first_bar <= start < stop <= market.num_bars:
        raise InputError(
            f"rows [{start}, {stop}) do not lie in [{market.first_bar}, {market.num_bars}), the decision bars."
        )
    codes = np.asarray(actions)[start : stop - 1].tolist()
    columns = (market.open, market.high, market.low, market.close, market.tradable)
    opens, highs, lows, closes, tradable = (np.asarray(column[start:stop]).tolist() for column in columns)
    order_bar = start + 1 if params.fill == "next_open" else start
    account = Account(float(params.initial_equity))
    peak = account.cash
    ledger = _Ledger()
    equity, units, levels = [peak], [0.0], [0]
    dropped = 0
    terminated = False
    for i, action in enumerate(codes):
        j = i + 1
        view = BarView(opens[j], highs[j], lows[j], closes[j], tradable[j], closes[i], tradable[i])
        done = execute(account, action, view, params)
        account = done.account
        dropped += done.dropped
        for leg in done.legs:
            ledger.record(leg, (order_bar if leg.reason == "signal" else start + 1) + i)
        now = account.cash + account.units * view.close
        equity.append(now)
        units.append(account.units)
        levels.append(account.level)
        peak = max(peak, now)
        terminated = now <= peak - params.max_drawdown * peak
        if terminated:
            break
    rows = np.arange(start, start + len(equity))
    ledger.close_at_end(account, int(rows[-1]), float(market.close[rows[-1]]))
    curve = np.array(equity)
    return Backtest(
        bars=rows,
        equity=curve,
        positions=np.array(units) * market.close[rows] / curve,
        levels=np.array(levels),
        trades=tuple(ledger.trades),
        dropped_orders=dropped,
        traded_notional=ledger.notional,
        costs=ledger.total_costs,
        terminated=terminated,
    )
