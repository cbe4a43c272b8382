"""Longer bars from shorter ones: prices, whole bars only, session edges."""

import numpy as np
import pandas as pd
import pytest

from jtf_env.bars import Bars, make_bars
from jtf_env.errors import BarsError
from jtf_env.resample import resample

pytestmark = pytest.mark.quick

NEW_YORK = "America/New_York"


def rows_at(stamps: pd.DatetimeIndex) -> pd.DataFrame:
    """Return rows whose every price is different."""
    rng = np.random.default_rng(0)
    open_, close = rng.uniform(99, 101, (2, len(stamps)))
    spread = rng.uniform(0, 1, (2, len(stamps)))
    return pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) + spread[0],
            "low": np.minimum(open_, close) - spread[1],
            "close": close,
            "volume": rng.integers(1, 100, len(stamps)).astype(float),
        },
        index=stamps.tz_convert("UTC"),
    )


def day(minutes: int, first: str = "09:30", last: str = "15:59", date: str = "2023-06-01") -> pd.DataFrame:
    return rows_at(pd.date_range(f"{date} {first}", f"{date} {last}", freq=f"{minutes}min", tz=NEW_YORK))


def crypto(minutes: int, periods: int) -> pd.DataFrame:
    return rows_at(pd.date_range("2023-06-01", periods=periods, freq=f"{minutes}min", tz="UTC"))


def clock(bars: Bars) -> list[str]:
    return list(bars.timestamps.tz_convert(NEW_YORK).strftime("%H:%M"))


@pytest.mark.parametrize("minutes", [1, 5])
def test_a_bar_has_the_first_open_highest_high_lowest_low_last_close_and_whole_volume(minutes):
    frame = day(minutes)
    bars = resample(make_bars(frame, "SPY", bar_minutes=minutes), 15)
    size = 15 // minutes
    assert len(bars) == 26
    for k in range(26):
        part = frame.iloc[k * size : (k + 1) * size]
        expected = (part.open.iloc[0], part.high.max(), part.low.min(), part.close.iloc[-1], part.volume.sum())
        assert (bars.open[k], bars.high[k], bars.low[k], bars.close[k], bars.volume[k]) == expected
        assert bars.timestamps[k] == part.index[0]


def test_pandas_makes_the_same_bars_of_a_market_without_a_hole():
    frame = crypto(1, 6_000)
    bars = resample(make_bars(frame, "BTCUSDT", bar_minutes=1), 30)
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    expected = frame.resample("30min").agg(rules)
    for name in rules:
        np.testing.assert_array_equal(getattr(bars, name), expected[name])


def test_two_steps_make_the_same_bars_as_one():
    fine = make_bars(crypto(5, 1_200), "BTCUSDT", bar_minutes=5)
    once, twice = resample(fine, 60), resample(resample(fine, 15), 60)
    for name in ("open", "high", "low", "close", "volume", "timestamps"):
        np.testing.assert_array_equal(getattr(once, name), getattr(twice, name))


def test_a_bar_with_a_missing_row_is_left_out_with_a_count_and_is_a_hole():
    frame = day(5)
    bars = resample(make_bars(frame.drop(index=frame.index[4]), "SPY", bar_minutes=5), 15)
    assert len(bars) == 25 and "09:45" not in clock(bars)
    assert bars.report.incomplete_bins == 1
    assert [gap[2] for gap in bars.report.gaps] == [1]
    assert not bars.tradable[1]


def test_the_cut_bars_at_both_ends_of_the_rows_are_left_out():
    bars = resample(make_bars(crypto(5, 300)[1:-2], "BTCUSDT", bar_minutes=5), 15)
    assert len(bars) == 98
    assert (bars.timestamps[0], bars.report.incomplete_bins) == (pd.Timestamp("2023-06-01 00:15", tz="UTC"), 2)


def test_the_report_keeps_what_happened_to_the_rows():
    bars = resample(make_bars(day(5, "04:00", "19:59"), "SPY", bar_minutes=5), 15)
    assert (bars.report.rows, bars.report.dropped_extended_hours) == (192, 192 - 78)
    assert (bars.report.resampled_from, bars.report.spacing_minutes) == (5, 15.0)


def test_an_hourly_bar_does_not_cross_the_open_or_the_close():
    frame = day(15, "04:00", "19:59")
    for extended_hours in (False, True):
        bars = resample(make_bars(frame, "SPY", extended_hours=extended_hours), 60)
        opening = clock(bars).index("09:00")
        regular = frame.tz_convert(NEW_YORK).between_time("09:30", "09:59")
        assert bars.open[opening] == regular.open.iloc[0]
        assert bars.volume[opening] == regular.volume.sum()
    assert clock(bars)[0] == "04:00" and clock(bars)[-1] == "19:00"


def test_the_last_hourly_bar_of_a_half_day_ends_at_its_close():
    bars = resample(make_bars(day(15, date="2022-11-25"), "SPY"), 60)
    assert clock(bars) == ["09:00", "10:00", "11:00", "12:00"]


def test_outside_regular_hours_the_bars_that_traded_are_enough():
    frame = day(5, "04:00", "19:59")
    thin = frame.drop(index=frame.index[1:11])  # of 04:00-04:55 only 04:00 and 04:55 are left
    bars = resample(make_bars(thin, "SPY", bar_minutes=5, extended_hours=True), 15)
    assert clock(bars)[:3] == ["04:00", "04:45", "05:00"]


@pytest.mark.parametrize("minutes", [5, 15, 30])
def test_bars_a_year_are_those_of_the_longer_bars(minutes):
    fine = make_bars(crypto(minutes, 600), "BTCUSDT", bar_minutes=minutes)
    assert resample(fine, 60).bars_per_year == 8_760


def test_a_length_that_is_no_multiple_is_refused():
    with pytest.raises(BarsError, match="bars of 10 minutes do not make bars of 15"):
        resample(make_bars(crypto(10, 100), "BTCUSDT", bar_minutes=10), 15)


def test_rows_without_one_whole_bar_are_refused():
    with pytest.raises(BarsError, match="no 15-minute bar has all its 5-minute bars"):
        resample(make_bars(crypto(5, 90)[::2], "BTCUSDT", bar_minutes=5), 15)


def test_real_5_minute_nvda_makes_the_real_15_minute_nvda(real_data):
    frame = pd.read_parquet(real_data / "dirty" / "NVDA_5Min_raw_dups_unsorted.parquet")
    frame = frame[~frame.index.duplicated()].sort_index()
    made = resample(make_bars(frame, "NVDA", bar_minutes=5), 15)
    published = make_bars(pd.read_parquet(real_data / "NVDA_15Min.parquet"), "NVDA")
    both, ours, theirs = np.intersect1d(made.timestamps.asi8, published.timestamps.asi8, return_indices=True)
    assert len(both) > 0.99 * len(published)
    np.testing.assert_allclose(made.close[ours], published.close[theirs])
    np.testing.assert_allclose(made.high[ours], published.high[theirs])
