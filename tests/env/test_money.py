"""Properties that hold for any prices, actions and parameters."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtf_env import environment
from jtf_env.actions import BUY_25, BUY_50, BUY_75, CLOSE, HOLD, SELL_25, SELL_50, SELL_75
from jtf_env.errors import ParamsError
from jtf_env.mirror import environment as mirror
from jtf_env.mirror.orders import execute
from jtf_env.params import EnvParams, RewardWeights, make_params
from tests.contract.helpers import Prices, bar_prices, make_markets

pytestmark = pytest.mark.quick

BARS = 10
START = 2
step = jax.jit(environment.step)

price = st.floats(1.0, 1000.0).map(lambda x: round(x, 2))
move = st.floats(-0.2, 0.2)
action_path = st.lists(st.integers(0, 7), min_size=BARS - START - 1, max_size=BARS - START - 1)
costs = st.floats(0.0, 0.05)
env_params = st.builds(
    EnvParams,
    fee=costs,
    slippage=costs,
    max_position=st.floats(0.1, 3.0),
    max_drawdown=st.just(1.0),
    stop_loss=st.sampled_from((0.0, 0.02, 0.1)),
    take_profit=st.sampled_from((0.0, 0.02, 0.1)),
    episode_bars=st.just(0),
    fill=st.sampled_from(("next_open", "close")),
    allow_short=st.booleans(),
)


@st.composite
def price_paths(draw) -> Prices:
    """`BARS` bars of any size of move, gaps included, high and low around open and close."""
    rows, last = [], draw(price)
    for _ in range(BARS):
        open_ = last * (1 + draw(move))
        last = open_ * (1 + draw(move))
        high, low = max(open_, last) * (1 + abs(draw(move))), min(open_, last) * (1 - abs(draw(move)))
        rows.append((open_, high, low, last))
    return bar_prices(rows, draw(st.lists(st.booleans(), min_size=BARS, max_size=BARS)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(prices=price_paths(), actions=action_path, params=env_params)
def test_every_change_of_equity_is_price_moves_times_units_minus_costs(prices, actions, params):
    market = make_markets(prices)[1]
    state = mirror.reset_at(START, market, params)
    for action in actions:
        if state.equity <= 0:
            break
        view = mirror.view_bar(market, state.bar, state.bar + 1)
        legs = execute(state.account, action, view, params).legs
        after, result = mirror.step(state, action, market, params)
        # Follow the raw price from the last close through every fill to the new close; each stretch earns its units.
        units, seen, earned = state.units, view.close_before, 0.0
        for leg in legs:
            raw = leg.price / (1 + params.slippage if leg.units > 0 else 1 - params.slippage)
            earned += units * (raw - seen)
            units, seen = units + leg.units, raw
        earned += units * (view.close - seen)
        size = abs(state.equity) + abs(state.units) * view.close + result.info.traded_notional
        assert after.equity == pytest.approx(state.equity + earned - result.info.cost, abs=1e-9 * size)
        assert after.equity == pytest.approx(after.cash + after.units * view.close, abs=1e-9 * size)
        assert result.info.cost >= -1e-9 * size
        state = after


@settings(max_examples=60, deadline=None, derandomize=True)
@given(prices=price_paths(), actions=action_path, params=env_params)
def test_on_the_device_equity_moves_by_the_units_held_minus_costs(prices, actions, params):
    market = make_markets(prices)[0]
    params = replace(params, stop_loss=0.0, take_profit=0.0)
    state = environment.reset_at(START, market, params)
    for action in actions:
        after, result = step(state, jnp.int32(action), market, params)
        bar = int(after.bar)
        before, close = float(market.close[bar - 1]), float(market.close[bar])
        fill = float(market.open[bar]) if params.fill == "next_open" else before
        earned = float(state.units) * (fill - before) + float(after.units) * (close - fill)
        size = (
            abs(float(state.equity)) + abs(float(state.cash)) + abs(float(after.cash)) + abs(float(after.units)) * close
        )
        assert float(after.equity) == pytest.approx(
            float(state.equity) + earned - float(result.info.cost), abs=2e-6 * size
        )
        state = after
        if result.terminated:
            break


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    prices=price_paths(),
    entry=st.sampled_from((BUY_25, BUY_50, BUY_75)),
    holding=st.integers(0, 4),
    params=env_params,
    dearer=st.tuples(costs, costs),
)
def test_higher_costs_never_leave_more_equity_after_the_same_round_trip(prices, entry, holding, params, dearer):
    prices = {**prices, "tradable": np.ones(BARS, bool)}
    params = replace(params, stop_loss=0.0, take_profit=0.0, max_position=1.0)
    market = make_markets(prices)[1]
    equities = []
    for fee, slippage in ((0.0, 0.0), dearer, (dearer[0] + 0.01, dearer[1] + 0.01)):
        paid = replace(params, fee=fee, slippage=slippage)
        state = mirror.reset_at(START, market, paid)
        for action in (entry, *[HOLD] * holding, CLOSE):
            state, _ = mirror.step(state, action, market, paid)
        equities.append(state.equity)
    assert equities[0] + 1e-6 >= equities[1] >= equities[2] - 1e-6


@settings(max_examples=100, deadline=None, derandomize=True)
@given(prices=price_paths(), actions=action_path, params=env_params)
def test_without_shorts_and_leverage_cash_and_units_are_never_negative(prices, actions, params):
    params = replace(params, allow_short=False, max_position=min(params.max_position, 1.0))
    market = make_markets(prices)[1]
    state = mirror.reset_at(START, market, params)
    for action in actions:
        state, _ = mirror.step(state, action, market, params)
        assert state.cash >= -1e-6 and state.units >= 0 and state.level >= 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(prices=price_paths(), entry=st.sampled_from((SELL_25, SELL_50, SELL_75)), params=env_params)
def test_a_flat_account_has_cash_only(prices, entry, params):
    market = make_markets({**prices, "tradable": np.ones(BARS, bool)})[1]
    state = mirror.reset_at(START, market, params)
    for action in (entry, CLOSE):
        state, _ = mirror.step(state, action, market, params)
    assert state.units == 0 and state.equity == state.cash


anything = st.one_of(
    st.floats(), st.integers(), st.text(max_size=5), st.none(), st.booleans(), st.lists(st.integers(), max_size=2)
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(name=st.sampled_from([*(f.name for f in fields(EnvParams)), "asset_class", "bogus"]), value=anything)
def test_malformed_params_raise_only_params_error(name, value):
    try:
        params = make_params(**{name: value})
    except ParamsError as error:
        assert str(error)
    else:
        assert name != "bogus" and isinstance(params, EnvParams)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "much"])
def test_a_reward_weight_that_is_no_finite_number_is_refused_by_name(weight):
    with pytest.raises(ParamsError, match="dsr"):
        make_params(reward=RewardWeights(dsr=weight))


@pytest.mark.parametrize(
    ("name", "value"),
    [("fee", -0.001), ("fee", float("nan")), ("slippage", 0.9), ("max_drawdown", 0.0), ("episode_bars", 1.5)],
)
def test_a_value_outside_its_range_is_refused_by_name(name, value):
    with pytest.raises(ParamsError, match=name):
        make_params(**{name: value})
