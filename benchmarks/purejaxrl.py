"""A peer to measure against: PPO as PureJaxRL does it, written from that project's description, not its code.

The whole iteration is one jitted program over a gymnax environment: a scan of vmapped, auto-resetting steps that
stores dense observations, GAE with one ``done``, epochs over freshly shuffled minibatches, clipped policy and value
losses with advantages normalised per minibatch, global-norm clip and Adam (Lu et al. 2022, "Discovered Policy
Optimisation", section on PureJaxRL; Schulman et al. 2017). The network is this project's: one trunk with ReLU, two
heads.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.nn.initializers import orthogonal

from benchmarks.measure import clock
from benchmarks.peer import PeerConfig, PyTree, Session, dense_row_logits
from jtf.environment import TradingData
from jtf_env.adapters.gymnax import TradingEnv


class Transition(NamedTuple):
    """What a rollout keeps of a sample; ``[N, B]``, then flattened."""

    observation: Array
    """``[..., D]`` dense."""
    action: Array
    value: Array
    reward: Array
    log_prob: Array
    done: Array


class PeerState(NamedTuple):
    """Everything an iteration starts from."""

    params: nnx.State
    opt_state: optax.OptState
    env_state: PyTree
    observation: Array
    key: Array


class MLP(nnx.Module):
    """One trunk with ReLU, two linear heads."""

    def __init__(self, size: int, hidden_sizes: tuple[int, ...], num_actions: int, rngs: nnx.Rngs):
        def linear(fan_in: int, width: int, gain: float) -> nnx.Linear:
            return nnx.Linear(fan_in, width, kernel_init=orthogonal(gain), rngs=rngs)

        self.trunk = nnx.List([linear(*pair, 2**0.5) for pair in pairwise((size, *hidden_sizes))])
        self.policy = linear(hidden_sizes[-1], num_actions, 0.01)
        self.value = linear(hidden_sizes[-1], 1, 1.0)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """``[B, D]`` to ``(logits [B, A], value [B])``."""
        for layer in self.trunk:
            x = jax.nn.relu(layer(x))
        return self.policy(x), self.value(x)[:, 0]


class Peer(NamedTuple):
    """The trainer as pure functions."""

    start: Callable[[Array, PyTree], PeerState]
    """``(key, env_params) -> state``."""
    iterate: Callable[[PeerState, PyTree], tuple[PeerState, Array]]
    """``(state, env_params) -> (state, mean reward)``: one rollout and its epochs."""
    apply: Callable[[nnx.State, Array], tuple[Array, Array]]
    """``(params, observation [B, ...]) -> (logits [B, A], value [B])``."""


def start(data: TradingData, config: PeerConfig, seed: int) -> Session:
    """Compile the trainer on a market."""
    env = TradingEnv(*data)
    peer = make_peer(env, env.default_params, config)
    state = jax.jit(peer.start)(jax.random.key(seed), env.default_params)
    began = clock()
    compiled = jax.jit(peer.iterate, donate_argnums=0).lower(state, env.default_params).compile()
    compile_seconds = clock() - began
    row_logits = dense_row_logits(lambda params, observation: peer.apply(params, observation)[0])

    def iterate() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled(state, env.default_params))

    return Session(iterate, lambda market: np.asarray(row_logits(state.params, market)), compile_seconds)


def make_peer(env: Any, env_params: PyTree, config: PeerConfig) -> Peer:
    """Return the trainer for a gymnax 1.0 environment; `env_params` give the observation's size only."""
    size = env.observation_space(env_params).shape
    size = int(jnp.prod(jnp.asarray(size)))
    graph, _ = nnx.split(MLP(size, config.hidden_sizes, env.num_actions, nnx.Rngs(0)))
    optimiser = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.learning_rate, eps=1e-5))

    def apply(params: nnx.State, observation: Array) -> tuple[Array, Array]:
        return nnx.merge(graph, params)(observation.reshape(observation.shape[0], -1))

    def start(key: Array, env_params: PyTree) -> PeerState:
        network_key, reset_key, key = jax.random.split(key, 3)
        _, params = nnx.split(MLP(size, config.hidden_sizes, env.num_actions, nnx.Rngs(network_key)))
        keys = jax.random.split(reset_key, config.num_envs)
        observation, env_state = jax.vmap(env.reset, in_axes=(0, None))(keys, env_params)
        return PeerState(params, optimiser.init(params), env_state, observation, key)

    def iterate(state: PeerState, env_params: PyTree) -> tuple[PeerState, Array]:
        key, rollout_key, epochs_key = jax.random.split(state.key, 3)
        env_state, observation, rollout = _rollout(env, env_params, apply, state, rollout_key, config)
        _, last_value = apply(state.params, observation)
        advantages = _advantages(rollout, last_value, config)
        samples = (rollout, advantages, advantages + rollout.value)
        flat = jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), samples)

        def minibatch(carry: tuple[PyTree, PyTree], batch: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
            params, opt_state = carry
            gradient = jax.grad(_loss)(params, apply, *batch, config)
            updates, opt_state = optimiser.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        def epoch(carry: tuple[PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree], None]:
            order = jax.random.permutation(key, config.batch_size)
            shuffled = jax.tree.map(lambda x: x[order], flat)
            batches = jax.tree.map(lambda x: x.reshape(config.num_minibatches, -1, *x.shape[1:]), shuffled)
            return jax.lax.scan(minibatch, carry, batches)[0], None

        keys = jax.random.split(epochs_key, config.update_epochs)
        (params, opt_state), _ = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        return PeerState(params, opt_state, env_state, observation, key), rollout.reward.mean()

    return Peer(start, iterate, apply)


def _rollout(
    env: Any, env_params: PyTree, apply: Callable, state: PeerState, key: Array, config: PeerConfig
) -> tuple[PyTree, Array, Transition]:
    def step(carry: tuple[PyTree, Array], key: Array) -> tuple[tuple[PyTree, Array], Transition]:
        env_state, observation = carry
        action_key, step_key = jax.random.split(key)
        logits, value = apply(state.params, observation)
        action = jax.random.categorical(action_key, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=1)[:, 0]
        keys = jax.random.split(step_key, config.num_envs)
        following, env_state, reward, terminated, truncated, _ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            keys, env_state, action, env_params
        )
        transition = Transition(observation, action, value, reward, log_prob, terminated | truncated)
        return (env_state, following), transition

    keys = jax.random.split(key, config.num_steps)
    (env_state, observation), rollout = jax.lax.scan(step, (state.env_state, state.observation), keys)
    return env_state, observation, rollout


def _advantages(rollout: Transition, last_value: Array, config: PeerConfig) -> Array:
    def backward(carry: tuple[Array, Array], t: Transition) -> tuple[tuple[Array, Array], Array]:
        advantage, next_value = carry
        alive = 1.0 - t.done
        delta = t.reward + config.gamma * next_value * alive - t.value
        advantage = delta + config.gamma * config.gae_lambda * alive * advantage
        return (advantage, t.value), advantage

    few = rollout._replace(observation=rollout.done)
    return jax.lax.scan(backward, (jnp.zeros_like(last_value), last_value), few, reverse=True)[1]


def _loss(
    params: nnx.State, apply: Callable, batch: Transition, advantage: Array, target: Array, config: PeerConfig
) -> Array:
    logits, value = apply(params, batch.observation)
    log_probs = jax.nn.log_softmax(logits)
    log_prob = jnp.take_along_axis(log_probs, batch.action[:, None], axis=1)[:, 0]
    near = batch.value + jnp.clip(value - batch.value, -config.clip_eps, config.clip_eps)
    value_loss = 0.5 * jnp.maximum((value - target) ** 2, (near - target) ** 2).mean()
    ratio = jnp.exp(log_prob - batch.log_prob)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = jnp.clip(ratio, 1.0 - config.clip_eps, 1.0 + config.clip_eps)
    policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    return policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
