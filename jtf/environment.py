"""What the learner sees of the market: a batched environment of bar addresses, and the validation backtest in XLA.

`data` is always ``(Market, EnvParams)``, traced, one market for all environments. Axes: `[B]` environments,
`[T]` bars, `[A]` actions.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jtf_env.actions import HOLD, NUM_ACTIONS
from jtf_env.environment import EnvState, StepResult, autoreset_step_at, reset, reset_at, select, start_row, step
from jtf_env.market import Market
from jtf_env.params import EnvParams
from jtf_ppo.types import Environment, Policy, RowTable, Timestep, Validation

TradingData = tuple[Market, EnvParams]


class ValidationData(NamedTuple):
    """The bars a policy is validated on and what the metrics need beside them."""

    market: Market
    params: EnvParams
    annualisation: Array
    """Factor from a Sharpe ratio per bar to one per year (`jtf.results.metrics.annualisation`)."""


def make_environment(market: Market) -> Environment:
    """Return the learner's environment for markets of this layout and window; equal markets give equal environments."""
    return Environment(
        num_actions=NUM_ACTIONS,
        reset=reset_batch,
        step=step_batch,
        observation_dim=market.layout.obs_dim(market.window),
        table=row_table,
        window=market.window,
        first_row=market.first_bar,
    )


def make_validation(market: Market, params: EnvParams, annualisation: float) -> Validation:
    """Return the check that backtests the most likely actions once through all decision bars of `market`."""
    data = ValidationData(market, replace(params, episode_bars=0), jnp.float32(annualisation))
    return Validation(run=validate, data=data)


def on_device(params: EnvParams) -> EnvParams:
    """Return the parameters with float32 and int32 leaves, so that no compiled function sees a Python number."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.int32 if isinstance(x, int) else jnp.float32), params)


def row_table(data: TradingData) -> RowTable:
    """Return the standardised columns the addresses point into."""
    market, _ = data
    return RowTable(market.features, market.context)


def reset_batch(key: Array, num_envs: int, data: TradingData) -> tuple[EnvState, Array]:
    """Start `num_envs` flat accounts at uniformly drawn bars; the observation is the bar index. Consumes `key`."""
    keys = jax.random.split(key, num_envs)
    state = jax.vmap(reset, in_axes=(0, None, None))(keys, *data)
    return state, state.bar


def step_batch(bits: Array, state: EnvState, action: Array, data: TradingData) -> tuple[EnvState, Timestep]:
    """Step every environment, restarting ended episodes at the start rows of `bits` (uint32)."""
    market, params = data
    start_bar = start_row(bits, market)
    batched = jax.vmap(autoreset_step_at, in_axes=(0, 0, 0, None, None))
    following, result, final = batched(start_bar, state, action, market, params)
    timestep = Timestep(
        observation=following.bar,
        final_observation=final.bar,
        reward=result.reward,
        terminated=result.terminated,
        truncated=result.truncated,
        metrics=step_metrics(state, result),
    )
    return following, timestep


def step_metrics(state: EnvState, result: StepResult) -> dict[str, Array]:
    """Return what is averaged over a rollout; ``return_bp`` is the return of a step in basis points."""
    info = result.info
    return {
        "return_bp": 1e4 * (info.equity / state.equity - 1.0),
        "exposure": jnp.abs(info.position),
        "traded": (info.traded_notional > 0).astype(jnp.float32),
        "ruined": result.terminated.astype(jnp.float32),
    }


class Ledger(NamedTuple):
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
    alive: Array
    """bool, the account was not ruined before this step."""


def validate(policy: Policy, data: ValidationData) -> dict[str, Array]:
    """Return the metrics of one pass over the market with the most likely action at every bar.

    Definitions are those of `jtf.results.metrics`; undefined ones are NaN. ``score``, which picks the best
    checkpoint, is the log return of equity over the pass: costs and losses weigh in full, and standing aside scores
    0, so a policy that only looks good by a few lucky bars gains nothing over one that earns throughout.
    """
    market = data.market
    logits, _ = policy.evaluate_rows(row_table((market, data.params)), market.first_bar)
    actions = jnp.argmax(logits, axis=-1).astype(jnp.int32)[market.first_bar : market.num_bars - 1]
    ledger = replay(actions, market, data.params)
    return ledger_metrics(ledger, actions, market, data)


def replay(actions: Array, market: Market, params: EnvParams) -> Ledger:
    """Trade `actions` ``[N]`` from `first_bar` on; a ruined account stops trading."""

    def body(carry: tuple[EnvState, Array], action: Array) -> tuple[tuple[EnvState, Array], Ledger]:
        state, alive = carry
        following, result = step(state, action, market, params)
        following = select(alive, following, state)
        pnl = jnp.where(alive, result.info.trade_pnl, 0.0)
        entry = Ledger(
            equity=following.equity,
            position=jnp.where(alive, result.info.position, 0.0),
            wins=jnp.maximum(pnl, 0.0),
            losses=jnp.maximum(-pnl, 0.0),
            trades=jnp.where(alive, result.info.trades_closed, 0),
            alive=alive,
        )
        return (following, alive & ~result.terminated), entry

    start = reset_at(market.first_bar, market, params)
    _, ledger = jax.lax.scan(body, (start, jnp.bool_(True)), actions)
    return ledger


def ledger_metrics(ledger: Ledger, actions: Array, market: Market, data: ValidationData) -> dict[str, Array]:
    """Return the validation metrics of a replayed pass; see `jtf.results.metrics` for the formulas."""
    initial = jnp.asarray(data.params.initial_equity, ledger.equity.dtype)
    equity = jnp.concatenate([initial[None], ledger.equity])
    returns = equity[1:] / equity[:-1] - 1.0
    steps = jnp.maximum(ledger.alive.sum(), 2)
    mean = returns.sum() / steps
    std = jnp.sqrt((jnp.where(ledger.alive, returns - mean, 0.0) ** 2).sum() / (steps - 1))
    losses = ledger.losses.sum()
    move = jnp.diff(market.close[market.first_bar :])[1:]
    judged = (ledger.position[:-1] != 0) & (move != 0) & ledger.alive[1:]
    right = judged & (jnp.sign(ledger.position[:-1]) == jnp.sign(move))
    peak = jax.lax.cummax(equity)
    return {
        "score": jnp.log(jnp.maximum(equity[-1] / initial, 1e-6)),
        "total_return": equity[-1] / initial - 1.0,
        "sharpe": jnp.where(std > 0, mean / std * data.annualisation, jnp.nan),
        "max_drawdown": (1.0 - equity / peak).max(),
        "profit_factor": jnp.where(losses > 0, ledger.wins.sum() / losses, jnp.nan),
        "num_trades": ledger.trades.sum(),
        "hold_share": (ledger.alive & (actions == HOLD)).sum() / steps,
        "exposure": jnp.abs(ledger.position).sum() / steps,
        "direction_accuracy": jnp.where(judged.any(), right.sum() / jnp.maximum(judged.sum(), 1), jnp.nan),
    }
