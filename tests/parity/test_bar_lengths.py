"""5-, 30- and 60-minute bars: both implementations agree, columns are causal, and hours stay hours."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtf_env import market as jax_market
from jtf_env import mirror
from jtf_env.bars import PER_BAR_FIELDS, Bars, make_bars
from jtf_env.resample import resample
from jtf_env.sessions import exchange_schedule
from tests.parity.samples import columns_of
from tests.parity.test_features import assert_columns_agree

ROWS = 2_000
MINUTES = (5, 30, 60)


def stamps_of(symbol: str, minutes: int) -> pd.DatetimeIndex:
    if symbol == "BTCUSDT":
        return pd.date_range("2022-11-21", periods=ROWS, freq=f"{minutes}min", tz="UTC")
    schedule = exchange_schedule(2022, 2023)
    first = int(schedule.open.searchsorted(pd.Timestamp("2022-10-01", tz="UTC")))
    bounds = zip(schedule.open[first:], schedule.close[first:], strict=True)
    days = [pd.date_range(begin, end, freq=f"{minutes}min", inclusive="left") for begin, end in bounds]
    return pd.DatetimeIndex(np.concatenate(days), tz="UTC")[:ROWS]


def walk(symbol: str, minutes: int) -> Bars:
    """Bars of a random walk over a half day, a change of daylight saving and a weekend."""
    rng = np.random.default_rng(3)
    stamps = stamps_of(symbol, minutes)
    close = 100 * np.exp(np.cumsum(0.002 * rng.standard_t(4, len(stamps))))
    open_ = np.concatenate([close[:1], close[:-1]])
    wicks = 1 + 0.001 * rng.random((2, len(stamps)))
    high, low = np.maximum(open_, close) * wicks[0], np.minimum(open_, close) / wicks[1]
    frame = pd.DataFrame({"open": open_, "high": high, "low": low, "close": close, "volume": 1.0}, index=stamps)
    return make_bars(frame, symbol, bar_minutes=minutes)


@pytest.fixture(scope="module", params=[(symbol, minutes) for symbol in ("SPY", "BTCUSDT") for minutes in MINUTES])
def bars(request) -> Bars:
    return walk(*request.param)


def test_every_column_agrees_with_the_mirror(bars):
    with jax.enable_x64(True):
        market = jax_market.build_market(bars, dtype=jnp.float64)
    assert_columns_agree(columns_of(market), columns_of(mirror.build_market(bars)))


def test_every_column_of_a_prefix_is_the_prefix_of_the_column(bars):
    whole, prefix = columns_of(mirror.build_market(bars)), columns_of(mirror.build_market(bars[:1_234]))
    for name, column in prefix.items():
        np.testing.assert_array_equal(column, whole[name][:1_234], err_msg=name)


def test_session_progress_ends_at_one_and_every_bar_is_regular(bars):
    progress = columns_of(mirror.build_market(bars))["session_progress"]
    last = np.append(np.diff(bars.session_open.asi8) != 0, False)
    assert last.sum() > 5
    np.testing.assert_allclose(progress[last], 1.0)
    assert (progress > 0).all() and bars.report.gaps == () and bars.tradable.all()


def test_the_hour_before_and_four_hours_back_are_hours_at_every_bar_length(bars):
    context = columns_of(mirror.build_market(bars))
    per_hour = 60 // bars.bar_minutes
    close, i = bars.close, 1_500
    np.testing.assert_allclose(context["h1_trend"][i], close[i] / close[i - 4 * per_hour] - 1, rtol=1e-6)
    hours = bars.timestamps.floor("h")
    valid = np.flatnonzero((hours[i:] - pd.Timedelta(hours=1)).isin(hours))[0] + i
    if bars.session_ids[valid] == bars.session_ids[valid - per_hour]:
        before = np.flatnonzero(hours == hours[valid] - pd.Timedelta(hours=1))
        expected = (bars.high[before].max() - bars.low[before].min()) / close[before[0]]
        np.testing.assert_allclose(context["h1_range"][valid], expected, rtol=1e-6)


def test_hourly_bars_cut_to_a_slice_keep_every_field(bars):
    assert {len(getattr(bars[10:20], name)) for name in PER_BAR_FIELDS} == {10}


def test_hourly_features_of_resampled_real_bars_agree(real_data):
    fine = make_bars(pd.read_parquet(real_data / "SPY_15Min.parquet"), "SPY")
    hourly = resample(fine, 60)
    with jax.enable_x64(True):
        market = jax_market.build_market(hourly, dtype=jnp.float64)
    assert_columns_agree(columns_of(market), columns_of(mirror.build_market(hourly)))
