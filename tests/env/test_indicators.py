"""Kernels against plain NumPy, indicators against TA-Lib on real bars, all in float64."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import talib

from jtf_env import indicators as ind
from jtf_env.bars import Bars, make_bars
from jtf_env.layouts import GROUPS
from jtf_env.market import build_market

WINDOWS = (1, 2, 3, 14, 20, 50, 100)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def windows_of(x: np.ndarray, window: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, window)


@pytest.fixture(scope="module")
def series() -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.003, 400)))


@pytest.mark.parametrize("window", WINDOWS)
def test_rolling_sum_is_the_sum_of_the_last_rows(series, window):
    got = ind.rolling_sum(jnp.asarray(series), window)[window - 1 :]
    np.testing.assert_allclose(got, windows_of(series, window).sum(1), rtol=1e-14)


@pytest.mark.parametrize("window", WINDOWS)
def test_rolling_extrema_are_those_of_the_last_rows(series, window):
    x, rows = jnp.asarray(series), windows_of(series, window)
    np.testing.assert_array_equal(ind.rolling_max(x, window)[window - 1 :], rows.max(1))
    np.testing.assert_array_equal(ind.rolling_min(x, window)[window - 1 :], rows.min(1))


@pytest.mark.parametrize("window", WINDOWS[1:])
def test_rolling_deviation_is_that_of_the_last_rows(series, window):
    got = ind.rolling_price_std(jnp.asarray(series), window)[window - 1 :]
    np.testing.assert_allclose(got, windows_of(series, window).std(1, ddof=1), rtol=1e-12)


def test_rolling_deviation_keeps_precision_on_a_price_a_million_times_larger(series):
    small = series - series.mean()
    got = ind.rolling_price_std(jnp.asarray(small + 2.0**24), 20)[19:]
    np.testing.assert_allclose(got, windows_of(small, 20).std(1, ddof=1), rtol=1e-6)


@pytest.mark.parametrize("price", [0.1, 1 / 3, 123.456, 99_999.99])
@pytest.mark.parametrize("window", [20, 100])
def test_the_deviation_of_a_flat_window_is_exactly_zero(price, window):
    x = jnp.full(150, price)
    assert not np.any(np.asarray(ind.rolling_price_std(x, window))[window - 1 :])
    assert not np.any(np.asarray(ind.rolling_return_std(x - price, window))[window - 1 :])


def test_rolling_sum_after_a_huge_bar_has_passed_is_not_disturbed_by_it():
    x = np.ones(300)
    x[100] = 1e18
    np.testing.assert_array_equal(ind.rolling_sum(jnp.asarray(x), 20)[130:], 20.0)


@pytest.mark.parametrize("start", [0, 13])
def test_the_recursion_equals_a_python_loop(series, start):
    got = ind.recursion(jnp.asarray(series), 0.9, 0.1, start, jnp.asarray(7.0))
    expected = np.zeros(len(series))
    expected[start] = 7.0
    for i in range(start + 1, len(series)):
        expected[i] = 0.9 * expected[i - 1] + 0.1 * series[i]
    np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_garman_klass_volatility_by_hand():
    # Open 100, high 102, low 99, close 101: .5 ln(102/99)^2 = 4.45600e-4, .386294 ln(1.01)^2 = 3.82467e-5, the
    # difference 4.07353e-4. A bar of one price adds 0; the root of the mean of both is .0142715.
    bars = (jnp.array(x) for x in ([100.0, 101.0], [102.0, 101.0], [99.0, 101.0], [101.0, 101.0]))
    np.testing.assert_allclose(ind.garman_klass(*bars, 2)[1], 0.0142715, rtol=3e-6)


def test_a_quotient_by_zero_is_neutral_and_other_quotients_are_exact():
    got = ind.divide(jnp.array([1.0, 1.0, 0.0]), jnp.array([4.0, 0.0, 0.0]), 0.5)
    np.testing.assert_array_equal(got, [0.25, 0.5, 0.5])


# Oracle ------------------------------------------------------------------------------------------


def talib_columns(bars: Bars) -> dict[str, np.ndarray]:
    """The extended columns and base RSI as TA-Lib computes them, scaled as FEATURES.md says."""
    high, low, close = bars.high, bars.low, bars.close
    line, signal, histogram = talib.MACD(close, 12, 26, 9)
    slow_k, slow_d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    return {
        "macd": line / close,
        "macd_signal": signal / close,
        "macd_histogram": histogram / close,
        "adx": talib.ADX(high, low, close, 14) / 100,
        "stoch_k": slow_k / 100,
        "stoch_d": slow_d / 100,
        "atr": talib.ATR(high, low, close, 14) / close,
        "bollinger_position": (close - lower) / (upper - lower),
        "bollinger_upper": (upper - close) / close,
        "bollinger_width": (upper - lower) / middle,
        "cci": talib.CCI(high, low, close, 20) / 200,
        "williams_r": talib.WILLR(high, low, close, 14) / -100,
        "roc": talib.ROC(close, 5) / 100,
        "rsi_21": talib.RSI(close, 21) / 100,
        "rsi": talib.RSI(close, 14) / 100,
    }


@pytest.fixture(scope="module", params=["SPY", "BTCUSDT"])
def columns(request, real_data: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Ours and TA-Lib's columns over the first 8 000 real bars."""
    symbol = request.param
    bars = make_bars(pd.read_parquet(real_data / f"{symbol}_15Min.parquet"), symbol)[:8_000]
    market = build_market(bars, dtype=jnp.float64)
    ours = dict(zip(market.layout.bar_columns, np.asarray(market.features).T, strict=True))
    return ours, talib_columns(bars)


@pytest.mark.parametrize("name", (*GROUPS["extended14"].columns, "rsi"))
def test_after_250_bars_the_column_is_talibs_to_a_millionth(columns, name):
    ours, theirs = columns
    np.testing.assert_allclose(ours[name][250:], theirs[name][250:], rtol=1e-6, atol=1e-12)


def test_seeds_are_talibs_from_the_first_warm_row(columns):
    ours, theirs = columns
    for name in ("macd", "macd_signal", "adx", "atr", "rsi_21"):
        np.testing.assert_allclose(ours[name][34:300], theirs[name][34:300], rtol=1e-9, atol=1e-12, err_msg=name)
