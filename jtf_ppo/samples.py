"""The sample engine: ordinary PPO over shuffled minibatches of samples; any environment, any observation."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jtf_ppo.advantage import gae, normalise
from jtf_ppo.config import PPOConfig
from jtf_ppo.engine import Acting, Engine, is_noisy, make_dropout, masked_cover, noisy_rows, roll_out, rollout_metrics
from jtf_ppo.losses import SampleBatch, log_prob_of, sample_loss
from jtf_ppo.sampling import cumulative, inverse_cdf
from jtf_ppo.types import Environment, PyTree, RowTable


def sample_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef) -> Engine:
    """Return the engine for a resolved `config`."""
    assert config.num_envs is not None and config.minibatch_size is not None, "config must be resolved"
    num_samples, size = config.batch_size, config.minibatch_size
    # A dense observation has no row table to put noise on.
    noisy = is_noisy(config) if env.address_only else bool(config.dropout)

    def cover(key: Array) -> Array:
        return masked_cover(key, num_samples, size)

    def loss(
        params: nnx.State, acted: nnx.State, batch: SampleBatch, indices: Array, key: Array, table: RowTable | None
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
            old_logits, _ = nnx.merge(graph, acted)(picked.observation, table, dropout)
            picked = picked._replace(log_prob=log_prob_of(old_logits, picked.action))
        return sample_loss(logits, values, picked, weight.astype(values.dtype), config)

    return Engine(partial(_collect, env, config, graph), -(-num_samples // size), cover, loss)


def _collect(
    env: Environment,
    config: PPOConfig,
    graph: nnx.GraphDef,
    params: nnx.State,
    acting: Acting,
    key: Array,
    data: PyTree,
) -> tuple[Acting, SampleBatch, dict[str, Array]]:
    """Roll out `num_steps`; stores observations (addresses: 4 bytes), never windows. Consumes `key`."""
    table = env.table(data) if env.table is not None else None
    network = nnx.merge(graph, params)

    def act(observation: PyTree, uniform: Array) -> tuple[Array, dict[str, PyTree]]:
        logits, values = network(observation, table)
        action = inverse_cdf(cumulative(logits), uniform)
        log_prob = log_prob_of(logits, action)
        return action, {"observation": observation, "action": action, "log_prob": log_prob, "values": values}

    def look_back(final: PyTree) -> dict[str, PyTree]:
        return {"next_values": network(final, table)[1]}

    acting, rollout = roll_out(env, config, acting, key, data, act, look_back)
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
    return acting, jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), batch), metrics
