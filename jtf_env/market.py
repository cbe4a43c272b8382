"""`Market`: everything a step or an observation reads about one symbol, as arrays indexed by bar.

The tables are computed, and scaled, in float64 whatever the precision of training, and rounded once at the end: a
float32 market is the correctly rounded float64 one. A model's market takes two steps, because the scaler is fitted on
the natural units of the training bars::

    natural = build_market(bars, layout, window=window, dtype=jnp.float64)
    features, context = np.asarray(natural.features), np.asarray(natural.context)
    scaler = fit_scaler(features[:stop], context[:stop], natural.layout.warmup)
    market = scale_market(natural, scaler)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jtf_env.bars import Bars, check_enough_bars
from jtf_env.errors import LayoutError
from jtf_env.features import BarInputs, bar_inputs, context_table, feature_table
from jtf_env.layouts import DEFAULT_WINDOW, Group, Layout, get_layout
from jtf_env.scaler import CLIP, Scaler
from jtf_env.stretches import ROW_FIELDS, Stretch, StretchRows, cut_stretches, stretch_rows


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Market:
    """One symbol over `T` bars: a pytree passed as an argument, never captured; equal sizes stack for `vmap`."""

    features: Array
    """``[T, F]`` columns of the layout's ``bar`` groups, natural units or standardised."""
    context: Array
    """``[T, C]`` columns of its ``context`` groups (``C`` may be 0)."""
    open: Array
    """``[T]`` USD."""
    high: Array
    """``[T]`` USD."""
    low: Array
    """``[T]`` USD."""
    close: Array
    """``[T]`` USD."""
    tradable: Array
    """``[T]`` bool; nothing fills on a bar that is not."""
    segment_end: Array
    """``[T]`` int32, last row of the stretch that a row belongs to; -1 for a row in no stretch."""
    start_rows: Array
    """``[T]`` int32, rows at which an episode may start, in order of time; the rest repeats the last one."""
    num_starts: Array
    """``[]`` int32, how many of `start_rows` count."""
    next_start: Array
    """``[T]`` int32, first row of the stretch after a row's own, of the last one that of the first; else -1."""
    layout: Layout = field(metadata={"static": True})
    """Static. The columns and their order."""
    window: int = field(metadata={"static": True})
    """Static. Bars in an observation."""
    first_bar: int = field(metadata={"static": True})
    """Static. First bar at which a decision may be made: the window behind it is full and warm."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the table's columns, those of `features` first, then those of `context`."""
        return self.layout.bar_columns + self.layout.context_columns

    @property
    def num_bars(self) -> int:
        """Number of bars `T`."""
        return self.close.shape[-1]


def build_market(
    bars: Bars,
    layout: str | Layout = "v5.6.0",
    scaler: Scaler | None = None,
    *,
    window: int = DEFAULT_WINDOW,
    dtype: DTypeLike = jnp.float32,
) -> Market:
    """Compute all columns of `layout` over `bars`.

    Natural units without `scaler`, else standardised and clipped to +-10. A float64 `dtype` needs
    `jax.enable_x64` around whatever uses the market later. Raises `LayoutError` for a layout without
    builders or a scaler of another layout, `BarsError` for fewer than warm-up + window + 1 bars.
    """
    layout = get_layout(layout)
    check_enough_bars(bars, layout, window)
    first_bar = layout.first_bar(window)
    with jax.enable_x64(True):
        inputs = bar_inputs(bars, layout.hour_visibility)
        groups = tuple(group for group in layout.groups if group.source != "state")
        padded = _tables(inputs, groups, 60 // bars.bar_minutes)
        tables = padded[0][: len(bars)], padded[1][: len(bars)]
        if scaler is not None:
            tables = _standardise(*tables, *_moments(scaler, layout))
        return Market(
            features=tables[0].astype(dtype),
            context=tables[1].astype(dtype),
            open=jnp.asarray(bars.open, dtype),
            high=jnp.asarray(bars.high, dtype),
            low=jnp.asarray(bars.low, dtype),
            close=jnp.asarray(bars.close, dtype),
            tradable=jnp.asarray(bars.tradable),
            **device_rows(stretch_rows([(first_bar, len(bars))], len(bars))),
            layout=layout,
            window=window,
            first_bar=first_bar,
        )


def scale_market(market: Market, scaler: Scaler, dtype: DTypeLike = jnp.float32) -> Market:
    """Return a float64 `market` in natural units, standardised and clipped to +-10, all its numbers rounded to `dtype`.

    Raises `LayoutError` for the scaler of another layout, and `TypeError` for a market that was rounded before.
    """
    if market.features.dtype != jnp.float64:
        raise TypeError(f"a market is scaled in float64, not in {market.features.dtype}; build it with that dtype.")
    moments = _moments(scaler, market.layout)
    with jax.enable_x64(True):
        features, context = _standardise(market.features, market.context, *moments)
        prices = {name: getattr(market, name).astype(dtype) for name in ("open", "high", "low", "close")}
        return replace(market, features=features.astype(dtype), context=context.astype(dtype), **prices)


def fold_market(market: Market, stretches: Sequence[Stretch], length: int | None = None) -> Market:
    """Return the rows ``[first start - (window - 1), last stop)`` with decisions in `stretches` only.

    A stretch ``(start, stop)`` has its decisions at rows ``start .. stop - 2`` and its last mark at ``stop - 1``.
    The columns keep what they knew of earlier bars. The new market's `first_bar` is ``window - 1``. It is padded
    to `length` rows with zeros that are untradable and in no stretch: folds of one length share one compiled
    program. Raises `BarsError` for stretches that do not fit `market`, are out of order or lie in the window of
    one another, and for a `length` that is too short.
    """
    cut = cut_stretches(stretches, np.asarray(market.segment_end), market.window, length)
    columns = {name: np.asarray(getattr(market, name))[cut.rows] for name in ROW_FIELDS}
    padded = {name: np.pad(x, [(0, cut.padding)] + [(0, 0)] * (x.ndim - 1)) for name, x in columns.items()}
    with jax.enable_x64(True):
        device: dict[str, Any] = {name: jnp.asarray(column) for name, column in padded.items()}
        return replace(market, **device, **device_rows(cut.marks), first_bar=market.window - 1)


def market_segment(market: Market, start: int, stop: int) -> Market:
    """Return `fold_market` of the one stretch ``(start, stop)``."""
    return fold_market(market, [(start, stop)])


def device_rows(marks: StretchRows) -> dict[str, Any]:
    """Return the stretch fields of a `Market` on the device, by name."""
    return {name: jnp.asarray(rows) for name, rows in marks._asdict().items()}


def _moments(scaler: Scaler, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation, each ``[F + C]`` float64, checked against the layout."""
    count = len(layout.bar_columns) + len(layout.context_columns)
    if len(scaler.mean) != count:
        raise LayoutError(
            f"the scaler has {len(scaler.mean)} columns and layout {layout.name} has {count}; "
            f"fit it on a market of that layout."
        )
    return np.asarray(scaler.mean, np.float64), np.asarray(scaler.std, np.float64)


@jax.jit
def _standardise(features: Array, context: Array, mean: Array, std: Array) -> tuple[Array, Array]:
    """Return both tables as ``clip((x - mean) / std, -10, 10)``; `mean` and `std` are ``[F + C]``."""
    split = features.shape[1]

    def scaled(table: Array, columns: slice) -> Array:
        return jnp.clip((table - mean[None, columns]) / std[None, columns], -CLIP, CLIP)

    return scaled(features, slice(None, split)), scaled(context, slice(split, None))


@partial(jax.jit, static_argnums=(1, 2))
def _tables(inputs: BarInputs, groups: tuple[Group, ...], bars_per_hour: int) -> tuple[Array, Array]:
    """Return ``features [T, F]`` and ``context [T, C]`` in natural units: all columns in one compiled program."""
    return feature_table(inputs, groups), context_table(inputs, groups, bars_per_hour)
