"""A ledger of 50 bars that a person can check by eye, replayed by both sides beside different neighbours.

Costs: fee 0.1 %, slippage 1 %, stop-loss 5 %, take-profit 10 %. Each row is the account at the close of its bar; the
order that filled is the action of the row before. By hand (`golden/ledger_50_bars.csv`):

* bar 3, BUY_50 at the open of 100: price 101, budget 50 000 with the fee inside: 50 000 / (101 x 1.001) = 494.5550
  units; cost 494.5550 x 1 slippage + 49.95 fee = 544.50; equity 50 000 + 494.5550 x 101 = 99 950.05.
* bar 6, BUY_75 from level 3 is capped at 4: a quarter would be (24 888.85 + 738.0617 x 104) / 4 = 25 411.82, but only
  101 647.27 - 738.0617 x 104 = 24 888.85 is left of the maximum: cash goes to 0.
* bar 8, SELL_25 from level 4 keeps 3/4 x 974.7714 = 731.0785 units; 243.6929 x 101.97 x 0.999 = 24 824.51.
* bar 9 is untradable: SELL_50 is dropped.
* bar 20, short 488.3247 at an average of (1 x 100.98 + 2 x 99.99) / 3 = 100.32, one level and two: the target is
  90.288, bought back at x 1.01 = 91.19088: 147 062.84 - 488.3247 x 91.19088 x 1.001 = 102 487.55.
* bar 24 opens at 98 through the stop of 90.09 x 1.05 = 94.59: bought back at the open, 98 x 1.01 = 98.98.
* bar 28 touches 90, far under the stop, on the bar of the fill: nothing; bar 29 stops at 98.98 x 0.95 x 0.99 = 93.09.
* bar 33, long at (1 x 91.91 + 3 x 93.93) / 4 = 93.425: the target is 102.7675, sold at x 0.99 = 101.7398:
  0 + 950.8283 x 101.7398 x 0.999 = 96 640.37.
* bar 36, BUY_75 from level -2: closes 473.3933 short and opens one level long at the same price, 104.03.
* bar 43 touches both triggers: the stop.
"""

import csv
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf.results.trades import backtest_trades
from jtf_env import environment
from jtf_env.actions import ACTION_NAMES
from jtf_env.errors import InputError
from jtf_env.mirror import environment as mirror_environment
from jtf_env.mirror.backtest import replay, run_backtest
from jtf_env.params import EnvParams
from tests.contract.helpers import bar_prices, make_markets

pytestmark = pytest.mark.quick

PARAMS = EnvParams(fee=0.001, slippage=0.01, stop_loss=0.05, take_profit=0.10, episode_bars=0, max_drawdown=0.9)
START = 2
WITH = {"level": 0, "units": 1e-4, "cash": 0.01, "equity": 0.01, "fill_price": 1e-4, "cost": 0.01}
"""Columns compared and the rounding of the file; float32 adds 1e-6 relative."""


@pytest.fixture(scope="module")
def ledger() -> dict[str, np.ndarray]:
    with (Path(__file__).parent / "golden" / "ledger_50_bars.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {name: column if name in ("action", "event") else column.astype(float) for name, column in table.items()}


@pytest.fixture(scope="module")
def markets(ledger):
    rows = np.stack([ledger[name] for name in ("open", "high", "low", "close")], axis=1)
    return make_markets(bar_prices(rows, ledger["tradable"] == 1))


@pytest.fixture(scope="module")
def actions(ledger) -> np.ndarray:
    return np.array([ACTION_NAMES.index(name) for name in ledger["action"]])


def assert_row(ledger, bar, state, info, relative):
    for name, rounding in WITH.items():
        value = getattr(info, name) if hasattr(info, name) else getattr(state, name)
        np.testing.assert_allclose(value, ledger[name][bar], relative, rounding, err_msg=f"{name} at bar {bar}")
    event = str(ledger["event"][bar])
    assert bool(info.stop_hit) == ("stop" in event)
    assert bool(info.take_profit_hit) == ("take_profit" in event)
    assert bool(info.order_dropped) == ("dropped" in event)
    assert int(info.trades_closed) == ("closed" in event)


def test_the_mirror_replays_the_golden_ledger(ledger, markets, actions):
    state = mirror_environment.reset_at(START, markets[1], PARAMS)
    for bar in range(START + 1, 50):
        state, result = mirror_environment.step(state, actions[bar - 1], markets[1], PARAMS)
        assert_row(ledger, bar, state, result.info, 0.0)


@pytest.mark.parametrize("position", [0, 3, 7])
def test_jax_replays_the_golden_ledger_beside_different_neighbours(ledger, markets, actions, position):
    rng = np.random.default_rng(position)
    chosen = jnp.asarray(rng.integers(0, 8, (8, 50)), jnp.int32).at[position].set(actions)
    starts = jnp.asarray(rng.integers(START, 40, 8), jnp.int32).at[position].set(START)
    step = jax.jit(jax.vmap(environment.step, (0, 0, None, None)))
    states = jax.vmap(environment.reset_at, (0, None, None))(starts, markets[0], PARAMS)
    for bar in range(START + 1, 50):
        states, result = step(states, chosen[:, bar - 1], markets[0], PARAMS)
        state, info = jax.tree.map(lambda x: x[position], (states, result.info))
        assert_row(ledger, bar, state, info, 1e-6)


def test_the_backtest_replays_the_golden_ledger(ledger, markets, actions):
    backtest = run_backtest(markets[1], replay(actions), PARAMS)
    np.testing.assert_allclose(backtest.equity, ledger["equity"][START:], 0, 0.01)
    np.testing.assert_array_equal(backtest.levels, ledger["level"][START:])
    closing = [bar for bar in range(50) if "closed" in str(ledger["event"][bar])]
    trades = backtest_trades(backtest, PARAMS)
    assert [trade.exit_bar for trade in trades] == [*closing, 49]
    assert [trade.reason for trade in trades] == [
        "signal", "take_profit", "stop", "signal", "stop", "take_profit", "signal", "signal", "take_profit",
        "stop", "end",
    ]  # fmt: skip
    assert [trade.direction for trade in trades] == [1, -1, -1, 1, 1, 1, -1, 1, -1, 1, 1]
    assert backtest.dropped_orders == 2


def test_the_trades_of_the_backtest_add_up_to_its_profit(markets, actions):
    backtest = run_backtest(markets[1], replay(actions), PARAMS)
    trades = backtest_trades(backtest, PARAMS)
    np.testing.assert_allclose(sum(trade.net for trade in trades), backtest.equity[-1] - 100_000)
    np.testing.assert_allclose(sum(trade.costs for trade in trades), backtest.costs.sum())


@pytest.mark.parametrize(("start", "stop"), [(0, 50), (2, 51), (10, 10)])
def test_the_backtest_refuses_rows_the_market_does_not_have(markets, actions, start, stop):
    with pytest.raises(InputError, match="rows"):
        run_backtest(markets[1], replay(actions), PARAMS, start, stop)


def test_the_backtest_ends_at_ruin(markets, actions):
    backtest = run_backtest(markets[1], replay(actions), replace(PARAMS, max_drawdown=0.05))
    assert backtest.terminated and len(backtest.equity) < 48
    peak = backtest.equity[:-1].max()
    assert backtest.equity[-1] <= 0.95 * peak < backtest.equity[-2]
