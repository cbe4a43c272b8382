"""``python -m jtf.backtest``: a trained policy on the NumPy mirror over any span of bars. No JAX.

The module is callable: ``jtf.backtest(policy, bars)`` is `backtest`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console

from jtf.console import Terminal, print_notes, print_result
from jtf.data import BARS_SETTINGS, bars_sha256, load_bars
from jtf.data.check import TIMEFRAME_NAMES, bars_record, is_synthetic, notes_on_bars, refuse_bars
from jtf.data.load import utc_time
from jtf.errors import UserError, run_command
from jtf.flags import errors_name_flags, parse_flags
from jtf.models.policy import Policy
from jtf.models.policy_file import FILE_NAME, load_policy
from jtf.report import write_report
from jtf.results.provenance import Spans, label_bars, shares_text
from jtf.results.results import RunResult, measure, write_results
from jtf.results.run_directory import BACKTESTS, BEST, read_config
from jtf.splits import Segment
from jtf_env.assets import plain_symbol
from jtf_env.bars import Bars, check_enough_bars
from jtf_env.errors import InputError

SegmentName = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True)
class BacktestConfig:
    """Backtest the best policy of a run, without JAX; writes curves, fills, trades and metrics into the run."""

    run: Path
    """Run directory, e.g. runs/CLSK/20260101T120000-ab12cd."""
    segment: SegmentName | None = None
    """Segment of the training run's split; all: every bar a decision can be made on. Default: test, or with --data,
    --start or --end all."""
    data: Path | None = None
    """Other bars than the run's: a folder or file, as in training. Default: the run's own bars."""
    start: str | None = None
    """First decision at or after this UTC time, e.g. 2024-01-31 (instead of a segment). Default: the first bar."""
    end: str | None = None
    """Bars before this UTC time only. Default: the last bar."""
    in_sample: bool = False
    """Accept bars that the policy was trained on, or that chose it; the metrics then tell them from unseen ones."""
    allow_jumps: bool = False
    """Accept bars with jumps and bad ticks, as in training. A run that was trained with it needs it no more."""
    name: str | None = None
    """Name of the folder under RUN/backtests. Default: the segment, or the span."""
    report: bool = True
    """Write report.html, the page of the backtest, at the end."""


def backtest(
    policy: Policy | RunResult | str | Path,
    bars: Bars | pd.DataFrame | str | Path | None = None,
    *,
    segment: SegmentName | None = None,
    start: str | None = None,
    end: str | None = None,
    in_sample: bool = False,
    allow_jumps: bool = False,
) -> RunResult:
    """Return what a policy does over a span of bars, as ``python -m jtf.backtest`` does; nothing is written.

    Parameters
    ----------
    policy
        A policy or its file, or a finished run (its directory, or its result), whose best policy is meant.
    bars
        Bars, a data frame as `load_bars` takes it, or a folder or file of bars. None: the bars a run was trained on; a
        policy alone has none.
    segment
        Segment of the run's own split, or ``all``: every bar a decision can be made on. Default: test for a run on its
        own bars without `start` and `end`, else all.
    start, end
        First decision at or after `start`, bars before `end` only, UTC.
    in_sample
        Accept bars that the policy was trained on, or that chose it.
    allow_jumps
        Accept bars with jumps and bad ticks.

    Raises
    ------
    UserError, BarsError
        For bars that training refuses too, and for those that need `in_sample`. What a policy without its run has seen
        is not known.
    """
    policy, run = find_policy(policy)
    elsewhere = [name for name, value in (("bars", bars), ("start", start), ("end", end)) if value is not None]
    if elsewhere and segment not in (None, "all"):
        raise UserError(f"`segment` {segment} excludes {', '.join(f'`{name}`' for name in elsewhere)}.")
    segment = segment or ("all" if elsewhere or run is None else "test")
    if segment != "all" and run is None:
        raise UserError(f"a policy alone has no {segment} segment; name its run, or leave `segment` out.")
    bars = find_bars(policy, run, bars, cut=segment != "all")
    if segment == "all":
        rows = span_segment(bars, policy, start, end)
    else:
        assert run is not None
        rows = run_segment(run, bars, segment)
    jumps = allow_jumps or bool(run and run.settings["config"]["allow_jumps"])
    spans = run.settings.get("spans") if run and plain_symbol(bars.symbol) == plain_symbol(policy.symbol) else None
    if spans is not None and not in_sample:
        refuse_seen(bars, rows, spans)
    return play(policy, bars, {segment: rows}, spans, jumps)


def refuse_seen(bars: Bars, rows: Segment, spans: Spans) -> None:
    """Raise `UserError` where decisions on `rows` lie on bars that the policy was trained on, or that chose it."""
    labels = label_bars(bars.timestamps, spans)
    counts = {name: int((labels[rows.start : rows.stop - 1] == name).sum()) for name in ("in-sample", "selection")}
    if not any(counts.values()):
        return
    unseen = np.flatnonzero(labels != "unseen")[-1] + 1
    after = f"play bars from {bars.timestamps[unseen]:%Y-%m-%dT%H:%M} on" if unseen < len(bars) else "play other bars"
    raise UserError(
        f"the policy was trained on {counts['in-sample']:,} of these bars and selected on {counts['selection']:,}; "
        f"{after}, or accept them with `in_sample`."
    )


class Run(NamedTuple):
    """A finished run that a policy comes from."""

    directory: Path
    settings: dict[str, Any]
    """Its ``config.json``."""


def find_policy(policy: Policy | RunResult | str | Path) -> tuple[Policy, Run | None]:
    """Return a policy, and the run it is the best of where one was named."""
    if isinstance(policy, Policy):
        return policy, None
    where = policy.directory if isinstance(policy, RunResult) else Path(policy)
    if where is None:
        raise UserError("this result lies in no directory; give the run's directory or a policy.")
    if where.is_file():
        return Policy.load(where), None
    settings = read_config(where)
    return load_policy(where / BEST / FILE_NAME), Run(where, settings)


def find_bars(policy: Policy, run: Run | None, bars: Bars | pd.DataFrame | str | Path | None, cut: bool) -> Bars:
    """Return the bars to play, read as the run's were; its own, `cut` to its dates or all there are, for None."""
    if isinstance(bars, Bars):
        return bars
    settings: dict[str, Any] = {
        "timeframe": TIMEFRAME_NAMES[policy.bar_minutes],
        "asset_class": policy.asset_class,
        "extended_hours": policy.extended_hours,
    }
    if run is not None:
        stored = run.settings["config"]
        names = BARS_SETTINGS if cut else tuple(name for name in BARS_SETTINGS if name not in ("start", "end"))
        settings = {name: stored[name] for name in names if name in stored}
        if bars is None:
            return load_bars(stored["symbol"], stored["data"], **settings)
    if bars is None:
        raise UserError("a policy alone has no bars; give bars, or name a run instead of the policy.")
    return load_bars(policy.symbol, bars, **settings)


def run_segment(run: Run, bars: Bars, name: str) -> Segment:
    """Return the rows of a segment of a run's own split; raise `UserError` where its bars have changed."""
    if bars_sha256(bars) != run.settings["data"]["sha256"]:
        raise UserError(
            f"the bars of {bars.source} are not those {run.directory} was trained on, so its {name} segment is not "
            "defined; use `segment` all, or `start` and `end`."
        )
    return Segment(**run.settings["segments"][name])


def play(
    policy: Policy, bars: Bars, segments: Mapping[str, Segment], spans: Spans | None, allow_jumps: bool
) -> RunResult:
    """Return the result of `policy` over `segments` of bars that training would accept."""
    refuse_bars(bars, allow_jumps)
    if bars.bar_minutes != policy.bar_minutes:
        raise UserError(
            f"{bars.source or bars.symbol} has {bars.bar_minutes}-minute bars and the policy was trained on "
            f"{policy.bar_minutes}-minute bars; give bars of that length."
        )
    foreign = plain_symbol(bars.symbol) != plain_symbol(policy.symbol)
    measured = measure(policy, bars, policy.market(bars), segments, spans)
    other = [f"The bars are of {bars.symbol}, the policy was trained on {policy.symbol}."] if foreign else []
    summary = {"status": "finished", "data": bars_record(bars, bars_sha256(bars))}
    return RunResult.from_measured(
        measured, notes=(*other, *notes_on_bars(bars)), symbol=policy.symbol, summary=summary
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run_from_args(argv))


def run_from_args(argv: Sequence[str] | None) -> None:
    """Parse, play, write and print; every refusal comes before anything is printed or written."""
    config = parse_flags(BacktestConfig, argv, "jtf backtest")
    refuse_name(config.name)
    read_config(config.run)  # A folder that is a run, not the file of a policy.
    with errors_name_flags(BacktestConfig, "", UserError, InputError):
        result = backtest(
            config.run,
            config.data,
            segment=config.segment,
            start=config.start,
            end=config.end,
            in_sample=config.in_sample,
            allow_jumps=config.allow_jumps,
        )
    folder = config.run / BACKTESTS / (config.name or default_name(config, result))
    folder.mkdir(parents=True, exist_ok=True)
    console = Terminal()
    say(console, write_results(folder, result))
    if config.report:
        console.print(f"report: {write_report(folder)}", soft_wrap=True, highlight=False)


def span_of(result: RunResult) -> tuple[str, str]:
    """Return the times of the first and the last bar that was played."""
    (segment,) = result.derived["segments"].values()
    return segment["start"], segment["end"]


def say(console: Console, result: RunResult) -> None:
    """Print the result, what of its bars training saw, the notes, and where everything lies."""
    data = result.summary["data"]
    kind = "SYNTHETIC bars" if is_synthetic(data) else data["source"]
    print_result(console, result, f"{result.symbol} on {kind}: {' to '.join(span_of(result))}")
    seen = "it is not known which of them training saw" if result.seen is None else shares_text(result.seen)
    console.print(f"  bars of these decisions: {seen}", highlight=False, soft_wrap=True)
    print_notes(console, result.notes)
    console.print(f"curves, fills, trades and metrics: {result.directory}", soft_wrap=True, highlight=False)


def refuse_name(name: str | None) -> None:
    """Raise `UserError` for a name that is not the name of one folder."""
    if name is None:
        return
    if name in ("", ".", "..") or any(not character.isprintable() or character in "/\\" for character in name):
        raise UserError(f"--name {name!r} is not the name of one folder; leave out slashes, e.g. --name again.")


def span_segment(bars: Bars, policy: Policy, start: str | None, end: str | None) -> Segment:
    """Return the rows between two times that a decision can be made on; raise `UserError` where there are none."""
    check_enough_bars(bars, policy.layout, policy.window)
    first = policy.layout.first_bar(policy.window)
    begin, stop = max(first, row_of(bars, start, "start", 0)), row_of(bars, end, "end", len(bars))
    if stop - begin < 2:
        raise UserError(
            f"{bars.source or bars.symbol} leaves {max(0, stop - begin)} bars between `start` and `end` after {first} "
            "bars of warm-up; widen the span or give a longer history."
        )
    return Segment(begin, stop)


def row_of(bars: Bars, time: str | None, name: str, default: int) -> int:
    """Return the first row at or after a UTC time; errors call it `name`."""
    return default if time is None else int(bars.timestamps.searchsorted(utc_time(time, f"`{name}`")))


def default_name(config: BacktestConfig, result: RunResult) -> str:
    """Return the folder name that says what was played."""
    if not (config.data or config.start or config.end):
        return next(iter(result.derived["segments"]))
    prefix = f"{config.data.stem}-" if config.data else ""
    return prefix + "-".join(time[:16].replace(":", "").replace("-", "") for time in span_of(result))


class _CallableModule(ModuleType):
    """``jtf.backtest`` is a module for ``python -m`` and `main`, and a function for Python."""

    def __call__(self, *args: Any, **settings: Any) -> RunResult:
        return backtest(*args, **settings)


if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = _CallableModule
