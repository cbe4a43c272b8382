"""The environment as a `gymnasium.Env`: one account, NumPy in and out, for libraries outside JAX."""

from dataclasses import fields
from typing import Any

import gymnasium
import jax
import numpy as np

from jtf_env import environment
from jtf_env.actions import NUM_ACTIONS
from jtf_env.errors import InputError
from jtf_env.market import Market
from jtf_env.params import EnvParams
from jtf_env.scaler import CLIP
from jtf_env.state import EnvState, StepInfo


class TradingEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One account on `market`; the rules are those of `jtf_env.environment.step`.

    Observations are float32 ``[W * (F + C + E)]``, the flattened window, oldest bar first. Actions are the eight codes
    of `jtf_env.actions`. ``terminated`` (ruin) and ``truncated`` (end of episode or stretch) are apart. ``info`` holds
    the fields of `StepInfo` and the bar index.

    Parameters
    ----------
    market
        From `jtf_env.build_market`, usually scaled.
    params
        From `jtf_env.make_params`; the defaults when left out.
    seed
        Seeds the start bars of resets that are given no seed of their own.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - the declaration gymnasium.Env makes

    def __init__(self, market: Market, params: EnvParams | None = None, seed: int | None = None) -> None:
        self.market = market
        self.params = EnvParams() if params is None else params
        self.render_mode = None
        rows = (market.features, market.context)
        account = 1.0 if market.layout.address_only else CLIP
        bound = max(account, *(float(np.abs(np.asarray(table)).max(initial=0.0)) for table in rows))
        size = market.layout.obs_dim(market.window)
        self.observation_space = gymnasium.spaces.Box(-bound, bound, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
        self._step = jax.jit(environment.step)
        self._observe = jax.jit(environment.observe)
        self._start_rows = np.asarray(market.start_rows)[: int(market.num_starts)]
        self._state: EnvState | None = None
        if seed is not None:
            super().reset(seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode at a drawn bar, or at ``options={"start_bar": bar}``."""
        super().reset(seed=seed)
        options = options or {}
        if unknown := set(options) - {"start_bar"}:
            raise InputError(f"reset option {sorted(unknown)[0]!r} is unknown; the only one is 'start_bar'.")
        bar = options.get("start_bar")
        if bar is None:
            bar = self._start_rows[self.np_random.integers(len(self._start_rows))]
        if not isinstance(bar, int | np.integer) or bar not in self._start_rows:
            rows = f"{self._start_rows[0]}..{self._start_rows[-1]}"
            raise InputError(f"start_bar {bar!r} is no bar index an episode may start at; choose one of {rows}.")
        self._state = environment.reset_at(int(bar), self.market, self.params)
        return self._observation(self._state), {"bar": int(bar), "equity": float(self._state.equity)}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Execute one decision: ``(observation, reward, terminated, truncated, info)``."""
        if self._state is None:
            raise RuntimeError("step was called before reset; call reset first.")
        if not self.action_space.contains(action):
            raise InputError(f"action {action!r} is none of the codes 0..{NUM_ACTIONS - 1}; see jtf_env.actions.")
        self._state, result = self._step(self._state, np.int32(action), self.market, self.params)
        info = {"bar": int(self._state.bar), **describe(result.info)}
        observation = self._observation(self._state)
        return observation, float(result.reward), bool(result.terminated), bool(result.truncated), info

    def _observation(self, state: EnvState) -> np.ndarray:
        return np.asarray(self._observe(self.market, state, self.params), np.float32).reshape(-1)


def describe(info: StepInfo) -> dict[str, Any]:
    """Return the fields of `info` as Python numbers, the reward components as ``reward/<name>``."""
    values = jax.device_get(info)
    plain = {f.name: getattr(values, f.name).item() for f in fields(values) if f.name != "components"}
    parts = {f"reward/{f.name}": getattr(values.components, f.name).item() for f in fields(values.components)}
    return {**plain, **parts}
