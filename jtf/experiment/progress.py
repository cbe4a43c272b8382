"""What a person sees of a running experiment: one live table on a terminal, else a line a cell."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jtf.console import clock, number, print_alarms
from jtf.experiment.cells import Cell, cell_directory
from jtf.experiment.executor import Outcome
from jtf.reporter import Reporter
from jtf.results.health import Alarm
from jtf.results.run_directory import read_summary
from jtf.task import Task
from jtf_ppo.types import Metrics

COLUMNS = ("symbol", "fold", "state", "score", "test return", "seconds")


class ExperimentTable:
    """A row a cell: where it stands, its score on validation, what it earned on test."""

    def __init__(self, console: Console, out: Path) -> None:
        self._console = console
        self._out = out
        self._rows: dict[str, list[str]] = {}
        self._left: dict[str, float] = {}
        self._seconds: list[float] = []
        self._live = Live(console=console, refresh_per_second=2, transient=True)

    def started(self, cells: Sequence[Cell], done: Sequence[bool]) -> None:
        """Show every cell."""
        for cell, known in zip(cells, done, strict=True):
            state = "done before" if known else "waiting"
            self._rows[cell.key] = [cell.symbol, str(cell.fold_index), state, "", self._earned(cell, known), ""]
        if self._console.is_terminal:
            self._live.start()
        self._draw()
        before = f", {sum(done)} of them computed before" if any(done) else ""
        self._console.print(f"{len(cells)} cells{before}", highlight=False)

    def begun(self, cell: Cell) -> None:
        """Mark the cell as running."""
        self._rows[cell.key][2] = "compiling"
        self._draw()

    def ended(self, outcome: Outcome) -> None:
        """Show what became of the cell."""
        row = self._rows[outcome.cell.key]
        row[2] = outcome.state
        row[4] = self._earned(outcome.cell, outcome.state == "finished")
        row[5] = f"{outcome.seconds:.1f}"
        self._seconds.append(outcome.seconds)
        self._draw()
        if not self._console.is_terminal or outcome.error:
            text = f"{row[0]} fold {row[1]}: {row[2]}, test {row[4] or '-'}, {row[5]} s  {outcome.error}"
            self._console.print(text.rstrip(), highlight=False, soft_wrap=True)

    def finished(self) -> None:
        """Leave the table on the screen."""
        if self._console.is_terminal:
            self._live.stop()
            self._console.print(self._table())

    def cell_reporter(self, cell: Cell) -> Reporter:
        """Return the reporter of a cell's training."""
        return _CellReporter(self, cell)

    def say(self, cell: Cell, state: str, score: str = "") -> None:
        """Show where a running cell stands."""
        row = self._rows[cell.key]
        row[2], row[3] = state, score or row[3]
        self._draw()

    def warn(self, cell: Cell, alarms: Sequence[Alarm]) -> None:
        """Print the alarms that begin in a running cell."""
        print_alarms(self._console, alarms, f"{cell.symbol} fold {cell.fold_index}: ")

    def _earned(self, cell: Cell, finished: bool) -> str:
        if not finished:
            return ""
        summary = read_summary(cell_directory(self._out, cell))
        return number(summary["metrics"]["test"]["total_return"], "+.1%")

    def _draw(self) -> None:
        self._live.update(self._table())

    def _table(self) -> Table:
        waiting = sum(row[2] == "waiting" for row in self._rows.values())
        mean = sum(self._seconds) / len(self._seconds) if self._seconds else None
        left = None if mean is None else mean * waiting
        table = Table(caption=f"ETA {clock(left)}" if waiting else None)
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in COLUMNS[:3] else "right", no_wrap=True)
        for row in self._rows.values():
            table.add_row(*row)
        return table


class _CellReporter:
    """Passes a training's progress on to its row of the table."""

    def __init__(self, table: ExperimentTable, cell: Cell) -> None:
        self._table = table
        self._cell = cell

    def started(self, task: Task, directory: Path) -> None:
        """Nothing more to say than that it was begun."""

    def updated(self, records: list[Metrics]) -> None:
        """Show the update."""
        last = records[0]
        self._table.say(self._cell, f"update {last['update']:.0f}/{last['updates']:.0f}")

    def validated(self, records: list[Metrics], improved: list[bool]) -> None:
        """Show the median score of the members."""
        scores = sorted(record["val/score"] for record in records)
        self._table.say(self._cell, "validated", number(scores[len(scores) // 2], "+.3f"))

    def alarmed(self, alarms: Sequence[Alarm]) -> None:
        """Print what goes wrong above the table."""
        self._table.warn(self._cell, alarms)

    def finished(self) -> None:
        """Nothing; the outcome is shown when the cell has ended."""
