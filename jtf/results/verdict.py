"""The verdict on a run: APPROVED, REVIEW or DROP, with reasons a person can check against the numbers. No JAX."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jtf.results.metrics import Metrics

Status = Literal["APPROVED", "REVIEW", "DROP"]
Relation = Literal["at least", "above", "at most"]

FAILS: dict[Relation, str] = {"at least": "is below", "above": "is not above", "at most": "is above"}
"""What a sentence says of a value that does not have a relation to its limit."""
HELD = "that of buying and holding"
"""Whose number a limit is."""


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
    """Largest excess of the training Sharpe ratio over the test Sharpe ratio, where the share below allows no more."""
    approve_sharpe_decay: float = 0.5
    """Largest share of the training Sharpe ratio that may be lost on test: chance alone moves high ratios by more than
    a fixed number."""
    approve_deflated_sharpe: float = 0.95
    """Probability that the test Sharpe ratio is above what the best of as many lucky trials shows."""
    approve_fold_share: float = 0.6
    """Share of the folds with a profit after costs, where there are several."""


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on beside the metrics of the segments."""

    held_sharpe: float | None = None
    """Sharpe ratio of buying and holding the test segment; None where it is undefined."""
    held_return: float | None = None
    """Total return of buying and holding the test segment after costs (fraction); None where it is not known."""
    synthetic: bool = False
    """Whether the bars are SYNTHETIC."""
    smoke: bool = False
    """Whether training was no longer than a smoke test."""
    deflated_sharpe: float | None = None
    """`jtf.results.luck.deflated_sharpe` of the test segment; None where it is undefined."""
    random_return: float | None = None
    """95th percentile of the total return that random timing of the same positions earns on test (fraction)."""
    fold_returns: tuple[float, ...] = ()
    """Out-of-sample total return of every fold (fraction); empty for a single split."""


FEWEST_SYMBOLS, FEWEST_CLASSES, APPROVED_SHARE = 5, 2, 0.5
"""APPROVED symbols, their asset classes, and their share of all: what it takes to say that a way to train works at all,
and not on one symbol."""


@dataclass(frozen=True)
class Verdict:
    """The status and the sentences that led to it."""

    status: Status
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """One value beside its limit. An undefined value (None) fails."""

    name: str
    """How its sentence begins."""
    value: float | None
    relation: Relation
    limit: float
    percent: bool = False
    limit_name: str = ""
    """Whose number the limit is, where it is measured."""

    @property
    def met(self) -> bool:
        """Whether the value has its relation to the limit."""
        if self.value is None:
            return False
        if self.relation == "at most":
            return self.value <= self.limit
        return self.value > self.limit if self.relation == "above" else self.value >= self.limit

    @property
    def sentence(self) -> str:
        """What is wrong where the condition is not met, with as many digits as tell the value from the limit."""
        kind = "%" if self.percent else "f"
        for digits in range(2, 16):
            value, limit = (
                "(undefined)" if number is None else f"{number:.{digits}{kind}}" for number in (self.value, self.limit)
            )
            if value != limit or self.value == self.limit:
                break
        if not self.limit_name:
            limit = f"{100 * self.limit:g}%" if self.percent else f"{self.limit:g}"
        of = f", {self.limit_name}" if self.limit_name else ""
        return f"{self.name} {value} {FAILS[self.relation]} {limit}{of}."


def judge(metrics: Mapping[str, Metrics], evidence: Evidence, thresholds: Thresholds = Thresholds()) -> Verdict:
    """Return the verdict on ``metrics[segment]`` of train, validation and test.

    A metric that is undefined (None) fails the conditions that need it, but for the profit factor of a test segment
    without a losing trade. Neither synthetic bars nor a smoke test ever earn APPROVED.
    """
    test = metrics["test"]
    failures = _failed(_drop_conditions(test, thresholds))
    if test.num_trades < thresholds.drop_num_trades and not test.open_position:
        failures.insert(0, f"Only {test.num_trades} trades closed on test, fewer than {thresholds.drop_num_trades}.")
    if failures:
        return Verdict("DROP", tuple(failures))
    doubts = _failed(_approve_conditions(metrics, evidence, thresholds))
    if test.num_trades < thresholds.approve_num_trades:
        doubts.append(_few_trades(test, thresholds.approve_num_trades))
    if evidence.smoke:
        doubts.append("The training was a smoke test: it shows that everything runs, so APPROVED is impossible.")
    if evidence.synthetic:
        doubts.append("The bars are SYNTHETIC: nothing is shown about a real market, so APPROVED is impossible.")
    if doubts:
        return Verdict("REVIEW", tuple(doubts))
    factor = "(undefined)" if test.profit_factor is None else f"{test.profit_factor:.2f}"
    return Verdict(
        "APPROVED",
        (
            f"Test return {test.total_return:+.2%}, Sharpe {test.sharpe:.2f}, profit factor {factor}, drawdown "
            f"{test.max_drawdown:.1%} over {test.num_trades} trades pass every threshold.",
        ),
    )


def judge_symbols(verdicts: dict[str, Verdict], classes: dict[str, str]) -> Verdict:
    """Return the verdict on all symbols together; `verdicts` and asset `classes` are by symbol."""
    approved = [symbol for symbol, verdict in verdicts.items() if verdict.status == "APPROVED"]
    share = f"{len(approved)} of {len(verdicts)} symbols are APPROVED"
    if not approved and all(verdict.status == "DROP" for verdict in verdicts.values()):
        return Verdict("DROP", (f"All {len(verdicts)} symbols are DROP.",))
    doubts, approved_classes = [], sorted({classes[symbol] for symbol in approved})
    if len(approved) < FEWEST_SYMBOLS:
        doubts.append(f"{share}; fewer than {FEWEST_SYMBOLS} are too few to generalise from.")
    if approved and len(approved_classes) < FEWEST_CLASSES:
        doubts.append(f"All APPROVED symbols are {approved_classes[0]}: one asset class proves nothing about others.")
    if len(approved) < APPROVED_SHARE * len(verdicts):
        doubts.append(f"{share}, fewer than {APPROVED_SHARE:.0%}.")
    return Verdict("REVIEW", tuple(doubts)) if doubts else Verdict("APPROVED", (f"{share}.",))


def _failed(conditions: list[Condition]) -> list[str]:
    return [condition.sentence for condition in conditions if not condition.met]


def _drop_conditions(test: Metrics, limits: Thresholds) -> list[Condition]:
    return [
        Condition("Test return after costs", test.total_return, "above", limits.drop_total_return, percent=True),
        Condition("Test drawdown", test.max_drawdown, "at most", limits.drop_max_drawdown, percent=True),
    ]


def _approve_conditions(metrics: Mapping[str, Metrics], evidence: Evidence, limits: Thresholds) -> list[Condition]:
    test, validation, train = metrics["test"], metrics["validation"], metrics["train"]
    held = evidence.held_sharpe
    conditions = [
        Condition("Test Sharpe", test.sharpe, "at least", limits.approve_sharpe),
        Condition("Test drawdown", test.max_drawdown, "at most", limits.approve_max_drawdown, percent=True),
        Condition("Validation return", validation.total_return, "above", 0.0, percent=True),
        Condition("Test Sharpe", test.sharpe, "above", held or 0.0, limit_name=HELD),
        Condition(
            "The probability that the test Sharpe is more than luck (deflated Sharpe ratio)",
            evidence.deflated_sharpe,
            "at least",
            limits.approve_deflated_sharpe,
        ),
    ]
    if test.profit_factor is not None:
        conditions.append(Condition("Test profit factor", test.profit_factor, "at least", limits.approve_profit_factor))
    if evidence.held_return is not None:
        conditions.append(
            Condition("Test return", test.total_return, "above", evidence.held_return, percent=True, limit_name=HELD)
        )
    if evidence.random_return is not None:
        name = "the 95th percentile of the same positions at random times"
        conditions.append(
            Condition("Test return", test.total_return, "above", evidence.random_return, percent=True, limit_name=name)
        )
    if len(evidence.fold_returns) > 1:
        share = sum(value > 0 for value in evidence.fold_returns) / len(evidence.fold_returns)
        conditions.append(
            Condition("The share of folds with a profit", share, "at least", limits.approve_fold_share, percent=True)
        )
    if train.sharpe is not None and test.sharpe is not None:
        name, gap = "Overfitting: the excess of the training Sharpe over the test Sharpe", train.sharpe - test.sharpe
        share = limits.approve_sharpe_decay * train.sharpe
        named = f"{limits.approve_sharpe_decay:.0%} of the training Sharpe" if share > limits.approve_sharpe_gap else ""
        limit = max(limits.approve_sharpe_gap, share)
        conditions.append(Condition(name, gap, "at most", limit, limit_name=named))
    return conditions


def _few_trades(test: Metrics, limit: int) -> str:
    if not test.open_position:
        return f"{test.num_trades} trades closed on test, fewer than {limit}."
    return (
        f"A position of {test.open_position:+.0%} of equity is still open at the end of test, marked and not closed; "
        f"{test.num_trades} trades closed before it, fewer than {limit}."
    )
