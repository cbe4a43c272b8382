"""The environment behind gymnax's 1.0 interface, so that PureJaxRL-style trainers run it unmodified."""

from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment as gymnax_environment
from gymnax.environments import spaces

from jtf_env import environment
from jtf_env.actions import NUM_ACTIONS
from jtf_env.market import Market
from jtf_env.params import EnvParams
from jtf_env.state import EnvState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TradingParams:
    """What gymnax calls the environment parameters: the market travels here, so it is an argument of every step."""

    market: Market
    env: EnvParams


class TradingEnv(gymnax_environment.Environment):
    """``reset(key, params)`` and ``step(key, state, action, params)`` with observations ``[W, F + C + E]``.

    `market` and `params` only make `default_params`; trainers should pass these as an argument through `jax.jit`,
    because an array captured by a closure becomes a constant of the program. The base class resets by itself and
    returns ``info["final_observation"]``.
    """

    def __init__(self, market: Market, params: EnvParams | None = None) -> None:
        super().__init__()
        self._default = TradingParams(market, EnvParams() if params is None else params)

    @property
    def default_params(self) -> TradingParams:
        """Market and parameters given at construction."""
        return self._default

    def reset_env(self, key: jax.Array, params: TradingParams) -> tuple[jax.Array, EnvState]:
        """Start at a drawn bar. Consumes `key`."""
        state = environment.reset(key, params.market, params.env)
        return environment.observe(params.market, state, params.env), state

    def step_env(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: TradingParams
    ) -> tuple[jax.Array, EnvState, jax.Array, jax.Array, dict[str, jax.Array]]:
        """Execute one decision without reset: ``(observation, state, reward, terminated, info)``; `key` is unused."""
        final, result = environment.step(state, jnp.asarray(action, jnp.int32), params.market, params.env)
        info = {f.name: getattr(result.info, f.name) for f in fields(result.info) if f.name != "components"}
        return environment.observe(params.market, final, params.env), final, result.reward, result.terminated, info

    def is_truncated(self, state: EnvState, params: TradingParams) -> jax.Array:
        """Whether `state` is the end of the episode length or of the data, and not ruin."""
        return environment.endings(state, params.market, params.env)[1]

    def is_terminated(self, state: EnvState, params: TradingParams) -> jax.Array:
        """Whether `state` is ruin."""
        return environment.endings(state, params.market, params.env)[0]

    def observe(self, key: jax.Array, state: EnvState, action: Any, params: TradingParams) -> jax.Array:
        """Return the observation ``[W, F + C + E]``; `key` and `action` are unused."""
        return environment.observe(params.market, state, params.env)

    @property
    def name(self) -> str:
        """Environment name."""
        return "Trading-v1"

    @property
    def num_actions(self) -> int:
        """Number of action codes."""
        return NUM_ACTIONS

    def action_space(self, params: TradingParams | None = None) -> spaces.Discrete:
        """Eight action codes."""
        return spaces.Discrete(NUM_ACTIONS)

    def observation_space(self, params: TradingParams | None = None) -> spaces.Box:
        """Unbounded ``[W, F + C + E]`` float32."""
        market = (params or self._default).market
        return spaces.Box(-jnp.inf, jnp.inf, (market.window, market.layout.count), jnp.float32)
