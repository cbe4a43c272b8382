"""The actor-critic: one trunk, two heads, over row addresses (`WindowDense`) or dense observations."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.nn.initializers import orthogonal

from jtf_ppo.config import PPOConfig
from jtf_ppo.types import Environment, PyTree, RowTable
from jtf_ppo.window_dense import FLOAT32, WindowDense


class ActorCritic(nnx.Module):
    """Layers ``first``, ``hidden_0`` .. , ``policy`` (`A` logits), ``value``; ReLU between them.

    Heads start small (orthogonal, gain 0.01 and 1), so that the first policy is close to uniform
    (Andrychowicz et al. 2021, "What matters in on-policy RL", choice C57).
    """

    def __init__(self, env: Environment, config: PPOConfig, *, rngs: nnx.Rngs):
        assert config.hidden_sizes is not None, "config must be resolved"
        dtype = jnp.dtype(config.precision)
        widths = config.hidden_sizes
        self.first: WindowDense | nnx.Linear
        if env.table is not None:
            window_layer = env.window_layer or WindowDense
            self.first = window_layer(
                env.window, env.num_features, env.num_context + env.num_account, widths[0], dtype=dtype, rngs=rngs
            )
        else:
            self.first = _linear(env.observation_dim, widths[0], 2**0.5, dtype, rngs)
        self.num_hidden = len(widths) - 1
        for i, (fan_in, width) in enumerate(pairwise(widths)):
            setattr(self, f"hidden_{i}", _linear(fan_in, width, 2**0.5, dtype, rngs))
        self.policy = _linear(widths[-1], env.num_actions, 0.01, jnp.float32, rngs)
        self.value = _linear(widths[-1], 1, 1.0, jnp.float32, rngs)

    def __call__(
        self, observation: PyTree, table: RowTable | None, dropout: "Dropout | None" = None
    ) -> tuple[Array, Array]:
        """Return ``(logits [B, A], value [B])`` of an `Observation` into `table`, or of ``[B, D]`` numbers."""
        if table is None:
            assert isinstance(self.first, nnx.Linear)
            return self.heads(self.first(observation.reshape(observation.shape[0], -1)), dropout)
        assert not isinstance(self.first, nnx.Linear)
        return self.heads(self.first(observation.row, table, observation.account), dropout)

    def blocks(
        self, features: Array, context: Array, method: str, dropout: "Dropout | None" = None
    ) -> tuple[Array, Array]:
        """Return ``(logits [K, L, A], value [K, L])`` of blocks of consecutive rows (see `WindowDense.blocks`)."""
        assert not isinstance(self.first, nnx.Linear)
        return self.heads(self.first.blocks(features, context, method), dropout)

    def beside(self, row_part: Array, account: Array, dropout: "Dropout | None" = None) -> tuple[Array, Array]:
        """Return ``(logits [B, A], value [B])`` of ``account [B, E]`` beside rows whose first layer is ``[B, H]``."""
        assert not isinstance(self.first, nnx.Linear)
        return self.heads(row_part + self.first.account_part(account), dropout)

    def heads(self, pre_activation: Array, dropout: "Dropout | None" = None) -> tuple[Array, Array]:
        """Everything after the first layer: ``[..., H]`` to ``(logits [..., A], value [...])``."""
        hidden = jax.nn.relu(pre_activation)
        if dropout is not None:
            hidden = dropout(hidden)
        for i in range(self.num_hidden):
            hidden = jax.nn.relu(getattr(self, f"hidden_{i}")(hidden))
        hidden = hidden.astype(jnp.promote_types(hidden.dtype, jnp.float32))
        return self.policy(hidden), self.value(hidden)[..., 0]


class Dropout:
    """Inverted dropout of one tensor (Srivastava et al. 2014); consumes its key."""

    def __init__(self, rate: Array | float, key: Array):
        self.rate, self.key = rate, key

    def __call__(self, x: Array) -> Array:
        """Return `x` with the share dropped and the rest scaled up."""
        keep = jax.random.bernoulli(self.key, 1.0 - self.rate, x.shape)
        return jnp.where(keep, x / (1.0 - self.rate), 0.0)


def make_network(env: Environment, config: PPOConfig, key: Array) -> tuple[nnx.GraphDef, nnx.State]:
    """Return ``(graph, params)`` of a fresh network; consumes `key`."""
    return nnx.split(ActorCritic(env, config, rngs=nnx.Rngs(params=key)))


def network_graph(env: Environment, config: PPOConfig) -> nnx.GraphDef:
    """Return the network without numbers; nothing is drawn or allocated."""
    network = nnx.eval_shape(lambda: ActorCritic(env, config, rngs=nnx.Rngs(params=0)))
    return nnx.split(network)[0]


def _linear(fan_in: int, width: int, gain: float, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    narrow = dtype != jnp.float32
    return nnx.Linear(
        fan_in,
        width,
        kernel_init=orthogonal(gain),
        dtype=dtype if narrow else None,
        precision=None if narrow else FLOAT32,
        rngs=rngs,
    )
