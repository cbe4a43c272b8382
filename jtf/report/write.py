"""`write_report`: from a run directory to ``report.html``, ``report.json`` and the pictures. No JAX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jtf.errors import UserError
from jtf.report.arrays import page_arrays
from jtf.report.content import report_content
from jtf.report.experiment import experiment_page
from jtf.report.page import page_html
from jtf.report.series import rolling, segment_series
from jtf.results.catalogue import EXPERIMENT
from jtf.results.results import read_result
from jtf.results.run_directory import (
    CONFIG,
    SUMMARY,
    how_to_finish,
    read_config,
    read_metrics,
    run_lock,
    write_atomically,
    write_json,
)

REPORT, TWIN, PICTURES = "report.html", "report.json", "figures"


def write_report(directory: Path) -> Path:
    """Write the page of a finished run, backtest or experiment into its directory; return the path of the page.

    Raises `UserError` for a directory without results, with results of another version, or that is being written.
    """
    if (directory / EXPERIMENT).is_file():
        return write_page(directory, *experiment_page(directory))
    from jtf.report.figures import pictures

    refuse_unfinished(directory)
    result = read_result(directory)
    is_run = (directory / CONFIG).is_file()
    settings = read_config(directory) if is_run else {}
    series = segment_series(result.curves)
    per_year = result.summary["data"]["bars_per_year"]
    lines = {name: rolling(one, per_year) for name, one in series.items()}
    content = report_content(result, settings, read_metrics(directory), series, lines)
    drawn = pictures(content, series, lines, result.fills)
    return write_page(directory, content, page_arrays(result, series, lines), drawn)


def write_page(
    directory: Path, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray], drawn: Mapping[str, bytes]
) -> Path:
    """Write the pictures `drawn` (name -> PNG), the JSON twin, and last the page; return its path."""
    for name, picture in drawn.items():
        (directory / PICTURES).mkdir(exist_ok=True)
        write_atomically(directory / PICTURES / name, picture)
    write_json(directory / TWIN, content)
    write_atomically(directory / REPORT, page_html(content, arrays))
    return directory / REPORT


def refuse_unfinished(directory: Path) -> None:
    """Raise `UserError` where a run has begun and left no summary: it is being written, or was killed."""
    if not (directory / CONFIG).is_file() or (directory / SUMMARY).is_file():
        return
    with run_lock(directory, lambda sentence: None):
        raise UserError(f"{directory} has no results yet; {how_to_finish(directory)}.")
