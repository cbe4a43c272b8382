"""Reward components of one step as pure functions of scalars, and their weighted sum.

Log returns, costs and price moves are multiplied by ``reward_scale`` (100: one unit is one per cent), the
rest is dimensionless. `jtf_env.mirror.rewards` states the same formulas in float64.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jtf_env.constants import DSR_CLIP, DSR_MIN_STD, MAGNITUDE_CLIP, MIN_GROWTH, RETURN_CLIP
from jtf_env.params import RewardWeights


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RewardComponents:
    """Unweighted components of one step; the fields are those of `RewardWeights`. All scalars."""

    pnl: jax.Array
    direction: jax.Array
    dsr: jax.Array
    stop_tp: jax.Array
    slippage: jax.Array
    magnitude: jax.Array
    drawdown: jax.Array
    clipped_pnl: jax.Array


def log_growth(equity: jax.Array, equity_before: jax.Array) -> jax.Array:
    """Net log return of equity over the step, ``ln(E_t / E_{t-1})``."""
    return jnp.log(jnp.maximum(equity / equity_before, MIN_GROWTH))


def clipped_return(growth: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Scaled log return of equity, clipped to +-RETURN_CLIP: one gap weighs no more than a large bar."""
    return jnp.clip(scale * growth, -RETURN_CLIP, RETURN_CLIP)


def direction_reward(exposure: jax.Array, move: jax.Array) -> jax.Array:
    """Exposure held (-1..1 of a full position) times the sign of the price move."""
    return exposure * jnp.sign(move)


def magnitude_reward(exposure: jax.Array, move: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Exposure held times the scaled price move (``move`` is a fraction), clipped to +-MAGNITUDE_CLIP."""
    return exposure * jnp.clip(scale * move, -MAGNITUDE_CLIP, MAGNITUDE_CLIP)


def stop_tp_reward(stop_hit: jax.Array, take_profit_hit: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """+1 when a take-profit filled, -1 when a stop-loss filled."""
    return take_profit_hit.astype(dtype) - stop_hit.astype(dtype)


def slippage_reward(cost: jax.Array, equity_before: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Minus the scaled costs of the step (fees and slippage, USD) as a share of equity."""
    return -scale * cost / equity_before


def drawdown_reward(equity: jax.Array, peak_equity: jax.Array) -> jax.Array:
    """Minus the current drawdown (fraction of the peak)."""
    return equity / peak_equity - 1.0


def differential_sharpe(
    growth: jax.Array, mean: jax.Array, square: jax.Array, decay: jax.Array | float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return ``(D_t, A_t, B_t)``: the differential Sharpe ratio and the moments after this step.

    Moody and Saffell (2001), "Learning to trade via direct reinforcement", section II-D::

        D_t  = (B_{t-1} dA_t - A_{t-1} dB_t / 2) / (B_{t-1} - A_{t-1}^2)^(3/2)
        dA_t = R_t - A_{t-1},          dB_t = R_t^2 - B_{t-1}
        A_t  = A_{t-1} + eta dA_t,     B_t  = B_{t-1} + eta dB_t

    Both moments start at zero, hence ``D_1 = 0``. Departure: the variance is floored at ``DSR_MIN_STD**2``
    and the result clipped, because after a flat stretch the paper's denominator vanishes.
    """
    change_mean = growth - mean
    change_square = growth * growth - square
    variance = jnp.maximum(square - mean * mean, DSR_MIN_STD**2)
    ratio = (square * change_mean - 0.5 * mean * change_square) / (variance * jnp.sqrt(variance))
    return jnp.clip(ratio, -DSR_CLIP, DSR_CLIP), mean + decay * change_mean, square + decay * change_square


def weighted_reward(components: RewardComponents, weights: RewardWeights) -> jax.Array:
    """Sum of the components times their weights."""
    return (
        weights.pnl * components.pnl
        + weights.direction * components.direction
        + weights.dsr * components.dsr
        + weights.stop_tp * components.stop_tp
        + weights.slippage * components.slippage
        + weights.magnitude * components.magnitude
        + weights.drawdown * components.drawdown
        + weights.clipped_pnl * components.clipped_pnl
    )
