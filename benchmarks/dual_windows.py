"""Two windows in full: the last 100 bars of 15 minutes beside the last 100 completed hours, 51 columns each.

The architecture that the broadcast columns were chosen over. In the row engine a policy is a function of the bar, so
the second window is rows of hourly bars gathered by an index. A 15-minute row carries beside its own columns those of
the last hour completed when it starts; its context says how many rows back each hour of its window appeared. The window
of such a market is therefore as many rows as 100 hours take (`reach`), 400 where trading never stops.

Axes: `[T]` bars, `[H]` hourly bars, `[W]` window, `[F]` columns of a layout.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from benchmarks.two_timeframes import ALONE, TwoTimeframes, rows_back
from jtf.environment import make_environment, make_validation, on_device
from jtf.problem import Problem
from jtf.results.metrics import annualisation
from jtf_env.market import Market, device_rows, fold_market, scale_market
from jtf_env.stretches import stretch_rows
from jtf_ppo.window_dense import WindowDense


def dual_market(market: Market, hourly: Market, last: np.ndarray) -> Market:
    """Return `market` with the hourly columns beside its own and the places of the hours as context.

    Features ``[T, 2F]``: the bar's columns, then those of its last completed hour. Context ``[T, 1 + W]``: the number
    of that hour, and `rows_back`. Both markets are standardised, float32.
    """
    back = rows_back(last, hourly.window)
    first = max(int(np.searchsorted(last, hourly.first_bar)), market.first_bar)
    features = np.concatenate([market.features, np.asarray(hourly.features)[np.maximum(last, 0)]], axis=1)
    context = np.concatenate([last[:, None], back], axis=1).astype(np.float32)
    return replace(
        market,
        features=jnp.asarray(features),
        context=jnp.asarray(context),
        window=max(int(back[first:].max()) + 1, market.window),
        first_bar=first,
        **device_rows(stretch_rows([(first, market.num_bars)], market.num_bars)),
    )


def dual_problem(both: TwoTimeframes, quarters: Problem, hours: Problem, cost_warmup: float) -> tuple[Problem, Market]:
    """Return the problem of both windows, each standardised as in its own problem, and its market of all bars."""
    natural = both.natural[ALONE]
    market = dual_market(scale_market(natural, quarters.scaler), scale_market(both.hourly, hours.scaler), both.last)
    train = fold_market(market, [(part.start, part.stop) for part in both.fold.train])
    held_out = fold_market(market, [(both.fold.validation.start, both.fold.validation.stop)])
    columns = natural.features.shape[1]
    environment = replace(
        make_environment(train, cost_warmup),
        observation_dim=2 * natural.window * columns,
        num_features=2 * columns,
        num_context=1 + both.hourly.window,
        window_layer=DualWindowDense,
    )
    data = (train, on_device(both.params))
    validation = make_validation(held_out, data[1], annualisation(both.bars_per_year))
    return replace(quarters, environment=environment, data=data, validation=validation), market


class DualWindowDense(nnx.Module):
    """A dense layer over both windows of a `dual_market`, ``2 W F`` inputs; the arguments are those of `WindowDense`.

    Every hour's window meets the kernel once, however many bars see it.
    """

    def __init__(
        self, window: int, num_features: int, num_context: int, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.window, self.columns, self.reach = num_context - 1, num_features // 2, window
        self.quarters = self._half(width, dtype, rngs)
        self.hours = self._half(width, dtype, rngs)

    def _half(self, width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> WindowDense:
        """Return one window's layer: twice the inputs halve the variance of a weight (He et al. 2015)."""
        layer = WindowDense(self.window, self.columns, 0, width, dtype=dtype, rngs=rngs)
        layer.kernel = nnx.Param(layer.kernel[...] / np.sqrt(2.0))
        return layer

    def blocks(self, features: Array, context: Array, method: str) -> Array:
        """Apply to blocks ``features [K, L + reach - 1, 2F]`` and ``context [K, L, 1 + W]``: ``[K, L, width]``.

        Rows that no decision reads have zeros as context; what comes out for them is finite and means nothing.
        """
        history, empty = self.reach - 1, context[..., :0]
        quarters = features[:, self.reach - self.window :, : self.columns]
        rows, hour = hour_rows(context, history)
        hourly = jnp.take_along_axis(features[..., self.columns :], rows[..., None], axis=1)
        of_hours = self.hours.blocks(hourly, empty[:, : rows.shape[1] - self.window + 1], method)
        return self.quarters.blocks(quarters, empty, method) + jnp.take_along_axis(of_hours, hour[..., None], axis=1)


def hour_rows(context: Array, history: int) -> tuple[Array, Array]:
    """Return where the hours of blocks are, and which of them each row sees.

    Parameters
    ----------
    context: ``[K, L, 1 + W]`` of a `dual_market`, zeros on rows that nobody reads.
    history: rows of a block before its first one.

    Returns
    -------
    rows: ``[K, W + G - 1]`` int32, the block's row that carries each hour, oldest first: `W` hours up to the one that
        the first row sees and the ``G - 1 = L // 2`` that may follow inside the block.
    hour: ``[K, L]`` int32, which of the `G` windows over `rows` a row sees.
    """
    length = context.shape[1]
    seen = context[..., 0].astype(jnp.int32)
    start = jnp.argmax(seen > 0, axis=1)
    hour = seen - jnp.take_along_axis(seen, start[:, None], axis=1)
    back = jnp.take_along_axis(context[..., 1:], start[:, None, None], axis=1)[:, 0].astype(jnp.int32)
    later = jax.vmap(jnp.searchsorted, in_axes=(0, None))(hour, jnp.arange(1, length // 2 + 1, dtype=jnp.int32))
    rows = jnp.concatenate([start[:, None] - back[:, ::-1], jnp.minimum(later, length - 1)], axis=1)
    return history + rows, jnp.clip(hour, 0, length // 2)
