"""Several steps an iteration give what one step an iteration gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_ppo.engine import action_shares
from jtf_ppo.loops import scan_blocks
from jtf_ppo.networks import network_graph
from tests.ppo.toy import assert_trees_close, bound_engine, fresh_state, make_rows, row_environment, tiny_config

ENV, TABLE = row_environment(), make_rows()


def running(carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    carry = 0.5 * carry + x
    return carry, carry


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("at_once", [1, 2, 4, 5, 12])
def test_blocks_of_steps_are_scanned_in_the_order_of_single_steps(at_once: int, reverse: bool) -> None:
    steps = jnp.arange(12.0)
    carry, out = jax.lax.scan(running, jnp.zeros(()), steps, reverse=reverse)
    last, blocks = scan_blocks(running, jnp.zeros(()), steps, at_once, reverse=reverse)
    np.testing.assert_array_equal(last, carry)
    np.testing.assert_array_equal(blocks.reshape(-1), out)
    assert blocks.shape[0] == 12 // np.gcd(at_once, 12)


@pytest.mark.parametrize("engine", ["rows", "samples"])
def test_steps_at_once_change_no_number_of_a_rollout_beyond_rounding(engine: str) -> None:
    batches = []
    for at_once in (1, 4):
        config = tiny_config(ENV, engine=engine, steps_at_once=at_once)
        state = fresh_state(ENV, TABLE, config)
        collect = jax.jit(bound_engine(ENV, config, network_graph(ENV, config), TABLE).collect)
        batches.append(collect(state.params, state.rollout_state, jax.random.key(3), TABLE))
    assert_trees_close(batches[1], batches[0], 1e-5)


@pytest.mark.parametrize("platform", ["cpu", "default"])
def test_action_shares_are_counts_over_the_number_of_actions(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda x, **branches: branches[platform](x))
    actions = jnp.array([[0, 2, 2], [2, 1, 0]], jnp.int8)
    np.testing.assert_allclose(action_shares(actions, 4), [2 / 6, 1 / 6, 3 / 6, 0], rtol=1e-6)
