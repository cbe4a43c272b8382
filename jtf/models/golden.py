"""Golden decisions: a few bars, and what the model decided on them when it was exported. No JAX.

Replayed, they tell whether this machine and this version of jtf compute the same columns and the same network.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from jtf.models.policy import Policy
from jtf_env.assets import asset_class_of
from jtf_env.bars import COLUMNS, Bars, make_bars
from jtf_env.mirror import account_columns, reset_at
from jtf_env.mirror.account import Observation
from jtf_env.sessions import nanoseconds

NUM_DECISIONS = 16
TOLERANCE = 1e-5
"""Probabilities of another machine may differ by this much."""


@dataclass(frozen=True, eq=False)
class Golden:
    """The last bars of a run and the decisions on the last of them, flat accounts."""

    timestamps: np.ndarray
    """``[T]`` int64, bar starts, nanoseconds since 1970 UTC."""
    prices: np.ndarray
    """``[T, 5]`` float64: open, high, low, close (USD) and volume (units)."""
    probabilities: np.ndarray
    """``[NUM_DECISIONS, A]`` float64, action probabilities at the last bars."""

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the fields as tensors of a file."""
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> "Golden":
        """Return the golden decisions in `tensors`; raise `ValueError` where they are none."""
        shapes = {name: array.shape for name, array in tensors.items()}
        length = shapes.get("timestamps", (0,))[0]
        shape = shapes.get("probabilities", (0, 0))
        if shapes != {"timestamps": (length,), "prices": (length, len(COLUMNS)), "probabilities": shape}:
            raise ValueError("its golden decisions are not bars and probabilities")
        if tensors["timestamps"].dtype != np.int64 or not all(np.isfinite(array).all() for array in tensors.values()):
            raise ValueError("its golden decisions hold NaN, infinity or times that are none")
        return cls(**tensors)

    def bars(self, policy: Policy) -> Bars:
        """Return the bars."""
        frame = pd.DataFrame(self.prices, pd.DatetimeIndex(self.timestamps, tz="UTC"), list(COLUMNS))
        asset_class = asset_class_of(policy.symbol, policy.asset_class)
        return make_bars(
            frame, policy.symbol, asset_class=asset_class, bar_minutes=policy.bar_minutes,
            extended_hours=policy.extended_hours, source="the golden bars",
        )  # fmt: skip


def make_golden(policy: Policy, bars: Bars) -> Golden:
    """Return the decisions of `policy` at the last of `bars`."""
    tail = bars[-(policy.layout.warmup + policy.window + NUM_DECISIONS) :]
    prices = np.stack([getattr(tail, name) for name in COLUMNS], axis=1).astype(np.float64)
    golden = Golden(nanoseconds(tail.timestamps), prices, np.zeros((0, 0)))
    return Golden(golden.timestamps, prices, decide_golden(policy, golden))


def decide_golden(policy: Policy, golden: Golden) -> np.ndarray:
    """Return the ``[NUM_DECISIONS, A]`` probabilities of `policy` at the last golden bars."""
    market = policy.market(golden.bars(policy))
    account = account_columns(reset_at(market.first_bar, market, policy.env_params), policy.layout, policy.env_params)
    rows = range(market.num_bars - NUM_DECISIONS, market.num_bars)
    return np.stack([policy.probabilities_at(market, Observation(row, account)) for row in rows])


def golden_difference(policy: Policy, golden: Golden) -> float:
    """Return the largest difference between the probabilities recorded and those decided now."""
    found = decide_golden(policy, golden)
    return float(np.abs(found - golden.probabilities).max()) if found.shape == golden.probabilities.shape else np.inf
