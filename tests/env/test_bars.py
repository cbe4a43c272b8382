"""Bars: every row of the table "Calendars and dirt", on made-up rows and on the real file that shows it."""

from datetime import UTC

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtf_env.bars import COLUMNS, PER_BAR_FIELDS, Bars, check_enough_bars, make_bars
from jtf_env.errors import BarsError
from jtf_env.layouts import get_layout
from jtf_env.sessions import exchange_schedule

pytestmark = pytest.mark.quick

NEW_YORK = "America/New_York"


def frame_at(stamps: pd.DatetimeIndex) -> pd.DataFrame:
    """Return plausible rows at these bar starts, close to 100 USD."""
    close = 100 + np.sin(np.arange(len(stamps)))
    return pd.DataFrame(
        {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1000.0},
        index=stamps.rename("timestamp"),
    )


def local(date: str, first: str, last: str) -> pd.DatetimeIndex:
    stamps = pd.date_range(f"{date} {first}", f"{date} {last}", freq="15min", tz=NEW_YORK)
    return stamps.tz_convert("UTC")


def equity_day(date="2023-06-01", first="09:30", last="15:45") -> pd.DataFrame:
    return frame_at(local(date, first, last))


def equity_days(*dates: str) -> pd.DataFrame:
    return pd.concat([equity_day(date) for date in dates])


def crypto_day(count=96) -> pd.DataFrame:
    return frame_at(pd.date_range("2023-06-01", periods=count, freq="15min", tz="UTC"))


def clock(bars: Bars) -> list[str]:
    return list(bars.timestamps.tz_convert(NEW_YORK).strftime("%H:%M"))


def real_bars(folder, name: str, **kwargs) -> Bars:
    path = folder / f"{name}_15Min.parquet"
    return make_bars(pd.read_parquet(path), name.split("/")[-1], source=str(path), **kwargs)


def on_day(bars: Bars, date: str) -> np.ndarray:
    """Return which bars lie on a New York date, ``[T]``."""
    return bars.timestamps.tz_convert(NEW_YORK).strftime("%Y-%m-%d").to_numpy() == date


# What a valid frame becomes


def test_prices_pass_through_unchanged():
    frame = equity_day()
    bars = make_bars(frame, "SPY")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(bars, name), frame[name])


def test_timestamps_become_utc_whatever_their_zone():
    frame = equity_day().tz_convert(NEW_YORK)
    assert str(make_bars(frame, "SPY").timestamps.dtype) == "datetime64[ns, UTC]"
    assert (make_bars(frame, "SPY").timestamps == frame.index).all()


def test_timestamps_may_be_a_column():
    as_column = make_bars(equity_day().reset_index(), "SPY")
    assert (as_column.timestamps == make_bars(equity_day(), "SPY").timestamps).all()


def test_other_columns_are_ignored_and_the_frame_is_not_changed():
    frame = equity_day().assign(vwap=1.0, symbol="SPY")
    before = frame.copy()
    make_bars(frame, "SPY")
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("dtype", ["float32", "int64", "Float64", "object", "str"])
def test_numbers_of_any_storage_become_float64(dtype):
    frame = equity_day().round()
    bars = make_bars(frame.astype("int64").astype(dtype), "SPY")
    assert bars.close.dtype == np.float64
    np.testing.assert_array_equal(bars.close, frame["close"])


def test_the_symbol_decides_the_calendar_and_the_override_wins():
    assert make_bars(crypto_day(), "BTC/USD").asset_class == "crypto"
    assert make_bars(crypto_day(), "BTCUSD", asset_class="crypto").timezone == "UTC"
    assert make_bars(equity_day(), "SPY").timezone == NEW_YORK


def test_a_slice_is_the_prefix_of_every_per_bar_field():
    bars = make_bars(crypto_day(), "BTCUSDT")[:10]
    assert len(bars) == 10
    assert {len(getattr(bars, name)) for name in PER_BAR_FIELDS} == {10}


@pytest.mark.parametrize("rows", [slice(None, None, 2), 3, [1, 2]])
def test_bars_are_indexed_by_plain_slices_only(rows):
    with pytest.raises(TypeError, match="slices of step 1"):
        make_bars(crypto_day(), "BTCUSDT")[rows]


@pytest.mark.parametrize("length", [1, 2, 26, 27, 60])
def test_the_bars_of_a_prefix_of_the_rows_are_the_prefix_of_the_bars(length):
    frame = equity_days("2022-11-22", "2022-11-23", "2022-11-25", "2022-11-28").drop(
        index=local("2022-11-23", "10:00", "11:15")
    )
    whole, prefix = make_bars(frame, "SPY"), make_bars(frame[:length], "SPY")
    for name in PER_BAR_FIELDS:
        np.testing.assert_array_equal(getattr(prefix, name), getattr(whole, name)[:length])


# Calendar rows of the table, made up


def test_a_full_day_is_26_bars():
    bars = make_bars(equity_day(), "SPY")
    assert clock(bars)[0] == "09:30" and clock(bars)[-1] == "15:45" and len(bars) == 26
    assert bars.tradable.all() and bars.report.gaps == ()


def test_bars_after_the_close_of_a_half_day_are_dropped_with_a_count():
    bars = make_bars(equity_day("2022-11-25"), "SPY")
    assert (len(bars), clock(bars)[-1]) == (14, "12:45")
    assert bars.report.dropped_after_close == 12
    assert bars.report.dropped_extended_hours == 0


def test_extended_hours_are_dropped_with_a_count_by_default():
    bars = make_bars(equity_day(first="04:00", last="19:45"), "SPY")
    assert (len(bars), bars.report.dropped_extended_hours) == (26, 64 - 26)


def test_extended_hours_are_kept_on_request_in_the_session_of_their_date():
    bars = make_bars(equity_day(first="04:00", last="19:45"), "SPY", extended_hours=True)
    assert (len(bars), bars.report.dropped_extended_hours) == (64, 0)
    assert set(bars.session_ids) == {0}


def test_extended_hours_have_their_share_in_bars_per_year():
    regular, extended = (
        make_bars(equity_day(first="04:00", last="19:45"), "SPY", extended_hours=keep) for keep in (False, True)
    )
    assert extended.bars_per_year == pytest.approx(regular.bars_per_year * 64 / 26)


def test_extended_hours_keep_the_bars_after_the_close_of_a_half_day():
    assert len(make_bars(equity_day("2022-11-25"), "SPY", extended_hours=True)) == 26


@pytest.mark.parametrize("extended_hours", [False, True])
def test_bars_on_dates_without_a_session_are_dropped_with_a_count(extended_hours):
    frame = equity_days("2023-06-30", "2023-07-01", "2023-07-03")
    bars = make_bars(frame, "SPY", extended_hours=extended_hours)
    assert bars.report.dropped_no_session == 26
    assert set(bars.session_ids) == {0, 1}


def test_session_ids_start_at_zero_even_when_the_first_session_is_dropped():
    frame = pd.concat([equity_day("2023-06-01", "16:00", "17:00"), equity_day("2023-06-02")])
    assert set(make_bars(frame, "SPY").session_ids) == {0}


def test_a_missing_session_is_reported_and_counted_in_the_ids():
    bars = make_bars(equity_days("2023-06-01", "2023-06-05"), "SPY")
    assert bars.report.missing_sessions == ("2023-06-02",)
    assert set(bars.session_ids) == {0, 2}


def test_a_session_with_extended_hours_bars_only_is_not_missing():
    frame = pd.concat([equity_day("2023-06-01"), equity_day("2023-06-02", "16:00", "17:00"), equity_day("2023-06-05")])
    assert make_bars(frame, "SPY", extended_hours=True).report.missing_sessions == ()


def test_a_hole_inside_a_session_is_reported_and_nothing_is_filled():
    hole = local("2023-06-01", "11:00", "11:45")
    bars = make_bars(equity_day().drop(index=hole), "SPY")
    assert len(bars) == 22
    assert bars.report.gaps == (("2023-06-01T15:00:00+00:00", "2023-06-01T15:45:00+00:00", 4),)


def test_the_first_bar_after_a_hole_is_not_tradable():
    bars = make_bars(equity_day().drop(index=local("2023-06-01", "11:00", "11:45")), "SPY")
    assert [c for c, ok in zip(clock(bars), bars.tradable, strict=True) if not ok] == ["12:00"]


def test_a_late_start_and_an_early_end_of_a_session_are_holes():
    frame = equity_days("2023-06-01", "2023-06-02").drop(
        index=local("2023-06-01", "15:30", "15:45").append(local("2023-06-02", "09:30", "09:30"))
    )
    bars = make_bars(frame, "SPY")
    assert bars.report.gaps == (
        ("2023-06-01T19:30:00+00:00", "2023-06-01T19:45:00+00:00", 2),
        ("2023-06-02T13:30:00+00:00", "2023-06-02T13:30:00+00:00", 1),
    )
    assert np.flatnonzero(~bars.tradable).tolist() == [24]


def test_data_that_begin_and_end_inside_a_session_have_no_hole():
    bars = make_bars(equity_day(first="11:00", last="14:00"), "SPY")
    assert bars.report.gaps == () and bars.tradable.all()


def test_thin_trading_outside_regular_hours_is_no_hole():
    frame = equity_day(first="04:00", last="19:45").drop(index=local("2023-06-01", "05:00", "06:45"))
    bars = make_bars(frame, "SPY", extended_hours=True)
    assert bars.report.gaps == () and bars.tradable.all()


def test_an_overnight_gap_is_no_hole():
    bars = make_bars(equity_days("2023-06-01", "2023-06-02"), "SPY")
    assert bars.report.gaps == () and bars.tradable.all()


def test_a_crypto_hole_is_reported_across_midnight():
    frame = crypto_day(200).drop(index=pd.date_range("2023-06-01 23:45", periods=2, freq="15min", tz="UTC"))
    bars = make_bars(frame, "BTCUSDT")
    assert bars.report.gaps == (("2023-06-01T23:45:00+00:00", "2023-06-02T00:00:00+00:00", 2),)
    assert np.flatnonzero(~bars.tradable).tolist() == [95]


def test_a_bar_without_volume_is_not_tradable():
    frame = equity_day()
    frame.iloc[5, 4] = 0.0
    assert np.flatnonzero(~make_bars(frame, "SPY").tradable).tolist() == [5]


def test_volume_that_is_zero_everywhere_is_unknown_and_halts_nothing():
    assert make_bars(equity_day().assign(volume=0.0), "SPY").tradable.all()


@pytest.mark.parametrize(("factor", "reported"), [(1.34, 0), (1.36, 1), (0.66, 0), (0.64, 1)])
def test_an_overnight_jump_beyond_35_per_cent_is_reported(factor, reported):
    frame = equity_days("2023-06-01", "2023-06-02")
    last = frame["close"].iloc[25]
    frame.iloc[26:, :4] *= factor * last / frame["open"].iloc[26]
    jumps = make_bars(frame, "SPY").report.jumps
    assert len(jumps) == reported
    for jump in jumps:
        assert jump == ("2023-06-02T13:30:00+00:00", pytest.approx(last), pytest.approx(last * factor))


@pytest.mark.parametrize(("symbol", "factor", "reported"), [("SPY", 2, 1), ("SPY", 1.3, 0), ("BTCUSDT", 0.45, 1)])
def test_the_same_move_inside_a_session_and_in_crypto_is_reported(symbol, factor, reported):
    frame = equity_day()
    frame.iloc[10:, :4] *= factor
    assert [jump[0] for jump in make_bars(frame, symbol).report.jumps] == ["2023-06-01T16:00:00+00:00"] * reported


def test_a_split_within_a_bar_is_reported_from_close_to_close():
    frame = equity_day()
    frame.iloc[10, [2, 3]] = [40.0, 50.0]
    frame.iloc[11:, :4] /= 2
    (jump,) = make_bars(frame, "SPY").report.jumps
    assert jump == ("2023-06-01T16:00:00+00:00", frame["close"].iloc[9], 50.0)


def test_crypto_may_move_by_half():
    frame = crypto_day()
    frame.iloc[10:, :4] *= 1.45
    assert make_bars(frame, "BTCUSDT").report.jumps == ()


@pytest.mark.parametrize(("column", "factor"), [("high", 100), ("low", 0.01)])
def test_a_spike_of_high_or_low_is_a_bad_tick_with_its_time_and_price(column, factor):
    frame = equity_day()
    frame.loc[frame.index[5], column] *= factor
    report = make_bars(frame, "SPY").report
    assert report.bad_ticks == (("2023-06-01T14:45:00+00:00", frame[column].iloc[5]),)
    assert report.jumps == ()


def test_a_close_that_reverts_on_the_next_bar_is_a_bad_tick_and_no_jump():
    frame = equity_day()
    frame.iloc[5, [1, 3]] = 1000.0
    report = make_bars(frame, "SPY").report
    assert report.bad_ticks == (("2023-06-01T14:45:00+00:00", 1000.0),)
    assert report.jumps == ()


def test_an_open_that_reverts_within_its_bar_is_a_bad_tick_and_no_jump():
    frame = equity_day()
    frame.iloc[5, [0, 2]] = 10.0
    report = make_bars(frame, "SPY").report
    assert report.bad_ticks == (("2023-06-01T14:45:00+00:00", 10.0),)
    assert report.jumps == ()


def test_a_wild_first_bar_after_a_jump_is_no_bad_tick():
    frame = equity_days("2023-06-01", "2023-06-02")
    frame.iloc[26:, :4] *= 1.34
    frame.iloc[26, 1] *= 1.05
    assert make_bars(frame, "SPY").report.bad_ticks == ()


def test_the_longest_standstill_is_counted():
    frame = equity_day()
    frame.iloc[4:11, :4] = 100.0
    assert make_bars(frame, "SPY").report.standstill == 7


# Bars per year: those scheduled times the share present


def whole_year(year: int) -> pd.DataFrame:
    schedule = exchange_schedule(year, year)
    days = [
        pd.date_range(o, c, freq="15min", inclusive="left") for o, c in zip(schedule.open, schedule.close, strict=True)
    ]
    return frame_at(pd.DatetimeIndex(np.concatenate(days), tz="UTC"))


# 2022: 251 sessions, one half day of 14 bars. 2023: 250 sessions, two half days.
YEARS = {2022: 250 * 26 + 14, 2023: 248 * 26 + 2 * 14}


@pytest.mark.parametrize("year", YEARS)
def test_a_full_year_has_its_own_bars_a_year(year):
    assert make_bars(whole_year(year), "SPY").bars_per_year == len(whole_year(year)) == YEARS[year]


def test_half_a_year_has_the_bars_of_the_whole_year():
    assert make_bars(whole_year(2022)[:3000], "SPY").bars_per_year == YEARS[2022]


def test_two_years_have_their_average_bars_a_year():
    frame = pd.concat([whole_year(2022), whole_year(2023)])
    assert make_bars(frame, "SPY").bars_per_year == pytest.approx(sum(YEARS.values()) / 2)


@pytest.mark.parametrize(("symbol", "scheduled"), [("SPY", YEARS[2022]), ("BTCUSDT", 35_040)])
def test_a_series_with_every_fourth_bar_missing_has_three_quarters_of_the_bars_a_year(symbol, scheduled):
    frame = whole_year(2022) if symbol == "SPY" else crypto_day(4_001)
    frame = frame[np.arange(len(frame)) % 4 != 1]
    assert make_bars(frame, symbol).bars_per_year == pytest.approx(0.75 * scheduled, rel=1e-3)


def test_missing_sessions_count_as_missing_bars():
    frame = whole_year(2022)
    first, last = frame[: 10 * 26], frame[30 * 26 : 40 * 26]
    assert make_bars(pd.concat([first, last]), "SPY").bars_per_year == pytest.approx(YEARS[2022] / 2)


def test_a_whole_day_of_crypto_has_35_040_bars_a_year():
    assert make_bars(crypto_day(), "BTCUSDT").bars_per_year == 35_040


# Dirt: one sentence, naming file, row, timestamp and remedy


def dirty(change) -> pd.DataFrame:
    frame = equity_day()
    return frame if (changed := change(frame)) is None else changed


def set_cell(row: int, column: str, value: float):
    return lambda frame: frame.__setitem__(column, frame[column].where(np.arange(len(frame)) != row, value))


DIRT = {
    "duplicates": (lambda f: f.iloc[[0, 1, 2, 2, 3]], r"row 3 \(2023-06-01T14:00:00\+00:00\) repeats"),
    "unsorted": (lambda f: f.iloc[[0, 1, 3, 2]], r"row 3 \(2023-06-01T14:00:00\+00:00\) steps back"),
    "tz-naive": (lambda f: f.tz_localize(None), r"row 0 \(2023-06-01 13:30:00\) has no time zone"),
    "numbered index": (lambda f: f.reset_index(drop=True), "timestamps are int64, not dates with a time zone"),
    "missing timestamp": (lambda f: f.set_axis(f.index.where(np.arange(26) != 4)), r"row 4 \(NaT\) has no timestamp"),
    "wrong epoch": (
        lambda f: f.set_axis(pd.date_range("1870", periods=26, freq="15min", tz="UTC")),
        r"row 0 \(1870-01-01T00:00:00\+00:00\) lies outside 1900\.\.2199, as do 25 more rows",
    ),
    "NaN": (set_cell(3, "close", np.nan), r"row 3 \(2023-06-01T14:15:00\+00:00\) holds NaN or infinity .*close=nan"),
    "infinity": (set_cell(3, "volume", np.inf), r"row 3 \(2023-06-01T14:15:00\+00:00\) holds NaN or infinity"),
    "zero price": (set_cell(7, "low", 0.0), r"row 7 \(.*\) has a zero or negative price .*low=0"),
    "negative price": (set_cell(7, "open", -1.0), r"row 7 \(.*\) has a zero or negative price .*open=-1"),
    "huge price": (set_cell(7, "high", 2e9), r"row 7 \(.*\) has a price outside 1e-9\.\.1e9 .*high=2e\+09"),
    "tiny price": (lambda f: f.assign(low=1e-10), r"row 0 \(.*\) has a price outside 1e-9\.\.1e9 \(.*low=1e-10"),
    "negative volume": (set_cell(7, "volume", -1.0), r"row 7 \(.*\) has a negative volume"),
    "high < low": (set_cell(9, "high", 1.0), r"row 9 \(.*\) has its high below its low"),
    "high < close": (lambda f: f.assign(high=f["close"] - 0.5), r"row 0 \(.*\) has its high below its open or close"),
    "low > open": (lambda f: f.assign(low=f["open"] + 0.5), r"row 0 \(.*\) has its low above its open or close"),
    "missing column": (lambda f: f.drop(columns="volume"), "needs the column 'volume' exactly once"),
    "capital columns": (lambda f: f.rename(columns=str.title), "needs the column 'open' exactly once and has Open"),
    "column twice": (lambda f: pd.concat([f, f[["low"]]], axis=1), "needs the column 'low' exactly once"),
    "text": (lambda f: f.assign(close="n/a"), r"row 0 \(.*\) holds NaN or infinity"),
    "flags": (lambda f: f.assign(volume=True), "column 'volume' holds bool, not numbers"),
    "empty": (lambda f: f[:0], "has no rows"),
    "closer than the bar length": (
        lambda f: f.set_axis(pd.date_range(f.index[0], periods=26, freq="5min")),
        r"row 1 \(2023-06-01T13:35:00\+00:00\) does not start on a multiple of 15 minutes, as do 16 more rows",
    ),
    "off the grid": (lambda f: f.shift(freq="1min"), r"row 0 \(2023-06-01T13:31:00\+00:00\) does not start"),
    "night only": (lambda f: f.shift(freq="12h"), "none of the 26 bars lies in regular us_equity hours"),
}  # fmt: skip


@pytest.mark.parametrize("case", DIRT)
def test_dirt_is_refused_in_one_sentence_naming_the_place(case):
    change, message = DIRT[case]
    with pytest.raises(BarsError, match=message) as caught:
        make_bars(dirty(change), "SPY", source="SPY.csv")
    assert str(caught.value).startswith("SPY.csv: ")
    assert "; " in str(caught.value) and str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize("bar_minutes", [0, -15, 7, 90])
def test_a_bar_length_that_does_not_divide_the_hour_is_refused(bar_minutes):
    with pytest.raises(BarsError, match="does not divide the hour"):
        make_bars(equity_day(), "SPY", bar_minutes=bar_minutes)


def test_without_a_source_the_symbol_names_the_rows():
    with pytest.raises(BarsError, match=r"^SPY: has no rows"):
        make_bars(equity_day()[:0], "SPY")


def test_too_few_bars_are_refused_saying_how_many_are_needed_and_why():
    layout = get_layout("v5.6.0")
    bars = make_bars(crypto_day(250), "BTCUSDT")
    check_enough_bars(bars[: layout.warmup + 101], layout, 100)
    with pytest.raises(BarsError, match=r"201 bars are too few .* needs 202 \(warm-up 101 \+ window 100 \+ 1"):
        check_enough_bars(bars[: layout.warmup + 100], layout, 100)


# Malformed frames raise BarsError and nothing else

JUNK = st.one_of(
    st.floats(),
    st.integers(),
    st.text(max_size=4),
    st.none(),
    st.booleans(),
    st.complex_numbers(),
    st.datetimes(),
    st.binary(max_size=3),
    st.just([1.0]),
    st.just(10**400),
)
STAMPS = st.one_of(
    JUNK,
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.integers(0, 40).map(lambda k: pd.Timestamp("2023-06-01 13:30", tz="UTC") + k * pd.Timedelta(minutes=15)),
)


@st.composite
def malformed_frames(draw):
    rows = draw(st.integers(0, 6))
    names = draw(st.permutations([*COLUMNS, "timestamp", draw(st.sampled_from(["vwap", "open", 3]))]))
    names = names[draw(st.integers(0, 1)) :]
    sound = equity_day().reset_index()
    columns = []
    for name in names:
        kind = draw(st.sampled_from(["sound", "sound", "sound", "junk"]))
        if kind == "sound" and name in sound:
            columns.append(sound[name][:rows])
        else:
            cells = draw(st.lists(STAMPS if name == "timestamp" else JUNK, min_size=rows, max_size=rows))
            columns.append(pd.Series(cells, dtype=object if draw(st.booleans()) else None, index=range(rows)))
    return pd.concat(columns, axis=1).set_axis(names, axis=1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(frame=malformed_frames(), symbol=st.sampled_from(["SPY", "BTC/USD"]), extended_hours=st.booleans())
def test_malformed_frames_raise_nothing_but_bars_errors(frame, symbol, extended_hours):
    try:
        bars = make_bars(frame, symbol, extended_hours=extended_hours)
    except BarsError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite([getattr(bars, name) for name in COLUMNS]).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    cells=st.lists(st.tuples(*[st.floats(allow_nan=True, width=64) for _ in COLUMNS]), min_size=1, max_size=5),
    symbol=st.sampled_from(["SPY", "BTC/USD"]),
)
def test_any_numbers_make_bars_or_a_bars_error(cells, symbol):
    frame = pd.DataFrame(cells, columns=list(COLUMNS), index=equity_day().index[: len(cells)])
    try:
        bars = make_bars(frame, symbol)
    except BarsError:
        return
    assert (bars.low > 0).all() and (bars.low <= bars.high).all()


# The real files


def test_real_spy_drops_the_thin_bars_after_the_half_day_and_reports_the_rest(real_data):
    bars = real_bars(real_data, "SPY")
    assert len(bars) == 8804 - 12
    assert bars.report.dropped_after_close == 12
    assert bars.report.missing_sessions == ("2023-02-10",)
    assert bars.report.gaps == (("2022-11-23T18:15:00+00:00", "2022-11-23T20:30:00+00:00", 10),)
    assert bars.report.jumps == ()


def test_real_nvda_hole_has_nine_bars_and_one_untradable_bar_after_it(real_data):
    bars = real_bars(real_data, "NVDA")
    assert bars.report.gaps == (("2022-11-23T18:15:00+00:00", "2022-11-23T20:15:00+00:00", 9),)
    assert bars.timestamps[~bars.tradable].tolist() == [pd.Timestamp("2022-11-23 20:30", tz="UTC")]


def test_real_full_sessions_have_26_bars_and_half_days_14(real_data):
    bars = real_bars(real_data, "SPY")
    assert on_day(bars, "2022-11-22").sum() == 26
    assert on_day(bars, "2022-11-23").sum() == 16
    assert on_day(bars, "2022-11-25").sum() == 14


@pytest.mark.parametrize(
    ("date", "first"), [("2022-03-11", 14.5), ("2022-03-14", 13.5), ("2023-03-13", 13.5), ("2022-11-07", 14.5)]
)
def test_real_sessions_shift_in_utc_around_daylight_saving(real_data, date, first):
    bars = real_bars(real_data, "SPY")
    stamps = bars.timestamps[on_day(bars, date)]
    assert len(stamps) == 26
    assert stamps[0].hour + stamps[0].minute / 60 == first


def test_real_crypto_has_96_bars_a_day_in_one_session_and_two_holes(real_data):
    bars = real_bars(real_data, "BTCUSDT")
    assert len(bars) == 92_983
    assert (bars.timestamps.strftime("%Y-%m-%d") == "2024-02-29").sum() == 96
    assert set(bars.session_ids) == {0}
    assert [gap[2] for gap in bars.report.gaps] == [10, 41]
    assert (~bars.tradable).sum() == 2
    assert bars.bars_per_year == pytest.approx(35_040 * 92_983 / (92_983 + 51))


def test_real_extended_hours_are_dropped_or_kept_and_february_is_missing(real_data):
    regular, extended = (real_bars(real_data, "SPY2011X", extended_hours=keep) for keep in (False, True))
    assert (len(regular), regular.report.dropped_extended_hours) == (43 * 26, 2678 - 43 * 26)
    assert (len(extended), extended.report.dropped_extended_hours) == (2678, 0)
    assert len(regular.report.missing_sessions) == 19
    assert all(date.startswith("2011-02") for date in regular.report.missing_sessions)


@pytest.mark.parametrize(
    ("extended_hours", "jump"),
    [(False, ("2014-06-09T13:30:00+00:00", 645.57, 92.69)), (True, ("2014-06-09T08:00:00+00:00", 645.7, 92.48))],
)
def test_real_unadjusted_split_is_reported_with_both_prices(real_data, extended_hours, jump):
    bars = real_bars(real_data, "lean/AAPL", extended_hours=extended_hours)
    assert bars.report.jumps == (jump,)


@pytest.mark.parametrize("name", ["SPY", "NVDA", "BTCUSDT", "SPY2011X", "lean/GOOG", "lean/IBM"])
def test_real_prices_have_no_jump_and_no_bad_tick(real_data, name):
    report = real_bars(real_data, name, extended_hours=True).report
    assert (report.jumps, report.bad_ticks) == ((), ())


def test_real_half_day_with_sparse_bars_after_its_close(real_data):
    bars = real_bars(real_data, "lean/GOOG")
    assert on_day(bars, "2015-12-24").sum() == 14
    assert bars.report.dropped_after_close == 5
    assert bars.report.dropped_extended_hours == 106 - 66 - 5


@pytest.mark.parametrize("name", ["lean/SPY", "lean/IBM"])
def test_real_sessions_of_2013_are_complete(real_data, name):
    bars = real_bars(real_data, name)
    assert len(bars) == 6 * 26
    assert bars.report.gaps == () and bars.tradable.all()


def test_real_duplicates_are_refused_by_row_and_timestamp(real_data):
    path = real_data / "dirty" / "NVDA_5Min_raw_dups_unsorted.parquet"
    message = r"row 15912 \(2022-11-22T14:30:00\+00:00\) repeats an earlier timestamp, as do 502 more rows"
    with pytest.raises(BarsError, match=message):
        make_bars(pd.read_parquet(path), "NVDA", bar_minutes=5, source=str(path))


def test_real_unsorted_rows_are_refused_by_row_and_timestamp(real_data):
    frame = pd.read_parquet(real_data / "dirty" / "NVDA_5Min_raw_dups_unsorted.parquet")
    seam = frame.iloc[17_618:17_638]  # the end of 2022-12-22, and then its first bars once more
    with pytest.raises(BarsError, match=r"row 10 \(2022-12-22T14:30:00\+00:00\) steps back in time; sort the rows"):
        make_bars(seam, "NVDA", bar_minutes=5)


def test_real_5_minute_rows_are_refused_as_15_minute_bars_and_fit_their_own_length(real_data):
    frame = pd.read_parquet(real_data / "dirty" / "NVDA_5Min_raw_dups_unsorted.parquet")
    frame = frame[~frame.index.duplicated()].sort_index()
    with pytest.raises(BarsError, match=r"row 1 \(2022-02-02T14:35:00\+00:00\) does not start on a multiple of 15"):
        make_bars(frame, "NVDA")
    expected = 3 * real_bars(real_data, "NVDA").bars_per_year
    assert make_bars(frame, "NVDA", bar_minutes=5).bars_per_year == pytest.approx(expected, rel=1e-3)
