"""The numbers of the page that are too many for JSON: a value a bar, the fills, the trades. No JAX."""

import numpy as np
import pandas as pd

from jtf.report.series import Rolling, Series
from jtf.results.results import RunResult
from jtf.results.tables import PROBABILITIES

FILL_NUMBERS = ("units", "price", "cost", "units_after")
TRADE_NUMBERS = ("units", "entry_price", "exit_price", "gross", "costs", "net")
REASONS = ("signal", "stop", "take_profit", "end")
MINUTE = 60_000_000_000
"""Nanoseconds."""


def minutes(times: pd.DatetimeIndex) -> np.ndarray:
    """Return ``[T]`` int32 minutes since 1970, UTC."""
    return (times.as_unit("ns").asi8 // MINUTE).astype(np.int32)


def page_arrays(result: RunResult, series: dict[str, Series], lines: dict[str, Rolling]) -> dict[str, np.ndarray]:
    """Return every array of the page, named ``<segment>/<name>``; `lines` are the rolling lines by segment."""
    arrays: dict[str, np.ndarray] = {}
    mode = result.derived["env_params"]["fill"]
    for name, one in series.items():
        found = bar_arrays(one)
        fills = result.fills[result.fills["segment"] == name]
        found |= fill_arrays(fills, one, mode)
        found |= trade_arrays(result.trades[result.trades["segment"] == name], one, mode)
        found |= rolling_arrays(lines[name])
        arrays |= {f"{name}/{key}": array for key, array in found.items()}
    return arrays | observed_arrays(result)


def bar_arrays(series: Series) -> dict[str, np.ndarray]:
    """Return a value a bar ``[T]``."""
    money = {"close": series.close, "equity": series.equity, "buy_and_hold": series.buy_and_hold}
    money |= {"position": series.position} | {f"member/{seed}": equity for seed, equity in series.members.items()}
    single = {name: values.astype(np.float32) for name, values in money.items()}
    return {"time": minutes(series.times), "action": series.action} | single


def fill_arrays(fills: pd.DataFrame, series: Series, mode: str) -> dict[str, np.ndarray]:
    """Return the fills of a segment, a value each, with the row they lie in and that of the decision before them.

    `mode` is the fill mode: with ``close`` an order fills in the bar of its decision.
    """
    rows = rows_of(fills["time"], series)
    at_once = (fills["reason"] == "signal").to_numpy() & (mode == "close")
    return {
        "fills/row": rows,
        "fills/decided": np.where(at_once, rows, rows - 1).astype(np.int32),
        "fills/side": np.where(fills["side"] == "buy", 1, -1).astype(np.int8),
        "fills/level_after": fills["level_after"].to_numpy(np.int8),
        "fills/reason": codes(fills["reason"]),
    } | {f"fills/{name}": fills[name].to_numpy(np.float32) for name in FILL_NUMBERS}


def trade_arrays(trades: pd.DataFrame, series: Series, mode: str) -> dict[str, np.ndarray]:
    """Return the trades of a segment, a value each.

    With the rows they were entered and left in, and that of the decision to enter under the fill `mode`.
    """
    entry = rows_of(trades["entry_time"], series)
    return {
        "trades/entry": entry,
        "trades/decided": (entry if mode == "close" else entry - 1).astype(np.int32),
        "trades/exit": rows_of(trades["exit_time"], series),
        "trades/direction": np.where(trades["direction"] == "long", 1, -1).astype(np.int8),
        "trades/reason": codes(trades["reason"]),
    } | {f"trades/{name}": trades[name].to_numpy(np.float64) for name in TRADE_NUMBERS}


def rolling_arrays(lines: Rolling) -> dict[str, np.ndarray]:
    """Return the rolling lines, a value a point ``[P]``."""
    return {
        "rolling/row": lines.rows.astype(np.int32),
        "rolling/sharpe": lines.sharpe.astype(np.float32),
        "rolling/buy_and_hold": lines.buy_and_hold.astype(np.float32),
        "rolling/exposure": lines.exposure.astype(np.float32),
    }


def observed_arrays(result: RunResult) -> dict[str, np.ndarray]:
    """Return what the policy saw and said at the bars it is kept of, column after column ``[F, T]``."""
    columns = result.observations.drop(columns=["segment", "time"])
    arrays = {"observed/columns": columns.to_numpy(np.float16).T}
    said = result.curves[result.curves["segment"] == result.observations["segment"].iloc[0]].tail(len(columns))
    if set(PROBABILITIES) <= set(said):
        arrays["observed/probabilities"] = said[list(PROBABILITIES)].to_numpy(np.float32).T
        arrays["observed/value"] = said["value"].to_numpy(np.float32)
    return arrays


def rows_of(times: pd.Series, series: Series) -> np.ndarray:
    """Return the rows (int32) of the segment whose bars start at `times`, ISO UTC."""
    stamps = pd.DatetimeIndex(pd.to_datetime(times, utc=True, format="ISO8601"))
    return series.times.searchsorted(stamps).astype(np.int32)


def codes(reasons: pd.Series) -> np.ndarray:
    """Return reasons as positions in `REASONS`, uint8."""
    return reasons.map(REASONS.index).to_numpy(np.uint8)
