"""What is odd about a table of bars: jumps, bad ticks, prices that stand still, the spacing of the rows. NumPy only."""

import numpy as np

MINUTE_NS = 60 * 10**9


def modal_spacing(starts: np.ndarray) -> float | None:
    """Return the most frequent distance of consecutive ``starts [T]`` (nanoseconds) in minutes.

    Steps back and repeats do not count; the smaller wins a tie. None with fewer than two different starts.
    """
    steps = np.diff(starts)
    distances, counts = np.unique(steps[steps > 0], return_counts=True)
    return float(distances[counts.argmax()] / MINUTE_NS) if len(distances) else None


def bad_tick_prices(prices: np.ndarray, limit: float) -> np.ndarray:
    """Return ``[T]`` the price of every bar that is a bad tick, NaN elsewhere.

    ``prices [4, T]`` are open, high, low and close. A bad tick lies more than the fraction `limit` both from the close
    before and from where the market settles: the bar's own close if that is near the close before, else the next
    close. A market that stays away from the close before has jumped, and has no bad tick.
    """
    close = prices[3]
    before = np.concatenate([close[:1], close[:-1]])
    after = np.concatenate([close[1:], close[-1:]])
    settled = np.where(_move(close, before) <= limit, close, after)
    distance = np.minimum(_move(prices, before), _move(prices, settled))
    bad = (_move(settled, before) <= limit) & (distance.max(axis=0) > limit)
    worst = np.take_along_axis(prices, distance.argmax(axis=0)[None], axis=0)[0]
    return np.where(bad, worst, np.nan)


def find_jumps(
    open_: np.ndarray, close: np.ndarray, bad_ticks: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, the prices before and the prices after of moves beyond the fraction `limit`, ``[J]`` each.

    A move goes from a close to the next bar's open or, where the open is near, to its close. ``bad_ticks [T]`` are the
    prices of `bad_tick_prices`: such a bar is no jump, and a close that is one is skipped.
    """
    bad = ~np.isnan(bad_ticks)
    before = np.concatenate([close[:1], close[:-1]])
    earlier = np.concatenate([before[:1], before[:-1]])
    bad_close = bad & (_move(close, before) > limit)
    before = np.where(np.concatenate([[False], bad_close[:-1]]), earlier, before)
    at_open = _move(open_, before) > limit
    rows = np.flatnonzero((at_open | (_move(close, before) > limit)) & ~bad & (np.arange(len(close)) > 0))
    return rows, before[rows], np.where(at_open, open_, close)[rows]


def longest_standstill(high: np.ndarray, low: np.ndarray) -> int:
    """Return the most consecutive bars at one single price, from ``high [T]`` and ``low [T]``."""
    new_price = np.concatenate([[True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])]) | (high != low)
    bounds = np.append(np.flatnonzero(new_price), len(high))
    return int(np.diff(bounds).max())


def _move(price: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the fraction by which `price` lies away from `reference`."""
    with np.errstate(over="ignore"):
        return np.abs(price / reference - 1)
