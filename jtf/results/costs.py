"""What a policy earns on the NumPy mirror at other costs, and where orders fill at the other price. No JAX.

`jtf.cost_sweep` is the same in one compiled program: faster once it is compiled, which takes longer than this for the
test segment of a single run.
"""

from dataclasses import dataclass, replace
from typing import get_args

from jtf.results.metrics import sharpe, total_return
from jtf.splits import Segment
from jtf_env.mirror.backtest import Decide, run_backtest
from jtf_env.mirror.market import Market
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


def sweep_backtests(
    decide: Decide, market: Market, params: EnvParams, segment: Segment, bars_per_year: float
) -> CostSweep:
    """Return what `decide` earns over a segment at each of `COSTS_BP` in both fill modes."""
    equities = {
        fill: [
            run_backtest(
                market, decide, replace(params, fee=cost / 1e4, slippage=0.0, fill=fill), *_rows(segment)
            ).equity
            for cost in COSTS_BP
        ]
        for fill in FILLS
    }
    return CostSweep(
        basis_points=COSTS_BP,
        total_return={fill: tuple(map(total_return, curves)) for fill, curves in equities.items()},
        sharpe={fill: tuple(sharpe(curve, bars_per_year) for curve in curves) for fill, curves in equities.items()},
    )


def _rows(segment: Segment) -> tuple[int, int]:
    return segment.start, segment.stop
