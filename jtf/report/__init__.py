"""The page a person reads: a finished run as one HTML file, its JSON twin and its pictures. No JAX.

It reads the run directory alone. ``python -m jtf.report RUN`` writes the page, `write_report` does it from Python.
"""

from collections.abc import Sequence

from jtf.report.write import REPORT, write_report

__all__ = ["REPORT", "main", "write_report"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from jtf.report import command

    return command.main(argv)
