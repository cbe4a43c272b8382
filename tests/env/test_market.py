"""`Market`: what is in it, how it is rounded, scaled and cut."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtf_env.bars import Bars
from jtf_env.errors import BarsError, LayoutError
from jtf_env.features import padded_length
from jtf_env.market import Market, build_market, market_segment, scale_market
from jtf_env.scaler import Scaler, fit_scaler
from tests.env.helpers import random_bars

COUNT = 600


@pytest.fixture(scope="module")
def bars() -> Bars:
    return random_bars(COUNT)


@pytest.fixture(scope="module")
def market(bars) -> Market:
    return build_market(bars)


@pytest.fixture(scope="module")
def exact(bars) -> Market:
    """The same market in float64."""
    with jax.enable_x64(True):
        return build_market(bars, dtype=jnp.float64)


@pytest.fixture(scope="module")
def scaler(exact) -> Scaler:
    return fit_scaler(np.asarray(exact.features)[:400], np.asarray(exact.context)[:400], exact.layout.warmup)


def test_the_default_market_has_51_bar_and_7_context_columns_in_float32(market):
    chex.assert_shape([market.features, market.context], [(COUNT, 51), (COUNT, 7)])
    chex.assert_shape([market.open, market.high, market.low, market.close, market.tradable], (COUNT,))
    chex.assert_type([market.features, market.context, market.close], jnp.float32)
    assert market.tradable.dtype == bool
    assert len(market.column_names) == 58 and market.num_bars == COUNT


def test_the_first_decision_bar_follows_warm_up_and_window(bars, market):
    assert market.first_bar == 101 + 100 - 1
    assert build_market(bars, window=20).first_bar == 101 + 20 - 1


def test_layout_v550_has_no_context_columns(bars, market):
    other = build_market(bars, "v5.5.0")
    assert other.context.shape == (COUNT, 0)
    np.testing.assert_array_equal(other.features, market.features)


def test_the_float32_market_is_the_rounded_float64_one(market, exact):
    for name in ("features", "context", "open", "close"):
        wide = np.asarray(getattr(exact, name))
        assert wide.dtype == np.float64
        np.testing.assert_array_equal(np.asarray(getattr(market, name)), wide.astype(np.float32))


def test_prices_and_tradable_are_those_of_the_bars(bars, exact):
    for name in ("open", "high", "low", "close", "tradable"):
        np.testing.assert_array_equal(getattr(exact, name), getattr(bars, name))


def test_a_prefix_of_the_bars_is_a_prefix_of_the_market(bars, market):
    prefix = build_market(bars[:590])
    np.testing.assert_array_equal(prefix.features, market.features[:590])
    np.testing.assert_array_equal(prefix.context, market.context[:590])


def test_padding_adds_at_most_an_eighth_and_leaves_few_lengths():
    lengths = np.arange(200, 200_000, 7)
    padded = np.array([padded_length(int(n)) for n in lengths])
    assert (padded >= lengths).all() and (padded <= lengths * 1.125).all()
    assert len(set(padded)) < 100


def test_a_market_built_with_a_scaler_is_the_clipped_standardised_one(bars, exact, scaler):
    with jax.enable_x64(True):
        scaled = build_market(bars, scaler=scaler, dtype=jnp.float64)
    table = np.hstack([exact.features, exact.context])
    expected = np.clip((table - scaler.mean) / scaler.std, -10, 10)
    np.testing.assert_allclose(np.hstack([scaled.features, scaled.context]), expected, rtol=1e-12, atol=1e-12)
    assert np.abs(expected).max() == 10.0


def test_scaling_later_equals_scaling_while_building(bars, exact, scaler):
    with jax.enable_x64(True):
        now = build_market(bars, scaler=scaler, dtype=jnp.float64)
        later = scale_market(exact, scaler, dtype=jnp.float64)
    np.testing.assert_allclose(later.features, now.features, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(later.context, now.context, rtol=1e-12, atol=1e-12)


def test_scaling_rounds_tables_and_prices_once_at_the_end(market, exact, scaler):
    with jax.enable_x64(True):
        wide = scale_market(exact, scaler, dtype=jnp.float64)
    scaled = scale_market(exact, scaler)
    for name in ("features", "context"):
        np.testing.assert_array_equal(getattr(scaled, name), np.asarray(getattr(wide, name)).astype(np.float32))
    for name in ("open", "high", "low", "close", "tradable"):
        assert getattr(scaled, name).dtype == getattr(market, name).dtype
        np.testing.assert_array_equal(getattr(scaled, name), getattr(market, name))


def test_a_market_that_was_rounded_before_is_not_scaled(market, scaler):
    with pytest.raises(TypeError, match="scaled in float64, not in float32"):
        scale_market(market, scaler)


def test_a_scaler_of_another_layout_is_refused(bars, exact, scaler):
    foreign = Scaler(scaler.mean[:51], scaler.std[:51])
    for use in (lambda: build_market(bars, scaler=foreign), lambda: scale_market(exact, foreign)):
        with pytest.raises(LayoutError, match=r"scaler has 51 columns and layout v5\.6\.0 has 58"):
            use()


def test_too_few_bars_are_refused_saying_how_many_are_needed(bars):
    with pytest.raises(BarsError, match=r"201 bars are too few .* needs 202"):
        build_market(bars[:201])


def test_a_segment_starts_a_window_before_its_first_decision(market):
    part = market_segment(market, 300, 400)
    assert part.num_bars == 100 + 99 and part.first_bar == 99
    np.testing.assert_array_equal(part.features, market.features[201:400])
    np.testing.assert_array_equal(part.close[part.first_bar], market.close[300])
    np.testing.assert_array_equal(part.context[-1], market.context[399])


@pytest.mark.parametrize(("start", "stop"), [(199, 400), (300, 601), (-1, 300), (600, 700)])
def test_a_segment_outside_the_market_is_refused(market, start, stop):
    with pytest.raises(BarsError, match=rf"segment {start}\.\.{stop} does not fit a market of 600 bars"):
        market_segment(market, start, stop)


def test_markets_of_two_symbols_stack_and_map(market):
    other = build_market(random_bars(COUNT, seed=9))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), market, other)
    got = jax.vmap(lambda m: m.close[m.first_bar] + m.num_bars)(both)
    np.testing.assert_array_equal(got, [market.close[200] + COUNT, other.close[200] + COUNT])


def test_a_function_of_a_market_traces_once_for_two_symbols(market):
    other = build_market(random_bars(COUNT, seed=9))
    mean = jax.jit(chex.assert_max_traces(lambda m: m.features.mean(), n=1))
    assert mean(market) != mean(other)
