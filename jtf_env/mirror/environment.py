"""The environment in NumPy and plain Python floats (float64): the names of `jtf_env.environment`, no JAX.

It makes the same trades on the same actions; `tests/parity` holds the two together.
"""

import numpy as np

from jtf_env.actions import LEVELS
from jtf_env.constants import BREAK_EVEN
from jtf_env.mirror.account import account_columns
from jtf_env.mirror.market import Market
from jtf_env.mirror.orders import BarView, Execution, execute
from jtf_env.mirror.rewards import (
    RewardComponents,
    clipped_return,
    differential_sharpe,
    direction_reward,
    drawdown_reward,
    log_growth,
    magnitude_reward,
    slippage_reward,
    stop_tp_reward,
    weighted_reward,
)
from jtf_env.mirror.state import EnvState, StepInfo, StepResult
from jtf_env.params import EnvParams

__all__ = [
    "EnvState",
    "StepInfo",
    "StepResult",
    "autoreset_step",
    "autoreset_step_at",
    "draw_start_bar",
    "observe",
    "reset",
    "reset_at",
    "start_row",
    "step",
]


def reset_at(bar: int, market: Market, params: EnvParams) -> EnvState:
    """Return a flat account at the close of bar `bar`: the deterministic reset."""
    money = float(params.initial_equity)
    return EnvState(
        bar=int(bar),
        steps=0,
        level=0,
        cash=money,
        units=0.0,
        entry_price=0.0,
        cash_at_entry=money,
        equity=money,
        peak_equity=money,
        dsr_mean=0.0,
        dsr_square=0.0,
        num_trades=0,
        num_wins=0,
        dropped_orders=0,
    )


def draw_start_bar(rng: np.random.Generator, market: Market) -> int:
    """Draw the start bar uniformly from the market's start rows."""
    return market.start_rows.item(rng.integers(market.num_starts))


def start_row(bits: int, market: Market) -> int:
    """Return the start row of random `bits` (0 .. 2^32 - 1): ``start_rows[bits % num_starts]``."""
    return market.start_rows.item(bits % market.num_starts.item())


def reset(rng: np.random.Generator, market: Market, params: EnvParams) -> EnvState:
    """Return a flat account at a uniformly drawn start bar."""
    return reset_at(draw_start_bar(rng, market), market, params)


def view_bar(market: Market, before: int, bar: int) -> BarView:
    """Return what the step from bar `before` to bar `bar` may touch."""
    return BarView(
        market.open.item(bar),
        market.high.item(bar),
        market.low.item(bar),
        market.close.item(bar),
        market.tradable.item(bar),
        market.close.item(before),
        market.tradable.item(before),
    )


def step(state: EnvState, action: int, market: Market, params: EnvParams) -> tuple[EnvState, StepResult]:
    """Execute the decision `action` (0..7) taken at the close of ``state.bar``; end one bar later.

    A step from the last row of a stretch stays there.
    """
    bar = state.bar + 1 if state.bar < market.segment_end.item(state.bar) else state.bar
    view = view_bar(market, state.bar, bar)
    done = execute(state.account, int(action), view, params)
    account = done.account
    equity = account.cash + account.units * view.close
    growth = log_growth(equity, state.equity)
    dsr, mean, square = differential_sharpe(growth, state.dsr_mean, state.dsr_square, params.dsr_decay)
    closed = [leg for leg in done.legs if leg.closes]
    final = EnvState(
        bar=bar,
        steps=state.steps + 1,
        level=account.level,
        cash=account.cash,
        units=account.units,
        entry_price=account.entry_price,
        cash_at_entry=account.cash_at_entry,
        equity=equity,
        peak_equity=max(state.peak_equity, equity),
        dsr_mean=mean,
        dsr_square=square,
        num_trades=state.num_trades + len(closed),
        num_wins=state.num_wins + sum(leg.pnl > BREAK_EVEN * state.equity for leg in closed),
        dropped_orders=state.dropped_orders + done.dropped,
    )
    info = describe(state, final, done, view.close, growth, dsr, params)
    terminated, truncated = endings(final, market, params)
    return final, StepResult(weighted_reward(info.components, params.reward), terminated, truncated, info)


def describe(
    state: EnvState,
    final: EnvState,
    done: Execution,
    close: float,
    growth: float,
    dsr: float,
    params: EnvParams,
) -> StepInfo:
    """Return what happened between `state` and `final`, with the reward components."""
    cost = sum(leg.cost for leg in done.legs)
    exposure = done.held_level / LEVELS
    reason = done.legs[-1].reason if done.legs else None
    orders = [leg for leg in done.legs if leg.reason == "signal"]
    components = RewardComponents(
        pnl=params.reward_scale * growth,
        direction=direction_reward(exposure, done.raw, close),
        dsr=dsr,
        stop_tp=stop_tp_reward(reason),
        slippage=slippage_reward(cost, state.equity, params.reward_scale),
        magnitude=magnitude_reward(exposure, done.raw, close, params.reward_scale),
        drawdown=drawdown_reward(final.equity, final.peak_equity),
        clipped_pnl=clipped_return(growth, params.reward_scale),
    )
    return StepInfo(
        equity=final.equity,
        position=final.units * close / final.equity,
        traded_notional=sum(abs(leg.units) * leg.price for leg in done.legs),
        cost=cost,
        fill_price=orders[0].price if orders else 0.0,
        trades_closed=final.num_trades - state.num_trades,
        trade_pnl=sum(leg.pnl for leg in done.legs),
        stop_hit=reason == "stop",
        take_profit_hit=reason == "take_profit",
        order_dropped=done.dropped,
        components=components,
    )


def endings(state: EnvState, market: Market, params: EnvParams) -> tuple[bool, bool]:
    """Return ``(terminated, truncated)``: ruin, else the end of the episode length or of the stretch."""
    if state.equity <= 0 or state.equity <= state.peak_equity - params.max_drawdown * state.peak_equity:
        return True, False
    if params.episode_bars > 0 and state.steps >= params.episode_bars:
        return False, True
    return False, state.bar >= market.segment_end.item(state.bar)


def autoreset_step_at(
    start_bar: int, state: EnvState, action: int, market: Market, params: EnvParams
) -> tuple[EnvState, StepResult, EnvState]:
    """Step, and restart at `start_bar` if the episode ended: ``(next_state, result, final_state)``."""
    final, result = step(state, action, market, params)
    if result.terminated or result.truncated:
        return reset_at(start_bar, market, params), result, final
    return final, result, final


def autoreset_step(
    rng: np.random.Generator, state: EnvState, action: int, market: Market, params: EnvParams
) -> tuple[EnvState, StepResult, EnvState]:
    """`autoreset_step_at` with a start bar drawn from `rng` (drawn whether or not the episode ended)."""
    return autoreset_step_at(draw_start_bar(rng, market), state, action, market, params)


def observe(market: Market, state: EnvState, params: EnvParams) -> np.ndarray:
    """Return the observation ``[W, F + C + E]`` at the state's bar, oldest row first, columns in the layout's order.

    The `C` context columns and the `E` account columns (`account_columns`) are the same in every row.
    """
    rows = market.features[state.bar - market.window + 1 : state.bar + 1]
    constant = np.hstack([market.context[state.bar], account_columns(state, market.layout, params)])
    built = np.hstack([rows, np.repeat(constant[None, :], market.window, axis=0)])
    return built[:, market.layout.observation_order]
