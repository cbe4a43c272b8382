"""Rows from files: a folder of ``SYMBOL_15Min.parquet`` (or ``.csv``) and finer ones, or one such file by any name."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from jtf.data.timeframes import FILE_TIMEFRAMES, finer_timeframes
from jtf_env.errors import BarsError


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, low_memory=False)


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {".parquet": pd.read_parquet, ".csv": _read_csv}


def find_file(symbol: str, data: Path, timeframe: str = "15Min") -> Path:
    """Return the file with the bars of `symbol`: `data` itself, or in a folder the one with its name.

    ``BTC/USD`` lies in ``BTCUSD_15Min.parquet``, ``BTC-USD_15Min.parquet`` or ``BTC_USD_15Min.parquet``. Without a file
    of the timeframe a finer one is taken, the coarsest first. Raises `BarsError` naming the files looked for and the
    symbols that are there.
    """
    if data.is_file():
        return data
    if not data.is_dir():
        raise BarsError(f"{data}: no such file or folder; check the path of the bars of {symbol}.")
    finer = finer_timeframes(timeframe)
    for name in finer:
        for path in _paths(symbol, data, name):
            if path.is_file():
                return path
    coarser = [t for t in FILE_TIMEFRAMES if t not in finer and any(path.is_file() for path in _paths(symbol, data, t))]
    if coarser:
        raise BarsError(
            f"{data}: has no bars of {symbol} as fine as {timeframe}, only {', '.join(coarser)}; "
            f"pass --timeframe {coarser[0]}, or add a finer file."
        )
    looked_for = " or ".join(path.name for path in _paths(symbol, data, timeframe)[: len(READERS)])
    also = f" or a finer one ({', '.join(finer[1:])})" if len(finer) > 1 else ""
    files = [path for name in FILE_TIMEFRAMES for extension in READERS for path in data.glob(f"*_{name}{extension}")]
    there = sorted({path.stem.rsplit("_", 1)[0] for path in files})
    raise BarsError(
        f"{data}: has no bars of {symbol}, looked for {looked_for}{also}; "
        f"add the file or choose one of its symbols: {', '.join(there) or 'none'}."
    )


def _paths(symbol: str, folder: Path, timeframe: str) -> list[Path]:
    """Return the files that may hold the bars of `symbol`, the usual spelling first."""
    plain = symbol.upper().replace("-", "/")
    stems = [plain.replace("/", joint) for joint in ("", "-", "_")]
    if "/" not in symbol:
        stems.insert(0, symbol.upper())
    return [folder / f"{stem}_{timeframe}{extension}" for stem in dict.fromkeys(stems) for extension in READERS]


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
