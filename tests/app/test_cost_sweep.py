"""The cost sweep: at every cost and fill mode what a backtest of its own earns there."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtf.results.costs import COSTS_BP, FILLS, sweep_costs
from jtf.results.metrics import sharpe, total_return
from jtf.splits import Segment
from jtf_env.mirror.backtest import replay, run_backtest
from jtf_env.params import EnvParams
from tests.contract.helpers import bar_prices, make_markets, random_prices

pytestmark = pytest.mark.quick

PER_YEAR = 6_552.0
PARAMS = EnvParams(episode_bars=0, max_drawdown=0.5)


def swept_and_single(market, actions, params):
    """Return a sweep and the equity curves of single backtests, by fill mode."""
    segment = Segment(market.first_bar, market.num_bars)
    found = sweep_costs(replay(actions), market, params, segment, PER_YEAR)
    single = {
        fill: [
            run_backtest(market, replay(actions), replace(params, fee=cost / 1e4, slippage=0.0, fill=fill)).equity
            for cost in COSTS_BP
        ]
        for fill in FILLS
    }
    return found, single


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([{}, {"stop_loss": 0.02, "take_profit": 0.03}]),
    st.sampled_from([0.02, 0.5, 1.0]),
    st.sampled_from([0.5, 1.0, 5.0]),
)
def test_every_cost_and_fill_mode_earns_what_a_backtest_of_its_own_earns(
    seed, allow_short, untradable, stops, max_drawdown, max_position
):
    market = make_markets(random_prices(90, seed, volatility=0.02, untradable=untradable))[1]
    actions = np.repeat(np.random.default_rng(seed).choice(8, 45), 2)
    chosen = {"allow_short": allow_short, "max_drawdown": max_drawdown, "max_position": max_position} | stops
    found, single = swept_and_single(market, actions, replace(PARAMS, **chosen))
    for fill, curves in single.items():
        assert found.total_return[fill] == tuple(map(total_return, curves))
        assert found.sharpe[fill] == tuple(sharpe(curve, PER_YEAR) for curve in curves)


def test_ruin_ends_a_cost_where_it_ends_its_backtest():
    market = make_markets(random_prices(400, 3, volatility=0.01))[1]
    actions = np.random.default_rng(3).choice(8, 400)
    found, single = swept_and_single(market, actions, replace(PARAMS, max_drawdown=0.4))
    ends = [len(curve) for curve in single["next_open"]]
    assert len(set(ends)) > 3 and ends[0] > ends[-1]
    assert found.total_return["next_open"] == tuple(map(total_return, single["next_open"]))


def test_a_policy_that_never_trades_earns_nothing_at_any_cost():
    market = make_markets(bar_prices([[100.0 + k] * 4 for k in range(20)]))[1]
    found, _ = swept_and_single(market, np.zeros(20, int), PARAMS)
    assert set(found.total_return["close"]) == {0.0} and set(found.sharpe["close"]) == {None}


def test_more_cost_never_earns_more():
    market = make_markets(random_prices(300, 0, volatility=0.01))[1]
    actions = np.repeat(np.random.default_rng(0).choice(8, 100), 3)
    found, _ = swept_and_single(market, actions, replace(PARAMS, max_drawdown=1.0))
    for fill in FILLS:
        assert (np.diff(found.total_return[fill]) < 0).all()


def test_the_costs_span_nothing_to_fifty_basis_points():
    assert COSTS_BP[0] == 0.0 and COSTS_BP[-1] == 50.0 and list(COSTS_BP) == sorted(COSTS_BP)
