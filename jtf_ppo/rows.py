"""The row engine: the same objective for address-only observations, from sums per row.

Within an iteration the policy is a table over rows. One evaluation of all rows serves every environment; a rollout
step is a row gather, an inverse CDF and the environment's own arithmetic; an epoch costs one forward and backward
pass over the rows that the rollout visited, however many samples they hold (`losses.row_loss` says why this is exact).
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jtf_ppo.advantage import gae, normalise
from jtf_ppo.blocks import Partition, cover, deal, partition
from jtf_ppo.config import PPOConfig
from jtf_ppo.engine import (
    Engine,
    RolloutState,
    TrainingNoise,
    is_noisy,
    roll_out,
    rollout_metrics,
)
from jtf_ppo.hyper import Hyper
from jtf_ppo.loops import in_blocks
from jtf_ppo.losses import RowSums, row_loss
from jtf_ppo.sampling import cumulative, inverse_cdf
from jtf_ppo.types import Environment, Observation, PyTree, RowTable
from jtf_ppo.window_dense import block_length

ROWS_AT_ONCE = 16_384
"""Rows whose activations exist at the same time while a whole table is evaluated: bounds memory, not results."""


def row_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef, num_rows: int) -> Engine:
    """Return the engine for a resolved `config` and a table of `num_rows` rows (`T`), padding included."""
    assert config.minibatch_size is not None, "config must be resolved"
    assert env.num_actions <= jnp.iinfo(jnp.int8).max, "actions are stored in 8 bits"
    cut = partition(num_rows - env.first_row, env.window, config)

    def epoch_indices(key: Array, batch: RowSums) -> tuple[Array, Array | int]:
        offset_key, order_key = jax.random.split(key)
        offset = jax.random.randint(offset_key, (), 0, cut.length, jnp.int32)
        starts, count = cover(batch.samples > 0, offset, cut)
        minibatches = -(-count // cut.size) if cut.few else cut.num_minibatches
        return deal(order_key, starts, count, minibatches, cut, num_rows), minibatches

    loss = partial(_loss, env, config, graph, cut)
    return Engine(partial(_collect, env, config, graph), cut.num_minibatches, epoch_indices, loss)


def _loss(
    env: Environment,
    config: PPOConfig,
    graph: nnx.GraphDef,
    cut: Partition,
    params: nnx.State,
    behaviour_params: nnx.State,
    batch: RowSums,
    starts: Array,
    key: Array,
    hyper: Hyper,
    table: RowTable | None,
) -> tuple[Array, dict[str, Array]]:
    """Loss of the blocks of rows from ``starts [K]``; only visited rows have weight."""
    assert table is not None
    noise, num_rows = TrainingNoise(config, hyper, key), table.features.shape[0]
    rows = starts[:, None] + jnp.arange(cut.length, dtype=jnp.int32)[None, :]
    inside = (rows >= env.first_row) & (rows < num_rows)
    rows = jnp.clip(rows, 0, num_rows - 1)
    visited = batch.samples > 0
    weight = inside & visited[rows]
    features = noise.features(with_history(table.features, starts, cut.length, env.window))
    context, dropout = noise.context(table.context[rows]), noise.dropout()
    logits, values = nnx.merge(graph, params).blocks(features, context, config.first_layer, dropout)
    flat = rows.reshape(-1)
    sums = jax.tree.map(lambda x: x[flat], batch)
    if is_noisy(config):
        old_logits, _ = nnx.merge(graph, behaviour_params).blocks(features, context, config.first_layer, dropout)
        sums = sums._replace(log_probs=jax.nn.log_softmax(old_logits).reshape(sums.log_probs.shape))
    # A minibatch stands for its share of the visited rows, whatever samples crowd there: so minibatches weigh the same.
    # The share is taken first: samples times rows does not fit 32 bits. A minibatch can be empty.
    share = weight.sum() / visited.sum()
    total = config.batch_size * jnp.maximum(share, 1.0 / num_rows)
    value, metrics = row_loss(
        logits.reshape(flat.size, -1),
        values.reshape(-1),
        sums,
        weight.reshape(-1).astype(values.dtype),
        total,
        hyper,
    )
    return value, {name: metric * share for name, metric in metrics.items()}


def evaluate_rows(
    graph: nnx.GraphDef, params: nnx.State, table: RowTable, first_row: int, window: int, method: str
) -> tuple[Array, Array]:
    """Return ``(logits [T, A], values [T])`` of every row from `first_row` as an address; zero before it."""
    network = nnx.merge(graph, params)
    return map_rows(partial(network.blocks, method=method), table, first_row, window, method)


def map_rows(
    blocks: Callable[[Array, Array], PyTree], table: RowTable, first_row: int, window: int, method: str
) -> PyTree:
    """Return what `blocks` gives for every row from `first_row` on, ``[T, ...]``; zero before it.

    Parameters
    ----------
    blocks: ``(features [K, L + W - 1, F], context [K, L, C]) -> [K, L, ...]`` (see `WindowDense.blocks`).
    """
    num_rows, length = table.features.shape[0], block_length(window, method)
    num_blocks = -(-(num_rows - first_row) // length)
    at_once = min(num_blocks, max(1, ROWS_AT_ONCE // length))
    groups = -(-num_blocks // at_once)
    starts = first_row + length * jnp.arange(groups * at_once, dtype=jnp.int32).reshape(groups, at_once)

    def evaluate(starts: Array) -> PyTree:
        rows = jnp.minimum(starts[:, None] + jnp.arange(length, dtype=jnp.int32)[None, :], num_rows - 1)
        return blocks(with_history(table.features, starts, length, window), table.context[rows])

    def place(x: Array) -> Array:
        used = x.reshape(-1, *x.shape[3:])[: num_rows - first_row]
        return jnp.concatenate([jnp.zeros((first_row, *used.shape[1:]), used.dtype), used])

    return jax.tree.map(place, jax.lax.map(evaluate, starts))


def policy_on(
    env: Environment, graph: nnx.GraphDef, params: nnx.State, table: RowTable | None, method: str
) -> Callable[[PyTree], tuple[Array, Array]]:
    """Return ``observation [B, ...] -> (logits [B, A], value [B])``; the first layer of every row is computed once."""
    network = nnx.merge(graph, params)
    if table is None:
        return partial(network, table=None)
    row_parts = map_rows(partial(network.first.blocks, method=method), table, env.first_row, env.window, method)
    return lambda observation: network.beside(row_parts[observation.row], observation.account)


def with_history(features: Array, starts: Array, length: int, window: int) -> Array:
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
    hyper: Hyper,
    data: PyTree,
) -> tuple[RolloutState, RowSums, dict[str, Array]]:
    """Roll out `num_steps` against the policy table: 15 bytes a sample are stored. Consumes `key`."""
    assert env.table is not None
    table = env.table(data)
    logits, row_values = evaluate_rows(graph, params, table, env.first_row, env.window, config.first_layer)
    edges = cumulative(logits)

    def act(observation: Observation, uniform: Array) -> tuple[Array, dict[str, Array]]:
        action = inverse_cdf(edges[observation.row], uniform)
        return action, {"row": observation.row, "action": action.astype(jnp.int8)}

    def bootstrap(final: Observation) -> dict[str, Array]:
        return {"final_row": final.row}

    rollout_state, rollout = roll_out(env, config, rollout_state, key, data, act, bootstrap)
    values = row_values[rollout["row"]]
    advantages = gae(
        rollout["reward"], values, row_values[rollout["final_row"]], rollout["terminated"], rollout["truncated"],
        hyper.gamma, hyper.gae_lambda, config.steps_at_once or 1,
    )  # fmt: skip
    sums = sum_by_row(
        rollout["row"], rollout["action"], advantages, row_values, jax.nn.log_softmax(logits), config.steps_at_once or 1
    )
    metrics = rollout_metrics(rollout, values, advantages, env.num_actions)
    return rollout_state, sums, metrics


def sum_by_row(
    rows: Array, actions: Array, advantages: Array, row_values: Array, log_probs: Array, at_once: int = 1
) -> RowSums:
    """Scatter samples ``[N, B]`` into sums per row; advantages are normalised over the rollout on the way.

    A few steps of the rollout at a time: indices and addends of all samples would be 20 bytes a sample more.
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
    steps = in_blocks((rows, actions, advantages, normalise(advantages)), math.gcd(at_once, rows.shape[0]))
    sums, _ = jax.lax.scan(add, empty, steps)
    shape = (num_rows, num_actions)
    return sums._replace(
        positive_advantage=sums.positive_advantage.reshape(shape),
        negative_advantage=sums.negative_advantage.reshape(shape),
    )
