"""A layout with columns of the account: trained, validated bar by bar, and played the same by the NumPy policy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtf.data.synthetic import synthetic_bars
from jtf.models.policy import Policy
from jtf.problem import make_problem
from jtf.splits import Fold, Segment
from jtf_env.layouts import get_layout
from jtf_env.market import build_market
from jtf_env.mirror.backtest import run_backtest
from jtf_env.params import EnvParams
from jtf_ppo import PPOConfig, resolve, train

WINDOW = 8
LAYOUT = get_layout("v5.3.0")
PARAMS = EnvParams(fee=0.0005, slippage=0.0002, episode_bars=40, max_drawdown=1.0)
VALIDATION = Segment(700, 1_000)


@pytest.fixture(scope="module")
def bars():
    return synthetic_bars("CLSK", years=0.25)[:1_300]


@pytest.fixture(scope="module")
def trained(bars):
    """``(problem, member)`` of a short training on the 65 columns, six of them of the account."""
    natural = build_market(bars, LAYOUT, window=WINDOW, dtype=jnp.float64)
    fold = Fold((Segment(natural.first_bar, 600),), VALIDATION, Segment(1_100, 1_300))
    problem = make_problem(natural, fold, PARAMS, 6_552)
    settings = {"num_envs": 16, "num_steps": 32, "minibatch_size": 128, "hidden_sizes": (16,), "learning_rate": 1e-2}
    config = resolve(PPOConfig(total_steps=4 * 512, **settings), "cpu", LAYOUT.address_only, problem.usable_rows)
    (member,) = train(problem.environment, problem.data, config, validation=problem.validation).members
    return problem, member


@pytest.fixture(scope="module")
def backtest(bars, trained):
    """The pass of the best parameters over the validation bars, in NumPy."""
    problem, member = trained
    policy = Policy(
        members=(member.best_params,), seeds=(0,), scaler=problem.scaler, symbol="CLSK", layout=LAYOUT, window=WINDOW,
        env_params=PARAMS, bars_per_year=6_552,
    )  # fmt: skip
    market = policy.market(bars)
    return run_backtest(market, policy.decider(market), PARAMS, VALIDATION.start, VALIDATION.stop)


def test_the_score_that_chose_the_parameters_is_the_log_growth_of_the_numpy_policy(trained, backtest):
    _, member = trained
    score = np.log(backtest.equity[-1] / PARAMS.initial_equity)
    assert member.validation["score"] == pytest.approx(score, abs=1e-5)
    assert len(np.unique(backtest.actions)) >= 2, "a policy that always does the same is no test"
