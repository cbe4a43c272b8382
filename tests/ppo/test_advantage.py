"""Advantages against hand numbers, a Python loop, and a world whose true advantage is zero."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtf_ppo.advantage import gae, normalise

pytestmark = pytest.mark.quick


def column(*values: float) -> jnp.ndarray:
    return jnp.asarray(values, jnp.float32)[:, None]


def flags(*values: int) -> jnp.ndarray:
    return jnp.asarray(values, bool)[:, None]


def test_advantage_without_an_ending_equals_hand_numbers():
    # gamma .5, lambda .5: deltas 1 + .5*4 - 2 = 1 and 3 + .5*6 - 4 = 2; A1 = 2, A0 = 1 + .25*2 = 1.5.
    result = gae(column(1, 3), column(2, 4), column(4, 6), flags(0, 0), flags(0, 0), 0.5, 0.5)
    np.testing.assert_allclose(result[:, 0], [1.5, 2.0])


def test_a_termination_bootstraps_zero_and_cuts_the_trace():
    # Step 0 ends the task: delta0 = 1 - 2 = -1, and nothing of A1 = 2 reaches it.
    result = gae(column(1, 3), column(2, 4), column(4, 6), flags(1, 0), flags(0, 0), 0.5, 0.5)
    np.testing.assert_allclose(result[:, 0], [-1.0, 2.0])


def test_a_truncation_bootstraps_the_final_value_and_cuts_the_trace():
    # Step 0 is cut at a final observation worth 8: delta0 = 1 + .5*8 - 2 = 3, and nothing of A1 = 2 reaches it.
    result = gae(column(1, 3), column(2, 4), column(8, 6), flags(0, 0), flags(1, 0), 0.5, 0.5)
    np.testing.assert_allclose(result[:, 0], [3.0, 2.0])


def test_advantages_equal_a_python_loop_on_random_input():
    rng = np.random.default_rng(0)
    n, b, gamma, lam = 50, 7, 0.97, 0.9
    rewards, values, next_values = rng.normal(size=(3, n, b))
    terminated, truncated = rng.random((2, n, b)) < 0.1
    truncated &= ~terminated
    expected, after = np.zeros((n, b)), np.zeros(b)
    for t in reversed(range(n)):
        for i in range(b):
            bootstrap = 0.0 if terminated[t, i] else next_values[t, i]
            carried = 0.0 if terminated[t, i] or truncated[t, i] else after[i]
            expected[t, i] = rewards[t, i] + gamma * bootstrap - values[t, i] + gamma * lam * carried
        after = expected[t]
    arrays = (jnp.asarray(x, jnp.float32) for x in (rewards, values, next_values))
    result = gae(*arrays, jnp.asarray(terminated), jnp.asarray(truncated), gamma, lam)
    np.testing.assert_allclose(result, expected, atol=2e-6)


@pytest.fixture
def endless_world() -> tuple[jnp.ndarray, ...]:
    """r = 1 for ever, gamma = .99, so V = 1 / (1 - .99) = 100 everywhere; cut every 10 steps."""
    ones, cut = jnp.ones((40, 1)), (jnp.arange(40) % 10 == 9)[:, None]
    return ones, 100.0 * ones, cut


def test_a_world_cut_every_ten_steps_has_zero_advantage(endless_world):
    ones, values, cut = endless_world
    result = gae(ones, values, values, jnp.zeros_like(cut), cut, 0.99, 0.95)
    np.testing.assert_allclose(result, np.zeros((40, 1)), atol=1e-4)


def test_folding_both_endings_into_one_would_be_wrong_by_99(endless_world):
    # The mistake this function avoids: at a cut taken for a termination, 1 - 100 = -99.
    ones, values, cut = endless_world
    result = gae(ones, values, values, cut, jnp.zeros_like(cut), 0.99, 0.95)
    assert result[9, 0] == pytest.approx(-99.0)


def test_environments_do_not_touch_each_other():
    rng = np.random.default_rng(1)
    inputs = [jnp.asarray(x, jnp.float32) for x in rng.normal(size=(3, 20, 4))]
    ends = [jnp.asarray(x) for x in rng.random((2, 20, 4)) < 0.1]
    together = gae(*inputs, *ends, 0.9, 0.9)
    alone = gae(*(x[:, 2:3] for x in inputs), *(x[:, 2:3] for x in ends), 0.9, 0.9)
    np.testing.assert_array_equal(together[:, 2:3], alone)


def test_normalised_advantages_have_mean_zero_and_deviation_one():
    # (1, 2, 3, 4): mean 2.5, standard deviation sqrt(1.25).
    result = normalise(jnp.asarray([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_allclose(result.reshape(-1), (np.arange(1, 5) - 2.5) / np.sqrt(1.25), rtol=1e-6)
