"""The row engine: the same objective for address-only observations, from sums per row.

Within an iteration the policy is a table over rows. One evaluation of all rows serves every environment; a rollout
step is a row gather, an inverse CDF and the environment's own arithmetic; an epoch costs one forward and backward
pass over the *rows*, however many environments ran (`losses.row_loss` says why this is exact).
"""

from functools import partial
from typing import NamedTuple

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
from jtf_ppo.losses import RowSums, row_loss
from jtf_ppo.sampling import cumulative, inverse_cdf
from jtf_ppo.types import Environment, PyTree, RowTable
from jtf_ppo.window_dense import block_length

ROWS_AT_ONCE = 16_384
"""Rows whose activations exist at the same time while a whole table is evaluated: bounds memory, not results."""


def row_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef, num_rows: int) -> Engine:
    """Return the engine for a resolved `config` and a table of `num_rows` rows (`T`)."""
    assert config.minibatch_size is not None, "config must be resolved"
    assert env.num_actions <= jnp.iinfo(jnp.int8).max, "actions are stored in 8 bits"
    usable = num_rows - env.first_row
    length, num_blocks, size = partition(usable, env.window, config.minibatch_size)
    num_minibatches = -(-num_blocks // size)

    def epoch_indices(key: Array) -> Array:
        offset_key, order_key = jax.random.split(key)
        offset = jax.random.randint(offset_key, (), 0, length, jnp.int32)
        blocks = shuffled_minibatches(order_key, num_blocks, size)
        # Padding blocks start past the last row, where the mask of `loss` finds nothing.
        return jnp.where(blocks < num_blocks, env.first_row - offset + blocks * length, num_rows)

    def loss(
        params: nnx.State,
        behaviour_params: nnx.State,
        batch: RowSums,
        starts: Array,
        key: Array,
        table: RowTable | None,
    ) -> tuple[Array, dict[str, Array]]:
        assert table is not None
        features_key, context_key, dropout_key = jax.random.split(key, 3)
        rows = starts[:, None] + jnp.arange(length, dtype=jnp.int32)[None, :]
        weight = (rows >= env.first_row) & (rows < num_rows)
        rows = jnp.clip(rows, 0, num_rows - 1)
        features = noisy_rows(
            _with_history(table.features, starts, length, env.window), config.feature_noise, features_key
        )
        context = noisy_rows(table.context[rows], config.context_noise, context_key)
        dropout = make_dropout(config.dropout, dropout_key)
        logits, values = nnx.merge(graph, params).blocks(features, context, config.first_layer, dropout)
        flat = rows.reshape(-1)
        sums = jax.tree.map(lambda x: x[flat], batch)
        if is_noisy(config):
            old_logits, _ = nnx.merge(graph, behaviour_params).blocks(features, context, config.first_layer, dropout)
            sums = sums._replace(log_probs=jax.nn.log_softmax(old_logits).reshape(sums.log_probs.shape))
        # A random offset can leave the only block of a minibatch outside the table. The share is taken first: samples
        # times rows does not fit 32 bits.
        total = config.batch_size * (jnp.maximum(weight.sum(), 1) / usable)
        value, metrics = row_loss(
            logits.reshape(flat.size, -1),
            values.reshape(-1),
            sums,
            weight.reshape(-1).astype(values.dtype),
            total,
            config,
        )
        # Over the same number of samples for every minibatch, so that their mean is the mean over the samples.
        share = total * num_minibatches / config.batch_size
        return value, {name: metric * share for name, metric in metrics.items()}

    return Engine(partial(_collect, env, config, graph), num_minibatches, epoch_indices, loss)


class Partition(NamedTuple):
    """How an epoch cuts the usable rows."""

    length: int
    """Rows of a block."""
    num_blocks: int
    """Blocks of an epoch: one more than the rows fill, because a random offset shifts them."""
    size: int
    """Blocks of a minibatch."""


def partition(usable: int, window: int, minibatch_size: int) -> Partition:
    """Return the whole blocks, at least one, that come nearest to `minibatch_size` rows and share the epoch evenly."""
    length = block_length(window)
    num_blocks = -(-usable // length) + 1
    wanted = num_blocks if minibatch_size >= usable else max(1, (minibatch_size + length // 2) // length)
    num_minibatches = -(-num_blocks // wanted)
    return Partition(length, num_blocks, -(-num_blocks // num_minibatches))


def evaluate_rows(
    graph: nnx.GraphDef, params: nnx.State, table: RowTable, first_row: int, window: int, method: str
) -> tuple[Array, Array]:
    """Return ``(logits [T, A], values [T])`` of every row from `first_row` as an address; zero before it."""
    num_rows, length = table.features.shape[0], block_length(window)
    num_blocks = -(-(num_rows - first_row) // length)
    at_once = min(num_blocks, max(1, ROWS_AT_ONCE // length))
    groups = -(-num_blocks // at_once)
    starts = first_row + length * jnp.arange(groups * at_once, dtype=jnp.int32).reshape(groups, at_once)
    network = nnx.merge(graph, params)

    def evaluate(starts: Array) -> tuple[Array, Array]:
        rows = jnp.minimum(starts[:, None] + jnp.arange(length, dtype=jnp.int32)[None, :], num_rows - 1)
        return network.blocks(_with_history(table.features, starts, length, window), table.context[rows], method)

    logits, values = jax.lax.map(evaluate, starts)

    def place(x: Array) -> Array:
        used = x.reshape(-1, *x.shape[3:])[: num_rows - first_row]
        return jnp.concatenate([jnp.zeros((first_row, *used.shape[1:]), used.dtype), used])

    return place(logits), place(values)


def _with_history(features: Array, starts: Array, length: int, window: int) -> Array:
    """Blocks ``[K, L + W - 1, F]``: `length` rows from each start, behind the ``W - 1`` rows before it."""
    rows = starts[:, None] + jnp.arange(1 - window, length, dtype=jnp.int32)[None, :]
    return features[jnp.clip(rows, 0, features.shape[0] - 1)]


def _collect(
    env: Environment,
    config: PPOConfig,
    graph: nnx.GraphDef,
    params: nnx.State,
    rollout_state: RolloutState,
    key: Array,
    data: PyTree,
) -> tuple[RolloutState, RowSums, dict[str, Array]]:
    """Roll out `num_steps` against the policy table: 15 bytes a sample are stored. Consumes `key`."""
    assert env.table is not None
    table = env.table(data)
    logits, row_values = evaluate_rows(graph, params, table, env.first_row, env.window, config.first_layer)
    edges = cumulative(logits)

    def act(row: Array, uniform: Array) -> tuple[Array, dict[str, Array]]:
        action = inverse_cdf(edges[row], uniform)
        return action, {"row": row, "action": action.astype(jnp.int8)}

    rollout_state, rollout = roll_out(env, config, rollout_state, key, data, act, lambda row: {"final_row": row})
    values = row_values[rollout["row"]]
    advantages = gae(
        rollout["reward"], values, row_values[rollout["final_row"]], rollout["terminated"], rollout["truncated"],
        config.gamma, config.gae_lambda,
    )  # fmt: skip
    sums = sum_by_row(rollout["row"], rollout["action"], advantages, row_values, jax.nn.log_softmax(logits))
    metrics = rollout_metrics(
        rollout["reward"], rollout["action"], values, advantages, rollout["metrics"], env.num_actions
    )
    return rollout_state, sums, metrics


def sum_by_row(rows: Array, actions: Array, advantages: Array, row_values: Array, log_probs: Array) -> RowSums:
    """Scatter samples ``[N, B]`` into sums per row; advantages are normalised over the rollout on the way.

    One step of the rollout at a time: indices and addends of all samples at once would be 20 bytes a sample more.
    """
    num_rows, num_actions = log_probs.shape
    per_cell = jnp.zeros(num_rows * num_actions, advantages.dtype)
    per_row = jnp.zeros(num_rows, advantages.dtype)

    def add(sums: RowSums, step: tuple[Array, Array, Array, Array]) -> tuple[RowSums, None]:
        row, action, advantage, normalised = step
        cell = row * num_actions + action.astype(row.dtype)
        return sums._replace(
            positive_advantage=sums.positive_advantage.at[cell].add(jnp.maximum(normalised, 0.0)),
            negative_advantage=sums.negative_advantage.at[cell].add(jnp.minimum(normalised, 0.0)),
            samples=sums.samples.at[row].add(1.0),
            residual=sums.residual.at[row].add(advantage),
            residual_square=sums.residual_square.at[row].add(jnp.square(advantage)),
        ), None

    empty = RowSums(per_cell, per_cell, per_row, per_row, per_row, row_values, log_probs)
    sums, _ = jax.lax.scan(add, empty, (rows, actions, advantages, normalise(advantages)))
    shape = (num_rows, num_actions)
    return sums._replace(
        positive_advantage=sums.positive_advantage.reshape(shape),
        negative_advantage=sums.negative_advantage.reshape(shape),
    )
