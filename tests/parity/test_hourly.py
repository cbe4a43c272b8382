"""The hourly context of both sides on every row of the calendar table, against numbers worked out by hand.

Each case ends a market of `ROWS` bars with a few hand-made closes; all bars before stand at 100 USD. Highs lie
1 USD above the body of a bar, lows 1 USD below, so that the range of an hour is its spread of closes plus 2.
"""

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtf_env import market as jax_market
from jtf_env import mirror
from jtf_env.bars import Bars, make_bars
from jtf_env.layouts import get_layout
from tests.parity.samples import real_bars

ROWS = 320
RETURN, VOLATILITY, TREND, MOMENTUM, RSI, RANGE, POSITION = range(7)
PREVIOUS_HOUR = [RETURN, VOLATILITY, RANGE]


def build_mirror(bars: Bars, layout="v5.6.0") -> np.ndarray:
    return mirror.build_market(bars, layout).context


def build_jax(bars: Bars, layout="v5.6.0") -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(jax_market.build_market(bars, layout, dtype=jnp.float64).context)


@pytest.fixture(params=[build_mirror, build_jax], ids=["mirror", "jax"])
def build(request):
    return request.param


def equity_starts(last_day: str, close: str = "16:00", without: tuple[str, ...] = ()) -> pd.DatetimeIndex:
    """Starts of the 15-minute bars of three weeks of sessions, the last one ending at `close` New York time."""
    days = pd.bdate_range(end=last_day, periods=15)
    closes = ["16:00"] * 14 + [close]
    local = [
        stamp
        for day, end in zip(days.strftime("%Y-%m-%d"), closes, strict=True)
        for stamp in pd.date_range(f"{day} 09:30", f"{day} {end}", freq="15min", inclusive="left")
    ]
    missing = pd.to_datetime([f"{last_day} {clock}" for clock in without])
    return pd.DatetimeIndex(local).difference(missing).tz_localize("America/New_York").tz_convert("UTC")


def crypto_starts(last: str, without: tuple[str, ...] = ()) -> pd.DatetimeIndex:
    return pd.date_range(end=last, periods=2 * ROWS, freq="15min", tz="UTC").difference(
        pd.to_datetime(list(without), utc=True)
    )


def bars_with_last_closes(symbol: str, starts: pd.DatetimeIndex, closes: list[float]) -> Bars:
    starts = starts[-ROWS:]
    close = np.concatenate([np.full(ROWS - len(closes), 100.0), closes])
    frame = pd.DataFrame(
        {"open": close, "high": close + 1.0, "low": close - 1.0, "close": close, "volume": 1.0}, index=starts
    )
    return make_bars(frame, symbol)


def at(bars: Bars, clock: str) -> int:
    """Row of the last bar that starts at this local time."""
    local = bars.timestamps.tz_convert(bars.timezone).strftime("%H:%M")
    return int(np.flatnonzero(local == clock)[-1])


# 2024-05-10, a full day whose first six bars are 10:45 and earlier:
#   clock  09:30 09:45 | 10:00 10:15 10:30 10:45 | 11:00
#   close    110   121 |   110    99   108.9 98.01|  100
#   r       +10%  +10% |  -9.09% -10%  +10%  -10% | +2.03%
DAY = [110.0, 121.0, 110.0, 99.0, 108.9, 98.01, 100.0]


def full_day() -> Bars:
    starts = equity_starts("2024-05-10")
    return bars_with_last_closes("SPY", starts, [*DAY, *[100.0] * 19])


@pytest.mark.parametrize("clock", ["09:30", "09:45"])
def test_first_half_hour_has_no_previous_hour(build, clock):
    bars = full_day()
    assert build(bars)[at(bars, clock), PREVIOUS_HOUR].tolist() == [0.0, 0.0, 0.0]


def test_ten_o_clock_bar_sees_the_two_bars_of_the_half_hour(build):
    bars = full_day()
    row = build(bars)[at(bars, "10:00")]
    assert row[RETURN] == pytest.approx(121 / 110 - 1)  # last close of the hour over its first: 0.1
    assert row[RANGE] == pytest.approx(13 / 110)  # high 122, low 109, first close 110


def test_volatility_leaves_the_overnight_return_out(build):
    # Of the two returns of 09:30-10:00 the first crosses the night; one is left, which has no deviation.
    bars = full_day()
    assert build(bars)[at(bars, "10:00"), VOLATILITY] == 0.0


def test_eleven_o_clock_bar_sees_the_four_bars_of_the_hour_before(build):
    bars = full_day()
    row = build(bars)[at(bars, "11:00")]
    assert row[RETURN] == pytest.approx(98.01 / 110 - 1)  # -0.109
    assert row[RANGE] == pytest.approx((111 - 97.01) / 110)  # high 111 at 10:00, low 97.01 at 10:45
    # returns -1/11, -0.1, 0.1, -0.1: mean -0.0477273, squares of the deviations .0018647 .0027324 .0218233 .0027324
    assert row[VOLATILITY] == pytest.approx(sqrt(0.0291529 / 3), rel=1e-5)


def test_bars_of_one_hour_see_the_same_previous_hour(build):
    bars = full_day()
    context = build(bars)
    first = at(bars, "11:00")
    np.testing.assert_array_equal(context[first : first + 4, PREVIOUS_HOUR], context[[first] * 4][:, PREVIOUS_HOUR])


def test_trend_looks_back_sixteen_bars_across_the_night(build):
    bars = full_day()
    assert build(bars)[at(bars, "10:45"), TREND] == pytest.approx(98.01 / 100 - 1)  # 16 bars back: yesterday, 100


def test_momentum_is_the_last_hour_of_bars_minus_the_one_before(build):
    # 10:45: 98.01 over 121 four bars earlier (09:45), minus 121 over yesterday's 100.
    bars = full_day()
    assert build(bars)[at(bars, "10:45"), MOMENTUM] == pytest.approx((98.01 / 121 - 1) - 0.21)


def test_rsi_is_the_share_of_rising_bars_among_sixteen(build):
    # By 10:45 three of the last sixteen returns are positive: 09:30, 09:45, 10:30.
    bars = full_day()
    assert build(bars)[at(bars, "10:45"), RSI] == 3 / 16


def test_bar_count_lookbacks_are_zero_before_they_are_full(build):
    starts = equity_starts("2024-05-10")
    bars = bars_with_last_closes("SPY", starts, (100.0 + np.arange(ROWS) ** 2).tolist())
    context = build(bars)
    assert not context[:8, MOMENTUM].any()
    assert context[8, MOMENTUM] == pytest.approx((164 - 116) / 116 - (116 - 100) / 100)
    assert not context[:16, [TREND, RSI]].any()
    assert context[16, TREND] == pytest.approx((356 - 100) / 100)
    assert context[16, RSI] == 1.0


@pytest.mark.parametrize(("clock", "share"), [("09:30", 0.75), ("09:45", 1.0), ("10:00", 0.25), ("10:15", 0.5)])
def test_position_in_hour_counts_clock_quarters(build, clock, share):
    bars = full_day()
    assert build(bars)[at(bars, clock), POSITION] == share


def test_a_full_day_has_hours_of_two_and_six_times_four_bars(build):
    # An hour is valid from 10:00 on: 24 of the 26 bars of every session see a range of at least 2 USD.
    bars = full_day()
    seen = (build(bars)[:, RANGE] > 0.0).astype(int)
    assert [seen[bars.session_ids == day].sum() for day in np.unique(bars.session_ids)[1:]] == [24] * 12


def test_a_half_day_ends_with_the_hour_before_one_o_clock(build):
    # 2019-07-03 closes at 13:00: its 14 bars are 09:30..12:45, and the last four see 11:00-12:00, closes 104..107.
    bars = bars_with_last_closes("SPY", equity_starts("2019-07-03", close="13:00"), [*[100.0] * 6, *range(104, 112)])
    row = build(bars)[at(bars, "12:45")]
    assert len(bars.close[bars.session_ids == bars.session_ids[-1]]) == 14
    assert row[RETURN] == pytest.approx(3 / 104)
    assert row[RANGE] == pytest.approx(5 / 104)  # high 108, low 103
    assert row[POSITION] == 1.0


def test_first_session_after_the_clock_change_has_the_same_hours(build):
    # New York moved its clock on 2024-03-10: 09:30 is 14:30 UTC on the 8th and 13:30 UTC on the 11th.
    bars = bars_with_last_closes("SPY", equity_starts("2024-03-11"), [*DAY, *[100.0] * 19])
    summer = full_day()
    assert bars.timestamps[at(bars, "09:30")].hour == 13
    assert bars.timestamps[at(bars, "09:30") - 26].hour == 14
    np.testing.assert_array_equal(build(bars)[-26:], build(summer)[-26:])


def test_a_missing_bar_leaves_the_bars_that_exist(build):
    # 10:30 is missing: the hour has the closes 110, 99, 98.01.
    bars = bars_with_last_closes(
        "SPY", equity_starts("2024-05-10", without=("10:30",)), [110.0, 121.0, 110.0, 99.0, 98.01, *[100.0] * 20]
    )
    row = build(bars)[at(bars, "11:00")]
    assert row[RETURN] == pytest.approx(98.01 / 110 - 1)
    # returns -1/11, -0.1, -0.01: mean -0.0669697, squares of the deviations .0005729 .0010910 .0032455
    assert row[VOLATILITY] == pytest.approx(sqrt(0.0049094 / 2), rel=1e-4)


def test_a_missing_hour_leaves_the_next_one_without_a_previous_hour(build):
    hole = ("11:00", "11:15", "11:30", "11:45")
    bars = bars_with_last_closes("SPY", equity_starts("2024-05-10", without=hole), [*DAY[:6], *[100.0] * 16])
    context = build(bars)
    assert context[at(bars, "12:00"), PREVIOUS_HOUR].tolist() == [0.0, 0.0, 0.0]
    assert context[at(bars, "13:00"), RANGE] == pytest.approx(2 / 100)  # and the hour after is whole again


def test_crypto_has_a_previous_hour_across_midnight(build):
    # 2024-05-10 23:00..23:45 close at 100, 101, 102, 103; the bar of 00:00 sees them.
    bars = bars_with_last_closes("BTC/USD", crypto_starts("2024-05-11 00:00"), [100.0, 101.0, 102.0, 103.0, 104.0])
    row = build(bars)[-1]
    assert row[RETURN] == pytest.approx(3 / 100)
    assert row[RANGE] == pytest.approx(5 / 100)
    # returns 0, 1/100, 1/101, 1/102: mean .0074262, squares of the deviations in 1e-6: 55.1485 6.6246 6.1240 5.6603
    assert row[VOLATILITY] == pytest.approx(sqrt(73.557e-6 / 3), rel=1e-4)


def test_a_hole_in_crypto_breaks_the_hour_after_it(build):
    hole = tuple(f"2024-05-10 22:{minute}" for minute in ("00", "15", "30", "45"))
    bars = bars_with_last_closes(
        "BTC/USD", crypto_starts("2024-05-11 00:00", hole), [101.0, 102.0, 103.0, 104.0, 105.0]
    )
    context = build(bars)
    assert not context[-5:-1][:, PREVIOUS_HOUR].any()  # the four bars of 23:00
    assert context[-1, RETURN] == pytest.approx(3 / 101)


def test_at_close_shows_an_hour_to_the_bar_that_completes_it(build):
    bars = full_day()
    at_close = get_layout("v5.6.0", hour_visibility="at_close")
    previous, completed = build(bars), build(bars, at_close)
    np.testing.assert_array_equal(
        completed[at(bars, "10:45"), PREVIOUS_HOUR], previous[at(bars, "11:00"), PREVIOUS_HOUR]
    )
    np.testing.assert_array_equal(
        completed[at(bars, "10:30"), PREVIOUS_HOUR], previous[at(bars, "10:30"), PREVIOUS_HOUR]
    )


def test_bars_of_five_minutes_have_twelve_to_the_hour(build):
    starts = pd.date_range(end="2024-05-11 00:00", periods=ROWS, freq="5min", tz="UTC")
    close = np.concatenate([np.full(ROWS - 13, 100.0), 100.0 + np.arange(13)])
    frame = pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 1.0}, index=starts)
    row = build(make_bars(frame, "BTC/USD", bar_minutes=5))[-1]
    assert row[RETURN] == pytest.approx(11 / 100)  # 23:00 at 100 to 23:55 at 111
    assert row[TREND] == pytest.approx(12 / 100)  # 48 bars back
    assert row[RSI] == 12 / 48
    assert row[POSITION] == pytest.approx(5 / 60)


@pytest.mark.parametrize("symbol", ["SPY", "BTCUSDT"])
def test_previous_hour_numbers_equal_a_groupby_over_clock_hours(build, real_data, symbol):
    # A third way to the same numbers: pandas groups by session and clock hour, then looks up one hour earlier.
    bars = real_bars(real_data, symbol)
    hour = bars.timestamps.floor("h")
    frame = pd.DataFrame({"session": bars.session_ids, "hour": hour, "p": bars.close, "h": bars.high, "l": bars.low})
    hours = frame.groupby(["session", "hour"]).agg(
        first=("p", "first"), last=("p", "last"), h=("h", "max"), l=("l", "min")
    )
    wanted = pd.MultiIndex.from_arrays([bars.session_ids, hour - pd.Timedelta(hours=1)])
    seen = hours.reindex(wanted)
    context = build(bars)
    expected = ((seen["last"] - seen["first"]) / seen["first"]).fillna(0.0).to_numpy()
    np.testing.assert_allclose(context[:, RETURN], expected, rtol=1e-8, atol=1e-9)
    expected = ((seen["h"] - seen["l"]) / seen["first"]).fillna(0.0).to_numpy()
    np.testing.assert_allclose(context[:, RANGE], expected, rtol=1e-8, atol=1e-9)
