"""What a policy earns on the NumPy mirror at other costs, and where orders fill at the other price. No JAX.

Levels do not depend on money: an address-only policy decides the same at every cost, and without slippage stops lie
where the market's own prices put them. So the bars are walked once a fill mode, and the orders found there are played
by the accounts of all costs at once. Axis letters: `[C]` costs, `[T]` marks.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np

from jtf.results.metrics import sharpe, total_return
from jtf.splits import Segment
from jtf_env.mirror.account import Observation
from jtf_env.mirror.backtest import NO_ACCOUNT, Decide
from jtf_env.mirror.environment import view_bar
from jtf_env.mirror.many_accounts import play_orders
from jtf_env.mirror.market import Market
from jtf_env.mirror.orders import Account, execute
from jtf_env.params import EnvParams, Fill

COSTS_BP = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0)
"""Costs a side, basis points of the traded notional."""
FILLS: tuple[Fill, ...] = get_args(Fill)


@dataclass(frozen=True)
class CostSweep:
    """Results by fill mode, one a cost."""

    basis_points: tuple[float, ...]
    """Costs a side, charged as the fee, with no slippage: stops lie where the market's own prices put them."""
    total_return: dict[str, tuple[float, ...]]
    sharpe: dict[str, tuple[float | None, ...]]
    """Annualised."""


def sweep_costs(decide: Decide, market: Market, params: EnvParams, segment: Segment, bars_per_year: float) -> CostSweep:
    """Return what `decide`, which reads no account, earns over a segment at each of `COSTS_BP` in both fill modes.

    The numbers are those of `run_backtest` at each cost, bit for bit.
    """
    curves = {fill: cost_curves(decide, market, replace(params, slippage=0.0, fill=fill), segment) for fill in FILLS}
    return CostSweep(
        basis_points=COSTS_BP,
        total_return={fill: tuple(map(total_return, some)) for fill, some in curves.items()},
        sharpe={fill: tuple(sharpe(curve, bars_per_year) for curve in some) for fill, some in curves.items()},
    )


def cost_curves(decide: Decide, market: Market, params: EnvParams, segment: Segment) -> list[np.ndarray]:
    """Return the equity ``[T]`` at each of `COSTS_BP`, up to ruin where there is one."""
    orders = find_orders(decide, market, params, segment)
    fees = np.array(COSTS_BP) / 1e4
    alike = (len(fees), len(orders.marks))
    cash, units = play_orders(np.broadcast_to(orders.targets, alike), np.broadcast_to(orders.raws, alike), fees, params)
    closes = np.asarray(market.close)[segment.start : segment.stop]
    done = np.searchsorted(orders.marks, np.arange(len(closes)), side="right")
    equity = cash[:, done] + units[:, done] * closes
    peak = np.maximum.accumulate(equity, axis=1)
    ruined = equity <= peak - params.max_drawdown * peak
    ends = np.where(ruined.any(axis=1), ruined.argmax(axis=1) + 1, len(closes))
    return [curve[:end] for curve, end in zip(equity, ends, strict=True)]


class Orders(NamedTuple):
    """What changes the level over a segment, ``[K]`` in order of time."""

    marks: np.ndarray
    """Int64, mark of the segment after which the order is done."""
    targets: np.ndarray
    """Int64, level that it goes to."""
    raws: np.ndarray
    """Price before slippage, USD."""


def find_orders(decide: Decide, market: Market, params: EnvParams, segment: Segment) -> Orders:
    """Return the orders and stops of a pass over the bars that no ruin ends; `params` have no slippage."""
    account, found = Account(float(params.initial_equity)), []
    for mark, row in enumerate(range(segment.start + 1, segment.stop), 1):
        before = account.level
        done = execute(account, decide(Observation(row - 1, NO_ACCOUNT)), view_bar(market, row - 1, row), params)
        account = done.account
        if done.held_level != before:
            found.append((mark, done.held_level, done.raw))
        if account.level != done.held_level:  # A stop, the last leg of its step.
            found.append((mark, account.level, done.legs[-1].price))
    marks, targets, raws = zip(*found, strict=True) if found else ((), (), ())
    return Orders(np.array(marks, np.int64), np.array(targets, np.int64), np.array(raws, float))
