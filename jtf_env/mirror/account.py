"""The account columns in plain Python floats: names and formulas of `jtf_env.account`, other arithmetic."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jtf_env.actions import LEVELS
from jtf_env.constants import MIN_EQUITY, RETURN_SCALE
from jtf_env.layouts import Layout
from jtf_env.mirror.state import EnvState
from jtf_env.params import EnvParams
from jtf_env.scaler import CLIP


class Observation(NamedTuple):
    """What a decision sees: a row of the market, whose window ends there, and the account."""

    row: int
    """Row at whose close the decision is made, or ``[B]`` rows; columns of this row and earlier ones may be read."""
    account: np.ndarray
    """``[E]`` float64 account columns, or ``[B, E]``; E is 0 for an address-only layout."""


def account3(state: EnvState, params: EnvParams) -> tuple[float, ...]:
    """Return, win rate and drawdown of the account."""
    gain = (state.equity - params.initial_equity) / params.initial_equity
    win_rate = state.num_wins / state.num_trades if state.num_trades else 0.5
    drawdown = (state.peak_equity - state.equity) / state.peak_equity
    return math.tanh(RETURN_SCALE * gain), win_rate, min(1.0, drawdown)


def position3(state: EnvState, params: EnvParams) -> tuple[float, ...]:
    """Share of the maximum position, cash against equity, and the size of equity."""
    growth = max(MIN_EQUITY, state.equity / params.initial_equity)
    cash = state.cash / params.initial_equity / growth
    return state.level / LEVELS, min(CLIP, max(-CLIP, cash)), math.log10(growth)


ACCOUNT_GROUPS: dict[str, Callable[[EnvState, EnvParams], tuple[float, ...]]] = {
    "account3": account3,
    "position3": position3,
}


def account_columns(state: EnvState, layout: Layout, params: EnvParams) -> np.ndarray:
    """Return the columns ``[E]`` float64 of the layout's ``state`` groups, in the layout's order."""
    groups = [group.name for group in layout.groups if group.source == "state"]
    return np.array([column for name in groups for column in ACCOUNT_GROUPS[name](state, params)], np.float64)
