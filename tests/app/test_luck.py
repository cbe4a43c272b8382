"""Luck: each formula against the example of its paper as remembered, against skfolio, and on strategies that have none.

The papers could not be had: their numbers here are from memory and no evidence of what the papers print.
"""

import math

import numpy as np
import pytest
from rich.console import Console

from jtf.console import print_luck
from jtf.errors import UserError
from jtf.results import luck

pytestmark = pytest.mark.quick

# Bailey and Lopez de Prado 2012, as remembered: monthly returns of two years, mean 3.6 %, deviation 7.9 %.
FUND = {"sharpe": 0.036 / 0.079, "skewness": -2.448, "kurtosis": 10.164}


def test_probabilistic_sharpe_is_that_of_the_remembered_fund_if_returns_were_normal():
    assert luck.probabilistic_sharpe(FUND["sharpe"], 0.0, 24) == pytest.approx(0.982, abs=1e-3)


def test_probabilistic_sharpe_is_that_of_the_remembered_fund_with_its_skewness_and_kurtosis():
    assert luck.probabilistic_sharpe(benchmark=0.0, count=24, **FUND) == pytest.approx(0.913, abs=1e-3)


@pytest.mark.parametrize(("per_year", "years"), [(12, 3.24), (52, 2.83), (252, 2.73)])
def test_a_sharpe_of_two_takes_the_remembered_years_to_be_told_from_one(per_year, years):
    # The same paper, as remembered: annualised Sharpe ratio 2 against 1, normal returns, 95 % confidence.
    root = math.sqrt(per_year)
    assert luck.minimum_track_record(2 / root, 1 / root) / per_year == pytest.approx(years, abs=0.01)


def test_a_track_record_of_the_minimum_length_has_just_the_confidence():
    length = luck.minimum_track_record(benchmark=0.1, **FUND)
    assert luck.probabilistic_sharpe(benchmark=0.1, count=length, **FUND) == pytest.approx(0.95)


def test_no_track_record_is_long_enough_without_an_excess():
    assert luck.minimum_track_record(0.1, 0.1) is None


# Bailey and Lopez de Prado 2014, the numerical example as remembered: annualised Sharpe ratio 2.5 over 1 250 daily
# returns, variance of the trials' annualised Sharpe ratios 1/2, 250 days a year.
DAYS = 250
BEST = {"sharpe": 2.5 / math.sqrt(DAYS), "deviation": math.sqrt(0.5 / DAYS), "count": 1_250}


def test_the_luckiest_of_a_hundred_trials_is_expected_to_show_the_remembered_sharpe():
    assert luck.expected_maximum_sharpe(BEST["deviation"], 100) == pytest.approx(0.1132, abs=1e-4)


@pytest.mark.parametrize(
    ("num_trials", "shape", "expected"),
    [
        (100, {"skewness": -3.0, "kurtosis": 10.0}, 0.9004),
        (46, {"skewness": -3.0, "kurtosis": 10.0}, 0.9505),
        (88, {}, 0.9505),
    ],
)
def test_deflated_sharpe_is_that_of_the_remembered_example(num_trials, shape, expected):
    assert luck.deflated_sharpe(num_trials=num_trials, **BEST, **shape) == pytest.approx(expected, abs=2e-4)


def test_of_a_single_trial_the_deflated_sharpe_is_the_probabilistic_one_against_zero():
    one = luck.deflated_sharpe(num_trials=1, **BEST)
    assert one == luck.probabilistic_sharpe(BEST["sharpe"], 0.0, BEST["count"])


def test_an_estimate_has_the_moments_of_its_returns():
    # mean 1, ddof-1 variance (9 + 1 + 1 + 1) / 3 = 4; population variance 3, third moment (27 - 3) / 4 = 6.
    found = luck.estimate_sharpe(np.array([4.0, 0.0, 0.0, 0.0]))
    assert (found.sharpe, found.count) == (0.5, 4)
    assert found.skewness == pytest.approx(6 / 3**1.5) and found.kurtosis == pytest.approx(84 / 4 / 9)


def test_returns_without_variance_have_no_sharpe():
    assert luck.estimate_sharpe(np.zeros(5)) is None


# --- nothing but luck --------------------------------------------------------------------------------------

STRATEGIES = 1_000


def driftless_sharpes(num_trials: int, days: int = 250) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sharpe ratio, skewness and kurtosis ``[1 000, trials]`` of Student-t returns (5 degrees) without drift."""
    returns = np.random.default_rng(5).standard_t(5, (STRATEGIES, num_trials, days)).astype(np.float32)
    mean, std = returns.mean(axis=-1), returns.std(axis=-1)
    z = (returns - mean[..., None]) / std[..., None]
    return mean / std, (z**3).mean(axis=-1), (z**4).mean(axis=-1)


def test_five_in_a_hundred_driftless_strategies_have_a_probabilistic_sharpe_of_95_percent():
    sharpe, skewness, kurtosis = (column[:, 0] for column in driftless_sharpes(1))
    false = np.mean(luck.probabilistic_sharpe(sharpe, 0.0, 250, skewness, kurtosis) > 0.95)
    # Binomial with p = 0.05: 1 000 draws lie within 0.05 +- 3 * 0.0069.
    assert false == pytest.approx(0.05, abs=0.021)


@pytest.mark.parametrize("num_trials", [2, 10, 30])
def test_at_most_five_in_a_hundred_best_of_driftless_trials_have_a_deflated_sharpe_of_95_percent(num_trials):
    sharpe, skewness, kurtosis = driftless_sharpes(num_trials)
    best = sharpe.argmax(axis=1)[:, None]
    s, g, k = (np.take_along_axis(column, best, axis=1)[:, 0] for column in (sharpe, skewness, kurtosis))
    undeflated = np.mean(luck.probabilistic_sharpe(s, 0.0, 250, g, k) > 0.95)
    deflated = np.mean(luck.deflated_sharpe(s, 250**-0.5, num_trials, 250, g, k) > 0.95)
    assert undeflated > 0.08, "picking the best of lucky trials looks like skill"
    assert deflated <= 0.05


def best_of_lucky_trials(sets: int, num_trials: int, days: int = 250) -> list[float]:
    """Deflated Sharpe ratio, by `sharpe_luck`, of the best trial of each set: normal returns without drift."""
    rng, found = np.random.default_rng(num_trials), []
    for _ in range(sets):
        returns = rng.standard_normal((num_trials, days))
        trials = returns.mean(axis=1) / returns.std(axis=1, ddof=1) * math.sqrt(252.0)
        found.append(luck.sharpe_luck(returns[trials.argmax()], 252.0, trials.tolist()).deflated_sharpe)
    return found


@pytest.mark.parametrize(("num_trials", "least"), [(2, 0.005), (3, 0.0), (10, 0.0)])
def test_at_most_five_in_a_hundred_reach_95_percent_where_the_trials_themselves_give_the_deviation(
    num_trials, least, monkeypatch
):
    # The bootstrap takes most of the time and decides no probability.
    monkeypatch.setattr(luck, "bootstrap_values", lambda *_: np.zeros((1, 2)))
    rate = np.mean(np.array(best_of_lucky_trials(1_000, num_trials)) >= 0.95)
    assert least <= rate <= 0.05


# --- the probability of backtest overfitting ------------------------------------------------------------------


def test_overfitting_of_two_blocks_and_two_settings_by_hand():
    # First half: A earns 2 +- 1, B 1 +- 1. Second half: A loses 1 +- 1, B earns 3 +- 1. Whichever half is in sample,
    # the best there is the worse of two in the other: relative rank 1 / 3, logit ln(1/2). A loses money, B does not.
    a, b = [1.0, 3.0, -2.0, 0.0], [0.0, 2.0, 2.0, 4.0]
    found = luck.overfitting(np.array([a, b]).T, num_blocks=2)
    assert found.probability == 1.0 and found.loss_probability == 0.5
    np.testing.assert_allclose(found.logits, math.log(0.5))


def test_a_setting_that_is_best_in_every_block_is_not_overfitted():
    noise = np.random.default_rng(0).normal(0, 1, (320, 10))
    noise[:, 3] += 2.0
    assert luck.overfitting(noise).probability == 0.0


def test_the_best_of_settings_without_skill_is_overfitted_about_half_the_time():
    rng = np.random.default_rng(1)
    found = [luck.overfitting(rng.normal(0, 1, (320, 20)), num_blocks=8).probability for _ in range(50)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_settings_whose_whole_record_is_level_are_overfitted_almost_always():
    # Bailey et al. 2015: with the mean of the whole record fixed, what is gained in sample is lost outside.
    noise = np.random.default_rng(2).normal(0, 1, (320, 20))
    assert luck.overfitting(noise - noise.mean(axis=0)).probability > 0.95


def test_equal_settings_lie_at_the_median():
    same = np.repeat(np.random.default_rng(3).normal(0, 1, (64, 1)), 3, axis=1)
    np.testing.assert_allclose(luck.overfitting(same, num_blocks=4).logits, 0.0, atol=1e-12)


@pytest.mark.parametrize(("shape", "blocks"), [((100, 1), 16), ((20, 5), 16), ((100, 5), 7)])
def test_too_little_for_the_probability_of_overfitting_is_refused(shape, blocks):
    with pytest.raises(UserError, match="even number of blocks"):
        luck.overfitting(np.zeros(shape), blocks)


# --- intervals and spreads ------------------------------------------------------------------------------------


def interval_of(returns, statistic, draws=1_000):
    return luck.percentile_interval(luck.bootstrap_values(returns, statistic, draws=draws))


def test_a_bootstrap_interval_of_independent_returns_is_the_normal_one():
    returns = np.random.default_rng(4).normal(1.0, 2.0, 400)
    found = interval_of(returns, np.mean)
    expected = returns.mean() + np.array([-1.96, 1.96]) * returns.std() / 20
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.05)


def test_a_bootstrap_interval_of_dependent_returns_is_wider_than_that_of_their_shuffle():
    shocks = np.random.default_rng(6).normal(0, 1, 600)
    path = np.convolve(shocks, np.ones(10), "valid")
    width = {}
    for name, returns in {"path": path, "shuffled": np.random.default_rng(7).permutation(path)}.items():
        found = interval_of(returns, np.mean, draws=300)
        width[name] = found.high - found.low
    # Ten equal weights: the variance of the mean is ten times that of independent returns.
    assert width["path"] / width["shuffled"] == pytest.approx(math.sqrt(10), rel=0.3)


def test_a_paired_interval_draws_both_columns_together():
    base = np.random.default_rng(8).normal(0, 1, 300)
    pair = np.stack([base + 0.01, base], axis=1)
    found = interval_of(pair, lambda x: float(np.mean(x[:, 0] - x[:, 1])), draws=100)
    assert found.low == pytest.approx(0.01) and found.high == pytest.approx(0.01)


def test_the_same_seed_gives_the_same_interval():
    returns = np.random.default_rng(9).normal(0, 1, 100)
    assert interval_of(returns, np.mean, draws=50) == interval_of(returns, np.mean, draws=50)


def test_a_spread_leaves_undefined_values_out():
    assert luck.spread([1.0, None, 3.0]) == luck.Spread(2, 2.0, 1.0, 3.0, math.sqrt(2))


def test_a_spread_of_nothing_is_none():
    assert luck.spread([None]) is None


def test_the_share_of_folds_above_buying_and_holding_counts_pairs():
    assert luck.share_above([0.1, 0.2, 0.3, -0.1], [0.0, 0.3, 0.1, -0.2]) == 0.75


# --- held against skfolio --------------------------------------------------------------------------------------


def skewed_returns(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).gamma(2.0, 1.0, 400)
    return 0.01 * (2.1 - drawn)


def test_luck_is_that_of_skfolio():
    from skfolio.measures import deflated_sharpe_ratio, expected_max_sharpe_ratio, probabilistic_sharpe_ratio

    returns, per_year = skewed_returns(0), 252.0
    trials = [
        *np.random.default_rng(1).normal(0.0, 0.6, 11),
        luck.estimate_sharpe(returns).sharpe * math.sqrt(per_year),
    ]
    found = luck.sharpe_luck(returns, per_year, trials)
    per_bar = np.array(trials) / math.sqrt(per_year)
    assert found.probabilistic_sharpe == pytest.approx(probabilistic_sharpe_ratio(returns), abs=2e-3)
    assert found.deflated_sharpe == pytest.approx(deflated_sharpe_ratio(returns, per_bar), abs=2e-3)
    assert found.expected_maximum == pytest.approx(expected_max_sharpe_ratio(12, float(np.std(trials, ddof=1))))


# --- the intervals of a record ---------------------------------------------------------------------------------


def test_ninety_percent_intervals_of_a_record_hold_its_own_numbers():
    returns = np.random.default_rng(2).normal(2e-4, 4e-3, 1_500)
    found = luck.sharpe_luck(returns, 6_552.0, [0.0])
    own = luck.estimate_sharpe(returns).sharpe * math.sqrt(6_552.0)
    assert found.sharpe_interval.low < own < found.sharpe_interval.high
    assert found.total_return_interval.low < np.prod(1 + returns) - 1 < found.total_return_interval.high
    # Independent normal returns: the error of an annualised ratio is near sqrt(bars a year / bars).
    width = 2 * 1.645 * math.sqrt(6_552.0 / 1_500)
    assert found.sharpe_interval.high - found.sharpe_interval.low == pytest.approx(width, rel=0.1)


def test_nine_in_ten_intervals_hold_the_true_sharpe_ratio():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        found = luck.sharpe_luck(rng.normal(0.05, 1.0, 300) * 1e-3, 252.0, [0.0]).sharpe_interval
        held += found.low < 0.05 * math.sqrt(252.0) < found.high
    # Binomial with p = 0.9: 200 draws lie within 180 +- 3 * 4.2.
    assert held == pytest.approx(180, abs=13)


def test_a_record_that_never_moves_has_no_interval():
    found = luck.sharpe_luck(np.zeros(100), 252.0, [0.0])
    assert found.sharpe_interval is None and found.total_return_interval is None


def test_the_luck_of_a_record_is_printed_with_its_probabilities_trials_and_track_record(capsys):
    record = {
        "probabilistic_sharpe": 0.834,
        "deflated_sharpe": 0.412,
        "num_trials": 3,
        "minimum_track_record": 12_344.2,
    }
    print_luck(Console(width=300), record, "test: ")
    said = capsys.readouterr().out
    assert (
        "test: probability that the Sharpe ratio is above 0: 0.83; above the luckiest expected of 3 trials: 0.41"
        in said
    )
    assert "minimum track record: 12,345 bars" in said


def test_luck_is_read_back_as_it_was_written_with_and_without_intervals():
    from dataclasses import asdict

    found = luck.sharpe_luck(np.random.default_rng(4).normal(0, 1e-3, 50), 252.0, [0.0])
    record = asdict(found)
    assert luck.read_luck(record) == found
    older = {name: value for name, value in record.items() if "interval" not in name}
    assert luck.read_luck(older).sharpe_interval is None and luck.read_luck(older).num_trials == 1
