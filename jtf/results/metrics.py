"""The metrics, each defined once: what `summary.json`, tables and verdicts mean by a name. NumPy only.

A backtest is ``N`` steps; ``equity [N + 1]`` in USD starts with the initial equity. Simple returns a bar are
``r_k = equity[k + 1] / equity[k] - 1``. A metric that is not defined on the data (no trade, no loss, no variance) is
None.
"""

import math
from dataclasses import dataclass, fields

import numpy as np

from jtf_env.actions import HOLD


def annualisation(bars_per_year: float) -> float:
    """Return ``sqrt(bars_per_year)``: the factor from a ratio of mean to deviation per bar to one per year."""
    return math.sqrt(bars_per_year)


@dataclass(frozen=True)
class Metrics:
    """Everything a backtest is judged by. Fractions are plain numbers (0.01 = 1 %)."""

    total_return: float
    """`total_return`."""
    sharpe: float | None
    """`sharpe`, annualised."""
    sortino: float | None
    """`sortino`, annualised."""
    max_drawdown: float
    """`max_drawdown`, in 0..1."""
    profit_factor: float | None
    """`profit_factor` of closed trades."""
    win_rate: float | None
    """`win_rate` of closed trades."""
    num_trades: int
    """Round trips: flat to flat, or flipped."""
    exposure: float
    """Mean size of the position at the closes, as a fraction of equity."""
    open_position: float
    """Signed position still open at the last close, as a fraction of equity; 0 is flat."""
    traded_share: float
    """Share of decisions whose order filled."""
    hold_share: float
    """Share of decisions that were HOLD."""
    direction_accuracy: float | None
    """`direction_accuracy`."""


METRIC_NAMES = tuple(field.name for field in fields(Metrics))


def total_return(equity: np.ndarray) -> float:
    """Return ``equity[N] / equity[0] - 1``."""
    return float(equity[-1] / equity[0] - 1.0)


def bar_returns(equity: np.ndarray) -> np.ndarray:
    """Return the ``[N]`` simple returns a bar."""
    return np.diff(equity) / equity[:-1]


def sharpe(equity: np.ndarray, bars_per_year: float) -> float | None:
    """Return `returns_sharpe` of the returns of an equity curve."""
    return returns_sharpe(bar_returns(equity), bars_per_year)


def returns_sharpe(returns: np.ndarray, bars_per_year: float = 1.0) -> float | None:
    """Return ``mean(r) / std(r, ddof 1) * sqrt(bars_per_year)``, risk-free rate 0 (Sharpe 1994, eq. 6)."""
    if len(returns) < 2:
        return None
    deviation = returns.std(ddof=1)
    return float(returns.mean() / deviation * annualisation(bars_per_year)) if deviation > 0 else None


def sharpe_or_zero(sharpe: float | None) -> float:
    """Return a Sharpe ratio as what is ranked, averaged or drawn takes it: 0 where it is undefined."""
    return 0.0 if sharpe is None else sharpe


def sortino(equity: np.ndarray, bars_per_year: float) -> float | None:
    """Return ``mean(r) / sqrt(mean(min(r, 0)^2)) * sqrt(bars_per_year)``, target 0 (Sortino and Price 1994)."""
    returns = bar_returns(equity)
    if len(returns) == 0:
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(returns.mean() / downside * annualisation(bars_per_year)) if downside > 0 else None


def max_drawdown(equity: np.ndarray) -> float:
    """Return ``max_k (1 - equity[k] / max_{j <= k} equity[j])``."""
    return float(np.max(1.0 - equity / np.maximum.accumulate(equity)))


def profit_factor(trade_pnl: np.ndarray) -> float | None:
    """Return gross wins over gross losses of closed trades, after costs; None without a losing trade."""
    losses = -float(trade_pnl[trade_pnl < 0].sum())
    return float(trade_pnl[trade_pnl > 0].sum()) / losses if losses > 0 else None


def win_rate(trade_pnl: np.ndarray) -> float | None:
    """Return the share of closed trades with a profit after costs."""
    return float(np.mean(trade_pnl > 0)) if len(trade_pnl) else None


def direction_accuracy(positions: np.ndarray, moves: np.ndarray) -> float | None:
    """Return how often a position held at a close had the sign of the move to the next close.

    `positions` ``[N]`` are signed, held while the close moved by `moves` ``[N]``; bars without a position or a move do
    not count.
    """
    judged = (positions != 0) & (moves != 0)
    return float(np.mean(np.sign(positions[judged]) == np.sign(moves[judged]))) if judged.any() else None


def compute_metrics(
    equity: np.ndarray,
    held: np.ndarray,
    positions: np.ndarray,
    moves: np.ndarray,
    actions: np.ndarray,
    traded: np.ndarray,
    trade_pnl: np.ndarray,
    bars_per_year: float,
) -> Metrics:
    """Return the metrics of a backtest of `N` steps.

    Parameters
    ----------
    equity: ``[N + 1]`` USD, the initial equity first.
    held: ``[N]`` signed notional as a fraction of equity, at the close each step starts from.
    positions: ``[N]`` the same, at the close each step ends on.
    moves: ``[N]`` change of the close over each step, USD.
    actions: ``[N]`` decisions taken.
    traded: ``[N]`` bool, whether the decision's order filled.
    trade_pnl: ``[trades]`` USD after costs, of closed trades.
    """
    return Metrics(
        total_return=total_return(equity),
        sharpe=sharpe(equity, bars_per_year),
        sortino=sortino(equity, bars_per_year),
        max_drawdown=max_drawdown(equity),
        profit_factor=profit_factor(trade_pnl),
        win_rate=win_rate(trade_pnl),
        num_trades=len(trade_pnl),
        exposure=float(np.mean(np.abs(positions))) if len(actions) else 0.0,
        open_position=float(positions[-1]) if len(actions) else 0.0,
        traded_share=float(np.mean(traded)) if len(actions) else 0.0,
        hold_share=float(np.mean(actions == HOLD)) if len(actions) else 0.0,
        direction_accuracy=direction_accuracy(held, moves),
    )
