"""The cost sweep: one program, and at every cost and fill mode what the NumPy mirror earns there."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf.cost_sweep import sweep_actions, sweep_costs
from jtf.environment import ValidationData, on_device
from jtf.results.costs import COSTS_BP, FILLS, sweep_backtests
from jtf.results.evaluation import backtest_metrics
from jtf.splits import Segment
from jtf_env.actions import BUY_75, HOLD
from jtf_env.mirror.backtest import replay, run_backtest
from jtf_env.params import make_params
from tests.contract.helpers import make_markets, random_prices

BARS = 300
PER_YEAR = 6_552.0
PARAMS = make_params("us_equity", "log_return", stop_loss=0.02, take_profit=0.03, max_drawdown=0.5)
DEVICE, MIRROR = make_markets(random_prices(BARS, 0, volatility=0.01, untradable=0.05))
ACTIONS = np.repeat(np.random.default_rng(0).choice(8, BARS // 3), 3)
COSTS = np.array(COSTS_BP) / 1e4
DATA = ValidationData(DEVICE, on_device(PARAMS), jnp.float32(np.sqrt(PER_YEAR)))


@pytest.fixture(scope="module")
def swept():
    return jax.tree.map(
        np.asarray, sweep_actions(jnp.asarray(ACTIONS, jnp.int32), DATA, jnp.asarray(COSTS, jnp.float32))
    )


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("index", range(len(COSTS)))
def test_every_cost_and_fill_mode_earns_what_the_mirror_earns_there(swept, fill, index):
    params = replace(PARAMS, fee=float(COSTS[index]), slippage=0.0, episode_bars=0, fill=fill)
    expected = backtest_metrics(run_backtest(MIRROR, replay(ACTIONS), params), params, PER_YEAR)
    found = {name: column[index] for name, column in swept[fill].items()}
    assert found["num_trades"] == expected.num_trades > 20
    for name in ("total_return", "sharpe", "max_drawdown", "profit_factor"):
        assert found[name] == pytest.approx(getattr(expected, name), rel=2e-3, abs=2e-5), name


def test_the_sweep_of_a_result_is_the_same_on_the_mirror(swept):
    segment = Segment(MIRROR.first_bar, BARS)
    found = sweep_backtests(replay(ACTIONS), MIRROR, replace(PARAMS, episode_bars=0), segment, PER_YEAR)
    assert found.basis_points == COSTS_BP
    for fill in FILLS:
        np.testing.assert_allclose(found.total_return[fill], swept[fill]["total_return"], rtol=2e-3, atol=2e-5)
        np.testing.assert_allclose(found.sharpe[fill], swept[fill]["sharpe"], rtol=2e-3, atol=1e-3)


def test_more_cost_never_earns_more(swept):
    for fill in FILLS:
        assert (np.diff(swept[fill]["total_return"]) < 0).all()


def test_the_costs_span_nothing_to_fifty_basis_points():
    assert COSTS_BP[0] == 0.0 and COSTS_BP[-1] == 50.0 and list(COSTS_BP) == sorted(COSTS_BP)


def test_a_policy_that_sees_the_costs_decides_anew_at_each():
    def decide_with(params):
        return lambda state: jnp.where(params.fee < 1e-3, BUY_75, HOLD).astype(jnp.int32)

    found = jax.jit(sweep_costs, static_argnums=0)(decide_with, DATA, jnp.asarray([0.0, 5e-3], jnp.float32))
    assert np.asarray(found["next_open"]["hold_share"]).tolist() == [0.0, 1.0]


def test_other_numbers_of_equal_shape_do_not_compile_again(swept):
    before = sweep_actions._cache_size()
    sweep_actions(jnp.zeros(BARS, jnp.int32), DATA, jnp.asarray(COSTS[::-1].copy(), jnp.float32))
    assert sweep_actions._cache_size() == before
