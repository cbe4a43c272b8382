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
    is_noisy,
    make_dropout,
    noisy_rows,
    roll_out,
    rollout_metrics,
    shuffled_minibatches,
)
from jtf_ppo.losses import SampleBatch, log_prob_of, sample_loss
from jtf_ppo.sampling import cumulative, inverse_cdf
from jtf_ppo.types import Environment, PyTree, RowTable


def sample_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef) -> Engine:
    """Return the engine for a resolved `config`."""
    assert config.num_envs is not None and config.minibatch_size is not None, "config must be resolved"
    num_samples, size = config.batch_size, config.minibatch_size
    # A dense observation has no row table to put noise on.
    noisy = is_noisy(config) if env.address_only else bool(config.dropout)

    def epoch_indices(key: Array) -> Array:
        return shuffled_minibatches(key, num_samples, size)

    def loss(
        params: nnx.State,
        behaviour_params: nnx.State,
        batch: SampleBatch,
        indices: Array,
        key: Array,
        table: RowTable | None,
    ) -> tuple[Array, dict[str, Array]]:
        features_key, context_key, dropout_key = jax.random.split(key, 3)
        if table is not None:
            table = RowTable(
                noisy_rows(table.features, config.feature_noise, features_key),
                noisy_rows(table.context, config.context_noise, context_key),
            )
        weight = (indices < num_samples).astype(jnp.float32)
        picked = jax.tree.map(lambda x: x[jnp.minimum(indices, num_samples - 1)], batch)
        dropout = make_dropout(config.dropout, dropout_key)
        logits, values = nnx.merge(graph, params)(picked.observation, table, dropout)
        if noisy:
            old_logits, _ = nnx.merge(graph, behaviour_params)(picked.observation, table, dropout)
            picked = picked._replace(log_prob=log_prob_of(old_logits, picked.action))
        return sample_loss(logits, values, picked, weight.astype(values.dtype), config)

    return Engine(partial(_collect, env, config, graph), -(-num_samples // size), epoch_indices, loss)


def _collect(
    env: Environment,
    config: PPOConfig,
    graph: nnx.GraphDef,
    params: nnx.State,
    rollout_state: RolloutState,
    key: Array,
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
        config.gamma, config.gae_lambda,
    )  # fmt: skip
    batch = SampleBatch(
        rollout["observation"],
        rollout["action"],
        rollout["log_prob"],
        normalise(advantages),
        advantages + values,
    )
    metrics = rollout_metrics(
        rollout["reward"], rollout["action"], values, advantages, rollout["metrics"], env.num_actions
    )
    return rollout_state, jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), batch), metrics
