"""The environment behind gymnax's two interfaces, so that JAX trainers run it unmodified.

``api="gymnax"`` is that of gymnax 1.0, which keeps the two endings apart. ``api="classic"`` is the older five-tuple
with one ``done``, which rejax 0.1.3, PureJaxRL and Stoix ask for. Both run on gymnax 0.0.9 as well as 1.0.
"""

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from gymnax.environments import environment as gymnax_environment
from gymnax.environments import spaces

from jtf_env import environment
from jtf_env.actions import NUM_ACTIONS
from jtf_env.errors import InputError
from jtf_env.market import Market
from jtf_env.params import EnvParams
from jtf_env.state import EnvState, StepResult

Api = Literal["gymnax", "classic"]
APIS: tuple[Api, ...] = ("gymnax", "classic")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TradingParams:
    """What gymnax calls the environment parameters: the market travels here, so it is an argument of every step."""

    market: Market
    env: EnvParams

    @property
    def max_steps_in_episode(self) -> int | jax.Array:
        """Steps of the longest episode: `episode_bars`, or where that is 0 the number of bars."""
        limit = self.env.episode_bars
        if isinstance(limit, jax.Array):
            return jnp.where(limit > 0, limit, self.market.num_bars)
        return limit or self.market.num_bars


class TradingEnv(gymnax_environment.Environment):
    """``reset(key, params)`` and ``step(key, state, action, params)`` with observations ``[W, F + C + E]``.

    `step` starts a new episode where one ends and returns ``(observation, state, reward, terminated, truncated,
    info)``, or in the classic interface ``(observation, state, reward, done, info)``. ``info`` holds the fields of
    `StepInfo`, ``terminated`` (ruin), ``truncated`` (end of the episode length or of the data), and ``bar``, the row
    the step ended in. ``info["final_observation"]`` is what the step ended with, before any restart. The classic
    interface leaves it out: its trainers stack every ``info``, and this one is as large as the observation.

    `market` and `params` only make `default_params`; trainers should pass these as an argument through `jax.jit`,
    because an array captured by a closure becomes a constant of the program.

    Parameters
    ----------
    market
        From `jtf_env.build_market`, usually scaled.
    params
        From `jtf_env.make_params`; the defaults when left out.
    api
        ``"gymnax"`` or ``"classic"``. Anything else raises `InputError`.
    """

    def __init__(self, market: Market, params: EnvParams | None = None, api: Api = "gymnax") -> None:
        if api not in APIS:
            raise InputError(f"api={api!r} is not one of {', '.join(APIS)}.")
        super().__init__()
        self.api = api
        self._default = TradingParams(market, EnvParams() if params is None else params)

    @property
    def default_params(self) -> TradingParams:
        """Market and parameters given at construction."""
        return self._default

    def reset_env(self, key: jax.Array, params: TradingParams) -> tuple[jax.Array, EnvState]:
        """Start at a drawn bar. Consumes `key`."""
        state = environment.reset(key, params.market, params.env)
        return environment.observe(params.market, state, params.env), state

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: TradingParams | None = None
    ) -> tuple[Any, ...]:
        """Execute one decision and restart where the episode ends. Consumes `key`."""
        params = self.default_params if params is None else params
        following, result, final = environment.autoreset_step(
            key, state, jnp.asarray(action, jnp.int32), params.market, params.env
        )
        info = self._info(result, final)
        if self.api == "gymnax":
            info["final_observation"] = environment.observe(params.market, final, params.env)
        observation = environment.observe(params.market, following, params.env)
        return (observation, following, result.reward, *self._endings(result), info)

    def step_env(
        self, key: jax.Array, state: EnvState, action: jax.Array, params: TradingParams
    ) -> tuple[jax.Array, EnvState, jax.Array, jax.Array, dict[str, jax.Array]]:
        """Execute one decision without reset: ``(observation, state, reward, ending, info)``; `key` is unused.

        ``ending`` is ``terminated``, in the classic interface ``done``.
        """
        final, result = environment.step(state, jnp.asarray(action, jnp.int32), params.market, params.env)
        observation = environment.observe(params.market, final, params.env)
        return observation, final, result.reward, self._endings(result)[0], self._info(result, final)

    def _endings(self, result: StepResult) -> tuple[jax.Array, ...]:
        if self.api == "classic":
            return (result.terminated | result.truncated,)
        return result.terminated, result.truncated

    def _info(self, result: StepResult, final: EnvState) -> dict[str, jax.Array]:
        info = {f.name: getattr(result.info, f.name) for f in fields(result.info) if f.name != "components"}
        return {**info, "bar": final.bar, "terminated": result.terminated, "truncated": result.truncated}

    def is_truncated(self, state: EnvState, params: TradingParams) -> jax.Array:
        """Whether `state` is the end of the episode length or of the data, and not ruin."""
        return environment.endings(state, params.market, params.env)[1]

    def is_terminated(self, state: EnvState, params: TradingParams) -> jax.Array:
        """Whether `state` is ruin."""
        return environment.endings(state, params.market, params.env)[0]

    def is_terminal(self, state: EnvState, params: TradingParams) -> jax.Array:
        """Whether `state` ends the episode: ruin, and in the classic interface also truncation."""
        terminated, truncated = environment.endings(state, params.market, params.env)
        return terminated | truncated if self.api == "classic" else terminated

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
