"""Baselines: the same fills and costs as the policy, and what each of them is."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtf.known_optimum.programme import foresight_actions
from jtf.results import baselines
from jtf.splits import Segment
from jtf_env.actions import BUY_75, CLOSE, HOLD, LEVELS, SELL_75
from jtf_env.mirror.backtest import replay, run_backtest
from jtf_env.params import EnvParams
from tests.contract.helpers import bar_prices, make_markets, random_prices

pytestmark = pytest.mark.quick

PARAMS = EnvParams(fee=0.001, slippage=0.002, initial_equity=1_000.0, episode_bars=0, max_drawdown=1.0)
COLUMNS = ("bars", "closes", "equity", "units", "levels", "costs")


def mirror(prices):
    return make_markets(prices)[1]


def whole(market) -> Segment:
    return Segment(market.first_bar, market.num_bars)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from(["next_open", "close"]), st.booleans(), st.sampled_from([0.0, 0.2]))
def test_trading_levels_is_the_backtest_of_actions_that_reach_them(seed, fill, allow_short, untradable):
    params = replace(PARAMS, fill=fill, allow_short=allow_short)
    market = mirror(random_prices(60, seed, volatility=0.02, untradable=untradable))
    actions = np.random.default_rng(seed).choice(8, market.num_bars)
    expected = run_backtest(market, replay(actions), params)
    found = baselines.trade_levels(market, expected.levels[1:], params, whole(market))
    for name in COLUMNS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12, atol=1e-9, err_msg=name)
    assert found.fills == expected.fills


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from(["next_open", "close"]), st.sampled_from([0.0, 0.5]))
def test_buying_and_holding_is_the_backtest_of_repeated_orders(seed, fill, untradable):
    params = replace(PARAMS, fill=fill, max_position=5.0)
    market = mirror(random_prices(40, seed, volatility=0.05, untradable=untradable))
    for name, action in {"buy_and_hold": BUY_75, "flat": HOLD}.items():
        expected = run_backtest(market, replay(np.full(market.num_bars, action)), params)
        found = baselines.baseline_backtests(market, params, whole(market))[name]
        for column in (*COLUMNS, "actions"):
            np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), err_msg=column)
        assert found.fills == expected.fills
        assert (found.dropped_orders, found.terminated) == (expected.dropped_orders, expected.terminated)


def test_an_order_that_meets_an_untradable_bar_is_wanted_again_at_the_next():
    market = mirror(bar_prices([[100] * 4] * 6, [True, True, True, False, True, True]))
    found = baselines.trade_levels(market, np.array([4, 4, 4]), PARAMS, whole(market))
    assert found.levels.tolist() == [0, 0, 4, 4] and found.dropped_orders == 1


def test_a_short_that_loses_everything_is_ruined():
    market = mirror(bar_prices([[p] * 4 for p in (100, 100, 100, 100, 250, 250)]))
    found = baselines.trade_levels(market, np.array([-4, -4, -4]), PARAMS, whole(market))
    assert found.terminated and len(found.equity) == 3 and found.equity[-1] < 0


def test_a_baseline_has_no_stop():
    params = replace(PARAMS, stop_loss=0.01, take_profit=0.01)
    market = mirror(random_prices(80, 1, volatility=0.02))
    held = baselines.baseline_backtests(market, params, whole(market))["buy_and_hold"]
    assert {fill.side for fill in held.fills} == {1}


# --- moving-average cross -------------------------------------------------------------------------------------


def test_the_cross_is_long_in_a_rise_and_short_in_a_fall_once_its_averages_are_known():
    close = np.concatenate([np.linspace(100, 200, 300), np.linspace(200, 100, 300)])
    levels = baselines.cross_levels(close, allow_short=True)
    assert (levels[:199] == 0).all() and (levels[199:300] == LEVELS).all() and levels[-1] == -LEVELS
    assert baselines.cross_levels(close, allow_short=False).min() == 0


def test_the_cross_compares_the_means_of_the_last_closes():
    close = np.random.default_rng(0).normal(100, 1, 400)
    i = 300
    fast, slow = close[i - 49 : i + 1].mean(), close[i - 199 : i + 1].mean()
    assert (baselines.cross_levels(close, True)[i] == LEVELS) == (fast > slow)


def test_the_cross_at_a_bar_does_not_see_later_closes():
    close = np.random.default_rng(1).normal(100, 1, 500)
    later = close.copy()
    later[350:] *= 3
    np.testing.assert_array_equal(baselines.cross_levels(close, True)[:350], baselines.cross_levels(later, True)[:350])


# --- perfect foresight -------------------------------------------------------------------------------------------


def best_of_all_paths(market, params) -> float:
    """Largest final equity of every path of four decisions."""
    codes = np.full(market.num_bars, HOLD)
    best = -np.inf
    for path in product(range(8), repeat=market.num_bars - 1 - market.first_bar):
        codes[market.first_bar : -1] = path
        best = max(best, float(run_backtest(market, replay(codes), params).equity[-1]))
    return best


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("allow_short", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_perfect_foresight_is_the_best_of_all_paths(seed, allow_short, fill):
    params = replace(PARAMS, fill=fill, allow_short=allow_short)
    market = mirror(random_prices(7, seed, volatility=0.02))
    found = baselines.further_backtests(market, params, whole(market))["perfect_foresight"].equity[-1]
    # Drift inside a level is not in the programme: it may miss by second-order terms of moves of 2 %.
    assert found == pytest.approx(best_of_all_paths(market, params), rel=1e-3)


def test_perfect_foresight_stays_flat_where_no_move_pays_its_costs():
    market = mirror(random_prices(60, 3, volatility=0.0005))
    found = baselines.further_backtests(market, replace(PARAMS, fee=0.05), whole(market))["perfect_foresight"]
    assert found.fills == ()


def test_perfect_foresight_never_wants_a_fill_at_an_untradable_bar():
    prices = random_prices(200, 4, volatility=0.02, untradable=0.3)
    market = mirror(prices)
    found = baselines.further_backtests(market, PARAMS, whole(market))["perfect_foresight"]
    assert found.dropped_orders == 0 and len(found.fills) > 20


def test_perfect_foresight_beats_every_random_path_by_far():
    market = mirror(random_prices(400, 5, volatility=0.01))
    found = baselines.further_backtests(market, PARAMS, whole(market))["perfect_foresight"].equity[-1]
    rng = np.random.default_rng(0)
    others = [run_backtest(market, replay(rng.choice(8, 400)), PARAMS).equity[-1] for _ in range(50)]
    assert found > 2 * max(others)


def test_foresight_pays_a_full_flip_only_for_a_move_that_earns_it():
    # Up 10 % and down 1 % at 2 % a side: selling and buying back would cost more than the fall.
    opens = np.array([100.0, 100.0, 110.0, 108.9, 119.8])
    closes = np.array([100.0, 110.0, 108.9, 119.8, 119.8])
    actions = foresight_actions(opens, closes, np.ones(5, bool), replace(PARAMS, fee=0.02, slippage=0.0))
    assert actions[0] == BUY_75 and SELL_75 not in actions and CLOSE not in actions


# --- the same positions at random times ------------------------------------------------------------------------------


def timing(levels, market, params=PARAMS, **more):
    own = baselines.trade_levels(market, levels, params, whole(market))
    return own, baselines.random_timing(own, market, params, whole(market), **more)


def test_random_timing_keeps_the_turnover_but_for_the_seam():
    levels = np.repeat(np.random.default_rng(0).integers(-4, 5, 100), 4)
    turnover = {np.abs(np.diff(np.roll(levels, offset), prepend=0)).sum() for offset in range(400)}
    market = mirror(random_prices(403, 6))
    own, _ = timing(levels, market, draws=1)
    moved = baselines.trade_levels(market, np.roll(levels, 123), PARAMS, whole(market))
    traded = [np.abs(np.diff(one.levels)).sum() for one in (own, moved)]
    assert max(turnover) - min(turnover) <= 2 * LEVELS
    assert abs(traded[0] - traded[1]) <= 2 * LEVELS < 0.05 * traded[0]


def test_good_timing_is_above_the_95th_percentile_and_its_reverse_below_the_5th():
    market = mirror(random_prices(600, 7, volatility=0.01))
    best = baselines.further_backtests(market, PARAMS, whole(market))["perfect_foresight"].levels[1:]
    free = replace(PARAMS, fee=0.0, slippage=0.0)
    own, drawn = timing(best, market, free)
    assert own.equity[-1] / 1_000 - 1 > drawn.percentile(95)
    own, drawn = timing(-best, market, free)
    assert own.equity[-1] / 1_000 - 1 < drawn.percentile(5)


def test_random_positions_lie_anywhere_in_their_distribution():
    below = []
    for seed in range(40):
        market = mirror(random_prices(200, seed))
        levels = np.repeat(np.random.default_rng(seed).integers(-4, 5, 20), 10)[: len(whole(market)) - 1]
        own, drawn = timing(levels, market, draws=50)
        below.append(own.equity[-1] / 1_000 - 1 < drawn.percentile(50))
    # Binomial with p = 1/2: 40 draws lie within 0.5 +- 3 * 0.079.
    assert np.mean(below) == pytest.approx(0.5, abs=0.24)


def test_of_nothing_held_random_timing_earns_nothing():
    market = mirror(random_prices(50, 8))
    _, drawn = timing(np.zeros(len(whole(market)) - 1, int), market, draws=5)
    assert drawn.total_returns == (0.0,) * 5


def test_the_same_seed_draws_the_same_times():
    market = mirror(random_prices(100, 9))
    levels = np.tile([0, 4, 4, -2], 25)[: len(whole(market)) - 1]
    assert timing(levels, market)[1] == timing(levels, market)[1] != timing(levels, market, seed=1)[1]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from(["next_open", "close"]), st.booleans(), st.sampled_from([0.0, 0.3]))
def test_every_draw_is_the_backtest_of_its_rotated_positions(seed, fill, allow_short, untradable):
    params = replace(PARAMS, fill=fill, allow_short=allow_short, max_position=4.0)
    market = mirror(random_prices(60, seed, volatility=0.05, untradable=untradable))
    steps = np.arange(len(whole(market)) - 1)
    held = np.random.default_rng(seed).integers(-4 * allow_short, 5, len(steps))
    expected = [baselines.trade_levels(market, np.roll(held, offset), params, whole(market)).equity for offset in steps]
    found = baselines.rotated_returns(held, steps, market, params, whole(market))
    assert found.tolist() == [float(one[-1] / one[0] - 1.0) for one in expected]


def test_draws_are_the_same_in_groups_as_at_once(monkeypatch):
    market = mirror(random_prices(100, 9))
    levels = np.tile([0, 4, 4, -2], 25)[: len(whole(market)) - 1]
    at_once = timing(levels, market, draws=20)[1]
    monkeypatch.setattr(baselines, "MOST_NUMBERS", 300)
    assert timing(levels, market, draws=20)[1] == at_once


def test_two_folds_draw_different_times():
    market = mirror(random_prices(400, 9))
    market = replace(market, open=np.tile(market.open[-100:], 4), close=np.tile(market.close[-100:], 4))
    levels = np.tile([0, 4, 4, -2], 25)[:99]

    def drawn(segment):
        own = baselines.trade_levels(market, levels, PARAMS, segment)
        return own, baselines.random_timing(own, market, PARAMS, segment)

    (own, random), (other, others) = drawn(Segment(200, 300)), drawn(Segment(300, 400))
    np.testing.assert_array_equal(own.equity, other.equity)
    assert random != others
