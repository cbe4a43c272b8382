"""The trials on disk: how often the out-of-sample bars of a symbol were looked at. No JAX."""

from pathlib import Path
from typing import Any

from jtf.errors import UserError
from jtf.results.run_directory import SUMMARY, read_summary


def trial_sharpes(own: Path, symbol: str) -> list[float]:
    """Return the annualised out-of-sample Sharpe ratio of every other trial of `symbol`, in order of their paths.

    `own` is the run, or the experiment, that asks; trials are the finished runs, walk-forwards and evaluations under
    the same folder of runs. An undefined ratio counts as 0. A cell is part of a trial and has no others: what it says
    must not depend on what else lies on disk.
    """
    out = own.parent.parent
    if out.name == "cells":
        return []
    patterns = (symbol.replace("/", ""), "walkforward", "evaluate")
    paths = [path for pattern in patterns for path in out.glob(f"{pattern}/*/{SUMMARY}")]
    found = [_sharpe(path.parent, symbol) for path in sorted(paths) if path.parent != own]
    return [sharpe for sharpe in found if sharpe is not None]


def _sharpe(directory: Path, symbol: str) -> float | None:
    """Return the out-of-sample Sharpe ratio of a trial; None where it is unfinished or of another symbol."""
    try:
        summary = read_summary(directory)
    except UserError:
        return None
    # An evaluation has a record a symbol.
    records: dict[str, Any] = summary.get("symbols") or {summary.get("symbol"): summary}
    if summary["status"] != "finished" or symbol not in records:
        return None
    return records[symbol]["metrics"]["test"]["sharpe"] or 0.0
