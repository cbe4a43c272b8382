"""Small worlds for the learner: rows seen by address, the same rows seen as numbers, and gymnax behind the protocol."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jtf_ppo.config import PPOConfig, resolve
from jtf_ppo.engine import Engine
from jtf_ppo.hyper import make_hyper
from jtf_ppo.learner import TrainState, make_engine, make_learner
from jtf_ppo.networks import make_network
from jtf_ppo.types import Environment, Observation, PyTree, RowTable, Timestep

WINDOW, NUM_FEATURES, NUM_CONTEXT, NUM_ACTIONS = 5, 3, 2, 3
RUIN = 2.0
"""A row whose second feature exceeds this terminates the episode."""


def make_rows(num_rows: int = 60, seed: int = 0, features: int = NUM_FEATURES, context: int = NUM_CONTEXT) -> RowTable:
    """Random standardised rows, usable where a window of `WINDOW` is full; they are also the environment's `data`."""
    rng = np.random.default_rng(seed)
    return RowTable(
        jnp.asarray(rng.normal(size=(num_rows, features)), jnp.float32),
        jnp.asarray(rng.normal(size=(num_rows, context)), jnp.float32),
        jnp.arange(num_rows) >= WINDOW - 1,
    )


def row_environment(
    window: int = WINDOW, features: int = NUM_FEATURES, context: int = NUM_CONTEXT, address: bool = True
) -> Environment:
    """Bet on the next row: reward ``(action - 1) * features[row + 1, 0]``.

    An episode is truncated on the last row and terminated where the second feature exceeds `RUIN`; the next one starts
    at a random row. `address` False shows the flattened window ``[W * (F + C)]`` instead of the row.
    """
    first_row = window - 1

    def show(rows: Array, data: RowTable) -> PyTree:
        return address_of(rows) if address else dense_windows(rows, data, window)

    def starts(bits: Array, data: RowTable) -> Array:
        choices = data.features.shape[0] - 1 - first_row
        return (first_row + bits % choices).astype(jnp.int32)

    def reset(key: Array, num: int, data: RowTable) -> tuple[Array, Array]:
        rows = starts(jax.random.bits(key, (num,), jnp.uint32), data)
        return rows, show(rows, data)

    def step(bits: Array, rows: Array, action: Array, data: RowTable) -> tuple[Array, Timestep]:
        final = rows + 1
        reward = (action - 1).astype(jnp.float32) * data.features[final, 0]
        terminated = data.features[final, 1] > RUIN
        truncated = (final == data.features.shape[0] - 1) & ~terminated
        rows = jnp.where(terminated | truncated, starts(bits, data), final)
        timestep = Timestep(show(rows, data), show(final, data), reward, terminated, truncated, {"bet": reward})
        return rows, timestep

    return Environment(
        num_actions=NUM_ACTIONS,
        reset=reset,
        step=step,
        observation_dim=window * (features + context),
        table=(lambda data: data) if address else None,
        window=window if address else 0,
        first_row=first_row if address else 0,
        num_features=features if address else 0,
        num_context=context if address else 0,
    )


def address_of(rows: Array) -> Observation:
    """The observation that is nothing but an address."""
    return Observation(rows, jnp.zeros((rows.shape[0], 0)))


def dense_windows(rows: Array, table: RowTable, window: int) -> Array:
    """The dense observation ``[B, W * (F + C)]`` an address stands for, from its definition."""
    past = rows[:, None] + jnp.arange(1 - window, 1)[None, :]
    context = jnp.broadcast_to(table.context[rows][:, None], (rows.shape[0], window, table.context.shape[1]))
    return jnp.concatenate([table.features[past], context], axis=-1).reshape(rows.shape[0], -1)


def gymnax_environment(name: str) -> tuple[Environment, PyTree]:
    """A gymnax 1.0 environment and its parameters (`data`); its time limit is a truncation."""
    env, params = gymnax.make(name)

    def keys(bits: Array) -> Array:
        return jax.vmap(jax.random.key)(bits)

    def reset(key: Array, num: int, params: PyTree) -> tuple[PyTree, Array]:
        observation, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, num), params)
        return strongly_typed(state), observation

    def step(bits: Array, state: PyTree, action: Array, params: PyTree) -> tuple[PyTree, Timestep]:
        observation, state, reward, terminated, truncated, info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            keys(bits), state, action, params
        )
        final = info["final_observation"]
        timestep = Timestep(observation, final, reward, terminated, truncated & ~terminated, {})
        return strongly_typed(state), timestep

    dim = int(np.prod(env.observation_space(params).shape))
    return Environment(env.num_actions, reset, step, dim), params


def strongly_typed(tree: PyTree) -> PyTree:
    """Python scalars of a state become arrays of a fixed dtype, as a scan carry needs."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), tree)


def tiny_config(env: Environment, num_rows: int = 60, **changes: object) -> PPOConfig:
    """Settings of a run that compiles in a second, without noise unless asked for, resolved for a CPU."""
    settings = {
        "total_steps": 128, "num_envs": 4, "num_steps": 8, "update_epochs": 2, "minibatch_size": 16, "gamma": 0.9,
        "hidden_sizes": (8,), "feature_noise": 0.0, "learning_rate": 1e-2, "first_layer": "gather",
        "validation_interval": 0, "checkpoint_interval": 0,
    }  # fmt: skip
    config = PPOConfig(**(settings | changes))  # type: ignore[arg-type]
    return resolve(config, "cpu", env.address_only, num_rows - env.first_row)


def tiny_network(
    env: Environment, data: PyTree, config: PPOConfig, scale: float = 1.0
) -> tuple[nnx.GraphDef, nnx.State]:
    """A seeded network; `scale` multiplies the policy head, whose first weights are nearly zero."""
    graph, params = jax.jit(make_network, static_argnums=(0, 1))(env, config, jax.random.key(1))
    head = params["policy"]["kernel"]
    head[...] = head[...] * scale
    return graph, params


def bound_engine(env: Environment, config: PPOConfig, graph: nnx.GraphDef, data: PyTree) -> Engine:
    """The engine of `config` with its numbers filled in.

    ``collect(params, rollout_state, key, data)``; ``loss(params, behaviour_params, batch, indices, key, table)``.
    """
    engine, hyper = make_engine(env, config, graph, data), make_hyper(config)
    return engine._replace(
        collect=lambda params, state, key, data: engine.collect(params, state, key, hyper, data),
        loss=lambda params, behaviour, batch, indices, key, table: engine.loss(
            params, behaviour, batch, indices, key, hyper, table
        ),
    )


def fresh_state(env: Environment, data: PyTree, config: PPOConfig) -> TrainState:
    """The state a run of `config` begins with."""
    return jax.jit(make_learner(env, config).init)(jax.random.key(config.seed), data)


def assert_trees_close(left: PyTree, right: PyTree, relative: float) -> None:
    """Every leaf equal to `relative` of that leaf's largest magnitude."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    for one, other in pairs:
        one, other = np.asarray(one), np.asarray(other)
        np.testing.assert_allclose(one, other, rtol=0, atol=relative * max(np.abs(other).max(initial=0.0), 1e-12))


def assert_trees_equal(left: PyTree, right: PyTree) -> None:
    """Every leaf equal, bit for bit."""
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
