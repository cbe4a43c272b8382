"""``python -m jtf.train``: train one policy, or an ensemble, for one symbol; validate, backtest and save it."""

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jtf.config import parse_config
from jtf.console import Terminal, print_members, print_result
from jtf.data.check import is_synthetic
from jtf.errors import EXIT_INTERRUPTED, run_command
from jtf.report import write_report
from jtf.reporter import ConsoleReporter
from jtf.results.run_directory import last_checkpoint
from jtf.run import Interrupted, run_task
from jtf.task import notes, prepare


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run(argv, Terminal()))


def run(argv: Sequence[str] | None, console: Console) -> int:
    """Train as configured; the run directory holds the result. Return the exit code."""
    task = prepare(parse_config(argv))
    with StopRequest() as stop:
        result = run_task(task, ConsoleReporter(console), stop)
    if isinstance(result, Interrupted):
        say_interrupted(console, result.directory)
        return EXIT_INTERRUPTED
    kind = " on SYNTHETIC bars" if is_synthetic(result.summary["data"]) else ""
    print_result(console, result, f"{result.symbol}{kind}: best policy after costs", result.notes[len(notes(task)) :])
    print_members(console, result)
    console.print(f"run: {result.directory}", soft_wrap=True, highlight=False)
    if task.config.report and result.directory is not None:
        console.print(f"report: {write_report(result.directory)}", soft_wrap=True, highlight=False)
    console.print(f"next: python -m jtf.backtest --run {result.directory}", soft_wrap=True, highlight=False)
    return 0


class StopRequest:
    """Ctrl-C, SIGTERM or SIGHUP asks for a stop with a checkpoint after this update; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # Under nohup a closed terminal is nothing; Ctrl-C a shell ignores for whatever runs behind.
                if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
                    self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.requested

    def _handle(self, signum: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def say_interrupted(console: Console, directory: Path) -> None:
    """Print where an interrupted run stands and how to go on."""
    checkpoint = last_checkpoint(directory)
    console.print(f"interrupted; last checkpoint: {checkpoint or 'none'}", soft_wrap=True, style="bold")
    if checkpoint is not None:
        console.print(f"continue: python -m jtf.train --resume {directory}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
