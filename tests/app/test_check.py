"""Bars that are refused by training and backtest alike, and the notes on the others."""

import numpy as np
import pandas as pd
import pytest

from jtf.data.check import bars_record, notes_on_bars, refuse_bars
from jtf_env.bars import make_bars
from jtf_env.errors import BarsError
from jtf_env.sessions import exchange_schedule

pytestmark = pytest.mark.quick

NEW_YORK = "America/New_York"


def frame_at(stamps: pd.DatetimeIndex) -> pd.DataFrame:
    """Return plausible rows at these bar starts, close to 100 USD."""
    close = 100 + np.sin(np.arange(len(stamps)))
    columns = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1000.0}
    return pd.DataFrame(columns, index=stamps)


def equity(sessions: int = 20, minutes: int = 15) -> pd.DataFrame:
    """Return the bars of the first sessions of 2023."""
    schedule = exchange_schedule(2023, 2023)
    bounds = list(zip(schedule.open, schedule.close, strict=True))[:sessions]
    days = [pd.date_range(begin, end, freq=f"{minutes}min", inclusive="left") for begin, end in bounds]
    return frame_at(pd.DatetimeIndex(np.concatenate(days), tz="UTC"))


def crypto(count: int = 2000, minutes: int = 15) -> pd.DataFrame:
    return frame_at(pd.date_range("2023-01-01", periods=count, freq=f"{minutes}min", tz="UTC"))


def shifted(frame: pd.DataFrame, **delta: int) -> pd.DataFrame:
    return frame.set_axis(frame.index + pd.Timedelta(**delta))


def local_as_utc(frame: pd.DataFrame, zone: str = NEW_YORK) -> pd.DataFrame:
    return frame.set_axis(frame.index.tz_convert(zone).tz_localize(None).tz_localize("UTC"))


def changed(frame: pd.DataFrame, row: int, **cells: float) -> pd.DataFrame:
    frame = frame.copy()
    for name, cell in cells.items():
        frame.iloc[row, frame.columns.get_loc(name)] = cell
    return frame


def halved_from(frame: pd.DataFrame, row: int) -> pd.DataFrame:
    frame = frame.copy()
    frame.iloc[row:, :4] /= 7
    return frame


def standing_still(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    frame = frame.copy()
    frame.iloc[100 : 100 + count, :4] = 100.0
    return frame


REFUSED = {
    "hourly crypto": ("BTCUSDT", crypto(minutes=60), r"most rows lie 1 hour apart .* pass --timeframe 1Hour"),
    "half-hourly": ("SPY", equity(minutes=30), r"most rows lie 30 minutes apart .* pass --timeframe 30Min"),
    "every other bar": ("SPY", equity()[::2], r"most rows lie 30 minutes apart .* --timeframe"),
    "every other bar of crypto": ("BTCUSDT", crypto()[::2], r"most rows lie 30 minutes apart .* --timeframe"),
    "daily": ("BTCUSDT", crypto(minutes=1440), r"most rows lie 1 day apart .* take bars of 5Min, 15Min"),
    "crypto as equity": ("BTC", crypto(), r"outside the trading days of XNYS.*crypto read as an equity.*--asset-class"),
    "Athens labelled UTC": ("SPY", local_as_utc(equity(), "Europe/Athens"), r"19 of 19 .* opening bar, .*labelled"),
    "New York time labelled UTC": ("SPY", local_as_utc(equity()), r"19 of 19 .* closing bar, .*labelled"),
    "UTC labelled New York": ("SPY", shifted(equity(), hours=5), r"19 of 19 .* opening bar, .*labelled"),
    "bar-end stamps": ("SPY", shifted(equity(), minutes=15), r"19 of 19 .* opening bar, .*--stamps end"),
    "a Saturday": ("SPY", pd.concat([equity(4), shifted(equity(1), days=4)]), r"26 rows on weekends"),
    "standstill": ("BTCUSDT", standing_still(crypto(), 1000), r"does not move over 1,000 consecutive bars"),
    "split between sessions": ("SPY", halved_from(equity(), 52), r"jumps from .* at 2023-01-05T14:30.*--allow-jumps"),
    "split inside a session": ("SPY", halved_from(equity(), 60), r"jumps from .* to .* at 2023-01-05T16:30"),
    "split in crypto": ("BTCUSDT", halved_from(crypto(), 60), r"jumps from .* to .* at 2023-01-01T15:00"),
    "high x 100": ("SPY", changed(equity(), 9, high=1e4), r"2023-01-03T16:45:00\+00:00 has a price of 10000.*bad tick"),
    "a close that reverts": ("BTCUSDT", changed(crypto(), 9, high=500, close=500), r"02:15.* price of 500.*1 such bar"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bars_are_refused_in_one_sentence_naming_cause_and_remedy(case):
    symbol, frame, message = REFUSED[case]
    with pytest.raises(BarsError, match=message) as caught:
        refuse_bars(make_bars(frame, symbol, source="bars.csv"))
    sentence = str(caught.value)
    assert sentence.startswith("bars.csv: ") and "; " in sentence and sentence.endswith(".") and "\n" not in sentence


ODD_PRICES = (
    "split between sessions",
    "split inside a session",
    "split in crypto",
    "high x 100",
    "a close that reverts",
)


@pytest.mark.parametrize("case", ODD_PRICES)
def test_odd_prices_may_be_allowed_and_are_then_noted(case):
    symbol, frame, _ = REFUSED[case]
    bars = make_bars(frame, symbol)
    refuse_bars(bars, allow_jumps=True)
    assert any("allowed: 1." in note for note in notes_on_bars(bars))


@pytest.mark.parametrize(
    "case", [name for name in REFUSED if "split" not in name and "close" not in name and "x" not in name]
)
def test_nothing_else_is_allowed_with_them(case):
    symbol, frame, message = REFUSED[case]
    with pytest.raises(BarsError, match=message):
        refuse_bars(make_bars(frame, symbol), allow_jumps=True)


GOOD = {
    "equity": ("SPY", equity()),
    "crypto": ("BTCUSDT", crypto()),
    "an almost full standstill": ("BTCUSDT", standing_still(crypto(), 999)),
    "one missing opening bar in four": ("SPY", equity()[lambda f: np.arange(len(f)) % 104 != 26]),
    "three sessions only": ("SPY", shifted(equity(3), minutes=15)),
}


@pytest.mark.parametrize("case", GOOD)
def test_good_bars_are_not_refused(case):
    symbol, frame = GOOD[case]
    refuse_bars(make_bars(frame, symbol))


def test_complete_bars_have_no_notes():
    assert notes_on_bars(make_bars(equity(), "SPY")) == []
    assert notes_on_bars(make_bars(crypto(), "BTCUSDT")) == []


def test_more_than_five_per_cent_untradable_bars_are_noted():
    volume = np.where(np.arange(2000) % 10 == 0, 0.0, 5.0)
    assert notes_on_bars(make_bars(crypto().assign(volume=volume), "BTCUSDT")) == [
        "Untradable bars: 10%; orders on them are dropped."
    ]


def test_five_per_cent_untradable_bars_are_not_noted():
    volume = np.where(np.arange(2000) % 20 == 0, 0.0, 5.0)
    assert notes_on_bars(make_bars(crypto().assign(volume=volume), "BTCUSDT")) == []


def test_volume_that_is_zero_everywhere_is_noted():
    (note,) = notes_on_bars(make_bars(crypto().assign(volume=0.0), "BTCUSDT"))
    assert note.startswith("Every volume is 0")


@pytest.mark.parametrize("name", ["SPY", "NVDA", "BTCUSDT", "SPY2011X", "lean/GOOG", "lean/SPY", "lean/IBM"])
def test_real_bars_are_not_refused(real_data, name):
    refuse_bars(make_bars(pd.read_parquet(real_data / f"{name}_15Min.parquet"), name.split("/")[-1]))


def test_real_spy_has_a_note_for_everything_its_sources_page_names(real_data):
    notes = " ".join(notes_on_bars(make_bars(pd.read_parquet(real_data / "SPY_15Min.parquet"), "SPY")))
    assert "early close: 12" in notes and "1, 10 bars" in notes and "2023-02-10" in notes


def test_the_real_split_is_refused_with_both_prices(real_data):
    bars = make_bars(pd.read_parquet(real_data / "lean" / "AAPL_15Min.parquet"), "AAPL")
    with pytest.raises(BarsError, match=r"jumps from 645\.57 to 92\.69 at 2014-06-09T13:30"):
        refuse_bars(bars)


def test_checking_bars_loads_no_jax():
    import subprocess
    import sys

    code = "import sys; sys.modules['jax'] = None; import jtf.data.check, jtf.data.files"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_record_of_bars_counts_half_days_and_untradable_bars():
    # 2023 has two half days: 3 July and 24 November.
    frame = equity(sessions=250)
    frame.iloc[30:33, frame.columns.get_loc("volume")] = 0
    record = bars_record(make_bars(frame, "SPY"), "hash")
    assert (record["half_days"], record["untradable"], record["sha256"]) == (2, 3, "hash")
    assert bars_record(make_bars(crypto(), "BTCUSDT"), "hash")["half_days"] == 0
