"""What a policy is compared with, on the same bars, fills and costs. NumPy only.

``buy_and_hold``, ``flat``, ``moving_average_cross`` and ``perfect_foresight`` are single backtests; the same positions
at random times are a distribution. None has stops or ruin: a stop would make buying and holding another strategy.
"""

from dataclasses import dataclass, replace

import numpy as np

from jtf.results.metrics import total_return
from jtf.splits import Segment
from jtf_env.actions import BUY_75, CLOSE, HOLD, LEVELS, SELL_75
from jtf_env.mirror.backtest import Backtest, Fill, replay, run_backtest
from jtf_env.mirror.market import Market
from jtf_env.mirror.orders import Account, apply_order
from jtf_env.params import EnvParams

FAST_BARS, SLOW_BARS = 50, 200
"""Closes in the two averages of ``moving_average_cross``; one pair, chosen beforehand and tuned to nothing."""
RANDOM_DRAWS = 100


def without_stops(params: EnvParams) -> EnvParams:
    """Return `params` as baselines trade them: no stop, and no ruin before equity is gone."""
    return replace(params, stop_loss=0.0, take_profit=0.0, max_drawdown=1.0)


def baseline_backtests(market: Market, params: EnvParams, segment: Segment) -> dict[str, Backtest]:
    """Return the backtests of ``buy_and_hold`` and ``flat`` over a segment.

    They repeat one action: BUY_75 reaches the maximum in two fills, and from then on trades nothing.
    """
    plain = without_stops(params)
    return {
        name: run_backtest(market, replay(np.full(market.num_bars, action)), plain, segment.start, segment.stop)
        for name, action in {"buy_and_hold": BUY_75, "flat": HOLD}.items()
    }


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
    order_bars = np.arange(segment.start, segment.stop - 1) + delay
    fillable = np.asarray(market.tradable)[order_bars]
    levels = levels if params.allow_short else np.maximum(levels, 0)
    latest = np.maximum.accumulate(np.where(fillable, np.arange(len(levels)), -1))
    held = np.where(latest >= 0, levels[latest], 0)
    before = np.concatenate([[0], held[:-1]])
    changes = np.flatnonzero(held != before)
    raw = np.asarray(market.open if delay else market.close)[order_bars]
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
            dropped_orders=int(np.sum(~fillable & (levels != before))),
            terminated=False,
        )
    )


def _until_ruin(backtest: Backtest) -> Backtest:
    ruined = np.flatnonzero(backtest.equity <= 0)
    if len(ruined) == 0:
        return backtest
    marks = int(ruined[0]) + 1
    columns = ("bars", "closes", "equity", "units", "levels", "costs")
    cut = {name: getattr(backtest, name)[:marks] for name in columns}
    fills = tuple(fill for fill in backtest.fills if fill.bar <= cut["bars"][-1])
    return replace(backtest, **cut, actions=backtest.actions[: marks - 1], fills=fills, terminated=True)


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
    timing is random.
    """
    steps = len(segment) - 1
    held = np.zeros(steps, np.int64)  # Flat after ruin.
    held[: len(backtest.levels) - 1] = backtest.levels[1:]
    rng = np.random.default_rng(seed)
    offsets = rng.choice(steps, draws, replace=steps < draws)
    plain = without_stops(params)
    moved = (trade_levels(market, np.roll(held, offset), plain, segment) for offset in offsets.tolist())
    return RandomTiming(tuple(total_return(one.equity) for one in moved))
