"""The known markets: what is known, who can see it, and that the stated optimum is one."""

import numpy as np
import pytest

from jtf.known_optimum.checks import account_actions
from jtf.known_optimum.markets import (
    COEFFICIENT,
    COSTLY_DRIFT,
    COSTLY_NOISE,
    DRIFT,
    HOURLY_NOISE,
    MARKETS,
    NOISE,
    PULL,
    RISE,
    RISE_NOISE,
    SIGNAL_COLUMN,
    KnownOptimumMarket,
    known_market,
)
from jtf.known_optimum.programme import (
    address_only_rule,
    ar1_process,
    bin_probabilities,
    coin_process,
    kalman_forecast,
    nearest_state,
    solve,
    symmetric_grid,
)
from jtf.problem import make_problem, training_rows
from jtf.splits import Segment
from jtf_env.actions import BUY_75, CLOSE, HOLD, LEVELS, NUM_ACTIONS, SELL_75, next_level_table
from jtf_env.mirror import build_market
from jtf_env.params import make_params
from jtf_env.scaler import Scaler

NUM_BARS = 12_000
PAYING = ("next_bar", "hourly", "regime", "drift", "costly_regime")


@pytest.fixture(scope="module")
def known() -> dict[str, KnownOptimumMarket]:
    return {name: known_market(name, NUM_BARS, unseen_bars=6_000) for name in MARKETS}


def signal_of(market: KnownOptimumMarket) -> np.ndarray:
    return np.asarray(market.natural.features)[:, market.natural.column_names.index(SIGNAL_COLUMN)]


def moves(market: KnownOptimumMarket) -> np.ndarray:
    """Return of the bar after each bar, ``[T - 1]``."""
    return market.bars.close[1:] / market.bars.open[1:] - 1


def one_hot(actions: np.ndarray) -> np.ndarray:
    return np.eye(NUM_ACTIONS, dtype=bool)[actions]


# --- the dynamic programme ---------------------------------------------------------------------------------


def test_bin_probabilities_keep_mean_and_deviation():
    grid = symmetric_grid(1.0, 81)
    weights = bin_probabilities(np.array([0.3]), 0.5, grid)
    mean = (weights @ grid).item()
    assert mean == pytest.approx(0.3, abs=1e-6)
    assert np.sqrt(weights @ (grid - mean) ** 2).item() == pytest.approx(0.5, rel=0.01)


def test_a_value_beyond_the_grid_belongs_to_its_end():
    grid = symmetric_grid(1.0, 5)  # -4 -2 0 2 4
    assert nearest_state(np.array([-9.0, -1.2, 0.9, 9.0]), grid).tolist() == [0, 1, 2, 4]


def test_kalman_forecast_equals_the_conditional_mean_of_a_joint_normal():
    # Brute force: drift of bars 0..5 is jointly normal with covariance s^2 a^|i-j|; condition bar 5 on bars 0..4.
    coefficient, deviation, noise = 0.9, 2.0, 3.0
    seen = np.array([1.0, -2.0, 4.0, 0.5, 3.0])
    lag = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    covariance = deviation**2 * coefficient**lag
    weights = np.linalg.solve(covariance[:5, :5] + noise**2 * np.eye(5), covariance[:5, 5])
    mean, variance = kalman_forecast(seen, np.full(5, noise), coefficient, deviation)
    assert mean[-1] == pytest.approx(weights @ seen)
    assert variance[-1] == pytest.approx(deviation**2 - weights @ covariance[:5, 5])


def test_without_costs_a_sure_coin_pays_its_whole_drift():
    # Long only, 10 bp in half of the bars: BUY_75 from flat holds 3/4, then 4/4. States by position in a run of heads:
    # the first head earns .75 * 10, every later one 1 * 10; half of the heads are first ones: .5 * 10 * .875.
    params = make_params("us_equity", slippage=0.0, allow_short=False)
    assert solve(coin_process(10e-4, 0.0), params).gain == pytest.approx(4.375e-4, abs=1e-7)


def test_costs_beyond_the_drift_keep_the_optimum_flat():
    solution = solve(coin_process(10e-4, NOISE**2), make_params("us_equity", fee=0.01))
    assert solution.gain == pytest.approx(0, abs=1e-7)
    assert (solution.actions[:, LEVELS] == HOLD).all()


def test_higher_costs_widen_the_hold_band():
    process = ar1_process(COEFFICIENT, DRIFT, NOISE**2)
    held = []
    for fee in (0.0, 4e-4, 16e-4):
        params = make_params("us_equity", fee=fee)
        held.append((address_only_rule(solve(process, params), params) == HOLD).sum())
    assert held[0] < held[1] < held[2]


def test_the_optimum_beats_every_rule_that_ignores_its_position():
    # All 64 rules of a two-state coin, long only: the band rule is the best of them and loses nothing.
    params = make_params("us_equity", allow_short=False)
    process = coin_process(16e-4, (12e-4) ** 2)
    best = solve(process, params)
    rules = [one_hot(np.array([low, high])) for low in range(NUM_ACTIONS) for high in range(NUM_ACTIONS)]
    gains = [solve(process, params, allowed).gain for allowed in rules]
    band = solve(process, params, one_hot(address_only_rule(best, params))).gain
    assert max(gains) == pytest.approx(best.gain, abs=1e-7)
    assert band == pytest.approx(best.gain, abs=1e-7)


# --- what is known ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MARKETS)
def test_the_same_seed_gives_the_same_market(known, name):
    again = known_market(name, NUM_BARS, unseen_bars=6_000)
    np.testing.assert_array_equal(again.bars.close, known[name].bars.close)
    np.testing.assert_array_equal(again.natural.features, known[name].natural.features)


def test_another_seed_gives_another_market(known):
    other = known_market("regime", NUM_BARS, seed=1, unseen_bars=6_000)
    assert not np.array_equal(other.bars.close, known["regime"].bars.close)


def test_the_real_columns_of_hourly_are_standardised_on_the_training_bars(known):
    market = known["hourly"]
    problem = make_problem(market.natural, market.fold(market.unseen, market.unseen), market.params, 35_040)
    table = np.concatenate([np.asarray(x) for x in training_rows(market.natural, problem.fold)], axis=1)
    scaled = (table - problem.scaler.mean) / problem.scaler.std
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in MARKETS if name != "hourly"])
def test_the_signal_column_has_unit_deviation_and_stands_alone(known, name):
    market = known[name]
    assert np.std(signal_of(market)) == pytest.approx(1, abs=0.05)
    assert np.count_nonzero(np.asarray(market.natural.features).any(axis=0)) == 1
    assert not np.asarray(market.natural.context).any()


def test_distractors_have_the_deviation_asked_for():
    market = known_market("regime", 3_000, unseen_bars=1_000, distractor=0.5).natural
    others = np.array(market.column_names)[: market.features.shape[1]] != SIGNAL_COLUMN
    np.testing.assert_allclose(np.std(np.asarray(market.features), axis=0)[others], 0.5, atol=0.05)
    np.testing.assert_allclose(np.std(np.asarray(market.context), axis=0), 0.5, atol=0.05)


def test_next_bar_shows_the_sign_of_the_next_return(known):
    market = known["next_bar"]
    np.testing.assert_array_equal(signal_of(market)[:-1], np.sign(moves(market)))


def test_shuffled_has_the_same_prices_and_the_same_signals_in_another_order(known):
    market, original = known["shuffled"], known["next_bar"]
    np.testing.assert_array_equal(market.bars.close, original.bars.close)
    np.testing.assert_array_equal(np.sort(signal_of(market)), np.sort(signal_of(original)))


@pytest.mark.parametrize("name", ["shuffled", "noise"])
def test_a_control_market_shows_nothing_of_the_next_return(known, name):
    market = known[name]
    assert abs(np.corrcoef(signal_of(market)[:-1], moves(market))[0, 1]) < 3 / np.sqrt(NUM_BARS)


def test_noise_pays_nobody_for_holding_through_the_training_bars(known):
    market = known["noise"]
    decided = moves(market)[market.train.start : market.train.stop - 1]
    assert abs(decided.mean()) < 1e-9


def test_trading_the_shuffled_signal_loses_the_costs(known):
    market = known["shuffled"]
    actions = np.where(signal_of(market) > 0, BUY_75, CLOSE)
    earned = market.net_log_return(actions, market.unseen) / len(market.unseen)
    # Expected: one order in every two bars of about 3.5 levels: .5 * 3.5 / 4 * 2 bp = .9 bp a bar.
    assert earned == pytest.approx(-0.9e-4, abs=0.45e-4)


@pytest.mark.parametrize("name", ["shuffled", "noise"])
def test_the_optimum_of_a_control_market_is_to_do_nothing(known, name):
    market = known[name]
    assert (market.optimum_actions(market.unseen) == HOLD).all()
    assert market.net_log_return(market.address_only_actions(), market.unseen) == 0


def test_a_control_market_has_no_optimum_to_take_a_share_of(known):
    with pytest.raises(ValueError, match="no edge"):
        known["noise"].normalised_score(np.zeros(NUM_BARS, int))


def test_regime_shows_the_drift_through_unit_noise(known):
    # Column at bar i against return of bar i: correlation of drift + noise with drift / 6 bp + 1.
    market = known["regime"]
    expected = DRIFT / np.sqrt(2 * (DRIFT**2 + NOISE**2))
    assert np.corrcoef(signal_of(market)[1:], moves(market))[0, 1] == pytest.approx(expected, abs=0.03)


def test_costly_regime_shows_its_own_drift_in_the_same_way(known):
    market = known["costly_regime"]
    expected = COSTLY_DRIFT / np.sqrt(2 * (COSTLY_DRIFT**2 + COSTLY_NOISE**2))
    assert np.corrcoef(signal_of(market)[1:], moves(market))[0, 1] == pytest.approx(expected, abs=0.03)
    assert np.std(moves(market)) == pytest.approx(np.hypot(COSTLY_DRIFT, COSTLY_NOISE), rel=0.03)


def test_drift_rises_by_three_basis_points_a_bar(known):
    move = moves(known["drift"])
    assert (move.mean(), move.std()) == pytest.approx((RISE, RISE_NOISE), rel=0.03)


def test_the_optimum_of_drift_is_to_buy_once_and_hold(known):
    market = known["drift"]
    assert market.normalised_score(np.full(NUM_BARS, BUY_75)) == pytest.approx(1, abs=1e-9)
    assert (market.optimum_actions(market.unseen) != HOLD).sum() == 2  # Three quarters, then the last one.


@pytest.mark.parametrize(
    ("name", "cost"), [("noise", 2e-4), ("shuffled", 2e-4), ("drift", 27e-4), ("costly_regime", 27e-4)]
)
def test_a_market_has_its_own_cost_or_the_one_asked_for(known, name, cost):
    assert (known[name].params.slippage, known[name].params.fee) == (cost, 0.0)
    assert known_market(name, 3_000, unseen_bars=1_000, cost=5e-4).params.slippage == 5e-4


def test_hourly_drift_follows_h1_return_of_the_real_feature_code(known):
    market = known["hourly"]
    mirror = build_market(market.bars)
    hour = mirror.context[:-1, mirror.layout.context_columns.index("h1_return")]
    noise = moves(market) - PULL * hour
    assert np.std(noise) == pytest.approx(HOURLY_NOISE, rel=0.03)
    assert abs(np.corrcoef(noise, hour)[0, 1]) < 3 / np.sqrt(NUM_BARS)


def test_the_51_column_layout_has_no_context():
    market = known_market("regime", 3_000, layout="v5.5.0", unseen_bars=1_000).natural
    assert (market.features.shape[1], market.context.shape[1]) == (51, 0)


@pytest.mark.parametrize("name", MARKETS)
def test_the_unseen_bars_lie_an_embargo_behind_the_training_bars(known, name):
    market = known[name]
    assert market.unseen.start - market.train.stop == 100 + 16
    assert market.unseen.stop == NUM_BARS


def test_a_market_without_training_bars_is_refused():
    with pytest.raises(ValueError, match="leave none for training"):
        _ = known_market("noise", 3_000, unseen_bars=3_000).train


def test_a_policy_that_sees_its_account_is_asked_bar_by_bar_over_the_segment_alone():
    market = known_market("next_bar", 3_000, layout="v2.7.0", unseen_bars=1_000)
    signal = market.natural.layout.bar_columns.index(SIGNAL_COLUMN)
    # Three units: the signal up, the signal down, a long position. Buys when flat and up, closes when down.
    kernel, account = np.zeros((100, 53, 3)), np.zeros((6, 3))
    kernel[-1, signal, :2], account[3, 2] = (1.0, -1.0), 1 / 100
    policy = np.zeros((3, NUM_ACTIONS))
    policy[0, BUY_75], policy[2, BUY_75], policy[1, CLOSE] = 1.0, -2.0, 1.0
    params = {
        "first": {"kernel": kernel, "context_kernel": account, "bias": np.zeros(3)},
        "policy": {"kernel": policy, "bias": 0.1 * np.eye(NUM_ACTIONS)[HOLD]},
        "value": {"kernel": np.zeros((3, 1)), "bias": np.zeros(1)},
    }
    segment = Segment(2_500, 2_600)
    actions = account_actions(params, Scaler(np.zeros(53), np.ones(53)), market, segment)
    up, held, expected = np.asarray(market.natural.features)[:, signal] > 0, False, np.full(3_000, HOLD)
    for row in range(2_500, 2_599):
        expected[row] = (HOLD if held else BUY_75) if up[row] else CLOSE
        held = up[row]
    np.testing.assert_array_equal(actions, expected)
    assert len(np.unique(actions)) == 3


# --- what it is worth --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAYING)
def test_the_optimum_earns_what_dynamic_programming_promises(known, name):
    market = known[name]
    realised = np.mean([
        market.net_log_return(market.optimum_actions(part), part) / len(part)
        for part in (market.train, market.unseen)
    ])  # fmt: skip
    # Sampling error: 20 to 40 bp of noise a bar over about 11 500 bars are 0.19 to 0.37 bp.
    assert realised == pytest.approx(market.solution.gain, abs=1e-4)


@pytest.mark.parametrize("name", PAYING)
def test_the_address_only_rule_is_within_three_per_cent_of_the_optimum(known, name):
    market = known[name]
    allowed = one_hot(address_only_rule(market.solution, market.params))
    gain = solve(market.process, market.params, allowed).gain
    assert 0.97 < gain / market.solution.gain < 1.001


@pytest.mark.parametrize("name", [name for name in PAYING if name != "drift"])
def test_the_optimum_beats_simple_rules_on_unseen_bars(known, name):
    market = known[name]
    bearish = SELL_75 if market.params.allow_short else CLOSE
    rivals = {
        "buy and hold": np.full(NUM_BARS, BUY_75),
        "flat": np.full(NUM_BARS, HOLD),
        "sign of the last move": np.where(market.bars.close > market.bars.open, BUY_75, bearish),
    }
    if name in ("regime", "costly_regime"):
        rivals["sign of the signal column"] = np.where(signal_of(market) > 0, BUY_75, bearish)
    if name == "hourly":
        hour = np.asarray(market.natural.context)[:, 0]
        rivals["sign of h1_return"] = np.where(hour > 0, BUY_75, bearish)
    for rival, actions in rivals.items():
        assert market.normalised_score(actions) < 1, rival


@pytest.mark.parametrize(("width", "at_most"), [(0.0, 0.99), (0.5, 1.0), (2.0, 1.0), (4.0, 0.95)])
def test_another_hold_band_earns_less_in_regime(known, width, at_most):
    market = known["regime"]
    process, params = market.process, market.params
    rule = address_only_rule(market.solution, params)
    band = width * process.drift[rule == BUY_75].min()
    other = np.select([process.drift > band, process.drift < -band], [BUY_75, SELL_75], HOLD)
    assert solve(process, params, one_hot(other)).gain < at_most * market.solution.gain


def test_following_the_policy_never_asks_for_an_impossible_level(known):
    market = known["next_bar"]
    table, level = next_level_table(False), 0
    for action in market.optimum_actions(market.unseen)[market.unseen.start :]:
        level = table[level + LEVELS, action]
        assert 0 <= level <= LEVELS
