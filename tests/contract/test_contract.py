"""The step contract of ARCHITECTURE.md: ten sentences, the tests of each carry its words."""

import itertools
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_env import actions as codes
from jtf_env import environment
from jtf_env.environment import EnvState, autoreset_step, autoreset_step_at, observe, reset, reset_at
from jtf_env.mirror import environment as mirror_environment
from jtf_env.params import EnvParams
from tests.contract.helpers import bar_prices, make_markets, random_prices

pytestmark = pytest.mark.quick

step = jax.jit(environment.step)
step_batch = jax.jit(jax.vmap(environment.step, (0, 0, None, None)))
step_markets = jax.jit(jax.vmap(environment.step, (0, 0, 0, None)))
restart = jax.jit(autoreset_step)
FREE = EnvParams(fee=0.0, slippage=0.0, episode_bars=0, max_drawdown=1.0)
START = 2
"""First decision bar of the hand-made markets (window 3)."""
CALM = [(100, 100, 100, 100)] * 3
"""Bars before the first decision."""


def market_of(*rows, tradable=(), num_bars=8):
    """A JAX market: three calm bars, then `rows` of (open, high, low, close), the last one repeated to the end."""
    bars = [*CALM, *rows]
    flags = [*[True] * 3, *tradable]
    bars += [bars[-1]] * (num_bars - len(bars))
    flags += [True] * (num_bars - len(flags))
    return make_markets(bar_prices(bars, flags))[0]


def play(market, params, *chosen):
    """Step through `chosen` actions from a flat account at START; return every state and result."""
    state, states, results = reset_at(START, market, params), [], []
    for action in chosen:
        state, result = step(state, jnp.int32(action), market, params)
        states.append(state)
        results.append(result)
    return states, results


def one(tree, i=0):
    """Entry `i` of a batch."""
    return jax.tree.map(lambda x: x[i], tree)


def assert_same(tree, other):
    """Equal; floats up to the last bits, which depend on how the compiler contracts multiply and add."""
    chex.assert_trees_all_close(tree, other, rtol=1e-6, atol=2e-5)


@pytest.fixture(scope="module")
def market():
    return make_markets(random_prices(300, seed=3, untradable=0.05))[0]


@pytest.fixture(scope="module")
def states(market) -> EnvState:
    """``[512]`` states after 20 random actions each."""
    starts = jnp.asarray(np.random.default_rng(1).integers(market.first_bar, 270, 512), jnp.int32)
    batch = jax.vmap(reset_at, (0, None, None))(starts, market, FREE)
    for actions in jnp.asarray(np.random.default_rng(2).integers(0, codes.NUM_ACTIONS, (20, 512)), jnp.int32):
        batch, _ = step_batch(batch, actions, market, FREE)
    return batch


# 1. The decision at bar i uses bars <= i only. It is made at the close of bar i.


def test_the_decision_at_bar_i_uses_bars_up_to_i_only(market):
    bar = 150
    changed = replace(
        market,
        **{
            name: getattr(market, name).at[bar + 1 :].add(7)
            for name in ("features", "context", "open", "high", "low", "close")
        },
    )
    state = reset_at(bar, market, FREE)
    chex.assert_trees_all_equal(observe(market, state, FREE), observe(changed, state, FREE))
    chex.assert_trees_all_equal(state, reset_at(bar, changed, FREE))


def test_the_observation_is_the_window_that_ends_at_bar_i_with_the_context_of_bar_i_in_every_row(market):
    observation = observe(market, reset_at(150, market, FREE), FREE)
    assert observation.shape == (3, 58)
    np.testing.assert_array_equal(observation[:, :51], market.features[148:151])
    np.testing.assert_array_equal(observation[:, 51:], np.tile(market.context[150], (3, 1)))


def test_the_decision_is_made_at_the_close_of_bar_i():
    states, _ = play(market_of((100, 110, 100, 110)), FREE, codes.BUY_25)
    # 250 units at 100, marked at the close of 110: 100 000 + 250 x 10.
    assert states[0].bar == START + 1
    np.testing.assert_allclose(states[0].equity, 102_500, 1e-6)


# 2. The order fills at the open of bar i+1 or at the close of bar i, moved by slippage, plus fee. Costs never help.


def test_the_order_fills_at_the_open_of_bar_i_plus_1():
    _, results = play(market_of((103, 105, 101, 104)), FREE, codes.BUY_25)
    assert results[0].info.fill_price == 103


def test_the_order_fills_at_the_close_of_bar_i_with_fill_close():
    _, results = play(market_of((103, 105, 101, 104)), replace(FREE, fill="close"), codes.BUY_25)
    assert results[0].info.fill_price == 100


@pytest.mark.parametrize(("action", "price"), [(codes.BUY_25, 101.0), (codes.SELL_25, 99.0)])
def test_the_fill_is_moved_against_the_trader_by_slippage(action, price):
    _, results = play(market_of((100, 100, 100, 100)), replace(FREE, slippage=0.01), action)
    np.testing.assert_allclose(results[0].info.fill_price, price, 1e-6)


def test_the_fee_is_paid_on_the_traded_notional():
    states, results = play(market_of((100, 100, 100, 100)), replace(FREE, fee=0.01), codes.BUY_50)
    # 50 000 USD with the fee inside: notional 50 000 / 1.01 = 49 504.95, fee 495.05.
    np.testing.assert_allclose(results[0].info.traded_notional, 49_504.95, 1e-6)
    np.testing.assert_allclose(results[0].info.cost, 495.05, 1e-5)
    np.testing.assert_allclose(states[0].equity, 100_000 - 495.05, 1e-6)


@pytest.mark.parametrize("cost", ["fee", "slippage"])
@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_costs_never_help(market, states, cost, fill):
    chosen = jnp.asarray(np.random.default_rng(5).integers(0, 8, 512), jnp.int32)
    # The price stands still from the fill on, so all that changes equity is the cost of the order.
    bars = np.asarray(states.bar)
    prices = np.asarray(market.close)
    if fill == "next_open":
        prices = np.asarray(market.open)
        prices = np.r_[prices[1:], prices[-1]]
    still = jax.vmap(lambda p: replace(market, **{n: jnp.full(300, p) for n in ("open", "high", "low", "close")}))(
        jnp.asarray(prices[bars])
    )
    equities = [
        step_markets(states, chosen, still, replace(FREE, fill=fill, **{cost: level}))[0].equity
        for level in (0.0, 1e-3, 1e-2, 0.1)
    ]
    for cheap, dear in itertools.pairwise(equities):
        assert (dear <= cheap * (1 + 1e-6)).all()
    assert (equities[-1] < equities[0]).mean() > 0.5


# 3. step is pure: no clock, no randomness, no in-place change. reset draws the start bar. autoreset_step returns
#    the final address of the finished episode beside the new one.


def test_step_is_pure(market, states):
    state = one(states)
    before = jax.tree.map(np.array, (state, market))
    first = step(state, jnp.int32(codes.BUY_50), market, FREE)
    second = step(state, jnp.int32(codes.BUY_50), market, FREE)
    chex.assert_trees_all_equal(first, second)
    chex.assert_trees_all_equal(before, jax.tree.map(np.array, (state, market)))


def test_reset_draws_the_start_bar_uniformly_from_first_bar_to_the_last_but_one():
    market = make_markets(random_prices(12, seed=0))[0]
    keys = jax.random.split(jax.random.key(0), 5_000)
    bars = np.asarray(jax.vmap(reset, (0, None, None))(keys, market, FREE).bar)
    values, counts = np.unique(bars, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(market.first_bar, 11))
    assert counts.min() > 0.8 * counts.mean()


def test_autoreset_step_returns_the_final_address_of_the_finished_episode_beside_the_new_one(market):
    params = replace(FREE, episode_bars=1)
    state = reset_at(50, market, params)
    after, result, final = jax.jit(autoreset_step_at)(jnp.int32(9), state, jnp.int32(codes.BUY_25), market, params)
    assert bool(result.truncated) and int(final.bar) == 51
    chex.assert_trees_all_equal(after, reset_at(9, market, params))


def test_autoreset_step_goes_on_where_the_episode_has_not_ended(market):
    state = reset_at(50, market, FREE)
    after, _, final = restart(jax.random.key(0), state, jnp.int32(codes.BUY_25), market, FREE)
    chex.assert_trees_all_equal(after, final)


def test_autoreset_step_draws_the_next_start_bar_from_its_key(market):
    params = replace(FREE, episode_bars=1)
    state = reset_at(50, market, params)
    bars = [int(restart(jax.random.key(seed), state, jnp.int32(0), market, params)[0].bar) for seed in range(32)]
    assert len(set(bars)) > 16


# 4. terminated = ruin; truncated = end of the episode length or of the data. Both are reported separately.


def test_terminated_is_a_drawdown_beyond_max_drawdown():
    market = market_of((100, 100, 100, 100), (100, 100, 80, 80), (80, 80, 80, 80))
    # 75 % long, price -20 %: equity -15 %.
    _, kept = play(market, replace(FREE, max_drawdown=0.16), codes.BUY_75, codes.HOLD)
    _, ruined = play(market, replace(FREE, max_drawdown=0.14), codes.BUY_75, codes.HOLD)
    assert not kept[1].terminated
    assert ruined[1].terminated and not ruined[0].terminated


def test_terminated_is_an_equity_of_zero_or_less_whatever_the_drawdown_limit():
    market = market_of((100, 100, 100, 100), (100, 250, 100, 250), (250, 250, 250, 250))
    _, results = play(market, FREE, codes.SELL_75, codes.HOLD)
    assert results[1].info.equity < 0 and results[1].terminated


def test_truncated_is_the_end_of_the_episode_length(market):
    params = replace(FREE, episode_bars=2)
    _, results = play(market, params, codes.HOLD, codes.HOLD)
    assert [bool(r.truncated) for r in results] == [False, True]
    assert not results[1].terminated


def test_truncated_is_the_end_of_the_data():
    _, results = play(market_of(num_bars=5), FREE, codes.HOLD, codes.HOLD)
    assert [bool(r.truncated) for r in results] == [False, True]


def test_ruin_on_the_last_step_is_terminated_and_not_truncated():
    market = market_of((100, 100, 100, 100), (100, 100, 80, 80))
    _, results = play(market, replace(FREE, max_drawdown=0.1, episode_bars=2), codes.BUY_75, codes.HOLD)
    assert results[1].terminated and not results[1].truncated


# 5. Money: equity = cash + units * price at every step; every change is price move x units, minus costs.


def test_equity_is_cash_plus_units_times_price_at_every_step(market, states):
    prices = np.asarray(market.close)[np.asarray(states.bar)]
    np.testing.assert_allclose(states.equity, states.cash + states.units * prices, 1e-6)


def test_every_change_of_equity_is_price_move_times_units_minus_costs():
    params = replace(FREE, slippage=0.01)
    states, results = play(market_of((100, 110, 90, 105), (106, 108, 104, 104)), params, codes.BUY_50, codes.CLOSE)
    # Buy: 50 000 / 101 = 495.0495 units; the close is 5 above the raw open, slippage cost 495.05.
    np.testing.assert_allclose(states[0].equity, 100_000 + 495.0495 * 5 - 495.0495, 1e-6)
    # Sell at 106 x 0.99: the raw move from 105 to 106 earns 495.05, slippage costs 495.0495 x 1.06 = 524.75.
    np.testing.assert_allclose(states[1].equity, states[0].equity + 495.0495 - 524.7525, 1e-6)
    np.testing.assert_allclose(results[1].info.cost, 524.7525, 1e-5)


# 6. Actions: BUY x adds x of the maximum position, SELL x removes it, capped; repeating a capped action trades nothing.


@pytest.mark.parametrize(("action", "share"), [(codes.BUY_25, 0.25), (codes.BUY_50, 0.5), (codes.BUY_75, 0.75)])
def test_buy_x_adds_x_of_the_maximum_position(action, share):
    _, results = play(market_of((100, 100, 100, 100)), replace(FREE, max_position=0.8), action)
    np.testing.assert_allclose(results[0].info.position, 0.8 * share, 1e-6)


def test_sell_x_removes_x_of_the_maximum_position():
    market = market_of((100, 100, 100, 100), (100, 120, 100, 120))
    states, _ = play(market, FREE, codes.BUY_75, codes.SELL_25)
    # Three levels held, two kept: two thirds of the units, whatever the price.
    np.testing.assert_allclose(states[1].units, states[0].units * 2 / 3, 1e-6)


def test_sell_goes_through_zero_into_a_short_where_allow_short():
    market = market_of((100, 100, 100, 100), (100, 100, 100, 100))
    _, results = play(market, FREE, codes.BUY_25, codes.SELL_75)
    np.testing.assert_allclose(results[1].info.position, -0.5, 1e-6)


def test_sell_stops_at_zero_without_allow_short():
    market = market_of((100, 100, 100, 100), (100, 100, 100, 100))
    states, _ = play(market, replace(FREE, allow_short=False), codes.BUY_25, codes.SELL_75)
    assert states[1].level == 0 and states[1].units == 0


def test_buys_are_capped_at_the_maximum_position():
    market = market_of(*[(100, 100, 100, 100)] * 3)
    _, results = play(market, replace(FREE, max_position=0.5), codes.BUY_75, codes.BUY_75, codes.BUY_75)
    np.testing.assert_allclose([float(r.info.position) for r in results], [0.375, 0.5, 0.5], 1e-6)


def test_an_add_never_takes_the_position_beyond_the_maximum_after_a_rise():
    market = market_of((100, 200, 100, 200), (200, 200, 200, 200))
    _, results = play(market, FREE, codes.BUY_75, codes.BUY_25)
    # 750 units at 200 are 150 000 of 175 000: a full quarter would be 43 750, only 25 000 are left.
    np.testing.assert_allclose(results[1].info.traded_notional, 25_000, 1e-5)
    np.testing.assert_allclose(results[1].info.position, 1.0, 1e-6)


@pytest.mark.parametrize("action", [codes.BUY_75, codes.SELL_75])
def test_repeating_a_capped_action_trades_nothing(action):
    market = market_of(*[(price, price, price, price) for price in (100, 100, 80, 125)])
    states, results = play(market, replace(FREE, fee=0.01), *[action] * 4)
    for state, result in zip(states[2:], results[2:], strict=True):
        assert state.units == states[1].units and state.cash == states[1].cash
        assert result.info.traded_notional == 0 and result.info.cost == 0 and result.info.fill_price == 0


@pytest.mark.parametrize("action", [codes.BUY_50, codes.SELL_50])
def test_close_leaves_no_position(action):
    market = market_of((100, 100, 100, 100), (100, 110, 100, 110))
    states, _ = play(market, FREE, action, codes.CLOSE)
    assert states[1].level == 0 and states[1].units == 0 and states[1].entry_price == 0


def test_hold_trades_nothing(market, states):
    held, result = step_batch(states, jnp.full(512, codes.HOLD), market, FREE)
    chex.assert_trees_all_equal((held.cash, held.units, held.level), (states.cash, states.units, states.level))
    assert (result.info.traded_notional == 0).all()


# 7. Stops are checked on the bar after the fill; a gap fills at the open; if both lie inside one bar the stop is first.

STOPS = replace(FREE, stop_loss=0.05, take_profit=0.05)


def test_the_stop_is_not_checked_on_the_bar_of_the_fill_but_on_the_bar_after():
    market = market_of((100, 100, 90, 100), (100, 100, 90, 100))
    states, results = play(market, STOPS, codes.BUY_25, codes.HOLD)
    assert not results[0].info.stop_hit and states[0].level == 1
    assert results[1].info.stop_hit and states[1].level == 0


def test_a_position_filled_at_the_close_is_checked_on_the_next_bar():
    _, results = play(market_of((100, 100, 90, 100)), replace(STOPS, fill="close"), codes.BUY_25)
    assert results[0].info.stop_hit


@pytest.mark.parametrize(
    ("action", "bar", "exit_price", "stopped"),
    [
        (codes.BUY_25, (99, 100, 94, 96), 95, True),
        (codes.BUY_25, (92, 94, 90, 93), 92, True),
        (codes.BUY_25, (101, 106, 99, 102), 105, False),
        (codes.BUY_25, (108, 109, 107, 108), 108, False),
        (codes.BUY_25, (100, 106, 94, 100), 95, True),
        (codes.SELL_25, (101, 106, 100, 104), 105, True),
        (codes.SELL_25, (108, 110, 107, 109), 108, True),
        (codes.SELL_25, (99, 101, 94, 98), 95, False),
        (codes.SELL_25, (92, 93, 90, 91), 92, False),
        (codes.SELL_25, (100, 106, 94, 100), 105, True),
    ],
    ids=[
        f"{side}_{case}"
        for side in ("long", "short")
        for case in (
            "inside_the_bar_fills_at_the_stop",
            "a_gap_through_the_stop_fills_at_the_open",
            "take_profit_inside_the_bar_fills_at_the_target",
            "a_gap_through_the_target_fills_at_the_open",
            "both_in_one_bar_is_the_stop",
        )
    ],
)
def test_stop_and_take_profit_fill(action, bar, exit_price, stopped):
    states, results = play(market_of((100, 100, 100, 100), bar), STOPS, action, codes.HOLD)
    units = float(states[0].units)
    np.testing.assert_allclose(states[1].cash, 100_000 + units * (exit_price - 100), 1e-6)
    assert bool(results[1].info.stop_hit) == stopped and bool(results[1].info.take_profit_hit) != stopped
    assert states[1].level == 0


def test_stop_fills_pay_slippage_and_fee():
    params = replace(STOPS, fee=0.01, slippage=0.01)
    states, results = play(market_of((100, 100, 100, 100), (97, 97, 90, 92)), params, codes.BUY_25, codes.HOLD)
    # Entry 101, stop 95.95, filled at 95.95 x 0.99 less 1 % fee.
    units = float(states[0].units)
    np.testing.assert_allclose(states[1].cash - states[0].cash, units * 95.95 * 0.99 * 0.99, 1e-5)
    np.testing.assert_allclose(results[1].info.cost, units * 95.95 * (0.01 + 0.99 * 0.01), 1e-4)


def test_the_stop_is_measured_from_the_average_entry_price_of_the_levels():
    market = market_of((100, 100, 100, 100), (108, 108, 108, 108), (108, 108, 101, 105), (105, 105, 100.5, 103))
    states, results = play(market, STOPS, codes.BUY_25, codes.BUY_75, codes.HOLD, codes.HOLD)
    # One level at 100 and three at 108: average 106, stop 100.7: not touched at 101, but at 100.5.
    assert [float(state.entry_price) for state in states[:2]] == [100, 106]
    assert [bool(result.info.stop_hit) for result in results] == [False, False, False, True]
    np.testing.assert_allclose(states[3].cash, states[2].cash + states[2].units * 100.7, 1e-6)


def test_a_reduced_position_keeps_its_average_entry_price():
    market = market_of((100, 100, 100, 100), (108, 108, 108, 108), (104, 104, 104, 104))
    states, _ = play(market, FREE, codes.BUY_25, codes.BUY_75, codes.SELL_50)
    assert states[2].level == 2 and states[2].entry_price == 106


def test_a_stop_loss_of_zero_is_off():
    market = market_of((100, 100, 100, 100), (100, 100, 1, 1))
    states, _ = play(market, FREE, codes.BUY_25, codes.HOLD)
    assert states[1].level == 1


# 8. A bar marked untradable fills nothing; the order is dropped and counted.


def test_a_bar_marked_untradable_fills_nothing_and_the_order_is_dropped_and_counted():
    market = market_of((100, 100, 100, 100), (100, 100, 100, 100), tradable=[False, True])
    states, results = play(market, FREE, codes.BUY_25, codes.HOLD)
    assert results[0].info.order_dropped and states[0].level == 0 and states[0].units == 0
    assert states[1].dropped_orders == 1 and states[1].level == 0


def test_with_fill_close_it_is_the_decision_bar_that_must_be_tradable():
    rows = [(100, 100, 100, 100)] * 3
    market = market_of(*rows, tradable=[False, True, True])
    states, results = play(market, replace(FREE, fill="close"), codes.BUY_25, codes.BUY_25, codes.HOLD)
    assert not results[0].info.order_dropped and states[0].level == 1
    assert results[1].info.order_dropped and states[1].level == 1


def test_holding_through_an_untradable_bar_is_no_dropped_order():
    states, _ = play(market_of((100, 100, 100, 100), tradable=[False]), FREE, codes.HOLD)
    assert states[0].dropped_orders == 0


def test_stops_do_not_fill_on_an_untradable_bar():
    market = market_of((100, 100, 100, 100), (90, 90, 90, 90), (91, 91, 91, 91), tradable=[True, False, True])
    states, results = play(market, STOPS, codes.BUY_25, codes.HOLD, codes.HOLD)
    assert states[1].level == 1 and not results[1].info.stop_hit
    assert results[2].info.stop_hit


# 9. Step, observe and reset are identical eager, jitted, vmapped, and in any batch position; each traces once.


def test_step_observe_and_reset_are_identical_eager_and_jitted(market, states):
    state, action, key = one(states), jnp.int32(codes.SELL_50), jax.random.key(4)
    assert_same(environment.step(state, action, market, FREE), step(state, action, market, FREE))
    chex.assert_trees_all_equal(observe(market, state, FREE), jax.jit(observe)(market, state, FREE))
    chex.assert_trees_all_equal(reset(key, market, FREE), jax.jit(reset)(key, market, FREE))


def test_step_observe_and_reset_are_identical_jitted_and_vmapped(market, states):
    actions = jnp.arange(512, dtype=jnp.int32) % 8
    keys = jax.random.split(jax.random.key(4), 512)
    together = (
        step_batch(states, actions, market, FREE),
        jax.jit(jax.vmap(observe, (None, 0, None)))(market, states, FREE),
        jax.jit(jax.vmap(reset, (0, None, None)))(keys, market, FREE),
    )
    observe_one, reset_one = jax.jit(observe), jax.jit(reset)
    for i in range(16):
        state = one(states, i)
        alone = (
            step(state, actions[i], market, FREE),
            observe_one(market, state, FREE),
            reset_one(keys[i], market, FREE),
        )
        assert_same(alone, one(together, i))


def test_step_is_identical_in_any_batch_position(market, states):
    actions = jnp.arange(512, dtype=jnp.int32) % 8
    order = np.random.default_rng(0).permutation(512)
    straight = step_batch(states, actions, market, FREE)
    shuffled = step_batch(one(states, order), actions[order], market, FREE)
    chex.assert_trees_all_equal(one(straight, order), shuffled)


def test_reset_step_and_observe_each_trace_once(market):
    def counted(function):
        return jax.jit(chex.assert_max_traces(function, n=1))

    chex.clear_trace_counter()
    reset_once, step_once, observe_once = counted(reset), counted(environment.step), counted(observe)
    restart_once = counted(autoreset_step)
    state = reset_once(jax.random.key(0), market, FREE)
    for i in range(4):
        params = replace(FREE, fee=0.001 * i, episode_bars=i, reward=replace(FREE.reward, pnl=0.1 * i))
        observe_once(market, state, params)
        state, _ = step_once(state, jnp.int32(i), market, params)
        state, _, _ = restart_once(jax.random.key(i), state, jnp.int32(i), market, params)
        reset_once(jax.random.key(i), market, params)


def test_two_symbols_stack_along_a_batch_axis_of_markets():
    singles = [make_markets(random_prices(300, seed))[0] for seed in (1, 2)]
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), *singles)
    state = reset_at(10, singles[0], FREE)
    stacked = jax.vmap(step, (None, None, 0, None))(state, jnp.int32(codes.BUY_75), both, FREE)
    for i, single in enumerate(singles):
        assert_same(step(state, jnp.int32(codes.BUY_75), single, FREE), one(stacked, i))


# 10. The NumPy mirror makes the same trades on the same actions (10 000 paths: tests/parity/test_trajectories.py).


def test_the_numpy_mirror_makes_the_same_trades_on_the_same_actions():
    market, mirrored = make_markets(random_prices(60, seed=11, untradable=0.1))
    params = replace(STOPS, fee=0.001, slippage=0.001)
    state, other = reset_at(START, market, params), mirror_environment.reset_at(START, mirrored, params)
    for action in np.random.default_rng(0).integers(0, 8, 57):
        state, result = step(state, jnp.int32(action), market, params)
        other, expected = mirror_environment.step(other, int(action), mirrored, params)
        assert (int(state.level), int(state.num_trades)) == (other.level, other.num_trades)
        np.testing.assert_allclose(state.equity, other.equity, 1e-5)
        assert bool(result.terminated) == expected.terminated and bool(result.truncated) == expected.truncated
    assert expected.truncated and other.num_trades > 10


def test_the_mirror_observes_the_same_window():
    market, mirrored = make_markets(random_prices(60, seed=11))
    expected = mirror_environment.observe(mirrored, mirror_environment.reset_at(40, mirrored, FREE), FREE)
    np.testing.assert_allclose(observe(market, reset_at(40, market, FREE), FREE), expected, 1e-6)
