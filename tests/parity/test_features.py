"""Every column of every layout: JAX and the NumPy mirror, written apart, give the same numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_env import market as jax_market
from jtf_env import mirror
from jtf_env.errors import BarsError, LayoutError
from jtf_env.layouts import LAYOUTS
from tests.parity.samples import EVERY_COLUMN, columns_of, frozen_bars, real_bars, walk_bars

EXACT = 1e-12
"""Absolute and relative difference allowed between the two float64 tables."""
PRICE_DIFFERENCES = ("norm_price", "bollinger_position", "cci")
"""They divide a difference of prices by their deviation: the mean's rounding counts price / deviation times."""
CLOSE = 2e-11
"""Difference allowed in those; the worst is `frozen`, whose deviations come down to 1e-5 of the price."""
HALF_ULP = 2.0**-24
"""Relative error of rounding once to float32, the only one the float32 table makes."""

SAMPLES = ("SPY", "BTCUSDT", "walk", "frozen")


def assert_columns_agree(got, expected, loosened=1.0):
    """Every column within EXACT (PRICE_DIFFERENCES: CLOSE), absolute and relative, times `loosened`."""
    assert got.keys() == expected.keys()
    for name, column in expected.items():
        bound = loosened * (CLOSE if name in PRICE_DIFFERENCES else EXACT)
        np.testing.assert_allclose(got[name], column, rtol=bound, atol=bound, err_msg=name)


@pytest.fixture(scope="module", params=SAMPLES)
def bars(request):
    if request.param == "walk":
        return walk_bars()
    if request.param == "frozen":
        return frozen_bars()
    return real_bars(request.getfixturevalue("real_data"), request.param)


@pytest.fixture(scope="module")
def mirrored(bars):
    return mirror.build_market(bars)


def test_every_column_agrees_in_float64(bars):
    with jax.enable_x64(True):
        market = jax_market.build_market(bars, EVERY_COLUMN, dtype=jnp.float64)
    expected = mirror.build_market(bars, EVERY_COLUMN)
    assert market.column_names == expected.column_names
    assert_columns_agree(columns_of(market), columns_of(expected))


def test_every_layout_holds_its_columns_in_its_order_on_both_sides():
    bars = walk_bars(400)
    every = columns_of(mirror.build_market(bars, EVERY_COLUMN))
    for layout in LAYOUTS.values():
        names = tuple(name for name in layout.columns if name in every)
        assert set(layout.columns) - set(names) == set(layout.state_columns)
        mirrored = mirror.build_market(bars, layout)
        with jax.enable_x64(True):
            market = jax_market.build_market(bars, layout, dtype=jnp.float64)
        assert market.column_names == mirrored.column_names == names, layout.name
        for name, column in columns_of(mirrored).items():
            np.testing.assert_array_equal(column, every[name], f"{layout.name} {name}")
        assert_columns_agree(columns_of(market), columns_of(mirrored))


def test_float32_columns_are_the_mirror_rounded_once(bars, mirrored):
    market = jax_market.build_market(bars)
    assert market.features.dtype == market.context.dtype == jnp.float32
    chex.assert_trees_all_close(columns_of(market), columns_of(mirrored), rtol=1.01 * HALF_ULP, atol=1e-9)


def test_standardised_columns_agree_in_float64(bars, mirrored):
    scaler = mirror.fit_scaler(mirrored.features, mirrored.context, mirrored.first_bar)
    with jax.enable_x64(True):
        market = jax_market.scale_market(jax_market.build_market(bars, dtype=jnp.float64), scaler, jnp.float64)
    expected = mirror.build_market(bars, scaler=scaler)
    # Differences in natural units are divided by deviations down to 1e-4.
    assert_columns_agree(columns_of(market), columns_of(expected), loosened=1e4)


def test_prices_and_tradable_bars_agree(bars, mirrored):
    with jax.enable_x64(True):
        market = jax_market.build_market(bars, dtype=jnp.float64)
    for name in ("open", "high", "low", "close", "tradable"):
        np.testing.assert_array_equal(np.asarray(getattr(market, name)), getattr(mirrored, name))


def test_first_decision_bar_and_window_agree(bars, mirrored):
    market = jax_market.build_market(bars)
    assert (market.first_bar, market.window) == (mirrored.first_bar, mirrored.window) == (200, 100)
    assert market.num_bars == mirrored.num_bars == len(bars)


def test_segments_agree(bars, mirrored):
    with jax.enable_x64(True):
        segment = jax_market.market_segment(jax_market.build_market(bars, dtype=jnp.float64), 1000, 1500)
    expected = mirror.market_segment(mirrored, 1000, 1500)
    assert (segment.first_bar, segment.num_bars) == (expected.first_bar, expected.num_bars) == (99, 599)
    assert_columns_agree(columns_of(segment), columns_of(expected))


def test_cold_rows_of_the_mirror_hold_the_neutral_values(mirrored):
    columns = columns_of(mirrored)
    for group in mirrored.layout.groups:
        if group.source == "bar":
            for name, neutral in zip(group.columns, group.neutral, strict=True):
                np.testing.assert_array_equal(columns[name][: group.warmup], neutral)


def test_mirror_columns_are_finite_where_prices_stand_still():
    market = mirror.build_market(frozen_bars())
    assert np.isfinite(market.features).all()
    assert np.isfinite(market.context).all()


def test_a_flat_window_gives_the_neutral_values():
    # frozen_bars stand still in rows 500..649, so that at row 640 every window of up to 100 bars is flat;
    # recursions (MACD, ADX, RSI, ATR) remember the walk before and have no denominator that vanishes.
    columns = columns_of(mirror.build_market(frozen_bars()))
    flat = (
        "norm_price",
        "volatility",
        "stoch_k",
        "stoch_d",
        "bollinger_position",
        "cci",
        "williams_r",
        "range_100",
    )
    neutral = (0.0, 0.0, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5)
    assert tuple(columns[name][640] for name in flat) == neutral


def test_each_filter_gives_probabilities(mirrored):
    columns = columns_of(mirrored)
    states = [name for group in mirrored.layout.groups if group.name == "markov12" for name in group.columns]
    posteriors = np.stack([columns[name] for name in states], axis=1).reshape(-1, 4, 3)
    assert posteriors.min() > 0.0
    np.testing.assert_allclose(posteriors.sum(axis=-1), 1.0, rtol=1e-12)


def test_turns_and_continuation_leave_what_has_one_of_the_filters_flat(mirrored):
    columns = columns_of(mirrored)
    told = columns["turn_up"] + columns["continue"] + columns["turn_down"]
    moving = [columns[f"{name}_down"] + columns[f"{name}_up"] for name in ("trend", "momentum")]
    warm = slice(mirrored.layout.warmup, None)
    np.testing.assert_allclose(told[warm], (moving[0] * moving[1])[warm], rtol=1e-12)


def test_mirror_scaling_is_what_the_scaler_says():
    market = mirror.build_market(walk_bars())
    width = market.features.shape[1] + market.context.shape[1]
    scaler = mirror.Scaler(mean=np.full(width, 0.25), std=np.full(width, 0.03))
    scaled = mirror.scale_market(market, scaler)
    np.testing.assert_allclose(scaled.context[:, 6], np.minimum((market.context[:, 6] - 0.25) / 0.03, 10.0))
    assert np.abs(scaled.features).max() == 10.0


def test_mirror_refuses_the_scaler_of_another_layout():
    market = mirror.build_market(walk_bars(), "v5.5.0")
    with pytest.raises(LayoutError, match=r"58 columns and layout 'v5.5.0' has 51"):
        mirror.scale_market(market, mirror.Scaler(mean=np.zeros(58), std=np.ones(58)))


@pytest.mark.parametrize(("start", "stop"), [(199, 300), (300, 301), (300, 8001)])
def test_mirror_refuses_a_segment_outside_the_decision_bars(start, stop):
    with pytest.raises(BarsError, match=rf"segment {start}\.\.{stop} (does not fit|holds fewer than two rows)"):
        mirror.market_segment(mirror.build_market(walk_bars()), start, stop)
