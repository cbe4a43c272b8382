"""Reward components in float64, written as in a textbook: the formulas of `jtf_env.rewards`, other arithmetic."""

import math
from dataclasses import dataclass

from jtf_env.constants import DSR_CLIP, DSR_MIN_STD, MAGNITUDE_CLIP, MIN_GROWTH, RETURN_CLIP
from jtf_env.params import RewardWeights


@dataclass(frozen=True, slots=True)
class RewardComponents:
    """Unweighted components of one step; the fields are those of `RewardWeights`."""

    pnl: float
    direction: float
    dsr: float
    stop_tp: float
    slippage: float
    magnitude: float
    drawdown: float
    clipped_pnl: float


def log_growth(equity: float, equity_before: float) -> float:
    """Net log return of equity over the step, floored at a growth of `MIN_GROWTH`."""
    if equity <= MIN_GROWTH * equity_before:
        return math.log(MIN_GROWTH)
    return math.log(equity) - math.log(equity_before)


def clipped_return(growth: float, scale: float) -> float:
    """Scaled log return of equity, clipped to +-RETURN_CLIP."""
    return max(-RETURN_CLIP, min(RETURN_CLIP, scale * growth))


def direction_reward(exposure: float, price_before: float, price: float) -> float:
    """Exposure held times the sign of the price move."""
    if price > price_before:
        return exposure
    if price < price_before:
        return -exposure
    return 0.0


def magnitude_reward(exposure: float, price_before: float, price: float, scale: float) -> float:
    """Exposure held times the scaled relative price move, clipped to +-MAGNITUDE_CLIP."""
    move = scale * (price / price_before - 1.0)
    return exposure * max(-MAGNITUDE_CLIP, min(MAGNITUDE_CLIP, move))


def stop_tp_reward(reason: str | None) -> float:
    """+1 for a take-profit, -1 for a stop-loss, 0 for neither."""
    return {"take_profit": 1.0, "stop": -1.0}.get(reason or "", 0.0)


def slippage_reward(cost: float, equity_before: float, scale: float) -> float:
    """Minus the scaled costs of the step as a share of equity."""
    return -scale * (cost / equity_before)


def drawdown_reward(equity: float, peak_equity: float) -> float:
    """Minus the current drawdown (fraction of the peak)."""
    return -(peak_equity - equity) / peak_equity


def differential_sharpe(growth: float, mean: float, square: float, decay: float) -> tuple[float, float, float]:
    """Return ``(D_t, A_t, B_t)`` of Moody and Saffell (2001), section II-D.

    Expanded: ``D_t = (B R - A (R^2 + B) / 2) / (B - A^2)^1.5`` with A and B before the step; the variance is
    floored and the ratio clipped as in `jtf_env.rewards`.
    """
    variance = square - mean**2
    if variance < DSR_MIN_STD**2:
        variance = DSR_MIN_STD**2
    ratio = (square * growth - mean * (growth**2 + square) / 2.0) / variance**1.5
    ratio = max(-DSR_CLIP, min(DSR_CLIP, ratio))
    return ratio, (1.0 - decay) * mean + decay * growth, (1.0 - decay) * square + decay * growth**2


def weighted_reward(components: RewardComponents, weights: RewardWeights) -> float:
    """Sum of the components times their weights."""
    return sum(getattr(components, name) * getattr(weights, name) for name in RewardComponents.__slots__)
