"""The trained policy decides the same in XLA (float32) and in NumPy (float64), on every real bar."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf.config import parse_config
from jtf.environment import row_table
from jtf.task import make_policy, prepare
from jtf_env.market import build_market, scale_market
from jtf_env.mirror.account import Observation
from jtf_ppo import train
from jtf_ppo.learner import make_learner


@pytest.mark.parametrize("symbol", ["SPY", "BTCUSDT"])
def test_a_trained_policy_takes_the_same_action_on_every_real_bar(symbol, real_data):
    flags = ["--total-steps", "16384", "--ppo.num-envs", "32", "--ppo.hidden-sizes", "32", "--ppo.update-epochs", "4"]
    task = prepare(parse_config(["--symbol", symbol, "--data", str(real_data), *flags]))
    (member,) = train(task.problem.environment, task.problem.data, task.learner).members
    policy = make_policy(task, {0: member.params})
    in_numpy = policy.actions(policy.market(task.bars))

    natural = build_market(task.bars, task.layout, dtype=jnp.float64)
    market = scale_market(natural, task.problem.scaler)
    environment = replace(task.problem.environment, first_row=market.first_bar)
    learner = make_learner(environment, task.learner)
    state = jax.eval_shape(learner.init, jax.random.key(0), task.problem.data)
    params = jax.tree.unflatten(jax.tree.structure(state.params), jax.tree.leaves(member.params))
    logits, _ = jax.jit(lambda p, data: learner.evaluate(p).evaluate_rows(row_table(data)))(
        params, (market, task.problem.data[1])
    )
    in_xla = np.asarray(logits).argmax(axis=1)
    bars_of_a_year = round(task.bars.bars_per_year)
    rows = range(max(market.first_bar, task.bars.close.size - bars_of_a_year), task.bars.close.size)
    numpy_market = policy.market(task.bars)
    live = np.stack([policy.probabilities_at(numpy_market, Observation(row, np.zeros(0))) for row in rows])
    np.testing.assert_allclose(live, jax.nn.softmax(logits)[np.array(rows)], atol=1e-5)
    np.testing.assert_array_equal(live.argmax(axis=1), in_xla[np.array(rows)])
    assert len(np.unique(in_numpy)) >= 2, "the policy must not always do the same in this test"
    np.testing.assert_array_equal(in_xla[market.first_bar :], in_numpy[market.first_bar :])
