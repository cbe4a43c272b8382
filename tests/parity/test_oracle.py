"""The mirror against others: TA-Lib, whose definitions and seeding it claims to follow, pandas, and hand numbers."""

import numpy as np
import pandas as pd
import pytest
import talib

from jtf_env.layouts import GROUPS
from jtf_env.mirror import build_market
from jtf_env.mirror.indicators import garman_klass
from jtf_env.mirror.past import Past
from jtf_env.mirror.regimes import filter_posteriors, reversal_probabilities
from tests.parity.samples import bars_from_closes, columns_of, real_bars

SETTLED = 250
"""Bars after which the 1e-6 is promised; the next test shows that the seeds agree too."""


@pytest.fixture(scope="module", params=["SPY", "BTCUSDT"])
def measured_and_oracle(request, real_data):
    bars = real_bars(real_data, request.param)
    return columns_of(build_market(bars)), talib_columns(bars.high, bars.low, bars.close)


def talib_columns(high, low, close):
    line, signal, histogram = talib.MACD(close, 12, 26, 9)
    slow_k, slow_d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0, 0)
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


COLUMNS = (*GROUPS["extended14"].columns, "rsi")


@pytest.mark.parametrize("column", COLUMNS)
def test_indicator_equals_talib_to_a_millionth_after_250_bars(measured_and_oracle, column):
    measured, oracle = (table[column][SETTLED:] for table in measured_and_oracle)
    np.testing.assert_allclose(measured, oracle, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("column", COLUMNS)
def test_indicator_is_seeded_as_in_talib(measured_and_oracle, column):
    first_warm = 100 if column == "rsi" else 34
    measured, oracle = (table[column][first_warm:SETTLED] for table in measured_and_oracle)
    np.testing.assert_allclose(measured, oracle, rtol=1e-6, atol=1e-13)


def test_rolling_columns_equal_pandas(real_data):
    bars = real_bars(real_data, "SPY")
    columns = columns_of(build_market(bars))
    close, high, low = (pd.Series(values) for values in (bars.close, bars.high, bars.low))
    log_return = np.log(close).diff()
    span, body = np.log(high / low), np.log(close / bars.open)
    hundred = close.rolling(100)
    lowest, highest = low.rolling(50).min(), high.rolling(50).max()
    expected = {
        "norm_price": (close - hundred.mean()) / hundred.std(),
        "return": close.pct_change(),
        "log_return": log_return,
        "volatility": (0.5 * span**2 - (2 * np.log(2) - 1) * body**2).rolling(20).mean() ** 0.5,
        "momentum": close.pct_change(10),
        "mean_100": log_return.rolling(100).mean(),
        "std_50": log_return.rolling(50).std(),
        "range_50": (close - lowest) / (highest - lowest),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name][101:], values[101:], rtol=1e-7, atol=1e-9, err_msg=name)


def test_clock_columns_of_an_equity_bar(real_data):
    # The last bar of 2022-06-01, a Wednesday, starts at 15:45 in New York and ends with the session.
    bars = real_bars(real_data, "SPY")
    row = int(np.flatnonzero(bars.timestamps == pd.Timestamp("2022-06-01 19:45", tz="UTC"))[0])
    columns = columns_of(build_market(bars))
    turns = {"hour": 15.75 / 24, "weekday": 2 / 7, "month": 5 / 12}
    for name, turn in turns.items():
        assert columns[f"{name}_sin"][row] == pytest.approx(np.sin(2 * np.pi * turn))
        assert columns[f"{name}_cos"][row] == pytest.approx(np.cos(2 * np.pi * turn))
    assert columns["session_progress"][row] == 1.0
    assert columns["session_progress"][row - 25] == pytest.approx(15 / 390)


def test_regime_filter_takes_two_steps_by_hand():
    # Uniform start, s = 1: weights e^-2, e^-1/2, 1 = .135335 .606531 1, of 1.741866: .077696 .348207 .574097.
    # Predicted .9 x own + .05 x others: .116041 .345976 .537982; s = 0: times e^-1/2, 1, e^-1/2 = .070383 .345976
    # .326303, of .742662: .094771 .465859 .439370.
    expected = [[0.077696, 0.348207, 0.574097], [0.094771, 0.465859, 0.439370]]
    np.testing.assert_allclose(filter_posteriors(Past(), np.array([1.0, 0.0])), expected, atol=2e-6)


def test_reversal_probabilities_by_hand():
    # Trend (down .2, flat .3, up .5), momentum (.6, .3, .1): up .2 x .1, continue .5 x .1 + .2 x .6, down .5 x .6.
    got = reversal_probabilities(np.array([[0.2, 0.3, 0.5]]), np.array([[0.6, 0.3, 0.1]]))
    np.testing.assert_allclose(got, [[0.02, 0.17, 0.30]], rtol=1e-15)


def test_garman_klass_volatility_by_hand():
    # Open 100, high 102, low 99, close 101: .5 ln(102/99)^2 = 4.45600e-4, .386294 ln(1.01)^2 = 3.82467e-5, the
    # difference 4.07353e-4. A bar of one price adds 0; the root of the mean of both is .0142715.
    open_, high, low, close = np.array([[100.0, 102.0, 99.0, 101.0], [101.0, 101.0, 101.0, 101.0]]).T
    np.testing.assert_allclose(garman_klass(Past(), open_, high, low, close, 2), [np.nan, 0.0142715], rtol=3e-6)


def test_volatility_filter_moves_when_a_calm_market_turns_wild():
    rng = np.random.default_rng(5)
    deviation = np.where(np.arange(600) < 400, 0.001, 0.01)
    columns = columns_of(
        build_market(bars_from_closes(100.0 * np.exp(np.cumsum(deviation * rng.normal(size=600))), deviation))
    )
    assert columns["volatility_high"][300:400].mean() < 0.4
    assert columns["volatility_high"][415:440].min() > 0.8
