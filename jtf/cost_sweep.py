"""What a policy earns at other costs, and where orders fill at the other price: one compiled program for all of them.

Axis letters: `[C]` costs, `[T]` rows. `jtf.results.costs` is the same on the NumPy mirror.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jtf.environment import Decide, ValidationData, pass_metrics, trade_once
from jtf.results.costs import FILLS
from jtf_env.params import EnvParams, Fill

Sweep = dict[str, dict[str, Array]]
"""Fill mode -> metric -> ``[C]``; the metrics are those of `jtf.environment.pass_metrics`, NaN where undefined."""


def sweep_costs(decide_with: Callable[[EnvParams], Decide], data: ValidationData, costs: Array) -> Sweep:
    """Return the metrics of one pass over the market of `data` at ``costs [C]`` (fractions) and both fill modes.

    A cost is charged as the fee, with no slippage, so that stops lie where the market's own prices put them.
    `decide_with` returns the decisions under some parameters: a policy that sees its account decides anew at every
    cost. Pure; compile it whole.
    """

    def at(cost: Array, fill: Fill) -> dict[str, Array]:
        changes: dict[str, Any] = {"fee": cost, "slippage": jnp.zeros_like(cost), "episode_bars": 0, "fill": fill}
        params = replace(data.params, **changes)
        return pass_metrics(trade_once(decide_with(params), data.market, params), data._replace(params=params))

    return {fill: jax.vmap(lambda cost, fill=fill: at(cost, fill))(costs) for fill in FILLS}


@jax.jit
def sweep_actions(actions: Array, data: ValidationData, costs: Array) -> Sweep:
    """Return `sweep_costs` of one action a row, ``actions [T]``: what an address-only policy decides at every cost."""
    return sweep_costs(lambda params: lambda state: actions[state.bar], data, costs)
