"""Bars from files: folders, single files, foreign files, hashes."""

import numpy as np
import pandas as pd
import pytest

from jtf.data import bars_sha256, load_bars
from jtf_env.bars import COLUMNS
from jtf_env.errors import BarsError

pytestmark = pytest.mark.quick


@pytest.fixture
def frame() -> pd.DataFrame:
    stamps = pd.date_range("2023-06-01 13:30", periods=26, freq="15min", tz="UTC", name="timestamp")
    close = 100 + np.sin(np.arange(26))
    return pd.DataFrame(
        {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1000.0}, index=stamps
    )


@pytest.fixture
def folder(tmp_path, frame):
    frame.to_parquet(tmp_path / "SPY_15Min.parquet")
    frame.to_parquet(tmp_path / "BTCUSD_15Min.parquet")
    frame.to_csv(tmp_path / "NVDA_15Min.csv")
    return tmp_path


def test_a_folder_holds_one_parquet_file_a_symbol(folder, frame):
    bars = load_bars("SPY", folder)
    assert bars.source == str(folder / "SPY_15Min.parquet")
    np.testing.assert_array_equal(bars.close, frame["close"])


def test_the_folder_may_be_given_as_text(folder):
    assert len(load_bars("SPY", str(folder))) == 26


def test_a_crypto_pair_lies_under_its_name_without_the_slash(folder):
    bars = load_bars("BTC/USD", folder)
    assert (bars.symbol, bars.asset_class) == ("BTC/USD", "crypto")


def test_a_csv_file_gives_the_same_bars_as_parquet(folder):
    assert bars_sha256(load_bars("NVDA", folder)) == bars_sha256(load_bars("SPY", folder))


def test_one_file_may_have_any_name(folder):
    (folder / "SPY_15Min.parquet").rename(folder / "export.parquet")
    assert len(load_bars("CLSK", folder / "export.parquet")) == 26


def test_asset_class_and_extended_hours_are_passed_on(folder):
    assert load_bars("SPY", folder, asset_class="crypto").asset_class == "crypto"


def test_an_unknown_symbol_names_the_files_looked_for_and_the_symbols_there(folder):
    with pytest.raises(BarsError) as caught:
        load_bars("TSLA", folder)
    assert "looked for TSLA_15Min.parquet or TSLA_15Min.csv" in str(caught.value)
    assert "BTCUSD, NVDA, SPY" in str(caught.value)


def test_an_empty_folder_says_that_it_has_no_symbols(tmp_path):
    with pytest.raises(BarsError, match="one of its symbols: none"):
        load_bars("SPY", tmp_path)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(BarsError, match="nowhere: no such file or folder"):
        load_bars("SPY", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["junk.parquet", "junk.csv"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe binary \x93", b"PAR1 cut short PAR1", b"a,b\n1,2,3\n4"])
def test_a_foreign_or_corrupt_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BarsError, match=name) as caught:
        load_bars("SPY", tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_parquet_file_is_named(folder):
    path = folder / "SPY_15Min.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BarsError, match=r"SPY_15Min\.parquet: cannot be read as parquet"):
        load_bars("SPY", folder)


def test_another_kind_of_file_is_refused_by_its_name(tmp_path):
    (tmp_path / "bars.xlsx").write_bytes(b"PK")
    with pytest.raises(BarsError, match=r"bars\.xlsx: is neither \.parquet nor \.csv"):
        load_bars("SPY", tmp_path / "bars.xlsx")


def test_dirt_in_a_file_names_the_file_and_the_row(folder, frame):
    frame.iloc[[0, 1, 1]].to_parquet(folder / "SPY_15Min.parquet")
    with pytest.raises(BarsError, match=r"SPY_15Min\.parquet: row 2 \(2023-06-01T13:45:00\+00:00\) repeats"):
        load_bars("SPY", folder)


def csv_of(tmp_path, frame, stamps):
    path = tmp_path / "bars.csv"
    frame.reset_index(drop=True).assign(timestamp=stamps).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("pattern", ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+00:00", "%Y-%m-%d %H:%M+00"])
def test_csv_timestamps_may_be_any_iso_8601_with_a_zone(tmp_path, frame, pattern):
    bars = load_bars("SPY", csv_of(tmp_path, frame, frame.index.strftime(pattern)))
    assert (bars.timestamps == frame.index).all()


def test_csv_timestamps_may_change_their_offset_with_daylight_saving(tmp_path, frame):
    stamps = [stamp.isoformat() for stamp in frame.index.tz_convert("America/New_York")]
    stamps[-1] = frame.index[-1].isoformat()
    assert (load_bars("SPY", csv_of(tmp_path, frame, stamps)).timestamps == frame.index).all()


@pytest.mark.parametrize("pattern", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M"])
def test_csv_timestamps_without_a_zone_are_refused(tmp_path, frame, pattern):
    with pytest.raises(BarsError, match=r"bars\.csv: row 0 \(2023-06-01 13:30:00\) has no time zone"):
        load_bars("SPY", csv_of(tmp_path, frame, frame.index.strftime(pattern)))


def test_csv_timestamps_that_are_no_dates_are_refused(tmp_path, frame):
    with pytest.raises(BarsError, match=r"bars\.csv: row 0 has 'yesterday' where a time such as 2024-01-31T15:00Z"):
        load_bars("SPY", csv_of(tmp_path, frame, "yesterday"))


def test_a_csv_file_without_timestamps_is_refused(tmp_path, frame):
    frame.to_csv(tmp_path / "bars.csv", index=False)
    with pytest.raises(BarsError, match="timestamps are int64"):
        load_bars("SPY", tmp_path / "bars.csv")


def test_without_data_the_synthetic_market_of_the_symbol_is_returned():
    bars = load_bars("CLSK")
    assert (bars.symbol, bars.source) == ("CLSK", "synthetic")


def test_the_hash_of_bars_is_the_same_for_the_same_rows_wherever_they_lie(folder):
    assert bars_sha256(load_bars("BTC/USD", folder)) == bars_sha256(load_bars("SPY", folder))


@pytest.mark.parametrize("column", COLUMNS)
def test_the_hash_of_bars_changes_with_every_column(folder, frame, column):
    changed = frame.copy()
    changed.iloc[3, frame.columns.get_loc(column)] += 0.001
    changed.to_parquet(folder / "TSLA_15Min.parquet")
    assert bars_sha256(load_bars("TSLA", folder)) != bars_sha256(load_bars("SPY", folder))


def test_the_hash_of_bars_changes_with_time(folder):
    bars = load_bars("BTC/USD", folder)
    assert bars_sha256(bars[:-1]) != bars_sha256(bars[1:])


@pytest.mark.parametrize(("symbol", "bars"), [("SPY", 8_792), ("NVDA", 8_377), ("BTCUSDT", 92_983)])
def test_real_folders_load(real_data, symbol, bars):
    assert len(load_bars(symbol, real_data)) == bars


def test_real_dirty_file_is_refused_by_name_row_and_timestamp(real_data):
    path = real_data / "dirty" / "NVDA_5Min_raw_dups_unsorted.parquet"
    with pytest.raises(BarsError, match=r"NVDA_5Min_raw_dups_unsorted\.parquet: row 15912 \(2022-11-22T14:30"):
        load_bars("NVDA", path)
