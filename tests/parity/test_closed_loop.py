"""Decisions asked bar by bar: the closed loop is the mirror stepped, and equals the pass over all rows at once."""

import numpy as np
import pytest

from jtf.data import load_bars
from jtf.models.policy import Policy
from jtf_env.errors import InputError
from jtf_env.layouts import GROUPS, Layout, get_layout
from jtf_env.mirror import environment as mirror
from jtf_env.mirror.account import Observation, account_columns
from jtf_env.mirror.backtest import replay, run_backtest
from jtf_env.mirror.market import Market, build_market
from jtf_env.params import EnvParams, make_params
from jtf_env.scaler import fit_scaler
from tests.env.helpers import random_bars

pytestmark = pytest.mark.quick

YEAR = 35_040
WINDOW = 10
TOY = Layout("toy", tuple(GROUPS[name] for name in ("base6", "account3", "position3")))


def random_params(rng: np.random.Generator, features: int, context: int) -> dict:
    sizes = {"kernel": (WINDOW, features, 8), "context_kernel": (context, 8), "bias": (8,)}
    first = {name: rng.normal(0, 0.2, size).astype(np.float32) for name, size in sizes.items()}
    head = {"kernel": rng.normal(0, 1, (8, 8)).astype(np.float32), "bias": np.zeros(8, np.float32)}
    return {"first": first, "policy": head, "value": head}


def test_asking_bar_by_bar_equals_all_rows_at_once_on_a_year_of_real_bars(real_data):
    bars = load_bars("BTCUSDT", real_data)[:YEAR]
    layout = get_layout("v5.6.0")
    natural = build_market(bars, layout, window=WINDOW)
    scaler = fit_scaler(natural.features, natural.context, layout.warmup)
    params = make_params("crypto", stop_loss=0.02, take_profit=0.05, max_drawdown=1.0, allow_short=True, fee=0.0)
    policy = Policy(
        members=(random_params(np.random.default_rng(0), 51, 7),), seeds=(0,), scaler=scaler, symbol="BTCUSDT",
        layout=layout, window=WINDOW, env_params=params, bars_per_year=35_040.0,
    )  # fmt: skip
    market = policy.market(bars)

    def decide(observation: Observation) -> int:
        return int(policy.probabilities_at(market, observation).argmax())

    slow, fast = (run_backtest(market, one, params) for one in (decide, policy.decider(market)))
    for name in ("actions", "equity", "levels", "units", "costs"):
        np.testing.assert_array_equal(getattr(slow, name), getattr(fast, name), name)
    assert slow.fills == fast.fills and len(np.unique(slow.actions)) >= 4


@pytest.fixture(scope="module")
def market() -> Market:
    return build_market(random_bars(600), TOY, window=WINDOW)


PARAMS = EnvParams(fee=0.001, stop_loss=0.01, take_profit=0.02, episode_bars=0, max_drawdown=0.9)


def decide_by_account(observation: Observation) -> int:
    """Any function of row and account that takes every action and cannot be listed in advance."""
    return int(1e6 * abs(observation.account.sum()) + observation.row) % 8


def test_a_decision_sees_the_account_that_the_environment_shows(market):
    backtest = run_backtest(market, decide_by_account, PARAMS)
    state = mirror.reset_at(market.first_bar, market, PARAMS)
    for action, equity in zip(backtest.actions.tolist(), backtest.equity[1:].tolist(), strict=True):
        seen = Observation(state.bar, account_columns(state, TOY, PARAMS))
        assert decide_by_account(seen) == action
        state, _ = mirror.step(state, action, market, PARAMS)
        assert state.equity == equity
    assert state.num_trades > 20 and len(np.unique(backtest.actions)) == 8


def test_replaying_what_a_closed_loop_decided_is_the_same_pass(market):
    loop = run_backtest(market, decide_by_account, PARAMS)
    recorded = np.zeros(market.num_bars, int)
    recorded[loop.bars[:-1]] = loop.actions
    again = run_backtest(market, replay(recorded), PARAMS)
    assert again.fills == loop.fills
    np.testing.assert_array_equal(again.equity, loop.equity)


def test_an_address_only_layout_shows_an_empty_account():
    market = build_market(random_bars(300), Layout("toy", (GROUPS["base6"],)), window=WINDOW)
    shapes = set()
    run_backtest(market, lambda observation: shapes.add(observation.account.shape) or 0, PARAMS)
    assert shapes == {(0,)}


@pytest.mark.parametrize("action", [-1, 8])
def test_a_decision_that_is_no_action_is_refused(market, action):
    with pytest.raises(InputError, match=f"the decision at row {market.first_bar} is {action}; actions are 0 to 7"):
        run_backtest(market, lambda observation: action, PARAMS)
