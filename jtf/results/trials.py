"""The trials on disk: how often the out-of-sample bars of a symbol were looked at. No JAX."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jtf.errors import UserError
from jtf.results.catalogue import EXPERIMENT
from jtf.results.metrics import sharpe_or_zero
from jtf.results.run_directory import SUMMARY, is_cell, read_summary
from jtf_env.assets import plain_symbol

EXPERIMENTS = ("walkforward", "evaluate")
"""Folders of experiments, beside those of the symbols."""


def trial_sharpes(own: Path, symbol: str) -> list[float]:
    """Return the annualised out-of-sample Sharpe ratio of every other trial of `symbol`, in order of their paths.

    `own` is the run, or the experiment, that asks; trials are the finished runs, walk-forwards and evaluations under
    the same folder of runs. Experiments of the same cells are one trial. An undefined ratio counts as 0. A cell is part
    of a trial and has no others: what it says must not depend on what else lies on disk.
    """
    if is_cell(own):
        return []
    found = {own_trial(own, symbol): 0.0}
    for path in sorted(own.parent.parent.glob(f"*/*/{SUMMARY}")):
        folder = path.parent.parent.name
        if folder in EXPERIMENTS or plain_symbol(folder) == plain_symbol(symbol):
            for trial, sharpe in _trials(path.parent, symbol).items():
                found.setdefault(trial, sharpe)
    return list(found.values())[1:]


def own_trial(own: Path, symbol: str) -> frozenset[str]:
    """Return what tells the trial of `symbol` that `own` is from others: its cells, or the directory of a run."""
    path = own / EXPERIMENT
    cells = json.loads(path.read_text())["cells"] if path.is_file() else []
    keys = {cell["key"] for cell in cells if plain_symbol(cell["symbol"]) == plain_symbol(symbol)}
    return frozenset(keys or {str(own)})


def trial_of(directory: Path, record: Mapping[str, Any]) -> frozenset[str]:
    """Return the same of what ``summary.json`` of a run or an experiment in `directory` says of one symbol."""
    return frozenset({Path(fold["run"]).name for fold in record.get("folds", [])} or {str(directory)})


def _trials(directory: Path, symbol: str) -> dict[frozenset[str], float]:
    """Return trial -> out-of-sample Sharpe ratio; none where it is unfinished or of another symbol."""
    try:
        summary = read_summary(directory)
    except UserError:
        return {}
    if summary["status"] != "finished":
        return {}
    # An evaluation has a record a symbol.
    records: dict[str, Any] = summary.get("symbols") or {summary.get("symbol"): summary}
    return {
        trial_of(directory, record): sharpe_or_zero(record["metrics"]["test"]["sharpe"])
        for name, record in records.items()
        if name is not None and plain_symbol(name) == plain_symbol(symbol)
    }
