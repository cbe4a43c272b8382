"""``python -m jtf.runs list|show|rm``: what is on disk, newest first, with verdicts. No JAX."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from jtf.console import Terminal, number, print_members, print_notes, print_result
from jtf.errors import UserError, run_command
from jtf.experiment.tables import print_evaluation, print_paths, print_walkforward
from jtf.flags import parse_flags
from jtf.results.catalogue import Entry, entry_at, find_entries, remove
from jtf.results.results import read_result
from jtf.results.run_directory import SUMMARY


@dataclass(frozen=True)
class ListConfig:
    """List runs and experiments, newest first."""

    out: Path = Path("runs")
    """Folder of the run directories."""
    symbol: str | None = None
    """Only those of this symbol. Default: all."""
    cells: bool = False
    """List the cells of experiments too."""


@dataclass(frozen=True)
class ShowConfig:
    """Show the results of a run or of a cell, or the summary of an experiment."""

    run: tyro.conf.Positional[Path]
    """Its directory."""


@dataclass(frozen=True)
class RemoveConfig:
    """Remove runs or experiments; an experiment's cells stay, for others may use them."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = field(default_factory=tuple)
    """Their directories."""
    yes: bool = False
    """Remove without asking."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run(sys.argv[1:] if argv is None else argv, Terminal()))


def run(args: Sequence[str], console: Console) -> int:
    """Run one verb and return the exit code."""
    verbs: dict[str, Callable[[Sequence[str]], None]] = {
        "list": lambda rest: show_list(console, parse_flags(ListConfig, rest, "jtf runs list")),
        "show": lambda rest: show(console, parse_flags(ShowConfig, rest, "jtf runs show").run),
        "rm": lambda rest: remove_all(console, parse_flags(RemoveConfig, rest, "jtf runs rm")),
    }
    if not args or args[0] in ("-h", "--help"):
        console.print("usage: jtf runs list|show|rm [OPTIONS]; jtf runs VERB --help lists the options.", soft_wrap=True)
        raise SystemExit(0)
    if args[0] not in verbs:
        raise UserError(f"{args[0]!r} is not a verb of jtf runs; known are {', '.join(verbs)}.")
    verbs[args[0]](args[1:])
    return 0


def show_list(console: Console, config: ListConfig) -> None:
    """Print a line an entry."""
    entries = [entry for entry in find_entries(config.out) if config.cells or entry.kind != "cell"]
    if config.symbol is not None:
        wanted = config.symbol.replace("/", "")
        entries = [entry for entry in entries if name_of(entry).replace("/", "").startswith(wanted)]
    if not entries:
        raise UserError(f"{config.out} holds no run{' of ' + config.symbol if config.symbol else ''}.")
    rows = [("changed (UTC)", "kind", "what", "status", "test", "verdict", "where")]
    for entry in entries:
        stamp = f"{entry.changed:%Y-%m-%d %H:%M}"
        cells = (stamp, entry.kind, name_of(entry), entry.summary["status"], test_return(entry), entry.verdict)
        rows.append((*cells, str(entry.path)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(line.rstrip(), soft_wrap=True, highlight=False, markup=False)


def name_of(entry: Entry) -> str:
    """Return the symbol of a run or the name of an experiment."""
    return str(entry.summary.get("symbol") or entry.summary.get("name") or entry.path.parent.name)


def test_return(entry: Entry) -> str:
    """Return the out-of-sample return as text."""
    metrics = (entry.summary.get("metrics") or {}).get("test")
    if metrics is None:
        metrics = ((entry.summary.get("stitched") or {}).get("metrics") or {}).get("equity")
    return "-" if metrics is None else number(metrics["total_return"], "+.1%")


def show(console: Console, path: Path) -> None:
    """Print a result again."""
    entry = entry_at(path)
    if entry.kind == "experiment":
        if entry.summary["status"] != "finished":
            raise UserError(f"{path} has not finished ({entry.summary['status']}); start its command again.")
        show_experiment(console, path, entry.summary)
        return
    result = read_result(path)
    print_result(console, result, f"{result.symbol}: {path}", ())
    print_members(console, result)
    print_notes(console, result.notes)


def show_experiment(console: Console, path: Path, summary: dict[str, Any]) -> None:
    """Print the tables of an experiment again; raise `UserError` where another version wrote its summary."""
    printers = {"paths": print_paths, "stitched": print_walkforward, "symbols": print_evaluation}
    try:
        next(printer for key, printer in printers.items() if key in summary)(console, summary)
    except (KeyError, TypeError, StopIteration):  # A key that this version does not write, or one that it needs.
        raise UserError(f"{path / SUMMARY} was written by another version of jtf; start its command again.") from None


def remove_all(console: Console, config: RemoveConfig) -> None:
    """Remove every directory named, after asking unless told not to."""
    if not config.runs:
        raise UserError("name the directories to remove; python -m jtf.runs list shows them.")
    for path in config.runs:
        entry_at(path)
    if not config.yes:
        if not console.is_terminal:
            raise UserError("nothing was removed: there is nobody to ask; give --yes.")
        if console.input(f"remove {len(config.runs)} directories? [y/N] ").strip().lower() not in ("y", "yes"):
            console.print("nothing was removed.")
            return
    for path in config.runs:
        remove(path)
        console.print(f"removed {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
