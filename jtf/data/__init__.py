"""Where bars come from: files, or the built-in synthetic market."""

import hashlib
from pathlib import Path

import numpy as np

from jtf_env.assets import AssetClass
from jtf_env.bars import COLUMNS, Bars
from jtf_env.sessions import nanoseconds


def load_bars(
    symbol: str,
    data: str | Path | None = None,
    *,
    asset_class: AssetClass | None = None,
    extended_hours: bool = False,
) -> Bars:
    """Return the validated 15-minute bars of `symbol`.

    Parameters
    ----------
    symbol
        For example ``SPY`` or ``BTC/USD``; its spelling decides the asset class unless one is given.
    data
        A folder of ``SYMBOL_15Min.parquet`` or ``.csv``, or one such file by any name. None is the
        synthetic market of that symbol name, the same at every call and without extended hours.
    extended_hours
        Keep bars outside regular hours instead of dropping and counting them.

    Raises
    ------
    BarsError
        One sentence naming the file, the row and timestamp, and the remedy.
    """
    if data is None:
        from jtf.data.synthetic import synthetic_bars

        return synthetic_bars(symbol, asset_class=asset_class)
    from jtf.data.files import load_file_bars

    return load_file_bars(symbol, Path(data), asset_class=asset_class, extended_hours=extended_hours)


def bars_sha256(bars: Bars) -> str:
    """Return the SHA-256, in hexadecimal, of the bar starts and OHLCV, whatever file they came from."""
    digest = hashlib.sha256(nanoseconds(bars.timestamps).astype("<i8").tobytes())
    for name in COLUMNS:
        digest.update(np.asarray(getattr(bars, name), dtype="<f8").tobytes())
    return digest.hexdigest()
