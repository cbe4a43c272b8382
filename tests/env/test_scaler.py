"""The scaler: moments of the training rows, in float64, and what a constant column becomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from scipy.signal import lfilter

from jtf_env import market as jax_market
from jtf_env import mirror
from jtf_env.scaler import CLIP, LARGEST_INFLATION, Scaler, fit_scaler, long_run_scaler, variance_inflation
from tests.env.helpers import random_bars

pytestmark = pytest.mark.quick

NO_CONTEXT = np.zeros((500, 0))


def autoregression(coefficient: float, seed: int) -> np.ndarray:
    """``[400_000, 1]`` of unit innovations."""
    return lfilter([1.0], [1.0, -coefficient], np.random.default_rng(seed).normal(size=400_000))[:, None]


def column(values: np.ndarray | float) -> np.ndarray:
    """One column of 500 rows."""
    return np.broadcast_to(np.asarray(values, np.float64), (500,))[:, None].copy()


def scaler_of(values: np.ndarray | float) -> Scaler:
    return fit_scaler(column(values), NO_CONTEXT)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=500)


def test_mean_and_deviation_are_those_of_the_rows_from_the_first_bar(noise):
    table = np.stack([noise, 5.0 + 3.0 * noise], axis=1)
    scaler = fit_scaler(table[:, :1], table[:, 1:], first_bar=100)
    np.testing.assert_allclose(scaler.mean, table[100:].mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(scaler.std, table[100:].std(axis=0), rtol=1e-14)


@given(st.floats(-1e12, 1e12))
def test_one_number_repeated_is_a_constant_column(number):
    assert np.isinf(scaler_of(number).std[0])


@pytest.mark.parametrize("magnitude", [0.0, 0.3, 1.0, 1e6])
def test_rounding_around_one_number_is_a_constant_column(magnitude, noise):
    assert np.isinf(scaler_of(magnitude * (1.0 + 1e-13 * noise)).std[0])


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1e-7), (1e-6, 1e-6), (0.5, 1e-6), (30_000.0, 0.01)])
def test_small_moves_are_not_a_constant_column(mean, deviation, noise):
    assert scaler_of(mean + deviation * noise).std[0] == pytest.approx(deviation, rel=0.1)


def test_one_row_that_differs_makes_a_column_that_is_not_constant():
    values = np.full(140_000, 0.5)
    values[70_000] = 0.6
    scaler = fit_scaler(values[:, None], np.zeros((140_000, 0)))
    assert scaler.std[0] == pytest.approx(0.1 / np.sqrt(140_000), rel=1e-3)


@pytest.mark.parametrize(("coefficient", "inflation"), [(-0.5, 1.0), (0.0, 1.0), (0.5, 3.0), (0.95, 39.0)])
def test_the_inflation_of_an_autoregression_is_that_of_its_sum(coefficient, inflation):
    assert variance_inflation(autoregression(coefficient, 1))[0] == pytest.approx(inflation, rel=0.05)


def test_the_inflation_of_a_column_that_hardly_moves_is_bounded():
    assert variance_inflation(np.arange(10_000.0)[:, None])[0] == pytest.approx(LARGEST_INFLATION)


def test_the_long_run_deviation_is_that_of_a_windows_mean():
    # The mean of 100 values of an AR(1) of coefficient .9: its deviation times 10 is the long-run deviation.
    path = autoregression(0.9, 2)
    scaler = long_run_scaler(fit_scaler(path, np.zeros((len(path), 0))), path)
    assert scaler.std[0] == pytest.approx(10 * path.reshape(-1, 100).mean(axis=1).std(), rel=0.06)


def test_context_columns_keep_the_deviation_of_a_bar(noise):
    table = np.stack([noise, np.cumsum(noise)], axis=1)
    scaler = fit_scaler(table[:, :1], table[:, 1:])
    assert long_run_scaler(scaler, table[:, :1]).std[1] == scaler.std[1]


def test_a_constant_column_stays_constant_in_the_long_run():
    assert np.isinf(long_run_scaler(scaler_of(0.3), column(0.3)).std[0])


def test_rounded_tables_are_refused():
    with pytest.raises(TypeError, match="float64 tables, not on float32 and float64"):
        fit_scaler(column(1.0).astype(np.float32), NO_CONTEXT)


def test_a_scaler_with_a_constant_column_survives_a_file():
    std = load(save({"std": scaler_of(0.3).std}))["std"]
    assert std.dtype == np.float64 and np.isinf(std[0])


@pytest.fixture(scope="module")
def frozen_month() -> tuple[Scaler, mirror.Market]:
    """600 bars from 1 January 2024, the scaler fitted on its first 400 with two columns made constant, 0.3 and 0."""
    market = mirror.build_market(random_bars(600))
    features = market.features.copy()
    for name, value in (("month_sin", 0.3), ("roc", 0.0)):
        features[:400, market.layout.bar_columns.index(name)] = value
    return fit_scaler(features[:400], market.context[:400]), market


@pytest.mark.parametrize("name", ["month_sin", "roc"])
def test_a_column_constant_in_training_is_exactly_zero_on_both_sides_whatever_comes_later(frozen_month, name):
    scaler, market = frozen_month
    index = market.layout.bar_columns.index(name)
    with jax.enable_x64(True):
        natural = jax_market.build_market(random_bars(600), dtype=jnp.float64)
    for scaled in (jax_market.scale_market(natural, scaler), mirror.scale_market(market, scaler)):
        assert not np.asarray(scaled.features)[:, index].any()
        assert np.abs(np.asarray(scaled.features)).max() <= CLIP
