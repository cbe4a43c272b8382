"""Each metric against numbers worked out by hand."""

import math

import numpy as np
import pytest

from jtf.results import metrics

pytestmark = pytest.mark.quick

EQUITY = np.array([100.0, 110.0, 99.0, 99.0, 108.9])  # returns +10 %, -10 %, 0, +10 %


def test_total_return_is_last_over_first_equity():
    assert metrics.total_return(EQUITY) == pytest.approx(0.089)


def test_sharpe_is_mean_over_sample_deviation_times_root_of_bars_per_year():
    # mean 0.025, squared deviations .075^2 + .125^2 + .025^2 + .075^2 = .0275, over 3: sd .0957427
    assert metrics.sharpe(EQUITY, 400.0) == pytest.approx(0.025 / math.sqrt(0.0275 / 3) * 20)


def test_sortino_counts_only_losses_in_the_deviation_over_all_bars():
    # mean square of min(r, 0): .01 / 4; root .05
    assert metrics.sortino(EQUITY, 400.0) == pytest.approx(0.025 / 0.05 * 20)


def test_max_drawdown_is_the_deepest_fall_from_a_peak():
    assert metrics.max_drawdown(EQUITY) == pytest.approx(0.1)


def test_profit_factor_is_gross_wins_over_gross_losses():
    assert metrics.profit_factor(np.array([3.0, -1.0, 2.0, -1.0])) == pytest.approx(2.5)


def test_profit_factor_without_a_loss_is_undefined():
    assert metrics.profit_factor(np.array([3.0])) is None


def test_win_rate_is_the_share_of_profitable_trades():
    assert metrics.win_rate(np.array([3.0, -1.0, 0.0, -1.0])) == 0.25


def test_ratios_of_a_flat_curve_are_undefined():
    flat = np.full(5, 100.0)
    assert metrics.sharpe(flat, 400.0) is None and metrics.sortino(flat, 400.0) is None


def test_ratios_of_a_single_bar_are_undefined():
    assert metrics.sharpe(np.array([1.0, 2.0]), 400.0) is None


def test_direction_accuracy_judges_the_position_held_at_a_close_by_the_next_move():
    positions = np.array([0.5, -0.5, 0.0, 1.0])
    moves = np.array([1.0, 1.0, 1.0, 0.0])  # right; wrong; not held; no move
    assert metrics.direction_accuracy(positions, moves) == 0.5


def test_direction_accuracy_without_a_position_is_undefined():
    assert metrics.direction_accuracy(np.zeros(2), np.array([1.0, 1.0])) is None


def test_a_backtest_without_trades_has_undefined_trade_metrics_and_no_sentinels():
    flat = np.full(4, 100.0)
    none = np.zeros(3, int)
    nothing = metrics.compute_metrics(flat, np.zeros(3), np.zeros(3), np.zeros(3), none, none == 1, np.array([]), 400.0)
    assert nothing == metrics.Metrics(
        total_return=0.0, sharpe=None, sortino=None, max_drawdown=0.0, profit_factor=None, win_rate=None,
        num_trades=0, exposure=0.0, open_position=0.0, traded_share=0.0, hold_share=1.0, direction_accuracy=None,
    )  # fmt: skip


def measured() -> metrics.Metrics:
    positions = np.array([0.0, 1.0, -0.5, 0.0, 0.5])
    traded = np.array([True, True, False, True])
    return metrics.compute_metrics(
        EQUITY, positions[:-1], positions[1:], np.diff(EQUITY), np.array([1, 5, 1, 2]), traded, np.array([1.0]), 400.0
    )


def test_exposure_is_the_mean_size_of_the_position():
    assert measured().exposure == 0.5


def test_an_action_that_changes_nothing_is_no_trade_and_no_hold():
    assert (measured().traded_share, measured().hold_share) == (0.75, 0.0)


def test_a_position_open_at_the_last_close_is_said():
    assert measured().open_position == 0.5
