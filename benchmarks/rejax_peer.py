"""rejax's own PPO, unmodified, on the classic gymnax adapter.

Policy and value are two networks of the same hidden sizes, and the gradient is clipped element by element: both are
rejax's own choices. Only ReLU replaces its default activation, as for the other peers.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax import Array
from rejax import PPO

from benchmarks.measure import clock
from benchmarks.peer import PeerConfig, PyTree, Session, dense_row_logits
from jtf.environment import TradingData
from jtf_env.adapters.gymnax import TradingEnv


def start(data: TradingData, config: PeerConfig, seed: int) -> Session:
    """Compile the trainer on a market."""
    algorithm = make_algorithm(data, config)
    state = algorithm.init_state(jax.random.key(seed))
    began = clock()
    train = jax.jit(lambda algorithm, state: algorithm.train_iteration(state)).lower(algorithm, state).compile()
    compile_seconds = clock() - began
    row_logits = dense_row_logits(_logits(algorithm))

    def iterate() -> None:
        nonlocal state
        state = jax.block_until_ready(train(algorithm, state))

    return Session(iterate, lambda market: np.asarray(row_logits(state.actor_ts.params, market)), compile_seconds)


def make_algorithm(data: TradingData, config: PeerConfig) -> PPO:
    """Return rejax's PPO with these settings; what it would evaluate by itself is left to the caller."""
    env = TradingEnv(*data, api="classic")
    return PPO.create(
        env=env,
        env_params=env.default_params,
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        num_minibatches=config.num_minibatches,
        num_epochs=config.update_epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_eps=config.clip_eps,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        max_grad_norm=config.max_grad_norm,
        agent_kwargs={"hidden_layer_sizes": config.hidden_sizes, "activation": "relu"},
    )


def _logits(algorithm: PPO) -> Callable[[PyTree, Array], Array]:
    def apply(params: PyTree, observation: Array) -> Array:
        return algorithm.actor.apply(params, observation, method="_action_dist").logits

    return apply
