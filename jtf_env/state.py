"""The pytrees of the environment: parameters, account state, and what a step returns."""

from dataclasses import dataclass

import jax

from jtf_env.params import STATIC_FIELDS, TRACED_FIELDS, EnvParams, RewardWeights
from jtf_env.rewards import RewardComponents

jax.tree_util.register_dataclass(EnvParams, list(TRACED_FIELDS), list(STATIC_FIELDS))
jax.tree_util.register_dataclass(RewardWeights)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EnvState:
    """One account at the close of one bar. All fields are scalars; `vmap` adds ``[B]``."""

    bar: jax.Array
    """int32, index of the bar whose close was seen last."""
    steps: jax.Array
    """int32, steps made in this episode."""
    level: jax.Array
    """int32, position held in quarters of the maximum, -4..4."""
    cash: jax.Array
    """USD."""
    units: jax.Array
    """Units held, negative when short."""
    entry_price: jax.Array
    """float32 also in a float64 market: average fill price of the position, weighted by levels, USD; 0 when flat.

    Stop-loss and take-profit are measured from it (`jtf_env.orders.average_entry`)."""
    cash_at_entry: jax.Array
    """Cash just before the open trade began, USD, from which its profit is measured; when flat, cash."""
    equity: jax.Array
    """``cash + units * close[bar]``, USD."""
    peak_equity: jax.Array
    """Largest equity of the episode, USD."""
    dsr_mean: jax.Array
    """Moving first moment A of the step's log return."""
    dsr_square: jax.Array
    """Moving second moment B of the step's log return."""
    num_trades: jax.Array
    """int32, round trips closed."""
    num_wins: jax.Array
    """int32, of these, with a profit after costs."""
    dropped_orders: jax.Array
    """int32, orders dropped at untradable bars."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepInfo:
    """What happened in one step, for people, metrics and tests. All fields are scalars."""

    equity: jax.Array
    """Equity at the new close, USD."""
    position: jax.Array
    """Signed notional at the new close as a fraction of equity."""
    traded_notional: jax.Array
    """Notional of all fills of the step at their fill prices, USD."""
    cost: jax.Array
    """Fees plus what slippage took against the raw prices, USD."""
    fill_price: jax.Array
    """Price of the order's fill after slippage, USD; 0 when no order filled."""
    trades_closed: jax.Array
    """int32, round trips closed in this step (at most 2: a flip whose new side is stopped out)."""
    trade_pnl: jax.Array
    """Profit of the trades closed, after costs, USD."""
    stop_hit: jax.Array
    """bool, the stop-loss filled."""
    take_profit_hit: jax.Array
    """bool, the take-profit filled."""
    order_dropped: jax.Array
    """bool, an order met an untradable bar."""
    components: RewardComponents
    """Unweighted reward components."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepResult:
    """Reward and the two endings, apart: ``terminated`` is ruin, ``truncated`` the end of episode or data."""

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: StepInfo
