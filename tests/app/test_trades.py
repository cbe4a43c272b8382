"""Trades are built from fills: prices, sizes and money that a broker's statement would show."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from jtf.results.trades import Trade, backtest_trades, trades_from_fills
from jtf_env.actions import BUY_25, BUY_50, CLOSE, HOLD, SELL_25, SELL_75
from jtf_env.mirror.backtest import Backtest, replay, run_backtest
from jtf_env.params import EnvParams
from tests.contract.helpers import Prices, bar_prices, make_markets, random_prices
from tests.env.test_money import START, action_path, env_params, price_paths

pytestmark = pytest.mark.quick

COSTS = EnvParams(fee=0.01, slippage=0.1, initial_equity=1_000.0, episode_bars=0, max_drawdown=1.0)
FREE = replace(COSTS, fee=0.0, slippage=0.0)


def flat_bars(opens: list[float]) -> Prices:
    """Bars that do not move between open and close; two bars of warm-up come first."""
    return bar_prices([[price] * 4 for price in (opens[0], opens[0], *opens)])


def play(prices: Prices, actions: list[int], params: EnvParams) -> Backtest:
    """Decide `actions` at the bars from the first decision bar on, HOLD afterwards."""
    market = make_markets(prices)[1]
    codes = np.full(market.num_bars, HOLD)
    codes[START : START + len(actions)] = actions
    return run_backtest(market, replay(codes), params)


def test_a_round_trip_in_four_fills_has_average_prices_weighted_by_units():
    # 1 000 USD, no costs. 250 USD at 100: 2.5 units. At 125 equity is 1 062.50, 25 % of it: 2.125 units, 4.625 in all,
    # mean (2.5 * 100 + 2.125 * 125) / 4.625 = 111.4865. Half of them sold at 150, the rest at 200: mean 175.
    backtest = play(flat_bars([100, 100, 125, 150, 200]), [BUY_25, BUY_25, SELL_25, CLOSE], FREE)
    (trade,) = backtest_trades(backtest, FREE)
    assert trade == Trade(
        entry_bar=3, exit_bar=6, direction=1, units=4.625, entry_price=pytest.approx(111.4864865), exit_price=175.0,
        gross=pytest.approx(4.625 * (175 - 111.4864865)), costs=0.0, net=pytest.approx(293.75), bars_held=3,
        reason="signal", open_at_end=False, open_units=0.0, closing_cost=0.0,
    )  # fmt: skip


def test_gross_less_costs_is_net_by_hand():
    # Bought with 500 USD at 100 * 1.1 = 110 and 1 % fee: 500 / 111.1 = 4.5005 units. Sold at 200 * 0.9 = 180.
    # Fees 1 % of 495.05 and of 810.08, slippage 4.5005 * 10 and 4.5005 * 20. Gross is 4.5005 * 100.
    backtest = play(flat_bars([100, 100, 200]), [BUY_50, CLOSE], COSTS)
    (trade,) = backtest_trades(backtest, COSTS)
    units = 500 / 111.1
    assert trade.gross == pytest.approx(units * 100)
    assert trade.costs == pytest.approx(units * (1.1 + 1.8 + 10 + 20))
    assert trade.net == pytest.approx(trade.gross - trade.costs) == pytest.approx(backtest.equity[-1] - 1_000)


def test_an_order_through_zero_ends_one_trade_and_begins_another_in_the_same_bar():
    backtest = play(flat_bars([100, 100, 100, 100]), [BUY_25, SELL_75, CLOSE], COSTS)
    assert [(fill.bar, fill.side, fill.level_after) for fill in backtest.fills] == [
        (3, 1, 1), (4, -1, 0), (4, -1, -2), (5, 1, 0),
    ]  # fmt: skip
    long, short = backtest_trades(backtest, COSTS)
    assert (long.direction, long.exit_bar, short.direction, short.entry_bar) == (1, 4, -1, 4)


def test_a_position_open_at_the_end_is_marked_and_says_what_closing_would_cost():
    # 2.25023 units bought at 110, marked at 200; selling them at 180 would cost 20 a unit and 1 % of 180.
    backtest = play(flat_bars([100, 100, 200]), [BUY_25], COSTS)
    (trade,) = backtest_trades(backtest, COSTS)
    units = 250 / 111.1
    assert trade.open_at_end and trade.reason == "end" and trade.exit_price == 200.0
    assert trade.open_units == pytest.approx(units)
    assert trade.closing_cost == pytest.approx(units * 21.8)
    assert trade.net == pytest.approx(backtest.equity[-1] - 1_000)


def test_a_trade_that_a_stop_closed_says_so():
    prices = bar_prices([[100] * 4] * 4 + [[100, 100, 80, 90]] * 2)
    params = replace(COSTS, slippage=0.0, stop_loss=0.1)
    (trade,) = backtest_trades(play(prices, [BUY_50], params), params)
    assert (trade.reason, trade.exit_price) == ("stop", pytest.approx(90.0))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(prices=price_paths(), actions=action_path, params=env_params)
def test_the_net_of_all_trades_is_the_change_of_equity(prices, actions, params):
    backtest = play(prices, actions, params)
    net = sum(trade.net for trade in backtest_trades(backtest, params))
    turnover = sum(fill.units * fill.price for fill in backtest.fills)
    assert net == pytest.approx(backtest.equity[-1] - params.initial_equity, abs=1e-9 * (turnover + 1.0))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(prices=price_paths(), actions=action_path, params=env_params)
def test_entry_prices_lie_within_the_bars_of_the_fills_moved_by_slippage(prices, actions, params):
    backtest = play(prices, actions, params)
    for trade in backtest_trades(backtest, params):
        bars = [
            fill.bar
            for fill in backtest.fills
            if trade.entry_bar <= fill.bar <= trade.exit_bar and fill.side == trade.direction
        ]
        low, high = prices["low"][bars].min(), prices["high"][bars].max()
        moved = 1 + trade.direction * params.slippage
        assert low * moved * (1 - 1e-9) <= trade.entry_price <= high * moved * (1 + 1e-9)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(prices=price_paths(), actions=action_path, params=env_params)
def test_no_fill_takes_the_position_beyond_what_the_account_could_hold(prices, actions, params):
    cash, units, last_bar, equity = params.initial_equity, 0.0, -1, 0.0
    for fill in play(prices, actions, params).fills:
        quote = fill.price / (1 + fill.side * params.slippage)
        if fill.bar != last_bar:  # The order through zero is sized by the equity before its first fill.
            equity, last_bar = cash + units * quote, fill.bar
        if fill.side * fill.units_after > 0:
            most = params.max_position * equity / (1 - params.slippage)
            assert abs(fill.units_after) * quote <= most * (1 + 1e-9)
        cash -= fill.side * fill.units * fill.price + fill.fee
        units += fill.side * fill.units


@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_costs_of_the_fills_are_the_costs_of_the_steps(fill):
    params = replace(COSTS, slippage=0.001, fee=0.001, stop_loss=0.01, take_profit=0.02, fill=fill)
    market = make_markets(random_prices(500, seed=3, untradable=0.05))[1]
    backtest = run_backtest(market, replay(np.random.default_rng(0).integers(0, 8, 500)), params)
    assert sum(f.cost for f in backtest.fills) == pytest.approx(backtest.costs.sum())
    first = trades_from_fills(backtest.fills, 499, market.close[-1], params)
    assert first == backtest_trades(backtest, params) and len(first) > 50
