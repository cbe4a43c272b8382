"""The one action codec: which order each of the eight action codes stands for.

A position is counted in *levels*: signed quarters of the maximum position, ``-4..4`` (negative is short).
Nothing outside this module knows which code is which order. Pure tables, so that JAX and the NumPy mirror
index the same numbers; importing it needs NumPy only.
"""

import numpy as np

HOLD = 0
BUY_25, BUY_50, BUY_75 = 1, 2, 3
SELL_25, SELL_50, SELL_75 = 4, 5, 6
CLOSE = 7

ACTION_NAMES = ("HOLD", "BUY_25", "BUY_50", "BUY_75", "SELL_25", "SELL_50", "SELL_75", "CLOSE")
NUM_ACTIONS = len(ACTION_NAMES)

LEVELS = 4
"""Levels of a full position: one level is a quarter of the maximum position."""

LEVEL_CHANGE = np.array([0, 1, 2, 3, -1, -2, -3, 0], np.int32)
"""``[A]`` levels each action adds before capping; CLOSE is handled by `next_level_table`."""


def next_level_table(allow_short: bool) -> np.ndarray:
    """Return the ``[2 * LEVELS + 1, A]`` int32 table of the level held after an action.

    Row ``level + LEVELS`` is the level held before. BUY x adds x of the maximum position, SELL x removes it
    (through zero into a short where `allow_short`), both capped at the maximum; CLOSE goes to zero.
    """
    level = np.arange(-LEVELS, LEVELS + 1, dtype=np.int32)[:, None]
    table = np.clip(level + LEVEL_CHANGE[None, :], -LEVELS if allow_short else 0, LEVELS)
    table[:, HOLD] = level[:, 0]
    table[:, CLOSE] = 0
    return table.astype(np.int32)
