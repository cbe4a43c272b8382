"""Feature groups in float64: definitions, neutral values, guards, causality."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtf_env.bars import Bars, make_bars
from jtf_env.features import bar_inputs, hourly_context7, temporal7
from jtf_env.layouts import GROUPS, get_layout
from jtf_env.market import build_market
from jtf_env.regimes import BLOCK, filter_posteriors, reversal
from tests.env.helpers import bars_from_close, random_bars

LAYOUT = get_layout("v5.6.0")
COUNT = 600


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def table(bars: Bars) -> np.ndarray:
    """All 58 columns, ``[T, 58]`` float64, natural units."""
    market = build_market(bars, LAYOUT, dtype=jnp.float64)
    return np.hstack([market.features, market.context])


def columns(bars: Bars) -> dict[str, np.ndarray]:
    return dict(zip(LAYOUT.columns, table(bars).T, strict=True))


@pytest.fixture(scope="module")
def bars() -> Bars:
    return random_bars(COUNT)


@pytest.fixture(scope="module")
def measured(bars) -> dict[str, np.ndarray]:
    return columns(bars)


def test_every_column_is_finite_on_every_row(measured):
    assert all(np.isfinite(column).all() for column in measured.values())


@pytest.mark.parametrize("name", [g.name for g in LAYOUT.groups if g.source == "bar" and g.warmup])
def test_a_bar_group_is_neutral_before_its_warm_up_and_measured_from_there(measured, name):
    group = GROUPS[name]
    for column, neutral in zip(group.columns, group.neutral, strict=True):
        np.testing.assert_array_equal(measured[column][: group.warmup], neutral, err_msg=column)
        assert measured[column][group.warmup] != neutral, column


@pytest.mark.parametrize("last", [101, 255, 256, 402, COUNT - 2])
def test_bars_after_a_row_never_change_it_not_even_in_the_last_bit(bars, last):
    factor = np.where(np.arange(COUNT) > last, 1.07, 1.0)
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")}
    future = dataclasses.replace(bars, **prices)
    before, after = table(bars), table(future)
    np.testing.assert_array_equal(before[: last + 1], after[: last + 1])
    assert (before[last + 1] != after[last + 1]).any()


def test_a_flat_market_has_neutral_values_wherever_a_denominator_is_zero():
    flat = columns(bars_from_close(np.full(COUNT, 0.1)))
    neutral = {c: n for g in LAYOUT.groups for c, n in zip(g.columns, g.neutral, strict=True)}
    guarded = (*GROUPS["base6"].columns, *GROUPS["extended14"].columns, *GROUPS["multi_window9"].columns)
    for name in guarded:
        np.testing.assert_allclose(flat[name], neutral[name], rtol=0, atol=1e-15, err_msg=name)
    assert all(not flat[name].any() for name in LAYOUT.context_columns[:-1])


def test_base_columns_are_their_formulas(bars, measured):
    close = pd.Series(bars.close)
    q = np.log(close / close.shift())
    span, body = np.log(pd.Series(bars.high / bars.low)), np.log(pd.Series(bars.close / bars.open))
    expected = {
        "norm_price": (close - close.rolling(100).mean()) / close.rolling(100).std(),
        "return": close.diff() / (close.shift() + 1e-8),
        "log_return": q,
        "volatility": (0.5 * span**2 - (2 * np.log(2) - 1) * body**2).rolling(20).mean() ** 0.5,
        "momentum": close / close.shift(10) - 1,
    }
    for name, column in expected.items():
        np.testing.assert_allclose(measured[name][100:], column[100:], rtol=1e-8, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("window", [20, 50, 100])
def test_multi_window_columns_are_their_formulas(bars, measured, window):
    close, low, high = pd.Series(bars.close), pd.Series(bars.low), pd.Series(bars.high)
    q = np.log(close / close.shift())
    lowest, highest = low.rolling(window).min(), high.rolling(window).max()
    expected = {
        f"mean_{window}": q.rolling(window).mean(),
        f"std_{window}": q.rolling(window).std(),
        f"range_{window}": (close - lowest) / (highest - lowest),
    }
    for name, column in expected.items():
        np.testing.assert_allclose(measured[name][101:], column[101:], rtol=1e-9, atol=1e-14, err_msg=name)


# The clock ---------------------------------------------------------------------------------------


def clock_columns(bars: Bars) -> dict[str, np.ndarray]:
    values = [np.asarray(column)[: len(bars)] for column in jax.jit(temporal7)(bar_inputs(bars))]
    return dict(zip(GROUPS["temporal7"].columns, values, strict=True))


def test_the_clock_of_a_24_7_market_is_utc():
    # 2024-01-01 is a Monday; row 24 starts at 06:00 UTC, a quarter of the day; its end is 6.25 h into the day.
    clock = clock_columns(random_bars(100))
    row = {name: column[24] for name, column in clock.items()}
    assert row["hour_sin"] == 1.0 and abs(row["hour_cos"]) < 1e-15
    assert (row["weekday_sin"], row["weekday_cos"]) == (0.0, 1.0)
    assert (row["month_sin"], row["month_cos"]) == (0.0, 1.0)
    assert row["session_progress"] == 6.25 / 24
    assert clock["session_progress"][95] == 1.0


def test_the_clock_of_an_equity_is_new_yorks_on_both_sides_of_a_dst_change():
    # New York leaves winter time on Sunday 2024-03-10: 09:30 is 14:30 UTC on Friday, 13:30 UTC on Monday.
    index = pd.DatetimeIndex(
        [pd.Timestamp(f"2024-03-{day} 09:30", tz="America/New_York") for day in ("08", "11")],
        name="timestamp",
    ).tz_convert("UTC")
    ones = np.ones(2)
    frame = pd.DataFrame({name: ones for name in ("open", "high", "low", "close", "volume")}, index=index)
    clock = clock_columns(make_bars(frame, "SPY"))
    np.testing.assert_allclose(clock["hour_sin"], np.sin(2 * np.pi * 9.5 / 24), rtol=1e-14)
    np.testing.assert_allclose(clock["weekday_sin"], np.sin(2 * np.pi * np.array([4, 0]) / 7), atol=1e-15)
    np.testing.assert_allclose(clock["month_sin"], np.sin(2 * np.pi * 2 / 12), rtol=1e-14)
    np.testing.assert_allclose(clock["session_progress"], 15 / 390, rtol=1e-14)


# Regimes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bars", [1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_the_blocked_filter_equals_the_filter_bar_by_bar(bars):
    s = np.clip(np.random.default_rng(1).normal(0, 3, (2, bars)), -4, 4)
    transition = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    expected = np.empty((3, 2, bars))
    for k in range(2):
        posterior = np.full(3, 1 / 3)
        for i in range(bars):
            posterior = (posterior @ transition) * np.exp(-0.5 * (s[k, i] - np.array([-1, 0, 1])) ** 2)
            posterior /= posterior.sum()
            expected[:, k, i] = posterior
    np.testing.assert_allclose(jax.jit(filter_posteriors)(s), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["volatility", "trend", "momentum", "macro"])
def test_the_posteriors_of_a_filter_sum_to_one(measured, name):
    states = [c for c in GROUPS["markov12"].columns if c.startswith(f"{name}_")]
    np.testing.assert_allclose(sum(measured[c] for c in states), 1.0, rtol=1e-14)


@pytest.fixture(scope="module")
def calm_wild_calm() -> dict[str, np.ndarray]:
    """Columns of 300 calm bars, 100 with ten times the deviation, 200 calm ones."""
    rng = np.random.default_rng(3)
    deviation = np.repeat([0.0005, 0.005, 0.0005], [300, 100, 200])
    with jax.enable_x64(True):
        return columns(bars_from_close(100 * np.exp(np.cumsum(rng.normal(0, 1, COUNT) * deviation))))


def test_the_volatility_state_moves_up_when_a_calm_market_turns_wild(calm_wild_calm):
    high = calm_wild_calm["volatility_high"]
    assert high[200:300].mean() < 0.3
    assert high[310:330].min() > 0.9


def test_the_volatility_state_moves_down_when_a_wild_market_turns_calm(calm_wild_calm):
    low = calm_wild_calm["volatility_low"]
    assert low[310:390].max() < 0.5
    assert low[425:445].min() > 0.9


def test_the_trend_and_macro_states_follow_a_drift_that_turns():
    rng = np.random.default_rng(4)
    drift = np.repeat([0.002, -0.002], COUNT // 2)
    got = columns(bars_from_close(100 * np.exp(np.cumsum(drift + rng.normal(0, 0.002, COUNT)))))
    for name, lag in (("trend", 40), ("macro", 150)):
        assert got[f"{name}_up"][250:300].min() > 0.9, name
        assert got[f"{name}_down"][300 + lag : 300 + lag + 50].min() > 0.9, name


def test_a_turn_is_momentum_against_the_trend_and_a_continuation_momentum_with_it():
    # Trend (down .2, flat .3, up .5), momentum (.6, .3, .1): up .2 x .1, continue .5 x .1 + .2 x .6, down .5 x .6.
    got = reversal(jnp.array([[0.2], [0.3], [0.5]]), jnp.array([[0.6], [0.3], [0.1]]))
    np.testing.assert_allclose(np.hstack(got), [0.02, 0.17, 0.30], rtol=1e-15)


def test_reversal_reads_the_trend_and_the_momentum_filter_of_the_same_bar(measured):
    trend_down, trend_up, momentum_down, momentum_up = (
        measured[f"{name}_{state}"][101:] for name in ("trend", "momentum") for state in ("down", "up")
    )
    np.testing.assert_allclose(measured["turn_up"][101:], trend_down * momentum_up, rtol=1e-15)
    np.testing.assert_allclose(measured["turn_down"][101:], trend_up * momentum_down, rtol=1e-15)
    with_trend = trend_up * momentum_up + trend_down * momentum_down
    np.testing.assert_allclose(measured["continue"][101:], with_trend, rtol=1e-15)
    assert (measured["turn_up"] + measured["continue"] + measured["turn_down"]).max() <= 1.0


def test_roc_is_the_change_over_five_bars(bars, measured):
    np.testing.assert_allclose(measured["roc"][34:], bars.close[34:] / bars.close[29:-5] - 1, rtol=1e-13)


# The hourly context ------------------------------------------------------------------------------

# Three hours of 15-minute closes; wicks of 1 % around open (the close before) and close.
HOURS = np.array([100.0, 101, 102, 103, 104, 103, 105, 106, 100, 101, 102, 103])


HOURLY_CONTEXT = jax.jit(hourly_context7, static_argnums=1)


def hourly_columns(bars: Bars, visibility: str = "previous") -> dict[str, np.ndarray]:
    context = HOURLY_CONTEXT(bar_inputs(bars, visibility), 60 // bars.bar_minutes)
    values = [np.asarray(column)[: len(bars)] for column in context]
    return dict(zip(GROUPS["hourly_context7"].columns, values, strict=True))


def test_the_hour_features_describe_the_previous_completed_clock_hour():
    hourly = hourly_columns(bars_from_close(HOURS, 0.01))
    # Rows 8..11 see hour 1, bars 4..7, closes 104 103 105 106; opens 103 104 103 105.
    np.testing.assert_allclose(hourly["h1_return"][8:], (106 - 104) / 104, rtol=1e-9)
    returns = [104 / 103 - 1, 103 / 104 - 1, 105 / 103 - 1, 106 / 105 - 1]
    np.testing.assert_allclose(hourly["h1_volatility"][8:], np.std(returns, ddof=1), rtol=1e-7)
    np.testing.assert_allclose(hourly["h1_range"][8:], (106 * 1.01 - 103 * 0.99) / 104, rtol=1e-9)


def test_the_first_bar_of_a_session_is_left_out_of_the_hour_volatility():
    hourly = hourly_columns(bars_from_close(HOURS, 0.01))
    returns = [101 / 100 - 1, 102 / 101 - 1, 103 / 102 - 1]
    np.testing.assert_allclose(hourly["h1_volatility"][4:8], np.std(returns, ddof=1), rtol=1e-6)


def test_the_hour_features_are_zero_without_a_previous_hour():
    hourly = hourly_columns(bars_from_close(HOURS, 0.01))
    for name in ("h1_return", "h1_volatility", "h1_range"):
        assert not hourly[name][:4].any() and hourly[name][4:].all()


def test_position_in_hour_is_the_elapsed_share_at_bar_end_on_every_row():
    hourly = hourly_columns(bars_from_close(HOURS, 0.01))
    np.testing.assert_array_equal(hourly["position_in_hour"], [0.25, 0.5, 0.75, 1.0] * 3)


def test_at_close_the_bar_that_completes_an_hour_sees_that_hour():
    hourly = hourly_columns(bars_from_close(HOURS, 0.01), "at_close")
    np.testing.assert_allclose(hourly["h1_return"][3:7], 3 / 100, rtol=1e-9)
    np.testing.assert_allclose(hourly["h1_return"][7:11], 2 / 104, rtol=1e-9)


def test_trend_momentum_and_rsi_count_bars_and_are_zero_before_their_lookback():
    close = 100 + np.array([0.0, 1, 3, 2, 5, 4, 7, 8, 6, 9, 9, 9, 12, 11, 14, 13, 15, 20])
    hourly = hourly_columns(bars_from_close(close))
    assert not hourly["h1_trend"][:16].any() and not hourly["h1_rsi"][:16].any()
    np.testing.assert_allclose(hourly["h1_trend"][16:], [15 / 100, 19 / 101], rtol=1e-9)
    assert not hourly["h1_momentum"][:8].any()
    np.testing.assert_allclose(hourly["h1_momentum"][8], 106 / 105 - 1 - (105 / 100 - 1), rtol=1e-7)
    # Rising among bars 1..16: 1 3 5 7 8 9 12 14 15 are up moves; 2 4 6 11 13 down, two unchanged.
    np.testing.assert_allclose(hourly["h1_rsi"][16], 9 / 16, rtol=0)


def test_lookbacks_scale_with_the_bars_in_an_hour():
    close = 100.0 + np.arange(12)
    index = pd.date_range("2024-01-01", periods=12, freq="30min", tz="UTC", name="timestamp")
    frame = pd.DataFrame({name: close for name in ("open", "high", "low", "close", "volume")}, index=index)
    hourly = hourly_columns(make_bars(frame, "BTC/USD", bar_minutes=30))
    assert not hourly["h1_trend"][:8].any()
    np.testing.assert_allclose(hourly["h1_trend"][8], 8 / 100, rtol=1e-9)
    np.testing.assert_allclose(hourly["h1_momentum"][4], 2 / 102 - 2 / 100, rtol=1e-6)
    np.testing.assert_array_equal(hourly["position_in_hour"], [0.5, 1.0] * 6)
