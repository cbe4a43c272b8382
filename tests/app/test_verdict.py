"""The verdict: each threshold with a case on either side."""

from dataclasses import replace

import pytest

from jtf.results.metrics import Metrics
from jtf.results.verdict import Evidence, Thresholds, judge

pytestmark = pytest.mark.quick

GOOD = Metrics(
    total_return=0.3, sharpe=2.0, sortino=3.0, max_drawdown=0.1, profit_factor=1.5, win_rate=0.5, num_trades=100,
    exposure=0.6, open_position=0.0, traded_share=0.2, hold_share=0.3, direction_accuracy=0.52,
)  # fmt: skip
SOLID = Evidence(held_sharpe=0.5, held_return=0.2, deflated_sharpe=0.99, random_return=0.1)


def verdict(test: dict | None = None, evidence: dict | None = None, **segments: Metrics):
    metrics = {"train": GOOD, "validation": GOOD, "test": replace(GOOD, **(test or {}))} | segments
    return judge(metrics, replace(SOLID, **(evidence or {})))


def test_a_policy_past_every_threshold_is_approved():
    assert verdict().status == "APPROVED"


def test_synthetic_bars_can_never_be_approved():
    assert verdict(evidence={"synthetic": True}).status == "REVIEW"


def test_a_smoke_test_can_never_be_approved():
    judged = verdict(evidence={"smoke": True})
    assert judged.status == "REVIEW" and "smoke test" in judged.reasons[0]


@pytest.mark.parametrize(
    "evidence",
    [
        {"deflated_sharpe": 0.94},
        {"deflated_sharpe": None},
        {"random_return": GOOD.total_return},
        {"fold_returns": (0.1, -0.1)},
    ],
)
def test_what_luck_or_a_few_folds_may_explain_is_for_review(evidence):
    assert verdict(evidence=evidence).status == "REVIEW"


def test_folds_most_of_which_earn_are_no_doubt():
    assert verdict(evidence={"fold_returns": (0.1, 0.2, -0.1)}).status == "APPROVED"


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ({"profit_factor": 1.1499}, "Test profit factor 1.1499 is below 1.15."),
        ({"sharpe": 0.99996}, "Test Sharpe 0.99996 is below 1."),
        ({"max_drawdown": 0.200004}, "Test drawdown 20.0004% is above 20%."),
        ({"max_drawdown": 0.4000004}, "Test drawdown 40.00004% is above 40%."),
    ],
)
def test_a_number_is_told_from_the_limit_it_misses(test, reason):
    assert verdict(test).reasons == (reason,)


def test_a_measured_limit_has_the_digits_that_tell_it_from_the_value():
    reasons = verdict(evidence={"random_return": 0.30001}).reasons
    name = "the 95th percentile of the same positions at random times"
    assert reasons == (f"Test return 30.000% is not above 30.001%, {name}.",)


@pytest.mark.parametrize(
    "test",
    [
        {"total_return": 0.0},
        {"max_drawdown": Thresholds.drop_max_drawdown + 0.01},
        {"num_trades": Thresholds.drop_num_trades - 1},
    ],
)
def test_a_failure_on_test_is_dropped(test):
    assert verdict(test).status == "DROP"


@pytest.mark.parametrize(
    "test",
    [
        {"sharpe": 0.9},
        {"sharpe": None},
        {"profit_factor": 1.1},
        {"max_drawdown": 0.25},
        {"num_trades": 10},
    ],
)
def test_a_doubt_on_test_is_for_review(test):
    assert verdict(test).status == "REVIEW"


def test_a_losing_validation_is_for_review():
    assert verdict(validation=replace(GOOD, **{"total_return": -0.01})).status == "REVIEW"


def test_a_wide_gap_to_training_is_for_review():
    assert "Overfitting" in verdict(train=replace(GOOD, **{"sharpe": 4.5})).reasons[0]


def test_a_gap_to_training_is_measured_by_a_high_training_sharpe():
    assert verdict({"sharpe": 30.0}, train=replace(GOOD, **{"sharpe": 36.0})).status == "APPROVED"
    (reason,) = verdict({"sharpe": 3.9}, train=replace(GOOD, **{"sharpe": 8.0})).reasons
    assert reason.endswith("Sharpe 4.10 is above 4.00, 50% of the training Sharpe.")


def test_not_beating_buy_and_hold_is_for_review():
    assert verdict(evidence={"held_sharpe": 2.5}).status == "REVIEW"


def test_a_sharpe_ratio_equal_to_that_of_buying_and_holding_does_not_beat_it():
    reasons = verdict(evidence={"held_sharpe": GOOD.sharpe}).reasons
    assert reasons == ("Test Sharpe 2.00 is not above 2.00, that of buying and holding.",)


def test_a_return_below_that_of_buying_and_holding_is_for_review_whatever_its_sharpe_ratio():
    reasons = verdict(evidence={"held_return": 0.4}).reasons
    assert reasons == ("Test return 30.00% is not above 40.00%, that of buying and holding.",)


def test_a_profit_factor_that_is_undefined_for_lack_of_losses_is_no_doubt():
    assert verdict({"profit_factor": None}).status == "APPROVED"


def test_reasons_state_the_numbers():
    assert verdict({"sharpe": 0.9}).reasons == ("Test Sharpe 0.90 is below 1.",)


def test_no_closed_trade_is_not_the_reason_while_a_position_is_open():
    judged = verdict({"num_trades": 0, "open_position": 1.0})
    assert judged.status == "REVIEW"
    assert judged.reasons == (
        "A position of +100% of equity is still open at the end of test, marked and not closed; "
        "0 trades closed before it, fewer than 30.",
    )


def test_a_loss_is_dropped_for_its_loss_while_a_position_is_open():
    judged = verdict({"num_trades": 0, "open_position": 1.0, "total_return": -0.1})
    assert (judged.status, judged.reasons) == ("DROP", ("Test return after costs -10.00% is not above 0%.",))
