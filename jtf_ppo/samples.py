"""The sample engine: ordinary PPO over shuffled minibatches of samples; any environment, any observation."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jtf_ppo.advantage import gae, normalise
from jtf_ppo.config import PPOConfig
from jtf_ppo.engine import (
    Engine,
    RolloutState,
    TrainingNoise,
    is_noisy,
    roll_out,
    rollout_metrics,
    shuffled_minibatches,
)
from jtf_ppo.hyper import Hyper
from jtf_ppo.losses import SampleBatch, log_prob_of, sample_loss
from jtf_ppo.sampling import cumulative, inverse_cdf
from jtf_ppo.types import Environment, PyTree, RowTable


def sample_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef) -> Engine:
    """Return the engine for a resolved `config`."""
    assert config.num_envs is not None and config.minibatch_size is not None, "config must be resolved"
    num_samples, size = config.batch_size, config.minibatch_size

    def epoch_indices(key: Array, batch: SampleBatch) -> tuple[Array, int]:
        indices = shuffled_minibatches(key, num_samples, size)
        return indices, indices.shape[0]

    loss = partial(_loss, env, config, graph)
    return Engine(partial(_collect, env, config, graph), -(-num_samples // size), epoch_indices, loss)


def _loss(
    env: Environment,
    config: PPOConfig,
    graph: nnx.GraphDef,
    params: nnx.State,
    behaviour_params: nnx.State,
    batch: SampleBatch,
    indices: Array,
    key: Array,
    hyper: Hyper,
    table: RowTable | None,
) -> tuple[Array, dict[str, Array]]:
    """Loss of the samples ``indices [M]``; padding is ``num_samples``."""
    noise = TrainingNoise(config, hyper, key)
    if table is not None:
        table = table._replace(features=noise.features(table.features), context=noise.context(table.context))
    weight = (indices < config.batch_size).astype(jnp.float32)
    picked = jax.tree.map(lambda x: x[jnp.minimum(indices, config.batch_size - 1)], batch)
    dropout = noise.dropout()
    logits, values = nnx.merge(graph, params)(picked.observation, table, dropout)
    # A dense observation has no row table to put noise on.
    if is_noisy(config) if env.table is not None else config.dropout:
        old_logits, _ = nnx.merge(graph, behaviour_params)(picked.observation, table, dropout)
        picked = picked._replace(log_prob=log_prob_of(old_logits, picked.action))
    loss, metrics = sample_loss(logits, values, picked, weight.astype(values.dtype), hyper)
    share = weight.sum() / config.batch_size
    return loss, {name: metric * share for name, metric in metrics.items()}


def _collect(
    env: Environment,
    config: PPOConfig,
    graph: nnx.GraphDef,
    params: nnx.State,
    rollout_state: RolloutState,
    key: Array,
    hyper: Hyper,
    data: PyTree,
) -> tuple[RolloutState, SampleBatch, dict[str, Array]]:
    """Roll out `num_steps`; stores observations (addresses: 4 bytes), never windows. Consumes `key`."""
    table = env.table(data) if env.table is not None else None
    network = nnx.merge(graph, params)

    def act(observation: PyTree, uniform: Array) -> tuple[Array, dict[str, PyTree]]:
        logits, values = network(observation, table)
        action = inverse_cdf(cumulative(logits), uniform)
        log_prob = log_prob_of(logits, action)
        return action, {"observation": observation, "action": action, "log_prob": log_prob, "values": values}

    def bootstrap(final: PyTree) -> dict[str, PyTree]:
        return {"next_values": network(final, table)[1]}

    rollout_state, rollout = roll_out(env, config, rollout_state, key, data, act, bootstrap)
    values = rollout["values"]
    advantages = gae(
        rollout["reward"], values, rollout["next_values"], rollout["terminated"], rollout["truncated"],
        hyper.gamma, hyper.gae_lambda, config.steps_at_once or 1,
    )  # fmt: skip
    batch = SampleBatch(
        rollout["observation"],
        rollout["action"],
        rollout["log_prob"],
        normalise(advantages),
        advantages + values,
    )
    metrics = rollout_metrics(rollout, values, advantages, env.num_actions)
    return rollout_state, jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), batch), metrics
