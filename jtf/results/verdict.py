"""The verdict on a run: APPROVED, REVIEW or DROP, with reasons a person can check against the numbers. No JAX."""

from dataclasses import dataclass
from typing import Literal

from jtf.results.metrics import Metrics

Status = Literal["APPROVED", "REVIEW", "DROP"]


@dataclass(frozen=True)
class Thresholds:
    """What the test segment must show. DROP below the first group, APPROVED only above the second."""

    drop_total_return: float = 0.0
    """DROP at or below this test return (fraction): the policy lost money after costs."""
    drop_max_drawdown: float = 0.40
    """DROP above this test drawdown (fraction of the peak)."""
    drop_num_trades: int = 5
    """DROP below this many closed test trades, unless a position is still open: nothing was shown."""
    approve_sharpe: float = 1.0
    """Annualised Sharpe ratio on test."""
    approve_profit_factor: float = 1.15
    """Gross wins over gross losses on test."""
    approve_max_drawdown: float = 0.20
    """Largest drawdown on test (fraction of the peak)."""
    approve_num_trades: int = 30
    """Closed trades on test."""
    approve_sharpe_gap: float = 2.0
    """Largest excess of the training Sharpe ratio over the test Sharpe ratio."""


@dataclass(frozen=True)
class Verdict:
    """The status and the sentences that led to it."""

    status: Status
    reasons: tuple[str, ...]


def judge(
    metrics: dict[str, Metrics],
    baselines: dict[str, Metrics],
    synthetic: bool,
    thresholds: Thresholds = Thresholds(),
) -> Verdict:
    """Return the verdict on ``metrics[segment]``, the test segment against `baselines` of the same bars.

    A metric that is undefined (None) fails the conditions that need it. Synthetic data never earns APPROVED.
    """
    test = metrics["test"]
    failures = _drop_reasons(test, thresholds)
    if failures:
        return Verdict("DROP", tuple(failures))
    doubts = _review_reasons(metrics, baselines, thresholds)
    if synthetic:
        doubts.append("The bars are SYNTHETIC: nothing is shown about a real market, so APPROVED is impossible.")
    if doubts:
        return Verdict("REVIEW", tuple(doubts))
    return Verdict(
        "APPROVED",
        (
            f"Test return {test.total_return:+.2%}, Sharpe {test.sharpe:.2f}, profit factor "
            f"{_number(test.profit_factor)}, drawdown {test.max_drawdown:.1%} over {test.num_trades} trades "
            "pass every threshold.",
        ),
    )


def _drop_reasons(test: Metrics, limits: Thresholds) -> list[str]:
    reasons = []
    if test.num_trades < limits.drop_num_trades and not test.open_position:
        reasons.append(f"Only {test.num_trades} trades closed on test, fewer than {limits.drop_num_trades}.")
    if test.total_return <= limits.drop_total_return:
        reasons.append(f"Test return {test.total_return:+.2%} after costs is not above {limits.drop_total_return:.0%}.")
    if test.max_drawdown > limits.drop_max_drawdown:
        reasons.append(f"Test drawdown {test.max_drawdown:.1%} is beyond {limits.drop_max_drawdown:.0%}.")
    return reasons


def _review_reasons(metrics: dict[str, Metrics], baselines: dict[str, Metrics], limits: Thresholds) -> list[str]:
    test, validation, train = metrics["test"], metrics["validation"], metrics["train"]
    held = baselines["buy_and_hold"]
    reasons = []
    if not _at_least(test.sharpe, limits.approve_sharpe):
        reasons.append(f"Test Sharpe {_number(test.sharpe)} is below {limits.approve_sharpe:g}.")
    if test.profit_factor is not None and test.profit_factor < limits.approve_profit_factor:
        reasons.append(f"Test profit factor {test.profit_factor:.2f} is below {limits.approve_profit_factor:g}.")
    if test.max_drawdown > limits.approve_max_drawdown:
        reasons.append(f"Test drawdown {test.max_drawdown:.1%} is above {limits.approve_max_drawdown:.0%}.")
    if test.num_trades < limits.approve_num_trades:
        reasons.append(_few_trades(test, limits.approve_num_trades))
    if validation.total_return <= 0:
        reasons.append(f"Validation return {validation.total_return:+.2%} is not positive.")
    if not _at_least(test.sharpe, held.sharpe if held.sharpe is not None else 0.0):
        reasons.append(f"Test Sharpe {_number(test.sharpe)} does not beat buy and hold ({_number(held.sharpe)}).")
    if train.sharpe is not None and test.sharpe is not None:
        gap = train.sharpe - test.sharpe
        if gap > limits.approve_sharpe_gap:
            reasons.append(
                f"Training Sharpe exceeds test Sharpe by {gap:.2f}, more than {limits.approve_sharpe_gap:g}: "
                "overfitting."
            )
    return reasons


def _few_trades(test: Metrics, limit: int) -> str:
    if not test.open_position:
        return f"{test.num_trades} trades closed on test, fewer than {limit}."
    return (
        f"A position of {test.open_position:+.0%} of equity is still open at the end of test, marked and not closed; "
        f"{test.num_trades} trades closed before it, fewer than {limit}."
    )


def _at_least(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def _number(value: float | None) -> str:
    return "(undefined)" if value is None else f"{value:.2f}"
