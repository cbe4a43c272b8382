"""Sessions, bars per year and hour windows on every row of the calendar table."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from jtf_env.sessions import (
    compute_hourly_window_indices,
    exchange_schedule,
    label_sessions,
    scheduled_per_year,
)

pytestmark = pytest.mark.quick

NEW_YORK = "America/New_York"


def local_bars(date: str, first: str = "09:30", last: str = "15:45") -> pd.DatetimeIndex:
    local = pd.date_range(f"{date} {first}", f"{date} {last}", freq="15min", tz=NEW_YORK)
    return local.tz_convert("UTC")


def several_days(*dates: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(np.concatenate([local_bars(date).tz_localize(None) for date in dates]), tz="UTC")


def windows_by_clock(timestamps, session_ids, hour_visibility="previous"):
    """Return per bar the times of the bars in its hour window, as New York clock strings."""
    start, stop, valid = compute_hourly_window_indices(timestamps, session_ids, hour_visibility)
    np.testing.assert_array_equal(valid, stop > start)
    clock = timestamps.tz_convert(NEW_YORK).strftime("%H:%M")
    return {clock[i]: list(clock[start[i] : stop[i]]) for i in range(len(timestamps))}


def window_of_day(date, **kwargs):
    timestamps = local_bars(date)
    return windows_by_clock(timestamps, np.zeros(len(timestamps), np.int32), **kwargs)


# sessions


def test_a_full_day_has_26_regular_bars_from_0930_to_1545():
    day = local_bars("2023-06-01", "00:00", "23:45")
    regular = day[label_sessions(day, "us_equity").regular].tz_convert(NEW_YORK)
    assert len(regular) == 26
    assert list(regular[[0, -1]].strftime("%H:%M")) == ["09:30", "15:45"]


@pytest.mark.parametrize("date", ["2022-11-25", "2015-12-24", "2023-07-03"])
def test_a_half_day_has_14_regular_bars_and_closes_at_1300(date):
    day = local_bars(date, "00:00", "23:45")
    labels = label_sessions(day, "us_equity")
    assert labels.regular.sum() == 14
    assert labels.session_close[0].tz_convert(NEW_YORK).strftime("%H:%M") == "13:00"


def test_only_a_half_day_has_bars_after_an_early_close():
    half, full = local_bars("2022-11-25"), local_bars("2022-11-28", "09:30", "19:45")
    after = label_sessions(half, "us_equity").after_early_close
    assert list(half[after].tz_convert(NEW_YORK).strftime("%H:%M"))[:1] == ["13:00"]
    assert after.sum() == 12
    assert not label_sessions(full, "us_equity").after_early_close.any()


@pytest.mark.parametrize(
    ("friday", "monday", "shift_hours"),
    [("2022-03-11", "2022-03-14", -1), ("2023-03-10", "2023-03-13", -1), ("2022-11-04", "2022-11-07", 1)],
)
def test_daylight_saving_moves_the_session_in_utc_and_not_on_the_local_clock(friday, monday, shift_hours):
    bars = several_days(friday, monday)
    labels = label_sessions(bars, "us_equity")
    opens = labels.session_open.unique()
    assert labels.regular.sum() == 52
    assert opens[1] - opens[0] == pd.Timedelta(days=3, hours=shift_hours)


def test_extended_hours_bars_belong_to_the_session_of_their_local_date():
    evening, morning = local_bars("2011-01-03", "19:00", "19:45"), local_bars("2011-01-04", "04:00", "04:45")
    labels = label_sessions(evening.append(morning), "us_equity")
    assert labels.session_ids.tolist() == [0] * 4 + [1] * 4
    assert not labels.regular.any()


def test_weekends_and_holidays_have_no_session():
    days = several_days("2023-06-30", "2023-07-01", "2023-07-04", "2023-07-05")
    has_session = label_sessions(days, "us_equity").session_ids >= 0
    assert has_session.reshape(4, 26).all(axis=1).tolist() == [True, False, False, True]


def test_crypto_is_one_session_bounded_by_utc_days_for_progress():
    bars = pd.date_range("2023-06-30", periods=96 * 3, freq="15min", tz="UTC")
    labels = label_sessions(bars, "crypto")
    assert set(labels.session_ids) == {0}
    assert labels.session_open[95] == pd.Timestamp("2023-06-30", tz="UTC")
    assert labels.session_close[95] == labels.session_open[96] == pd.Timestamp("2023-07-01", tz="UTC")
    assert labels.regular.all()


@pytest.mark.parametrize("asset_class", ["us_equity", "crypto"])
def test_the_labels_of_a_prefix_are_the_prefix_of_the_labels(asset_class):
    bars = pd.date_range("2022-12-28", "2023-01-05", freq="15min", tz="UTC")
    whole = label_sessions(bars, asset_class)
    for length in (1, 2, 97, 300, 500, len(bars) - 1):
        prefix = label_sessions(bars[:length], asset_class)
        for name in ("session_ids", "session_open", "session_close", "regular", "after_early_close"):
            np.testing.assert_array_equal(getattr(prefix, name), getattr(whole, name)[:length])


def test_bar_lengths_that_straddle_the_open_count_as_regular():
    hours = pd.date_range("2023-06-01 08:00", "2023-06-01 17:00", freq="1h", tz=NEW_YORK).tz_convert("UTC")
    regular = hours[label_sessions(hours, "us_equity", bar_minutes=60).regular].tz_convert(NEW_YORK)
    assert list(regular[[0, -1]].strftime("%H:%M")) == ["09:00", "15:00"]


def test_crypto_needs_no_calendar_library():
    code = """
import sys
sys.modules["exchange_calendars"] = None
import pandas as pd
from jtf_env.sessions import compute_hourly_window_indices, label_sessions, scheduled_per_year
bars = pd.date_range("2023-01-01", periods=200, freq="15min", tz="UTC")
ids = label_sessions(bars, "crypto").session_ids
compute_hourly_window_indices(bars, ids)
assert scheduled_per_year(bars, "crypto") == 35040
assert "jax" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# bars per year


def test_bars_per_year_counts_every_scheduled_bar_with_half_days():
    # 2022: 251 sessions, one of them (25 November) a half day of 14 bars: 250 x 26 + 14.
    assert scheduled_per_year(local_bars("2022-06-01"), "us_equity") == 250 * 26 + 14


def test_bars_per_year_averages_over_the_calendar_years_touched():
    # 2023: 250 sessions, two of them half days (3 July, 24 November): 248 x 26 + 2 x 14.
    expected = (250 * 26 + 14 + 248 * 26 + 2 * 14) / 2
    assert scheduled_per_year(several_days("2022-12-30", "2023-01-03"), "us_equity") == expected


@pytest.mark.parametrize(("bar_minutes", "expected"), [(15, 35_040), (5, 105_120), (60, 8_760)])
def test_crypto_trades_365_days_of_24_hours(bar_minutes, expected):
    bars = pd.date_range("2023-01-01", periods=10, freq="15min", tz="UTC")
    assert scheduled_per_year(bars, "crypto", bar_minutes) == expected


def test_the_schedule_holds_whole_years():
    schedule = exchange_schedule(2022, 2023)
    days = schedule.days.astype("datetime64[D]").astype(str)
    assert (days[0], days[-1]) == ("2022-01-03", "2023-12-29")
    assert days[schedule.early_close].tolist() == ["2022-11-25", "2023-07-03", "2023-11-24"]


# hour windows


def test_the_10_o_clock_bar_sees_the_two_bars_of_the_first_half_hour():
    assert window_of_day("2023-06-01")["10:00"] == ["09:30", "09:45"]


@pytest.mark.parametrize("clock", ["09:30", "09:45"])
def test_the_first_two_bars_of_a_session_have_no_previous_hour(clock):
    assert window_of_day("2023-06-01")[clock] == []


@pytest.mark.parametrize("clock", ["11:00", "11:15", "11:30", "11:45"])
def test_every_bar_of_an_hour_sees_the_four_bars_of_the_hour_before(clock):
    assert window_of_day("2023-06-01")[clock] == ["10:00", "10:15", "10:30", "10:45"]


@pytest.mark.parametrize("date", ["2022-03-14", "2023-03-13", "2022-11-07"])
def test_hour_windows_are_the_same_on_the_local_clock_after_a_daylight_saving_change(date):
    assert window_of_day(date) == window_of_day("2023-06-01")


def test_a_new_session_never_sees_the_last_hour_of_the_one_before():
    bars = several_days("2023-06-01", "2023-06-02")
    start, _, valid = compute_hourly_window_indices(bars, np.repeat([0, 1], 26))
    assert valid.sum() == 2 * 24
    assert (start[26:][valid[26:]] >= 26).all()


def test_adjacent_clock_hours_of_two_sessions_stay_apart():
    bars = pd.date_range("2023-06-01 10:00", periods=8, freq="15min", tz="UTC")
    assert not compute_hourly_window_indices(bars, np.repeat([0, 1], 4))[2].any()


def test_the_last_hour_of_a_half_day_sees_the_hour_before_it():
    bars = local_bars("2022-11-25", "09:30", "12:45")
    assert windows_by_clock(bars, np.zeros(14, int))["12:45"] == ["11:00", "11:15", "11:30", "11:45"]


def test_bars_missing_in_an_hour_leave_a_smaller_window():
    bars = local_bars("2023-06-01").delete([3, 4])  # 10:15 and 10:30
    assert windows_by_clock(bars, np.zeros(24, int))["11:00"] == ["10:00", "10:45"]


def test_a_missing_hour_invalidates_the_hour_after_it_only():
    bars = local_bars("2023-06-01").delete(range(6, 10))  # 11:00..11:45
    windows = windows_by_clock(bars, np.zeros(22, int))
    assert [windows[clock] for clock in ("12:00", "12:45")] == [[], []]
    assert windows["13:00"] == ["12:00", "12:15", "12:30", "12:45"]


def test_crypto_windows_cross_midnight():
    bars = pd.date_range("2023-06-01 22:00", periods=16, freq="15min", tz="UTC")
    start, stop, valid = compute_hourly_window_indices(bars, np.zeros(16, int))
    assert (start[8], stop[8], valid[8]) == (4, 8, True)  # 00:00 sees 23:00..23:45


def test_a_crypto_hole_breaks_the_hour_after_it(real_data):
    bars = pd.read_parquet(real_data / "BTCUSDT_15Min.parquet").index
    _, _, valid = compute_hourly_window_indices(bars, np.zeros(len(bars), int))
    # Missing are 2023-03-24 11:30..13:45Z, so the hour of the 14:00 bars follows an hour without any.
    assert valid[bars.get_loc(pd.Timestamp("2023-03-24 11:15", tz="UTC"))]
    assert not valid[bars.get_loc(pd.Timestamp("2023-03-24 14:00", tz="UTC"))]
    assert not valid[bars.get_loc(pd.Timestamp("2023-03-24 14:45", tz="UTC"))]
    assert valid[bars.get_loc(pd.Timestamp("2023-03-24 15:00", tz="UTC"))]


def test_at_close_lets_the_bar_that_completes_an_hour_see_it():
    windows = window_of_day("2023-06-01", hour_visibility="at_close")
    assert windows["10:45"] == ["10:00", "10:15", "10:30", "10:45"]
    assert windows["09:45"] == ["09:30", "09:45"]


def test_at_close_changes_nothing_for_bars_inside_an_hour():
    previous, at_close = (window_of_day("2023-06-01", hour_visibility=v) for v in ("previous", "at_close"))
    assert [clock for clock in previous if previous[clock] != at_close[clock]] == [
        f"{hour:02}:45" for hour in range(9, 16)
    ]


@pytest.mark.parametrize("hour_visibility", ["previous", "at_close"])
def test_no_window_reaches_past_its_own_bar(hour_visibility):
    bars = pd.date_range("2023-06-01", periods=400, freq="15min", tz="UTC")
    bars = bars[np.random.default_rng(0).random(400) < 0.7]
    _, stop, valid = compute_hourly_window_indices(bars, np.zeros(len(bars), int), hour_visibility)
    assert (stop[valid] <= np.arange(len(bars))[valid] + 1).all()


@pytest.mark.parametrize("hour_visibility", ["previous", "at_close"])
def test_the_windows_of_a_prefix_are_the_prefix_of_the_windows(hour_visibility):
    bars = several_days("2023-06-01", "2023-06-02")
    ids = np.repeat([0, 1], 26)
    whole = compute_hourly_window_indices(bars, ids, hour_visibility)
    for length in range(1, 52):
        prefix = compute_hourly_window_indices(bars[:length], ids[:length], hour_visibility)
        for one, all_ in zip(prefix, whole, strict=True):
            np.testing.assert_array_equal(one, all_[:length])


def test_hour_windows_equal_a_plain_loop_over_real_bars(real_data):
    bars = pd.read_parquet(real_data / "SPY_15Min.parquet").index[:120]
    labels = label_sessions(bars, "us_equity")
    start, stop, valid = compute_hourly_window_indices(bars, labels.session_ids)
    hours = bars.floor("h")
    for i in range(len(bars)):
        wanted = [
            k
            for k in range(i)
            if hours[k] == hours[i] - pd.Timedelta(hours=1) and labels.session_ids[k] == labels.session_ids[i]
        ]
        assert list(range(start[i], stop[i])) == wanted
        assert valid[i] == bool(wanted)


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_hour_windows_do_not_depend_on_the_unit_of_the_timestamps(unit):
    bars = local_bars("2023-06-01")
    ids = np.zeros(26, int)
    for one, other in zip(
        compute_hourly_window_indices(bars.as_unit(unit), ids),
        compute_hourly_window_indices(bars.as_unit("ms"), ids),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_140_000_bars_take_less_than_50_milliseconds():
    bars = pd.date_range("2020-01-01", periods=140_000, freq="15min", tz="UTC")
    ids = np.zeros(len(bars), np.int32)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        compute_hourly_window_indices(bars, ids)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.05
