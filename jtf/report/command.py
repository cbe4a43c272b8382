"""``python -m jtf.report``: draw a finished run, backtest or experiment as a page. No JAX."""

import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from jtf.console import Terminal
from jtf.errors import run_command
from jtf.flags import parse_flags
from jtf.report.write import write_report


@dataclass(frozen=True)
class ReportConfig:
    """Draw a finished run, backtest or experiment as one HTML file that needs no network; no JAX is loaded."""

    run: tyro.conf.Positional[Path]
    """Run directory, e.g. runs/CLSK/20260101T120000-ab12cd, a folder under its backtests, or an experiment."""
    open: bool = False
    """Open the page in the browser."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run(parse_flags(ReportConfig, argv, "jtf report")))


def run(config: ReportConfig) -> None:
    """Write the page, print where it lies, and open it where that was asked for."""
    page = write_report(config.run)
    Terminal().print(f"report: {page}", soft_wrap=True, highlight=False)
    if config.open:
        webbrowser.open(page.resolve().as_uri())
