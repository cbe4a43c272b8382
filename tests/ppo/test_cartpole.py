"""The sample engine solves an environment that nobody here wrote."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_ppo import PPOConfig, Validation, resolve, train
from tests.ppo.toy import gymnax_environment

EPISODES, LIMIT = 64, 500
ENV, PARAMS = gymnax_environment("CartPole-v1")
CONFIG = resolve(
    PPOConfig(
        total_steps=500_000, num_envs=16, num_steps=128, minibatch_size=256, update_epochs=4, gamma=0.99,
        ent_coef=0.0, learning_rate=1e-3, hidden_sizes=(64, 64), validation_interval=10_000, checkpoint_interval=0,
    ),
    "cpu", address_only=False, num_rows=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def full_optimisation():
    """This test computes more than it compiles."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def greedy_return(policy, params) -> dict[str, jax.Array]:
    """Mean return of one episode in each of 64 fresh environments, always taking the likeliest action."""
    state, observation = ENV.reset(jax.random.key(123), EPISODES, params)

    def step(carry, bits):
        state, observation, alive, total = carry
        logits, _ = policy.on(None)(observation)
        state, timestep = ENV.step(bits, state, jnp.argmax(logits, axis=-1), params)
        total = total + alive * timestep.reward
        return (state, timestep.observation, alive & ~(timestep.terminated | timestep.truncated), total), None

    bits = jax.random.bits(jax.random.key(7), (LIMIT, EPISODES), jnp.uint32)
    alive, total = jnp.ones(EPISODES, bool), jnp.zeros(EPISODES)
    (_, _, alive, total), _ = jax.lax.scan(step, (state, observation, alive, total), bits)
    return {"score": total.mean(), "unfinished": alive.sum()}


def test_cartpole_is_solved_by_the_last_policy():
    (result,) = train(ENV, PARAMS, CONFIG, validation=Validation(greedy_return, PARAMS)).members
    assert result.best_update == result.updates, "the last policy is the one that is scored"
    assert result.validation["unfinished"] == 0
    assert result.validation["score"] >= 475.0


def test_the_time_limit_is_a_truncation_and_a_fall_is_a_termination():
    state, _ = ENV.reset(jax.random.key(0), 2, PARAMS)
    # The first pole is upright at the last step allowed; the second one lies beyond 12 degrees.
    state = state.replace(
        time=jnp.asarray([LIMIT - 1, 3], jnp.int32),
        theta=jnp.asarray([0.0, 0.5]),
        theta_dot=jnp.zeros(2),
        x=jnp.zeros(2),
        x_dot=jnp.zeros(2),
    )
    state, timestep = ENV.step(jnp.arange(2, dtype=jnp.uint32), state, jnp.zeros(2, jnp.int32), PARAMS)
    assert (timestep.terminated.tolist(), timestep.truncated.tolist()) == ([False, True], [True, False])
    np.testing.assert_allclose(timestep.final_observation[:, 2], [0.0, 0.5], atol=1e-6)
    assert (np.abs(timestep.observation) <= 0.05).all(), "a new episode has begun"
