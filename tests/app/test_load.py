"""The data a stranger brings: exports, data frames, bar lengths, spans, stamps, and random damage."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jtf
from jtf.data import BARS_SETTINGS, bars_sha256, load_bars
from jtf.data.check import notes_on_bars, refuse_bars
from jtf_env.bars import COLUMNS, Bars
from jtf_env.errors import BarsError
from tests.app.test_check import crypto, equity
from tests.env.test_bars import malformed_frames

EQUITY = equity(5)
CRYPTO = crypto(400)


def same_rows(bars: Bars, frame: pd.DataFrame) -> bool:
    """Return whether the bars are exactly the rows of `frame`."""
    prices = all((getattr(bars, name) == frame[name]).all() for name in COLUMNS)
    return prices and (bars.timestamps == frame.index).all()


# Exports of other tools


def freqtrade_csv(frame: pd.DataFrame) -> str:
    """``date,open,high,low,close,volume``, dates as freqtrade writes them: 2023-01-01 00:00:00+00:00."""
    return frame.rename_axis("date").reset_index().to_csv(index=False)


def yfinance_csv(frame: pd.DataFrame) -> str:
    """``Datetime,Open,High,Low,Close,Adj Close,Volume``: yfinance before 0.2.51, one ticker."""
    table = frame.tz_convert("America/New_York").rename_axis("Datetime").rename(columns=str.title)
    table.insert(4, "Adj Close", table["Close"])
    return table.astype({"Volume": int}).to_csv()


def new_yfinance_csv(frame: pd.DataFrame) -> str:
    """Three header rows, ``Price``, ``Ticker`` and ``Datetime``: yfinance since 0.2.51."""
    table = frame.rename(columns=str.title)[["Close", "High", "Low", "Open", "Volume"]]
    head = "Price,Close,High,Low,Open,Volume\nTicker,SPY,SPY,SPY,SPY,SPY\nDatetime,,,,,\n"
    return head + table.to_csv(header=False)


def alpaca_csv(frame: pd.DataFrame) -> str:
    """``symbol,timestamp,open,high,low,close,volume,trade_count,vwap``: ``bars.df`` of alpaca-py, written as it is."""
    table = frame.assign(trade_count=7.0, vwap=frame["close"])
    table.index = pd.MultiIndex.from_product([["SPY"], frame.index], names=["symbol", "timestamp"])
    return table.to_csv()


def pandas_csv(frame: pd.DataFrame) -> str:
    """Write the frame with an index that has no name."""
    return frame.rename_axis(None).to_csv()


EXPORTS = {
    "freqtrade": ("BTC/USDT", CRYPTO, freqtrade_csv),
    "yfinance": ("SPY", EQUITY, yfinance_csv),
    "yfinance since 0.2.51": ("SPY", EQUITY, new_yfinance_csv),
    "Alpaca": ("SPY", EQUITY, alpaca_csv),
    "pandas": ("SPY", EQUITY, pandas_csv),
}


@pytest.mark.parametrize("tool", EXPORTS)
def test_the_csv_export_of_a_tool_loads_as_it_is(tmp_path, tool):
    symbol, frame, export = EXPORTS[tool]
    (tmp_path / "export.csv").write_text(export(frame))
    assert same_rows(load_bars(symbol, tmp_path / "export.csv"), frame)


@pytest.mark.parametrize("tool", EXPORTS)
def test_the_same_export_read_by_pandas_loads_as_a_data_frame(tool):
    symbol, frame, export = EXPORTS[tool]
    assert same_rows(load_bars(symbol, pd.read_csv(io.StringIO(export(frame)))), frame)


# Data frames


@pytest.mark.parametrize("name", ["timestamp", "Timestamp", "date", "Date", "datetime", "DATETIME", "time"])
@pytest.mark.parametrize("spell", [str.lower, str.title, str.upper])
def test_any_capitalisation_of_the_columns_loads(name, spell):
    frame = EQUITY.rename_axis(name).reset_index().rename(columns=dict(zip(COLUMNS, map(spell, COLUMNS), strict=True)))
    assert same_rows(load_bars("SPY", frame), EQUITY)


def test_a_frame_indexed_by_time_loads_and_is_not_changed():
    before = EQUITY.copy()
    assert same_rows(jtf.load_bars("SPY", EQUITY.tz_convert("Europe/Berlin")), EQUITY)
    pd.testing.assert_frame_equal(EQUITY, before)


def test_yfinances_frame_with_a_ticker_level_loads():
    frame = EQUITY.rename(columns=str.title)
    frame.columns = pd.MultiIndex.from_product([frame.columns, ["SPY"]], names=["Price", "Ticker"])
    assert same_rows(load_bars("SPY", frame), EQUITY)


def test_alpacas_frame_indexed_by_symbol_and_time_loads():
    index = pd.MultiIndex.from_product([["SPY"], EQUITY.index], names=["symbol", "timestamp"])
    assert same_rows(load_bars("SPY", EQUITY.set_axis(index)), EQUITY)


def test_a_frame_and_a_file_of_the_same_rows_give_the_same_bars(tmp_path):
    EQUITY.to_parquet(tmp_path / "SPY_15Min.parquet")
    assert bars_sha256(load_bars("SPY", EQUITY)) == bars_sha256(load_bars("SPY", tmp_path))


WRONG_FRAMES = {
    "naive index": (EQUITY.tz_localize(None), r"row 0 \(2023-01-03 14:30:00\) has no time zone.*write each time with"),
    "naive text": (
        EQUITY.tz_localize(None).rename_axis("Date").reset_index().astype({"Date": str}),
        r"row 0 \(2023-01-03 14:30:00\) has no time zone.*write each time with",
    ),
    "half naive": (
        EQUITY.set_axis([str(t) if k < 9 else str(t)[:19] for k, t in enumerate(EQUITY.index)]).rename_axis("date"),
        r"row 9 \(2023-01-03 16:45:00\) has no time zone and others have",
    ),
    "date and time apart": (
        EQUITY.assign(Date="2023-01-03", Time="09:30").reset_index(drop=True),
        r"a column 'date' and a column 'time'; join them",
    ),
    "no times": (EQUITY.reset_index(drop=True), r"timestamps are int64, not dates with a time zone"),
    "epochs": (EQUITY.set_axis(EQUITY.index.asi8).rename_axis("timestamp").reset_index(), r"timestamps are int64"),
    "two spellings": (EQUITY.assign(Close=1.0), r"needs the column 'close' exactly once"),
    "two times": (EQUITY.assign(date="x", Date="y").reset_index(drop=True), r"has the column 'date' more than once"),
    "times twice": (EQUITY.assign(date="x").set_axis(EQUITY.index.astype(str)).rename_axis("date"), r"more than once"),
    "two symbols": (EQUITY.assign(symbol=["A"] * 100 + ["B"] * 30), r"the bars of 2 symbols \(A, B\); keep the rows"),
    "two tickers": (
        pd.concat({"A": EQUITY, "B": EQUITY}, axis=1),
        r"the bars of several symbols side by side; keep one",
    ),
    "no volume": (EQUITY.drop(columns="volume"), r"needs the column 'volume' exactly once"),
    "empty": (EQUITY[:0], r"has no rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FRAMES)
def test_frames_that_cannot_be_read_are_refused_in_one_sentence(case):
    frame, message = WRONG_FRAMES[case]
    with pytest.raises(BarsError, match=message) as caught:
        load_bars("SPY", frame)
    assert str(caught.value).startswith("DataFrame: ") and "; " in str(caught.value)


# Bar lengths


@pytest.mark.parametrize("timeframe", ["5Min", "15Min", "30Min", "1Hour"])
@pytest.mark.parametrize("symbol", ["SPY", "BTCUSDT"])
def test_every_timeframe_loads_from_its_own_rows(symbol, timeframe):
    minutes = {"5Min": 5, "15Min": 15, "30Min": 30, "1Hour": 60}[timeframe]
    frame = equity(10, minutes) if symbol == "SPY" else crypto(500, minutes)
    bars = load_bars(symbol, frame, timeframe=timeframe)
    refuse_bars(bars)
    assert (bars.bar_minutes, bars.report.resampled_from) == (minutes, None)
    assert same_rows(bars, frame) and notes_on_bars(bars) == []


@pytest.mark.parametrize("timeframe", ["5Min", "15Min", "30Min", "1Hour"])
@pytest.mark.parametrize("symbol", ["SPY", "BTCUSDT"])
def test_every_timeframe_loads_from_1_minute_rows_and_says_so(symbol, timeframe):
    minutes = {"5Min": 5, "15Min": 15, "30Min": 30, "1Hour": 60}[timeframe]
    bars = load_bars(symbol, equity(5, 1) if symbol == "SPY" else crypto(6_000, 1), timeframe=timeframe)
    refuse_bars(bars)
    assert (bars.bar_minutes, bars.report.gaps, bars.tradable.all()) == (minutes, (), True)
    assert notes_on_bars(bars) == [f"{minutes}-minute bars made of 1-minute rows."]


def test_rows_too_sparse_to_make_whole_bars_are_refused_with_the_count():
    sparse = crypto(9_000, 1)[lambda rows: np.random.default_rng(0).random(len(rows)) > 0.1]
    with pytest.raises(BarsError, match=r"4\d\d of 600 bars lack some of their 1-minute rows; take 15-minute bars"):
        refuse_bars(load_bars("BTC/USD", sparse))


def test_a_few_incomplete_bars_are_noted():
    bars = load_bars("BTC/USD", crypto(9_000, 1).drop(index=pd.Timestamp("2023-01-02 10:07", tz="UTC")))
    refuse_bars(bars)
    assert "Bars left out because finer rows are missing: 1." in notes_on_bars(bars)


@pytest.mark.parametrize("minutes", [30, 60, 1440])
def test_coarser_rows_are_refused_naming_the_spacing_and_the_flag(minutes):
    words = {30: "30 minutes", 60: "1 hour", 1440: "1 day"}[minutes]
    remedy = "take bars of 5Min" if minutes == 1440 else "pass --timeframe"
    with pytest.raises(BarsError, match=f"most rows lie {words} apart and 15-minute bars are asked for; {remedy}"):
        load_bars("BTC/USD", crypto(300, minutes))


@pytest.mark.parametrize(("seconds", "remedy"), [(120, "--timeframe 30Min"), (600, "30Min"), (10, "1-minute")])
def test_rows_whose_length_does_not_divide_the_bar_are_refused(seconds, remedy):
    frame = crypto(300).set_axis(pd.date_range("2023-01-01", periods=300, freq=f"{seconds}s", tz="UTC"))
    with pytest.raises(BarsError, match=f"do not make 15-minute bars; .*{remedy}"):
        load_bars("BTC/USD", frame)


def test_hourly_rows_that_start_with_the_session_load():
    frame = equity(10, 60)  # 09:30, 10:30, ... 15:30, as yfinance has them
    bars = load_bars("SPY", frame, timeframe="1Hour")
    refuse_bars(bars)
    assert same_rows(bars, frame) and bars.report.gaps == ()
    assert bars.bars_per_year == pytest.approx(7 * 250, rel=0.01)


def test_hourly_rows_that_start_anywhere_else_are_refused():
    with pytest.raises(BarsError, match="does not start on a multiple of 60 minutes"):
        load_bars("BTC/USD", crypto(300, 60).shift(freq="30min"), timeframe="1Hour")


def test_a_folder_is_searched_for_the_timeframe_and_then_for_finer_files(tmp_path):
    crypto(600, 1).to_parquet(tmp_path / "BTCUSD_1Min.parquet")
    assert load_bars("BTC/USD", tmp_path).source.endswith("BTCUSD_1Min.parquet")
    crypto(600, 5).to_csv(tmp_path / "BTC-USD_5Min.csv", index_label="time")
    assert load_bars("BTC/USD", tmp_path).source.endswith("BTC-USD_5Min.csv")
    crypto(600, 15).to_parquet(tmp_path / "BTC_USD_15Min.parquet")
    assert load_bars("BTC/USD", tmp_path).source.endswith("BTC_USD_15Min.parquet")
    assert load_bars("BTC-USD", tmp_path, timeframe="5Min").source.endswith("BTC-USD_5Min.csv")


def test_a_folder_with_coarser_files_only_names_them_and_the_flag(tmp_path):
    crypto(600, 60).to_parquet(tmp_path / "BTCUSD_1Hour.parquet")
    with pytest.raises(BarsError, match=r"no bars of BTC/USD as fine as 15Min, only 1Hour; pass --timeframe 1Hour"):
        load_bars("BTC/USD", tmp_path)


def test_the_missing_file_of_a_timeframe_is_named_with_the_finer_ones(tmp_path):
    with pytest.raises(BarsError, match=r"SPY_30Min\.parquet or SPY_30Min\.csv or a finer one \(15Min, 5Min"):
        load_bars("SPY", tmp_path, timeframe="30Min")


# Spans and stamps


def test_bars_are_cut_to_the_span_with_the_start_and_without_the_end():
    bars = load_bars("BTC/USD", CRYPTO, start="2023-01-02", end="2023-01-03T12:00")
    assert same_rows(bars, CRYPTO["2023-01-02":"2023-01-03 11:45"])
    assert bars.source == "DataFrame from 2023-01-02 until 2023-01-03T12:00"


def test_times_of_a_span_may_name_their_zone():
    bars = load_bars("BTC/USD", CRYPTO, start="2023-01-02T00:00-05:00")
    assert bars.timestamps[0] == pd.Timestamp("2023-01-02 05:00", tz="UTC")


def test_dirt_outside_the_span_does_no_harm():
    frame = CRYPTO.copy()
    frame.iloc[3, 0] = -1.0
    assert len(load_bars("BTC/USD", frame, start="2023-01-02")) == 304


@pytest.mark.parametrize("span", [{"start": "2024-01-01"}, {"end": "2020-01-01"}])
def test_an_empty_span_is_refused_naming_the_rows_there_are(span):
    with pytest.raises(BarsError, match=r"no row lies in that span; .* 2023-01-01 00:00 to 2023-01-05 03:45 UTC"):
        load_bars("BTC/USD", CRYPTO, **span)


@pytest.mark.parametrize("text", ["soon", "", "2023-13-01", "NaT"])
def test_a_span_that_is_no_date_is_refused(text):
    with pytest.raises(BarsError, match=r"start '.*' is not a date or time"):
        load_bars("BTC/USD", CRYPTO, start=text)


@pytest.mark.parametrize("minutes", [5, 15])
def test_stamps_at_the_end_of_a_bar_are_shifted_to_its_start(minutes):
    frame = equity(10, minutes)
    late = frame.set_axis(frame.index + pd.Timedelta(minutes=minutes))
    moved, plain = load_bars("SPY", late, stamps="end"), load_bars("SPY", frame)
    assert bars_sha256(moved) == bars_sha256(plain)
    refuse_bars(moved)


@pytest.mark.parametrize("setting", [{"timeframe": "1Day"}, {"stamps": "middle"}])
def test_unknown_choices_are_refused_by_name(setting):
    ((name, value),) = setting.items()
    with pytest.raises(BarsError, match=f"{name} '{value}' is not one of"):
        load_bars("BTC/USD", CRYPTO, **setting)


@pytest.mark.parametrize("setting", [{"timeframe": "1Hour"}, {"start": "2024"}, {"end": "2024"}, {"stamps": "end"}])
def test_the_built_in_market_takes_no_settings_of_files(setting):
    with pytest.raises(BarsError, match="the built-in market has its own 15-minute bars; give --data"):
        load_bars("CLSK", **setting)


def test_every_setting_that_decides_the_bars_is_one_of_a_run():
    from jtf.config import RunConfig

    defaults = {name: getattr(RunConfig(), name) for name in BARS_SETTINGS}
    assert bars_sha256(load_bars("SPY", EQUITY, **defaults)) == bars_sha256(load_bars("SPY", EQUITY))


# Random damage

GOOD_CSV = {"SPY": freqtrade_csv(equity(12)), "BTCUSDT": freqtrade_csv(crypto(300))}
CELLS = ("", "nan", "inf", "-1", "0", "1e30", "x", "2023-01-03", "2023-01-03 15:00:00+00:00", "1e9", '"', "é", "\x00")


def damaged(text: str, rng: np.random.Generator) -> bytes:
    """Return a CSV file after one or two random changes of cells, rows, columns or bytes."""
    lines = text.splitlines()
    for _ in range(rng.integers(1, 3)):
        row = int(rng.integers(len(lines)))
        other = int(rng.integers(len(lines)))
        cells = lines[row].split(",")
        kind = rng.integers(11)
        if kind == 0:
            cells[rng.integers(len(cells))] = str(rng.choice(CELLS))
            lines[row] = ",".join(cells)
        elif kind == 1:
            lines[row], lines[other] = lines[other], lines[row]
        elif kind == 2:
            lines.insert(other, lines[row])
        elif kind == 3:
            del lines[min(row, other) : max(row, other)]
            lines = lines or [""]
        elif kind == 4:
            lines[row] = ",".join(rng.permutation(cells))
        elif kind == 5:
            column = rng.integers(6)
            lines = [",".join(c for k, c in enumerate(line.split(",")) if k != column) for line in lines]
        elif kind == 6:
            lines[row] = lines[row] * 2
        elif kind == 7:
            lines[row] = ",".join([*cells[:-1], "0"])
        elif kind in (8, 9):
            del lines[row]
        else:
            step = rng.integers(2, 5)
            lines = [lines[0], *lines[1::step]]
    content = bytearray("\n".join(lines).encode())
    if rng.random() < 0.2 and content:
        content[rng.integers(len(content))] = rng.integers(256)
    return bytes(content)


@pytest.mark.parametrize("symbol", GOOD_CSV)
def test_200_damaged_files_end_in_bars_or_in_one_sentence(tmp_path, symbol):
    rng = np.random.default_rng(0)
    path = tmp_path / "bars.csv"
    ends = {"bars": 0, "refused": 0}
    for _ in range(200):
        path.write_bytes(damaged(GOOD_CSV[symbol], rng))
        try:
            bars = load_bars(symbol, path)
            refuse_bars(bars)
        except BarsError as error:
            sentence = str(error)
            assert str(path) in sentence and "; " in sentence and sentence.endswith("."), sentence
            assert "\n" not in sentence, sentence
            ends["refused"] += 1
        else:
            assert np.isfinite([getattr(bars, name) for name in COLUMNS]).all()
            assert all(note.endswith(".") for note in notes_on_bars(bars))
            ends["bars"] += 1
    assert min(ends.values()) > 10, ends


@settings(max_examples=150, deadline=None, derandomize=True)
@given(frame=malformed_frames(), symbol=st.sampled_from(["SPY", "BTC/USD"]), stamps=st.sampled_from(["start", "end"]))
def test_malformed_frames_end_in_bars_or_in_one_sentence(frame, symbol, stamps):
    try:
        bars = load_bars(symbol, frame, stamps=stamps)
    except BarsError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite([getattr(bars, name) for name in COLUMNS]).all()
