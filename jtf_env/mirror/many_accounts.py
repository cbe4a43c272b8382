"""The money of many accounts at once: what `jtf_env.mirror.orders` does to one, elementwise in NumPy. No stops.

Axis letters: `[L]` accounts, `[K]` orders of each, in order of time.
"""

from typing import NamedTuple

import numpy as np

from jtf_env.actions import LEVELS
from jtf_env.params import EnvParams


class Accounts(NamedTuple):
    """Money and position of `L` accounts."""

    cash: np.ndarray
    """``[L]`` USD."""
    units: np.ndarray
    """``[L]`` units held, negative when short."""
    level: np.ndarray
    """``[L]`` int64, position in quarters of the maximum."""


def apply_orders(
    accounts: Accounts, target: np.ndarray, raw: np.ndarray, fee: np.ndarray | float, params: EnvParams
) -> Accounts:
    """Go from the levels held to ``target [L]`` at the prices ``raw [L]``: first what is given up, then what is added.

    `fee` (``[L]`` or one number, a fraction) stands for that of `params`. The numbers are those of
    `jtf_env.mirror.orders.apply_order`, bit for bit; an account whose level stays is left as it is.
    """
    cash, units, level = accounts
    price = np.where(target > level, raw + raw * params.slippage, raw - raw * params.slippage)
    maximum = params.max_position * (cash + units * raw)
    # The level that is kept: between 0 and both of the same side, 0 on the way to the other side.
    kept = np.where(level * target > 0, np.sign(level) * np.minimum(np.abs(level), np.abs(target)), 0)
    sold = np.where(kept == 0, units, units * (level - kept) / np.where(level == 0, 1, level))
    cash = cash + price * sold - fee * price * np.abs(sold)
    units = units - sold
    room = maximum - np.abs(units) * raw
    budget = np.maximum(0.0, np.minimum(maximum * np.abs(target - kept) / LEVELS, room))
    bought = np.sign(target) * (budget / (price + price * fee))
    cash = cash - price * bought - fee * price * np.abs(bought)
    return Accounts(cash, units + bought, target)


def play_orders(
    targets: np.ndarray, raws: np.ndarray, fee: np.ndarray | float, params: EnvParams
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``cash [L, K + 1]`` and ``units [L, K + 1]`` before the first and after each of the orders ``[L, K]``.

    Every account begins flat with ``params.initial_equity``.
    """
    number = len(targets)
    accounts = Accounts(np.full(number, float(params.initial_equity)), np.zeros(number), np.zeros(number, np.int64))
    cash, units = [accounts.cash], [accounts.units]
    for target, raw in zip(targets.T, raws.T, strict=True):
        accounts = apply_orders(accounts, target, raw, fee, params)
        cash.append(accounts.cash)
        units.append(accounts.units)
    return np.stack(cash, axis=1), np.stack(units, axis=1)
