"""What a policy is compared with, on the same bars, fills and costs. NumPy only.

``buy_and_hold``, ``flat``, ``moving_average_cross`` and ``perfect_foresight`` are single backtests; the same positions
at random times are a distribution. None has stops or ruin: a stop would make buying and holding another strategy.
"""

from dataclasses import dataclass, replace

import numpy as np

from jtf.splits import Segment
from jtf_env.actions import BUY_75, CLOSE, HOLD, LEVELS, SELL_75
from jtf_env.mirror.backtest import Backtest, Fill, replay, run_backtest
from jtf_env.mirror.many_accounts import play_orders
from jtf_env.mirror.market import Market
from jtf_env.mirror.orders import Account, apply_order
from jtf_env.params import EnvParams

FAST_BARS, SLOW_BARS = 50, 200
"""Closes in the two averages of ``moving_average_cross``; one pair, chosen beforehand and tuned to nothing."""
RANDOM_DRAWS = 100
BUY_LEVELS = 3
"""Levels that BUY_75 adds."""
MOST_NUMBERS = 2_000_000
"""Equity marks of rotated positions that are held in memory at once."""


def without_stops(params: EnvParams) -> EnvParams:
    """Return `params` as baselines trade them: no stop, and no ruin before equity is gone."""
    return replace(params, stop_loss=0.0, take_profit=0.0, max_drawdown=1.0)


def baseline_backtests(market: Market, params: EnvParams, segment: Segment) -> dict[str, Backtest]:
    """Return the backtests of ``buy_and_hold`` and ``flat`` over a segment.

    They are those of repeating one action: BUY_75 reaches the maximum in two fills, and from then on trades nothing.
    """
    plain, bought = without_stops(params), np.cumsum(fillable_orders(market, params, segment))
    levels = {"buy_and_hold": np.append(BUY_LEVELS, np.where(bought[:-1] == 0, BUY_LEVELS, LEVELS)), "flat": 0 * bought}
    backtests = {name: trade_levels(market, wanted, plain, segment) for name, wanted in levels.items()}
    codes = {"buy_and_hold": BUY_75, "flat": HOLD}
    return {name: replace(one, actions=np.full_like(one.actions, codes[name])) for name, one in backtests.items()}


def further_backtests(market: Market, params: EnvParams, segment: Segment) -> dict[str, Backtest]:
    """Return the backtests of ``moving_average_cross`` and ``perfect_foresight`` over a segment."""
    from jtf.known_optimum.programme import foresight_actions  # It needs scipy, which whoever reads a result does not.

    plain, rows = without_stops(params), slice(segment.start, segment.stop)
    cross = cross_levels(market.close, params.allow_short)[segment.start : segment.stop - 1]
    foresight = np.full(market.num_bars, HOLD)
    prices = (market.open[rows], market.close[rows], market.tradable[rows])
    foresight[segment.start : segment.stop - 1] = foresight_actions(*prices, plain)
    return {
        "moving_average_cross": trade_levels(market, cross, plain, segment),
        "perfect_foresight": run_backtest(market, replay(foresight), plain, segment.start, segment.stop),
    }


def cross_levels(close: np.ndarray, allow_short: bool) -> np.ndarray:
    """Return ``[T]`` the level that ``moving_average_cross`` wants at each of the closes ``[T]``.

    Full long while the mean of the last 50 closes is above that of the last 200, else full short (flat where shorts are
    not allowed); flat before 200 closes are known.
    """
    sums = np.concatenate([[0.0], np.cumsum(close - close[0])])  # From the first close: no digits are lost.

    def mean(bars: int) -> np.ndarray:
        return np.concatenate([np.full(bars - 1, np.nan), (sums[bars:] - sums[:-bars]) / bars])[: len(close)]

    fast, slow = mean(FAST_BARS), mean(SLOW_BARS)
    known = ~np.isnan(slow)
    return np.where(known, np.where(fast > slow, LEVELS, -LEVELS if allow_short else 0), 0)


def trade_levels(market: Market, levels: np.ndarray, params: EnvParams, segment: Segment) -> Backtest:
    """Return the backtest that holds ``levels [N]`` (quarters of the maximum), decided at ``segment.start`` and on.

    One order goes from any level to any other; an order that meets an untradable bar is dropped and wanted again at the
    next. `params` have no stops. Equals `run_backtest` where actions reach the same levels, but walks the fills instead
    of the bars. Of its `actions` only the direction has a meaning.
    """
    delay = 1 if params.fill == "next_open" else 0
    fillable, raw = fillable_orders(market, params, segment), order_prices(market, params, segment)
    levels = levels if params.allow_short else np.maximum(levels, 0)
    held = held_levels(levels, fillable)
    before = np.concatenate([[0], held[:-1]])
    changes = np.flatnonzero(held != before)
    account = Account(float(params.initial_equity))
    accounts, fills, costs = [account], [], np.zeros(len(levels) + 1)
    for step, target, price in zip(changes.tolist(), held[changes].tolist(), raw[changes].tolist(), strict=True):
        units = account.units
        account, legs = apply_order(account, target, price, params)
        for leg in legs:
            units += leg.units
            fee = params.fee * leg.price * abs(leg.units)
            side, level = 1 if leg.units > 0 else -1, 0 if leg.closes else target
            bar = segment.start + step + delay
            fills.append(Fill(bar, side, abs(leg.units), leg.price, fee, leg.cost, level, units, "signal"))
            costs[step + 1] += leg.cost
        accounts.append(account)
    spans = np.diff(np.concatenate([[0], changes + 1, [len(levels) + 1]]))
    cash, held_units, level = (np.repeat(column, spans) for column in zip(*[a[:3] for a in accounts], strict=True))
    closes = np.asarray(market.close)[segment.start : segment.stop]
    equity = cash + held_units * closes
    wanted = np.select(
        [levels > before, (levels < before) & (levels == 0), levels < before], [BUY_75, CLOSE, SELL_75], HOLD
    )
    return _until_ruin(
        Backtest(
            bars=np.arange(segment.start, segment.stop),
            closes=closes,
            equity=equity,
            units=held_units,
            levels=level.astype(np.int64),
            costs=costs,
            actions=wanted,
            fills=tuple(fill for fill in fills if fill.units > 0),
            dropped_orders=0,
            terminated=False,
        ),
        dropped=~fillable & (levels != before),
    )


def order_bars(params: EnvParams, segment: Segment) -> np.ndarray:
    """Return ``[N]`` the bar at whose open, or close, the order of each decision fills."""
    return np.arange(segment.start, segment.stop - 1) + (1 if params.fill == "next_open" else 0)


def fillable_orders(market: Market, params: EnvParams, segment: Segment) -> np.ndarray:
    """Return ``[N]`` bool: whether the order of each decision can fill."""
    return np.asarray(market.tradable)[order_bars(params, segment)]


def order_prices(market: Market, params: EnvParams, segment: Segment) -> np.ndarray:
    """Return ``[N]`` the price of each decision's order before slippage, USD."""
    return np.asarray(market.open if params.fill == "next_open" else market.close)[order_bars(params, segment)]


def held_levels(levels: np.ndarray, fillable: np.ndarray) -> np.ndarray:
    """Return ``[..., N]`` what is held of the wanted ``levels [..., N]``: the last ones that could fill."""
    latest = np.maximum.accumulate(np.where(fillable, np.arange(len(fillable)), -1))
    return np.where(latest >= 0, levels[..., latest], 0)


def _until_ruin(backtest: Backtest, dropped: np.ndarray) -> Backtest:
    """Return `backtest` up to the mark where equity is gone, its orders counted that were ``dropped [N]`` till then."""
    ruined = np.flatnonzero(backtest.equity <= 0)
    if len(ruined) == 0:
        return replace(backtest, dropped_orders=int(dropped.sum()))
    marks = int(ruined[0]) + 1
    columns = ("bars", "closes", "equity", "units", "levels", "costs")
    cut = {name: getattr(backtest, name)[:marks] for name in columns}
    fills = tuple(fill for fill in backtest.fills if fill.bar <= cut["bars"][-1])
    lost = int(dropped[: marks - 1].sum())
    return replace(
        backtest, **cut, actions=backtest.actions[: marks - 1], fills=fills, dropped_orders=lost, terminated=True
    )


@dataclass(frozen=True)
class RandomTiming:
    """What the positions of a policy earn at random times."""

    total_returns: tuple[float, ...]
    """One a draw, in the order they were drawn."""

    def percentile(self, percent: float) -> float:
        """Return a percentile (0..100) of the total returns."""
        return float(np.percentile(self.total_returns, percent))


def random_timing(
    backtest: Backtest,
    market: Market,
    params: EnvParams,
    segment: Segment,
    *,
    draws: int = RANDOM_DRAWS,
    seed: int = 0,
) -> RandomTiming:
    """Return what the levels that `backtest` held over `segment` earn when they are rotated in time by random offsets.

    A rotation keeps every holding time and every order, so the turnover is the policy's but for the seam; only the
    timing is random. The offsets follow from `seed` and the first bar of the segment: those of two folds differ.
    """
    steps = len(segment) - 1
    held = np.zeros(steps, np.int64)  # Flat after ruin.
    held[: len(backtest.levels) - 1] = backtest.levels[1:]
    rng = np.random.default_rng([seed, segment.start])
    offsets = rng.choice(steps, draws, replace=steps < draws)
    at_once = max(1, MOST_NUMBERS // steps)
    groups = (offsets[first : first + at_once] for first in range(0, draws, at_once))
    returns = [rotated_returns(held, group, market, without_stops(params), segment) for group in groups]
    return RandomTiming(tuple(np.concatenate(returns).tolist()))


def rotated_returns(
    held: np.ndarray, offsets: np.ndarray, market: Market, params: EnvParams, segment: Segment
) -> np.ndarray:
    """Return ``[D]`` the total return of ``held [N]`` rotated by each of ``offsets [D]``: that of `trade_levels`."""
    steps = np.arange(len(held))
    levels = held_levels(held[(steps - offsets[:, None]) % len(held)], fillable_orders(market, params, segment))
    changed = np.diff(levels, axis=1, prepend=0) != 0
    orders = np.cumsum(changed, axis=1)  # Done at each step.
    draw, step = np.nonzero(changed)
    place = orders[draw, step] - 1
    most = int(orders[:, -1].max())
    # Fewer orders than the most: the last level is wanted again, which trades nothing.
    targets, raws = np.repeat(levels[:, -1:], most, axis=1), np.ones((len(offsets), most))
    targets[draw, place] = levels[draw, step]
    raws[draw, place] = order_prices(market, params, segment)[step]
    cash, units = play_orders(targets, raws, params.fee, params)
    done = np.concatenate([np.zeros_like(orders[:, :1]), orders], axis=1)
    closes = np.asarray(market.close)[segment.start : segment.stop]
    equity = np.take_along_axis(cash, done, axis=1) + np.take_along_axis(units, done, axis=1) * closes
    ruined = equity <= 0
    last = np.where(ruined.any(axis=1), ruined.argmax(axis=1), len(held))
    return equity[np.arange(len(offsets)), last] / equity[:, 0] - 1.0
