"""Decisions one bar at a time: `start` from a history, `update` with every new bar. No JAX."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jtf.errors import UserError
from jtf.models.stream import WindowStream, history_rows
from jtf_env.actions import LEVEL_CHANGE, LEVELS
from jtf_env.bars import Bars
from jtf_env.errors import BarsError
from jtf_env.layouts import Layout
from jtf_env.mirror.account import account_columns
from jtf_env.mirror.live import Bar, LiveMarket
from jtf_env.mirror.state import EnvState

if TYPE_CHECKING:
    from jtf.models.policy import Policy

Account = EnvState | np.ndarray
"""A state of the mirror, or the account columns ``[E]`` themselves."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What a policy decides at the close of a bar."""

    action: int
    """Code of the action, 0..7 (`jtf_env.actions`); the most likely one."""
    size: float
    """What the action adds to the position, as a fraction of the maximum: -0.75 to 0.75; 0 for HOLD and CLOSE."""
    probabilities: np.ndarray
    """``[A]`` float64, mean over the members."""
    value: float
    """Value of the observation, mean over the members."""
    bar_time: pd.Timestamp
    """Start of the bar, UTC."""
    layout: Layout
    spread: float
    """Standard deviation over the members of the probability of the action; 0 for one member."""


class Session:
    """A policy that follows one symbol, bar by bar; `Policy.start` makes one."""

    def __init__(self, policy: "Policy", history: Bars) -> None:
        self._policy = policy
        self._market = LiveMarket(
            history, policy.layout, policy.scaler, policy.window, extended_hours=policy.extended_hours
        )
        rows = self._market.features[-history_rows(policy.window) :]
        self._stream = WindowStream(policy.network.kernel, rows, len(history))
        self._market.forget()

    def update(self, bar: "Bar | Mapping[str, Any]", account: Account | None = None) -> Decision:
        """Take the next bar and return the decision at its close.

        Parameters
        ----------
        bar
            A `Bar`, or a mapping with its fields (a row of a data frame's records).
        account
            Needed by layouts with account columns, read by no other (`Account`).

        Raises
        ------
        BarsError
            For a bar that does not follow the last one, lies outside the session or cannot be one. The session stands
            as before.
        """
        columns = self._account_columns(account)
        row = self._market.push(as_bar(bar))
        self._stream.push(row[0])
        return self._decide(columns)

    def decide(self, account: Account | None = None) -> Decision:
        """Return the decision at the close of the last bar."""
        return self._decide(self._account_columns(account))

    def _decide(self, columns: np.ndarray) -> Decision:
        broadcast = np.concatenate([self._market.context[0], columns])
        members, values = self._policy.network.outputs(self._stream.last, broadcast)
        probabilities = members.mean(axis=0)
        action = int(probabilities.argmax())
        return Decision(
            action=action,
            size=float(LEVEL_CHANGE[action] / LEVELS),
            probabilities=probabilities,
            value=float(values.mean()),
            bar_time=self._market.time,
            layout=self._policy.layout,
            spread=float(members[:, action].std()),
        )

    def _account_columns(self, account: Account | None) -> np.ndarray:
        layout = self._policy.layout
        names = layout.columns_from("state")
        if not names:
            return np.zeros(0)
        if account is None:
            raise UserError(f"layout {layout.name} decides by the account ({', '.join(names)}); give `account`.")
        if isinstance(account, EnvState):
            return account_columns(account, layout, self._policy.env_params)
        none = f"`account` is not the {len(names)} finite numbers {', '.join(names)}."
        try:
            columns = np.asarray(account, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise UserError(none) from None
        if columns.shape != (len(names),) or not np.isfinite(columns).all():
            raise UserError(none)
        return columns


def as_bar(bar: "Bar | Mapping[str, Any]") -> Bar:
    """Return a bar; raise `BarsError` for a mapping without its fields or with values that are no numbers."""
    try:
        fields = bar._asdict() if isinstance(bar, Bar) else dict(bar)
    except (TypeError, ValueError):
        raise BarsError(f"{bar!r:.60} is no bar; give {', '.join(Bar._fields)}.") from None
    missing = [name for name in Bar._fields if name not in fields]
    if missing:
        raise BarsError(f"the bar has no {missing[0]}; give {', '.join(Bar._fields)}.")
    try:
        return Bar(fields["timestamp"], *(float(fields[name]) for name in Bar._fields[1:]))
    except (TypeError, ValueError, OverflowError):
        raise BarsError(f"the bar at {fields['timestamp']} holds something that is no number; repair it.") from None
