"""The sample engine: ordinary PPO over minibatches of samples; any environment, any observation.

Dense observations are shuffled. Where observations are row addresses with an account beside them, the rows' part of the
first layer is computed once a row: for a rollout from a table over all rows, for an epoch from blocks of rows with all
their samples (`jtf_ppo.sample_blocks`). The account is added sample by sample.
"""

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
from jtf_ppo.rows import policy_on, with_history
from jtf_ppo.sample_blocks import SamplePartition, deal_samples, sample_partition, samples_in
from jtf_ppo.sampling import cumulative, inverse_cdf
from jtf_ppo.types import Environment, PyTree, RowTable


def sample_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef, num_rows: int) -> Engine:
    """Return the engine for a resolved `config` and a table of `num_rows` rows (`T`); 0 for dense observations."""
    assert config.num_envs is not None and config.minibatch_size is not None, "config must be resolved"
    collect = partial(_collect, env, config, graph)
    if env.table is None:
        num_samples, size = config.batch_size, config.minibatch_size

        def shuffled(key: Array, batch: SampleBatch) -> tuple[Array, int]:
            indices = shuffled_minibatches(key, num_samples, size)
            return indices, indices.shape[0]

        return Engine(collect, -(-num_samples // size), shuffled, partial(_loss, config, graph))
    cut = sample_partition(num_rows - env.first_row, env.window, config)

    def blocks(key: Array, batch: SampleBatch) -> tuple[Array, Array]:
        return deal_samples(key, batch.observation.row, num_rows, cut)

    return Engine(collect, cut.blocks.num_minibatches, blocks, partial(_block_loss, env, config, graph, cut))


def _loss(
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
    """Loss of the dense samples ``indices [M]``; padding is ``num_samples``. There are no rows to put noise on."""
    picked = jax.tree.map(lambda x: x[jnp.minimum(indices, config.batch_size - 1)], batch)
    dropout = TrainingNoise(config, hyper, key).dropout()
    logits, values = nnx.merge(graph, params)(picked.observation, table, dropout)
    if config.dropout:
        old_logits, _ = nnx.merge(graph, behaviour_params)(picked.observation, table, dropout)
        picked = picked._replace(log_prob=log_prob_of(old_logits, picked.action))
    return _weighted(config, logits, values, picked, indices < config.batch_size, hyper)


def _block_loss(
    env: Environment,
    config: PPOConfig,
    graph: nnx.GraphDef,
    cut: SamplePartition,
    params: nnx.State,
    behaviour_params: nnx.State,
    batch: SampleBatch,
    blocks: Array,
    key: Array,
    hyper: Hyper,
    table: RowTable | None,
) -> tuple[Array, dict[str, Array]]:
    """Loss of the samples of ``blocks [K, 2]`` (`sample_blocks.deal_samples`)."""
    assert table is not None
    noise, length = TrainingNoise(config, hyper, key), cut.blocks.length
    samples, places, inside = samples_in(blocks, batch.observation.row, cut)
    rows = blocks[:, 1:] + jnp.arange(length, dtype=jnp.int32)[None, :]
    rows = jnp.clip(rows, 0, table.features.shape[0] - 1)
    features = noise.features(with_history(table.features, blocks[:, 1], length, env.window))
    context, dropout = noise.context(table.context[rows]), noise.dropout()
    flat = samples.reshape(-1)
    picked = jax.tree.map(lambda x: x[flat], batch)

    def outputs(params: nnx.State) -> tuple[Array, Array]:
        network = nnx.merge(graph, params)
        row_part = network.first.blocks(features, context, config.first_layer)
        row_part = jnp.take_along_axis(row_part, places[:, :, None], axis=1).reshape(flat.size, -1)
        return network.beside(row_part, picked.observation.account, dropout)

    logits, values = outputs(params)
    if is_noisy(config):
        picked = picked._replace(log_prob=log_prob_of(outputs(behaviour_params)[0], picked.action))
    return _weighted(config, logits, values, picked, inside.reshape(-1), hyper)


def _weighted(
    config: PPOConfig, logits: Array, values: Array, picked: SampleBatch, counts: Array, hyper: Hyper
) -> tuple[Array, dict[str, Array]]:
    """Return the loss over the samples that count ``[M]``, and the minibatch's part of each mean over all samples."""
    weight = counts.astype(values.dtype)
    loss, metrics = sample_loss(logits, values, picked, weight, hyper)
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
    outputs = policy_on(env, graph, params, table, config.first_layer)

    def act(observation: PyTree, uniform: Array) -> tuple[Array, dict[str, PyTree]]:
        logits, values = outputs(observation)
        action = inverse_cdf(cumulative(logits), uniform)
        log_prob = log_prob_of(logits, action)
        return action, {"observation": observation, "action": action, "log_prob": log_prob, "values": values}

    def bootstrap(final: PyTree) -> dict[str, PyTree]:
        return {"next_values": outputs(final)[1]}

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
    batch = jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), batch)
    return rollout_state, batch if table is None else by_row(batch), metrics


def by_row(batch: SampleBatch) -> SampleBatch:
    """Return the samples in the order of their rows; those of one row as they were."""
    order = jnp.argsort(batch.observation.row, stable=True)
    return jax.tree.map(lambda x: x[order], batch)
