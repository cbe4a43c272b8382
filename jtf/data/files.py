"""Bars from files: a folder of ``SYMBOL_15Min.parquet`` (or ``.csv``), or one such file by any name."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from jtf_env.assets import AssetClass
from jtf_env.bars import Bars, make_bars
from jtf_env.errors import BarsError

BAR_MINUTES = 15
_SUFFIX = f"_{BAR_MINUTES}Min"
_ZONED = r":\d\d.*(?:Z|[+-]\d\d(?::?\d\d)?)$"


def _read_csv(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV file, its column ``timestamp`` as dates: in UTC if every cell names a zone."""
    frame = pd.read_csv(path, low_memory=False)
    if list(frame.columns).count("timestamp") != 1:
        return frame
    cells = frame["timestamp"].astype(str)
    zoned = bool(cells.str.contains(_ZONED).all())
    return frame.assign(timestamp=pd.to_datetime(cells, utc=zoned, format="ISO8601"))


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {".parquet": pd.read_parquet, ".csv": _read_csv}


def load_file_bars(
    symbol: str,
    data: Path,
    *,
    asset_class: AssetClass | None = None,
    extended_hours: bool = False,
) -> Bars:
    """Return the validated bars of `symbol` from a folder or one file; raise `BarsError` otherwise."""
    path = find_file(symbol, data)
    return make_bars(
        read_frame(path),
        symbol,
        asset_class=asset_class,
        bar_minutes=BAR_MINUTES,
        extended_hours=extended_hours,
        source=str(path),
    )


def find_file(symbol: str, data: Path) -> Path:
    """Return the file with the bars of `symbol`: `data` itself, or in a folder the one with its name.

    ``BTC/USD`` lies in ``BTCUSD_15Min.parquet``. Raises `BarsError` naming the files looked for and
    the symbols that are there.
    """
    if data.is_file():
        return data
    if not data.is_dir():
        raise BarsError(f"{data}: no such file or folder; check the path of the bars of {symbol}.")
    stem = symbol.replace("/", "").upper()
    wanted = [data / f"{stem}{_SUFFIX}{extension}" for extension in READERS]
    for path in wanted:
        if path.is_file():
            return path
    looked_for = " or ".join(path.name for path in wanted)
    there = sorted({path.stem.removesuffix(_SUFFIX) for e in READERS for path in data.glob(f"*{_SUFFIX}{e}")})
    raise BarsError(
        f"{data}: has no bars of {symbol}, looked for {looked_for}; "
        f"add the file or choose one of its symbols: {', '.join(there) or 'none'}."
    )


def read_frame(path: Path) -> pd.DataFrame:
    """Return the rows of a parquet or CSV file, unchecked; raise `BarsError` where it is neither."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise BarsError(f"{path}: is neither .parquet nor .csv by its name; rename or convert it.")
    try:
        return reader(path)
    except Exception as error:  # parsers raise anything on foreign bytes; the user needs the file's name
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise BarsError(f"{path}: cannot be read as {path.suffix[1:]} ({reason}); replace the file.") from error
