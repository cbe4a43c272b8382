"""The market as the learner's environment: a batch of accounts that are seen as row addresses and account columns.

`data` is always ``(Market, EnvParams)``, traced, one market for all environments. Axes: `[B]` environments, `[T]` rows,
`[A]` actions, `[E]` account columns.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jtf_env.account import account_columns
from jtf_env.actions import HOLD, NUM_ACTIONS
from jtf_env.environment import (
    EnvState,
    StepResult,
    reset,
    reset_at,
    restart,
    select,
    start_row,
    step,
    step_to,
)
from jtf_env.market import Market
from jtf_env.params import EnvParams
from jtf_ppo.types import Environment, Observation, PolicyFunctions, RowTable, Timestep, Validation, ValidationParts

TradingData = tuple[Market, EnvParams]


class ValidationData(NamedTuple):
    """The bars a policy is validated on and what the metrics need beside them."""

    market: Market
    params: EnvParams
    annualisation: Array
    """Factor from a Sharpe ratio per bar to one per year (`jtf.results.metrics.annualisation`)."""


@dataclass(frozen=True)
class CostWarmup:
    """Training costs that rise with the progress of the run: an `Environment.schedule`.

    An address-only critic does not see the position, so it credits a BUY only for the few bars that an exploring policy
    keeps it. At full costs from the start, a learner ends flat where buying and holding pays.
    """

    share: float
    """Share of the run after which costs are full, above 0."""

    def __call__(self, data: TradingData, progress: Array) -> tuple[TradingData, dict[str, Array]]:
        """Return `data` with fee and slippage at ``min(progress / share, 1)`` of their size."""
        market, params = data
        size = jnp.minimum(progress / self.share, 1.0)
        costs: dict[str, Any] = {"fee": params.fee * size, "slippage": params.slippage * size}
        return (market, replace(params, **costs)), {"train/cost_share": size}


def make_environment(market: Market, cost_warmup: float = 0.0) -> Environment:
    """Return the learner's environment for markets of this layout and window; equal markets give equal environments.

    `cost_warmup` is the share of the run over which fee and slippage rise from 0 to full; 0 is off.
    """
    layout = market.layout
    return Environment(
        num_actions=NUM_ACTIONS,
        reset=reset_batch,
        step=step_batch,
        observation_dim=layout.obs_dim(market.window),
        table=row_table,
        window=market.window,
        first_row=market.first_bar,
        num_features=len(layout.bar_columns),
        num_context=len(layout.context_columns),
        num_account=len(layout.state_columns),
        schedule=CostWarmup(cost_warmup) if cost_warmup else None,
    )


def make_validation(market: Market, params: EnvParams, annualisation: float) -> Validation:
    """Return the check that backtests the most likely actions once through all decision rows of `market`."""
    data = ValidationData(market, replace(params, episode_bars=0), jnp.float32(annualisation))
    parts = ValidationParts(most_likely_actions, replay) if market.layout.address_only else None
    return Validation(run=validate, data=data, parts=parts)


def on_device(params: EnvParams) -> EnvParams:
    """Return the parameters with float32 and int32 leaves, so that no compiled function sees a Python number."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.int32 if isinstance(x, int) else jnp.float32), params)


def row_table(data: TradingData) -> RowTable:
    """Return the standardised columns the addresses point into; rows that no decision reads are zero.

    Zero, and not merely without weight: the Fourier first layer mixes the rows of a block.
    """
    market, _ = data
    usable = market.segment_end >= 0
    # A window is read by the decisions at its end: a row counts if any of the next W rows is usable.
    so_far = jnp.cumsum(usable, dtype=jnp.int32)
    ahead = jnp.pad(so_far, (0, market.window - 1), mode="edge")[market.window - 1 :]
    read = ahead > so_far - usable
    return RowTable(
        jnp.where(read[:, None], market.features, 0.0), jnp.where(usable[:, None], market.context, 0.0), usable
    )


def observe(state: EnvState, data: TradingData) -> Observation:
    """Return what decisions in `state` ``[B]`` see."""
    market, params = data
    account = jax.vmap(account_columns, in_axes=(0, None, None))(state, market.layout, params)
    return Observation(state.bar, account)


def reset_batch(key: Array, num_envs: int, data: TradingData) -> tuple[EnvState, Observation]:
    """Start `num_envs` flat accounts at uniformly drawn rows, each at a random age. Consumes `key`.

    With one age for all, every episode of full length would be truncated in the same update.
    """
    start_key, age_key = jax.random.split(key)
    state = jax.vmap(reset, in_axes=(0, None, None))(jax.random.split(start_key, num_envs), *data)
    age = jax.random.randint(age_key, (num_envs,), 0, jnp.maximum(data[1].episode_bars, 1), jnp.int32)
    state = replace(state, steps=age)
    return state, observe(state, data)


def step_batch(bits: Array, state: EnvState, action: Array, data: TradingData) -> tuple[EnvState, Timestep]:
    """Step every environment; where an episode ends, a flat account starts at the start row of `bits` (uint32).

    Where a stretch of bars ends before the episode's length, it starts at the beginning of the next stretch, with the
    steps that were left: every decision row is then visited equally often. With drawn starts alone, the first of them
    would be visited once where the row `episode_bars` later is visited `episode_bars` times.
    """
    market, params = data
    # Where episodes restart, no account stands at the last row of a stretch. To look that up would be one more kernel a
    # step on a GPU, because all of a step waits for its row.
    final, result = jax.vmap(step_to, (0, 0, 0, None, None))(state.bar + 1, state, action, market, params)
    goes_on = runs_out(final, market, params)
    start = jnp.where(goes_on, market.next_start[final.bar], start_row(bits, market))
    following = jax.vmap(restart, (0, 0, 0, None, None))(start, final, result, market, params)
    following = replace(following, steps=jnp.where(goes_on & result.truncated, final.steps, following.steps))
    timestep = Timestep(
        observation=observe(following, data),
        final_observation=observe(final, data),
        reward=result.reward,
        terminated=result.terminated,
        truncated=result.truncated,
        metrics=step_metrics(state, result, market),
    )
    return following, timestep


def runs_out(final: EnvState, market: Market, params: EnvParams) -> Array:
    """Return ``[B]`` bool: the step to `final` ended the stretch, and not the length of the episode."""
    last = final.bar >= market.segment_end[final.bar]
    return last & ((params.episode_bars == 0) | (final.steps < params.episode_bars))


def step_metrics(state: EnvState, result: StepResult, market: Market) -> dict[str, Array]:
    """Return what is averaged over a rollout.

    ``return_bp`` is the return of a step in basis points; ``first_bars`` is whether the decision was made at one of the
    first bars of its stretch (`at_first_bars`).
    """
    info = result.info
    return {
        "return_bp": 1e4 * (info.equity / state.equity - 1.0),
        "exposure": jnp.abs(info.position),
        "traded": (info.traded_notional > 0).astype(jnp.float32),
        "ruined": result.terminated.astype(jnp.float32),
        "first_bars": at_first_bars(state.bar, market).astype(jnp.float32),
    }


def at_first_bars(rows: Array, market: Market) -> Array:
    """Return whether each of ``rows [B]`` is among the first ``W - 1`` of its stretch."""
    return market.segment_end[rows - (market.window - 1)] != market.segment_end[rows]


def first_bars_share(market: Market) -> float:
    """Return the share of the decision rows that are the first ``W - 1`` of their stretch."""
    segment_end = np.asarray(market.segment_end)
    rows = np.flatnonzero(segment_end > np.arange(market.num_bars))
    return float(np.mean(segment_end[rows - (market.window - 1)] != segment_end[rows]))


class ValidationPass(NamedTuple):
    """One validation step, for the metrics. All ``[N]`` after the scan."""

    equity: Array
    """After the step, USD."""
    position: Array
    """Signed exposure after the step."""
    wins: Array
    """Profit of trades closed in the step, USD, 0 where a loss."""
    losses: Array
    """Loss of trades closed in the step, USD, positive."""
    trades: Array
    """int32, trades closed."""
    held: Array
    """bool, the decision was HOLD."""
    traded: Array
    """bool, the order filled."""
    counts: Array
    """bool, a decision was made: the row is in a stretch and the account was not ruined."""


Decide = Callable[[EnvState], Array]


def validate(policy: PolicyFunctions, data: ValidationData) -> dict[str, Array]:
    """Return the metrics of one pass over the market with the most likely action at every decision.

    Definitions are those of `jtf.results.metrics`; undefined ones are NaN. ``score``, which picks the best
    checkpoint, is the log return of equity over the pass: costs and losses weigh in full, standing aside scores 0.
    """
    return pass_metrics(trade_once(most_likely(policy, data), data.market, data.params), data)


def most_likely(policy: PolicyFunctions, data: ValidationData) -> Decide:
    """Return the decisions of `policy`; without account columns all rows are evaluated at once."""
    if data.market.layout.address_only:
        return play(most_likely_actions(policy, data))
    outputs = policy.on(row_table((data.market, data.params)))

    def decide(state: EnvState) -> Array:
        observation = observe(jax.tree.map(lambda x: x[None], state), (data.market, data.params))
        return jnp.argmax(outputs(observation)[0][0]).astype(jnp.int32)

    return decide


def most_likely_actions(policy: PolicyFunctions, data: ValidationData) -> Array:
    """Return ``[T]`` int32, the most likely action at every row of an address-only policy."""
    table = row_table((data.market, data.params))
    return jnp.argmax(policy.evaluate_rows(table)[0], axis=-1).astype(jnp.int32)


def play(actions: Array) -> Decide:
    """Return the decisions that take ``actions [T]``."""
    return lambda state: actions[state.bar]


def replay(actions: Array, data: ValidationData) -> dict[str, Array]:
    """Return the metrics of `validate` for ``actions [T]``."""
    return pass_metrics(trade_once(play(actions), data.market, data.params), data)


def trade_once(decide: Decide, market: Market, params: EnvParams) -> ValidationPass:
    """Trade every stretch once, in order of time; a ruined account stops trading.

    A stretch begins flat with the equity that the one before it left.
    """
    rows = jnp.arange(market.first_bar, market.num_bars - 1, dtype=jnp.int32)

    def body(carry: tuple[EnvState, Array], row: Array) -> tuple[tuple[EnvState, Array], ValidationPass]:
        state, alive = carry
        decides = market.segment_end[row] > row
        opens = decides & ((row == market.first_bar) | (market.segment_end[row - 1] != market.segment_end[row]))
        fresh = replace(reset_at(row, market, params), cash=state.equity, cash_at_entry=state.equity)
        state = select(opens, replace(fresh, equity=state.equity, peak_equity=state.peak_equity), state)
        action, counts = decide(state), alive & decides
        following, result = step(state, action, market, params)
        pnl = jnp.where(counts, result.info.trade_pnl, 0.0)
        following = select(counts, following, state)
        entry = ValidationPass(
            equity=following.equity,
            position=jnp.where(counts, result.info.position, 0.0),
            wins=jnp.maximum(pnl, 0.0),
            losses=jnp.maximum(-pnl, 0.0),
            trades=jnp.where(counts, result.info.trades_closed, 0),
            held=counts & (action == HOLD),
            traded=counts & (result.info.fill_price > 0),
            counts=counts,
        )
        return (following, alive & ~(counts & result.terminated)), entry

    start = reset_at(market.first_bar, market, params)
    _, steps = jax.lax.scan(body, (start, jnp.bool_(True)), rows)
    return steps


def pass_metrics(steps: ValidationPass, data: ValidationData) -> dict[str, Array]:
    """Return the validation metrics of a pass; see `jtf.results.metrics` for the formulas."""
    initial = jnp.asarray(data.params.initial_equity, steps.equity.dtype)
    equity = jnp.concatenate([initial[None], steps.equity])
    returns = equity[1:] / equity[:-1] - 1.0
    count = jnp.maximum(steps.counts.sum(), 2)
    mean = returns.sum() / count
    std = jnp.sqrt((jnp.where(steps.counts, returns - mean, 0.0) ** 2).sum() / (count - 1))
    losses = steps.losses.sum()
    move = jnp.diff(data.market.close[data.market.first_bar :])[1:]
    judged = (steps.position[:-1] != 0) & (move != 0) & steps.counts[1:]
    right = judged & (jnp.sign(steps.position[:-1]) == jnp.sign(move))
    peak = jax.lax.cummax(equity)
    return {
        "score": jnp.log(jnp.maximum(equity[-1] / initial, 1e-6)),
        "total_return": equity[-1] / initial - 1.0,
        "sharpe": jnp.where(std > 0, mean / std * data.annualisation, jnp.nan),
        "max_drawdown": (1.0 - equity / peak).max(),
        "profit_factor": jnp.where(losses > 0, steps.wins.sum() / losses, jnp.nan),
        "num_trades": steps.trades.sum(),
        "hold_share": steps.held.sum() / count,
        "traded_share": steps.traded.sum() / count,
        "exposure": jnp.abs(steps.position).sum() / count,
        "direction_accuracy": jnp.where(judged.any(), right.sum() / jnp.maximum(judged.sum(), 1), jnp.nan),
    }
