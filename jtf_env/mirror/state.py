"""One account and what a step did to it, as plain Python values: the names and units of `jtf_env.state`."""

from dataclasses import dataclass

from jtf_env.mirror.orders import Account
from jtf_env.mirror.rewards import RewardComponents


@dataclass(frozen=True, slots=True)
class EnvState:
    """One account at the close of one bar; the fields and units of `jtf_env.state.EnvState`.

    `entry_price` holds a float32 number.
    """

    bar: int
    steps: int
    level: int
    cash: float
    units: float
    entry_price: float
    cash_at_entry: float
    equity: float
    peak_equity: float
    dsr_mean: float
    dsr_square: float
    num_trades: int
    num_wins: int
    dropped_orders: int

    @property
    def account(self) -> Account:
        """Money and position alone."""
        return Account(self.cash, self.units, self.level, self.entry_price, self.cash_at_entry)


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What happened in one step; the fields and units of `jtf_env.state.StepInfo`."""

    equity: float
    position: float
    traded_notional: float
    cost: float
    fill_price: float
    trades_closed: int
    trade_pnl: float
    stop_hit: bool
    take_profit_hit: bool
    order_dropped: bool
    components: RewardComponents


@dataclass(frozen=True, slots=True)
class StepResult:
    """Reward and the two endings, apart: ``terminated`` is ruin, ``truncated`` the end of episode or data."""

    reward: float
    terminated: bool
    truncated: bool
    info: StepInfo
