"""The sample engine: ordinary PPO over shuffled minibatches of samples; any environment, any observation."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jtf_ppo.advantage import gae, normalise
from jtf_ppo.config import PPOConfig
from jtf_ppo.engine import Acting, Engine, is_noisy, make_dropout, masked_cover, noisy_rows, rollout_metrics
from jtf_ppo.losses import SampleBatch, log_prob_of, sample_loss
from jtf_ppo.sampling import bits_to_uniform, cumulative, draw_bits, inverse_cdf, mix_bits
from jtf_ppo.types import Environment, PyTree, RowTable


def sample_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef) -> Engine:
    """Return the engine for a resolved `config`."""
    assert config.num_envs is not None and config.minibatch_size is not None, "config must be resolved"
    num_samples, size = config.batch_size, config.minibatch_size
    # A dense observation has no row table to put noise on.
    noisy = is_noisy(config) if env.address_only else bool(config.dropout)

    def collect(
        params: nnx.State, acting: Acting, key: Array, data: PyTree
    ) -> tuple[Acting, SampleBatch, dict[str, Array]]:
        return _collect(env, config, graph, params, acting, key, data)

    def cover(key: Array, batch: SampleBatch) -> Array:
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

    return Engine(collect, -(-num_samples // size), cover, loss)


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

    def step(acting: Acting, key: Array) -> tuple[Acting, dict[str, PyTree]]:
        bits = draw_bits(key, config.num_envs or 0)
        logits, values = network(acting.observation, table)
        action = inverse_cdf(cumulative(logits), bits_to_uniform(bits))
        env_state, timestep = env.step(mix_bits(bits), acting.env_state, action, data)
        _, next_values = network(timestep.final_observation, table)
        stored = {
            "observation": acting.observation,
            "action": action,
            "log_prob": log_prob_of(logits, action),
            "values": values,
            "next_values": next_values,
            "reward": timestep.reward,
            "terminated": timestep.terminated,
            "truncated": timestep.truncated,
            "metrics": jax.tree.map(jnp.mean, timestep.metrics),
        }
        return Acting(env_state, timestep.observation), stored

    acting, rollout = jax.lax.scan(step, acting, jax.random.split(key, config.num_steps))
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
    env_metrics = jax.tree.map(jnp.mean, rollout["metrics"])
    metrics = rollout_metrics(rollout["reward"], rollout["action"], values, advantages, env_metrics, env.num_actions)
    return acting, jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), batch), metrics
