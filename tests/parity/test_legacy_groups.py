"""The groups of older layouts by hand and against pandas, the same on both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtf_env import market as jax_market
from jtf_env import mirror, regimes
from jtf_env.bars import Bars, make_bars
from jtf_env.features import bar_inputs, base7, intraday4
from jtf_env.layouts import GROUPS
from jtf_env.mirror import features as mirror_features
from jtf_env.mirror.past import Past
from jtf_env.mirror.regimes import state_age
from tests.parity.samples import EVERY_COLUMN, bars_from_closes, columns_of, frozen_bars, real_bars, walk_bars

INTRADAY = ("session_elapsed", "session_left", "is_first_hour", "is_last_hour")


def bars_at(times: pd.DatetimeIndex, symbol: str, **options) -> Bars:
    """Bars at these times whose prices stand still."""
    frame = pd.DataFrame({name: 100.0 for name in ("open", "high", "low", "close", "volume")}, index=times)
    return make_bars(frame, symbol, **options)


def session(day: str, first: str, last: str, bar_minutes: int = 15) -> Bars:
    """One session of SPY, its bars from `first` to `last` by the clock of New York."""
    times = pd.date_range(f"{day} {first}", f"{day} {last}", freq=f"{bar_minutes}min", tz="America/New_York")
    return bars_at(times.tz_convert("UTC"), "SPY", bar_minutes=bar_minutes, extended_hours=True)


def intraday(bars: Bars) -> dict[str, np.ndarray]:
    """intraday4 of the mirror, after a look that JAX has the same."""
    found = mirror_features.intraday4(mirror_features.bar_inputs(bars), Past())
    with jax.enable_x64(True):
        other = jax.jit(intraday4)(bar_inputs(bars))
    for mine, theirs in zip(found, other, strict=True):
        np.testing.assert_allclose(theirs[: len(bars)], mine, rtol=1e-14, atol=1e-15)
    return dict(zip(INTRADAY, found, strict=True))


def test_the_hours_of_a_whole_session_by_hand():
    # 26 bars of 15 of 390 minutes. The first hour is 09:30..10:15, the last 15:00..15:45: four bars each.
    columns = intraday(session("2024-02-26", "09:30", "15:45"))
    np.testing.assert_allclose(columns["session_elapsed"][[0, 3, 25]], [15 / 390, 60 / 390, 1.0])
    np.testing.assert_allclose(columns["session_left"][[0, 3, 25]], [375 / 390, 330 / 390, 0.0], atol=1e-15)
    np.testing.assert_array_equal(np.flatnonzero(columns["is_first_hour"]), [0, 1, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(columns["is_last_hour"]), [22, 23, 24, 25])


def test_a_half_day_ends_with_its_own_last_hour():
    # The day after Thanksgiving closes at 13:00: 14 bars of 210 minutes, the last hour is 12:00..12:45.
    columns = intraday(session("2023-11-24", "09:30", "12:45"))
    np.testing.assert_allclose(columns["session_elapsed"][[0, 13]], [15 / 210, 1.0])
    np.testing.assert_array_equal(np.flatnonzero(columns["is_first_hour"]), [0, 1, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(columns["is_last_hour"]), [10, 11, 12, 13])


@pytest.mark.parametrize(("day", "open_utc"), [("2024-03-08", 14), ("2024-03-11", 13)])
def test_the_first_hour_follows_the_clock_of_the_exchange_over_a_dst_change(day, open_utc):
    bars = session(day, "09:30", "15:45")
    assert bars.timestamps[0].hour == open_utc
    columns = intraday(bars)
    np.testing.assert_array_equal(np.flatnonzero(columns["is_first_hour"]), [0, 1, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(columns["is_last_hour"]), [22, 23, 24, 25])


def test_bars_outside_regular_hours_are_in_neither_hour():
    # 09:00 and 09:15 before the open, 15:45 the last of the session, 16:00 and 16:15 after it.
    columns = intraday(session("2024-02-26", "09:00", "16:15"))
    np.testing.assert_array_equal(columns["session_elapsed"][[0, 1, -2, -1]], [0, 0, 1, 1])
    np.testing.assert_array_equal(np.flatnonzero(columns["is_first_hour"]), [2, 3, 4, 5])
    np.testing.assert_array_equal(np.flatnonzero(columns["is_last_hour"]), [24, 25, 26, 27])


@pytest.mark.parametrize(("first", "last"), [("09:30", "15:30"), ("09:00", "15:00")])
def test_with_hourly_bars_one_bar_is_the_first_hour_and_one_the_last(first, last):
    # From 09:30 the last bar ends after the close, from 09:00 the first starts before the open.
    columns = intraday(session("2024-02-26", first, last, bar_minutes=60))
    np.testing.assert_array_equal(columns["is_first_hour"], [1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(columns["is_last_hour"], [0, 0, 0, 0, 0, 0, 1])


def test_around_the_clock_the_session_is_the_utc_day():
    # 96 bars a day: the first hour is 00:00..00:45 UTC, the last 23:00..23:45.
    columns = intraday(bars_at(pd.date_range("2024-02-26", periods=192, freq="15min", tz="UTC"), "BTC/USD"))
    np.testing.assert_allclose(columns["session_elapsed"][[0, 47, 95, 96]], [1 / 96, 0.5, 1.0, 1 / 96])
    np.testing.assert_array_equal(np.flatnonzero(columns["is_first_hour"]), [0, 1, 2, 3, 96, 97, 98, 99])
    np.testing.assert_array_equal(np.flatnonzero(columns["is_last_hour"]), [92, 93, 94, 95, 188, 189, 190, 191])


def volume_proxy(bars: Bars) -> np.ndarray:
    """volume_proxy of the mirror from row 99 on, after a look that JAX has the same."""
    found = mirror_features.base7(mirror_features.bar_inputs(bars), Past())[6][99:]
    with jax.enable_x64(True):
        other = jax.jit(base7)(bar_inputs(bars))[6][99 : len(bars)]
    np.testing.assert_allclose(other, found, rtol=1e-13, atol=1e-14)
    return found


def test_volume_proxy_by_hand():
    # 99 bars of 99 units and one of 199: mean 100, ln(200 / 101) = .683197. Then 0 units (99 leave): mean
    # (98 x 99 + 199 + 0) / 100 = 99.01, ln(1 / 100.01) = -4.605270.
    volume = np.array([99.0] * 99 + [199.0, 0.0])
    bars = bars_from_closes(np.full(101, 100.0), np.zeros(101), volume)
    np.testing.assert_allclose(volume_proxy(bars), [0.683197, -4.605270], atol=1e-6)


def test_volume_proxy_is_zero_where_no_volume_is_known():
    assert not volume_proxy(frozen_bars(300)).any()


@pytest.mark.parametrize("side", ["mirror", "jax"])
def test_the_age_of_a_state_by_hand(side):
    # Most likely states 0 0 2 2 1, then 0 by a tie of 0 and 1 (the first counts), and 0 again. It has not moved on the
    # first two rows: the cap. Then 0, 1, 0, 0, 1 bars since the change.
    rows = [[6, 3, 1], [5, 4, 1], [1, 2, 7], [2, 3, 5], [2, 6, 2], [4, 4, 2], [5, 3, 2]]
    posteriors = np.array(rows) / 10
    age = state_age(Past(), posteriors) if side == "mirror" else regimes.state_age(jnp.asarray(posteriors.T))
    np.testing.assert_allclose(age, [1.0, 1.0, 0.0, 0.01, 0.0, 0.0, 0.01], rtol=1e-7)


def test_the_age_of_a_state_stops_at_a_hundred_bars():
    posteriors = np.eye(3)[[0] + [2] * 150]
    np.testing.assert_array_equal(state_age(Past(), posteriors)[[1, 2, 100, 101, 102, 150]], [0, 0.01, 0.99, 1, 1, 1])
    np.testing.assert_allclose(regimes.state_age(jnp.asarray(posteriors.T)), state_age(Past(), posteriors), rtol=1e-6)


@pytest.fixture(scope="module", params=["SPY", "walk"])
def sample(request) -> tuple[Bars, dict[str, np.ndarray]]:
    bars = walk_bars() if request.param == "walk" else real_bars(request.getfixturevalue("real_data"), "SPY")
    return bars, columns_of(mirror.build_market(bars, EVERY_COLUMN))


def test_volume_proxy_equals_pandas(sample):
    bars, columns = sample
    volume = pd.Series(bars.volume)
    expected = np.log((volume + 1) / (volume.rolling(100).mean() + 1))
    np.testing.assert_allclose(columns["volume_proxy"][100:], expected[100:], rtol=1e-9, atol=1e-9)


def test_ages_are_counted_from_the_changes_of_the_posteriors_columns(sample):
    _, columns = sample
    names = GROUPS["markov12"].columns
    for k, filtered in enumerate(("volatility", "trend", "momentum")):
        # Cold posteriors are shown as thirds, so that counting by the columns can begin at the first warm row only.
        state = pd.Series(np.argmax([columns[name][101:] for name in names[3 * k : 3 * k + 3]], axis=0))
        run = (state != state.shift()).cumsum()
        age, known = state.groupby(run).cumcount(), (run > 1).to_numpy()
        expected = np.minimum(age, 100) / 100
        found = columns[f"{filtered}_regime_bars"][101:]
        np.testing.assert_allclose(found[known], expected[known], rtol=1e-15)
        assert 0 < found.mean() < 0.6 and found.max() >= 0.2, "an age that hardly moves is not tested"


def test_the_columns_of_base7_begin_with_those_of_base6():
    bars = walk_bars(400)
    inputs = mirror_features.bar_inputs(bars)
    for one, other in zip(
        mirror_features.base6(inputs, Past()), mirror_features.base7(inputs, Past())[:6], strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert GROUPS["base7"].columns == (*GROUPS["base6"].columns, "volume_proxy")


def test_unknown_volume_leaves_the_standardised_column_at_zero():
    bars = frozen_bars(1000)
    with jax.enable_x64(True):
        natural = jax_market.build_market(bars, "v2.3.0", dtype=jnp.float64)
    scaler = mirror.fit_scaler(np.asarray(natural.features), np.asarray(natural.context), natural.first_bar)
    market = jax_market.scale_market(natural, scaler)
    assert not np.asarray(market.features)[:, natural.column_names.index("volume_proxy")].any()
