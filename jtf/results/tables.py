"""The tables of a result: curves (a row per bar), fills and trades, and the way back from `fills.csv`. No JAX."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from jtf.results.trade_account import excursions
from jtf.results.trades import Trade
from jtf.splits import Segment
from jtf_env.actions import ACTION_NAMES
from jtf_env.bars import Bars
from jtf_env.mirror.backtest import Backtest, Fill
from jtf_env.mirror.market import Market
from jtf_env.scaler import Scaler

FILL_COLUMNS: dict[str, type] = {
    "segment": str, "time": str, "bar": int, "side": str, "units": float, "price": float, "fee": float, "cost": float,
    "level_after": int, "units_after": float, "reason": str,
}  # fmt: skip
"""Name and type of the columns; times are ISO, UTC."""
TRADE_COLUMNS: dict[str, type] = {
    "segment": str, "entry_time": str, "exit_time": str, "entry_bar": int, "exit_bar": int, "direction": str,
    "units": float, "entry_price": float, "exit_price": float, "gross": float, "costs": float, "net": float,
    "bars_held": int, "reason": str, "open_at_end": bool, "open_units": float, "closing_cost": float,
    "mae": float, "mfe": float,
}  # fmt: skip
SIDES = {1: "buy", -1: "sell"}
DIRECTIONS = {1: "long", -1: "short"}
PROBABILITIES = tuple(f"p_{name}" for name in ACTION_NAMES)
MEMBER_EQUITY = "equity_"
"""What the names of the members' equity columns begin with; the seed follows."""
MOST_OBSERVED = 25_000
"""Bars whose observed columns a result keeps."""


def bar_table(bars: Bars, labels: np.ndarray, outputs: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return ``time, seen, close, <outputs>``, a row per bar.

    ``labels [T]`` say what the policy has seen; `outputs` are columns ``[T]``, e.g. the probabilities of the actions.
    """
    columns = {name: values.astype(np.float32) for name, values in outputs.items()}
    return pd.DataFrame({"time": bars.timestamps, "seen": labels.astype(str), "close": bars.close} | columns)


def curve_table(name: str, segment: Segment, bars: pd.DataFrame, backtest: Backtest, held: Backtest) -> pd.DataFrame:
    """Return a row per bar of a segment.

    Columns: ``segment, <those of bar_table>, action, position, level, equity, buy_and_hold, costs``. The last bar has
    no action. Bars after ruin have neither action nor position, and the equity that was left.
    `bars` is the `bar_table` ``[T]``, `held` the buy-and-hold backtest of the segment.
    """
    curve = bars.iloc[segment.start : segment.stop].reset_index(drop=True)
    size = len(curve)
    curve.insert(0, "segment", name)
    curve["action"] = pd.array(_padded(backtest.actions, size), dtype="Int8")
    curve["position"] = _padded(backtest.positions, size)
    curve["level"] = pd.array(_padded(backtest.levels, size), dtype="Int8")
    curve["equity"] = _padded(backtest.equity, size, backtest.equity[-1])
    curve["buy_and_hold"] = _padded(held.equity, size, held.equity[-1])
    curve["costs"] = _padded(backtest.costs, size, 0.0)
    return curve


def add_member_equity(curves: pd.DataFrame, members: Mapping[int, Mapping[str, Backtest]]) -> pd.DataFrame:
    """Return `curves` with the equity (USD) of every member alone as a column ``equity_<seed>``.

    `members` is seed -> segment -> backtest. Bars after ruin have the equity that was left.
    """
    sizes = {str(name): len(part) for name, part in curves.groupby("segment", sort=False, observed=True)}
    columns = {
        f"{MEMBER_EQUITY}{seed}": np.concatenate(
            [_padded(passes[name].equity, size, passes[name].equity[-1]) for name, size in sizes.items()]
        ).astype(np.float32)
        for seed, passes in members.items()
    }
    return curves.assign(**columns)


def observed_table(name: str, segment: Segment, bars: Bars, market: Market, scaler: Scaler) -> pd.DataFrame:
    """Return the standardised columns of the last `MOST_OBSERVED` bars of a segment, float16, after segment and time.

    Account columns are not among them: they come from the account, not from the bars. ``attrs`` hold what leads back
    to natural units: ``mean`` and ``std`` of the columns.
    """
    rows = slice(max(segment.start, segment.stop - MOST_OBSERVED), segment.stop)
    columns = np.concatenate([market.features[rows], market.context[rows]], axis=1).astype(np.float16)
    table = pd.DataFrame(columns, columns=list(market.column_names))
    table.insert(0, "segment", name)
    table.insert(1, "time", bars.timestamps[rows])
    table.attrs = {"mean": scaler.mean.tolist(), "std": scaler.std.tolist()}
    return table


def parquet_bytes(table: pd.DataFrame, params_sha256: str) -> bytes:
    """Return `table` as Parquet that names the policy it was derived from."""
    named = table.copy(deep=False)
    named.attrs = table.attrs | {"params_sha256": params_sha256}
    buffer = io.BytesIO()
    named.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def fill_table(fills: Iterable[tuple[str, Fill]], timestamps: pd.DatetimeIndex) -> pd.DataFrame:
    """Return ``(segment, fill)`` as a table with `FILL_COLUMNS`; ``timestamps [T]``."""
    rows = [
        (segment, timestamps[fill.bar].isoformat(), *fill._replace(side=SIDES[fill.side]))  # type: ignore[arg-type]
        for segment, fill in fills
    ]
    return pd.DataFrame(rows, columns=list(FILL_COLUMNS)).astype(FILL_COLUMNS)


def trade_table(trades: Sequence[tuple[str, Trade]], bars: Bars, fill: str) -> pd.DataFrame:
    """Return ``(segment, trade)`` as a table with `TRADE_COLUMNS`; they are of `bars` and this fill mode."""
    times = bars.timestamps
    extremes = excursions([trade for _, trade in trades], bars.high, bars.low, fill)
    rows = [
        (
            segment,
            times[trade.entry_bar].isoformat(),
            times[trade.exit_bar].isoformat(),
            *trade._replace(direction=DIRECTIONS[trade.direction]),  # type: ignore[arg-type]
            adverse,
            favourable,
        )
        for (segment, trade), adverse, favourable in zip(trades, *extremes, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(TRADE_COLUMNS)).astype(TRADE_COLUMNS)


def read_table(content: bytes, columns: Mapping[str, type]) -> pd.DataFrame:
    """Return the table that `content` (CSV) was written from, every number exactly."""
    # The parser's own conversion of numbers is not exact in every version of pandas; Python's is.
    text = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    for name, kind in columns.items():
        text[name] = text[name].map((lambda cell: cell == "True") if kind is bool else kind)
    return text.astype(columns)


def table_fills(table: pd.DataFrame) -> Iterator[tuple[str, Fill]]:
    """Yield the ``(segment, fill)`` that a table with `FILL_COLUMNS` was made of."""
    signs = {name: sign for sign, name in SIDES.items()}
    for segment, _, bar, side, *rest in table[list(FILL_COLUMNS)].itertuples(index=False, name=None):
        yield segment, Fill(bar, signs[side], *rest)


def _padded(values: np.ndarray, size: int, missing: float = np.nan) -> np.ndarray:
    return np.append(values.astype(np.float64), np.full(size - len(values), missing))
