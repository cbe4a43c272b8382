"""The market as NumPy float64 tables: names and fields of `jtf_env.market`, independent arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jtf_env.bars import Bars, check_enough_bars
from jtf_env.errors import LayoutError
from jtf_env.layouts import DEFAULT_LAYOUT, DEFAULT_WINDOW, Layout, get_layout
from jtf_env.mirror.features import bar_inputs, build_columns
from jtf_env.mirror.hourly import hourly_context
from jtf_env.mirror.past import Past
from jtf_env.scaler import CLIP, Scaler
from jtf_env.stretches import ROW_FIELDS, Stretch, cut_stretches, stretch_rows


@dataclass(frozen=True, eq=False)
class Market:
    """One symbol as tables: every number a step or an observation reads is a row of one of them."""

    features: np.ndarray
    """``[T, F]`` columns windowed over the last `window` bars."""
    context: np.ndarray
    """``[T, C]`` columns broadcast over the window; C is 0 where the layout has none."""
    open: np.ndarray
    """``[T]`` USD."""
    high: np.ndarray
    """``[T]`` USD."""
    low: np.ndarray
    """``[T]`` USD."""
    close: np.ndarray
    """``[T]`` USD."""
    tradable: np.ndarray
    """``[T]`` bool, False where nothing fills."""
    segment_end: np.ndarray
    """``[T]`` int32, last row of the stretch that a row belongs to; -1 for a row in no stretch."""
    start_rows: np.ndarray
    """``[T]`` int32, rows at which an episode may start, in order of time; the rest repeats the last one."""
    num_starts: np.ndarray
    """``[]`` int32, how many of `start_rows` count."""
    next_start: np.ndarray
    """``[T]`` int32, first row of the stretch after a row's own, of the last one that of the first; else -1."""
    layout: Layout
    window: int
    """Bars in an observation."""
    first_bar: int
    """First bar at which a decision may be made."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns of ``features`` and ``context``, in observation order."""
        return self.layout.bar_columns + self.layout.context_columns

    @property
    def num_bars(self) -> int:
        """Number of bars `T`."""
        return len(self.close)


def build_market(
    bars: Bars,
    layout: str | Layout = DEFAULT_LAYOUT,
    scaler: Scaler | None = None,
    *,
    window: int = DEFAULT_WINDOW,
) -> Market:
    """Build the tables of `bars`, in natural units or standardised by `scaler`.

    Raises `LayoutError` for an unknown layout and `BarsError` for fewer bars than one decision needs.
    """
    layout = get_layout(layout)
    check_enough_bars(bars, layout, window)
    context = [hourly_context(bars, layout.hour_visibility) for group in layout.groups if group.source == "context"]
    first_bar = layout.first_bar(window)
    market = Market(
        features=build_columns(layout, bar_inputs(bars), Past()),
        context=np.concatenate([np.zeros((len(bars), 0)), *context], axis=1),
        open=bars.open.astype(np.float64),
        high=bars.high.astype(np.float64),
        low=bars.low.astype(np.float64),
        close=bars.close.astype(np.float64),
        tradable=bars.tradable.astype(bool),
        **stretch_rows([(first_bar, len(bars))], len(bars))._asdict(),
        layout=layout,
        window=window,
        first_bar=first_bar,
    )
    return market if scaler is None else scale_market(market, scaler)


def scale_market(market: Market, scaler: Scaler) -> Market:
    """Standardise a market in natural units: ``clip((x - mean) / std, -10, 10)`` column by column."""
    columns = market.features.shape[1]
    if len(scaler.mean) != len(market.column_names):
        raise LayoutError(
            f"the scaler has {len(scaler.mean)} columns and layout {market.layout.name!r} has "
            f"{len(market.column_names)}; use the scaler that was fitted for this layout."
        )
    return replace(
        market,
        features=standardise(market.features, scaler.mean[:columns], scaler.std[:columns]),
        context=standardise(market.context, scaler.mean[columns:], scaler.std[columns:]),
    )


def fold_market(market: Market, stretches: Sequence[Stretch], length: int | None = None) -> Market:
    """Return the rows ``[first start - (window - 1), last stop)`` with decisions in `stretches` only.

    A stretch ``(start, stop)`` has its decisions at rows ``start .. stop - 2`` and its last mark at ``stop - 1``.
    The market is padded to `length` rows with zeros that are untradable and in no stretch. Raises `BarsError` for
    stretches that do not fit `market`, are out of order or lie in the window of one another, and for a `length`
    that is too short.
    """
    cut = cut_stretches(stretches, market.segment_end, market.window, length)
    columns: dict[str, Any] = {}
    for name in ROW_FIELDS:
        kept = getattr(market, name)[cut.rows]
        columns[name] = np.concatenate([kept, np.zeros((cut.padding, *kept.shape[1:]), kept.dtype)])
    return replace(market, **columns, **cut.marks._asdict(), first_bar=market.window - 1)


def market_segment(market: Market, start: int, stop: int) -> Market:
    """Return `fold_market` of the one stretch ``(start, stop)``."""
    return fold_market(market, [(start, stop)])


def standardise(table: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return ``table [T, k]`` standardised by ``mean [k]`` and ``std [k]``, and clipped."""
    return np.minimum(np.maximum((table - mean) / std, -CLIP), CLIP)
