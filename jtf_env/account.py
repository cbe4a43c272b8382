"""The columns of an observation that come from the account: one builder per ``state`` group of `jtf_env.layouts`.

They are of order 1 and are never standardised: the scaler is fitted on bars, and no bar knows an account.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jtf_env.actions import LEVELS
from jtf_env.constants import MIN_EQUITY, RETURN_SCALE
from jtf_env.layouts import Layout
from jtf_env.params import EnvParams
from jtf_env.scaler import CLIP
from jtf_env.state import EnvState

Columns = tuple[jax.Array, ...]


def account3(state: EnvState, params: EnvParams) -> Columns:
    """``tanh(10 * total return)``, win rate of closed trades (0.5 before the first), drawdown in [0, 1]."""
    total_return = state.equity / params.initial_equity - 1.0
    trades = jnp.maximum(state.num_trades, 1).astype(state.equity.dtype)
    win_rate = jnp.where(state.num_trades > 0, state.num_wins.astype(state.equity.dtype) / trades, 0.5)
    drawdown = jnp.clip(1.0 - state.equity / state.peak_equity, 0.0, 1.0)
    return jnp.tanh(RETURN_SCALE * total_return), win_rate, drawdown


def position3(state: EnvState, params: EnvParams) -> Columns:
    """Signed share of the maximum position (quarters), ``cash / equity`` clipped to +-10, ``log10(equity / initial)``.

    Equity is floored at `MIN_EQUITY` of the initial one in the last two.
    """
    equity = jnp.maximum(state.equity, MIN_EQUITY * params.initial_equity)
    level = state.level.astype(state.equity.dtype) / LEVELS
    return level, jnp.clip(state.cash / equity, -CLIP, CLIP), jnp.log10(equity / params.initial_equity)


ACCOUNT_GROUPS: dict[str, Callable[[EnvState, EnvParams], Columns]] = {"account3": account3, "position3": position3}


def account_columns(state: EnvState, layout: Layout, params: EnvParams) -> jax.Array:
    """Return the columns ``[E]`` of the layout's ``state`` groups, in the layout's order; E is 0 where it has none."""
    groups = [group.name for group in layout.groups if group.source == "state"]
    columns = [column for name in groups for column in ACCOUNT_GROUPS[name](state, params)]
    return jnp.stack(columns) if columns else jnp.zeros((0,), state.equity.dtype)
