"""``python -m jtf.backtest``: a trained policy on the NumPy mirror over any span of bars. No JAX.

The module is callable: ``jtf.backtest(policy, bars)`` is `backtest`.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pandas as pd

from jtf.console import Terminal, print_notes, print_result
from jtf.data import BARS_SETTINGS, bars_sha256, load_bars
from jtf.data.check import TIMEFRAME_NAMES, notes_on_bars, refuse_bars
from jtf.data.load import utc_time
from jtf.errors import UserError, run_command
from jtf.flags import parse_flags
from jtf.models.policy import Policy
from jtf.models.policy_file import FILE_NAME, load_policy
from jtf.results.provenance import Spans, shares_text
from jtf.results.results import RunResult, measure, write_results
from jtf.results.run_directory import BACKTESTS, BEST, read_config
from jtf.splits import Segment
from jtf_env.bars import Bars, check_enough_bars


@dataclass(frozen=True)
class BacktestConfig:
    """Backtest the best policy of a run, without JAX; writes curves, fills, trades and metrics into the run."""

    run: Path
    """Run directory, e.g. runs/CLSK/20260101T120000-ab12cd."""
    segment: Literal["train", "validation", "test", "all"] | None = None
    """Segment of the training run's split; all: every bar a decision can be made on. Default: test, or with --data,
    --start or --end all."""
    data: Path | None = None
    """Other bars than the run's: a folder or file, as in training. Default: the run's own bars."""
    start: str | None = None
    """First decision at or after this UTC time, e.g. 2024-01-31 (instead of a segment). Default: the first bar."""
    end: str | None = None
    """Bars before this UTC time only. Default: the last bar."""
    allow_jumps: bool = False
    """Accept bars with jumps and bad ticks, as in training. A run that was trained with it needs it no more."""
    name: str | None = None
    """Name of the folder under RUN/backtests. Default: the segment, or the span."""


def backtest(
    policy: Policy | RunResult | str | Path,
    bars: Bars | pd.DataFrame | None = None,
    *,
    start: str | None = None,
    end: str | None = None,
    allow_jumps: bool = False,
) -> RunResult:
    """Return what a policy does over every bar of a span that a decision can be made on; nothing is written.

    Parameters
    ----------
    policy
        A policy, or a finished run (its directory, or its result), whose best policy is meant.
    bars
        Bars, or a data frame as `load_bars` takes it. None: the bars a run was trained on; a policy alone has none.
    start, end
        First decision at or after `start`, bars before `end` only, UTC.
    allow_jumps
        Accept bars with jumps and bad ticks.

    Raises
    ------
    UserError, BarsError
        For bars that training refuses too.
    """
    stored: dict[str, Any] = {}
    if not isinstance(policy, Policy):
        run = policy.directory if isinstance(policy, RunResult) else Path(policy)
        if run is None:
            raise UserError("this result lies in no directory; give the run's directory or a policy.")
        stored, policy = read_config(run), load_policy(run / BEST / FILE_NAME)
    if bars is None:
        if not stored:
            raise UserError("a policy alone has no bars; give bars, or name a run instead of the policy.")
        bars = stored_bars(stored, data=None, cut=False)
    elif isinstance(bars, pd.DataFrame):
        settings = stored_settings(stored, cut=False) or {"timeframe": TIMEFRAME_NAMES[policy.bar_minutes]}
        bars = load_bars(policy.symbol, bars, **settings)
    segment = span_segment(bars, policy, start, end)
    return play(policy, bars, {"all": segment}, stored.get("spans"), allow_jumps or trained_with_jumps(stored))


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
    foreign = bars.symbol != policy.symbol
    measured = measure(policy, bars, policy.market(bars), segments, None if foreign else spans)
    other = [f"The bars are of {bars.symbol}, the policy was trained on {policy.symbol}."] if foreign else []
    kind = "synthetic" if bars.source == "synthetic" else "file"
    data = {"kind": kind, "sha256": bars_sha256(bars), "source": bars.source, "bars": len(bars)}
    summary = {"status": "finished", "data": data}
    return RunResult.from_measured(
        measured, notes=(*other, *notes_on_bars(bars)), symbol=policy.symbol, summary=summary
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run_from_args(argv))


def run_from_args(argv: Sequence[str] | None) -> None:
    """Parse, play, write and print; every refusal comes before anything is printed or written."""
    config = resolve_segment(parse_flags(BacktestConfig, argv, "jtf backtest"))
    refuse_name(config.name)
    stored = read_config(config.run)
    policy = load_policy(config.run / BEST / FILE_NAME)
    bars = stored_bars(stored, config.data, cut=uses_split(config))
    refuse_changed_bars(config, stored, bars)
    segment = choose_segment(config, stored, bars, policy)
    allowed = config.allow_jumps or trained_with_jumps(stored)
    result = play(policy, bars, {str(config.segment): segment}, stored.get("spans"), allowed)
    span = [bars.timestamps[row].isoformat() for row in (segment.start, segment.stop - 1)]
    folder = config.run / BACKTESTS / (config.name or default_name(config, span))
    folder.mkdir(parents=True, exist_ok=True)
    say(Terminal(), write_results(folder, result), bars, span)


def say(console: Terminal, result: RunResult, bars: Bars, span: Sequence[str]) -> None:
    """Print the result, what of its bars training saw, the notes, and where everything lies."""
    kind = "SYNTHETIC bars" if bars.source == "synthetic" else bars.source
    print_result(console, result, f"{result.symbol} on {kind}: {span[0]} to {span[1]}")
    seen = "training did not record what it saw" if result.seen is None else shares_text(result.seen)
    console.print(f"  bars of these decisions: {seen}", highlight=False, soft_wrap=True)
    print_notes(console, result.notes)
    console.print(f"curves, fills, trades and metrics: {result.directory}", soft_wrap=True, highlight=False)


def resolve_segment(config: BacktestConfig) -> BacktestConfig:
    """Return `config` with its segment decided; raise `UserError` where two spans are asked for."""
    elsewhere = bool(config.data or config.start or config.end)
    if elsewhere and config.segment not in (None, "all"):
        raise UserError(f"--segment {config.segment} excludes --data, --start and --end; give one or the other.")
    return replace(config, segment=config.segment or ("all" if elsewhere else "test"))


def refuse_name(name: str | None) -> None:
    """Raise `UserError` for a name that is not the name of one folder."""
    if name is None:
        return
    if name in ("", ".", "..") or any(not character.isprintable() or character in "/\\" for character in name):
        raise UserError(f"--name {name!r} is not the name of one folder; leave out slashes, e.g. --name again.")


def stored_bars(stored: Mapping[str, Any], data: Path | None, cut: bool) -> Bars:
    """Return the bars of `data`, else those of a run; `cut` to the dates it was trained on, or all there are."""
    settings = stored["config"]
    trained_on = Path(settings["data"]) if settings["data"] is not None else None
    return load_bars(settings["symbol"], data or trained_on, **stored_settings(stored, cut))


def stored_settings(stored: Mapping[str, Any], cut: bool) -> dict[str, Any]:
    """Return the settings of `load_bars` that a run was trained with."""
    settings = stored["config"] if stored else {}
    names = BARS_SETTINGS if cut else tuple(name for name in BARS_SETTINGS if name not in ("start", "end"))
    return {name: settings[name] for name in names if name in settings}


def trained_with_jumps(stored: Mapping[str, Any]) -> bool:
    """Whether the run was trained with ``--allow-jumps``."""
    return bool(stored and stored["config"]["allow_jumps"])


def uses_split(config: BacktestConfig) -> bool:
    """Whether the span is a segment of the run's own split."""
    return config.segment != "all"


def refuse_changed_bars(config: BacktestConfig, stored: Mapping[str, Any], bars: Bars) -> None:
    """Raise `UserError` where a named segment is asked for and the bars are not those of training."""
    if uses_split(config) and bars_sha256(bars) != stored["data"]["sha256"]:
        raise UserError(
            f"the bars of {bars.source} are not those {config.run} was trained on, so its {config.segment} segment "
            "is not defined; use --segment all or --start and --end."
        )


def choose_segment(config: BacktestConfig, stored: Mapping[str, Any], bars: Bars, policy: Policy) -> Segment:
    """Return the rows to play; raise `UserError` where fewer than two bars are left."""
    if uses_split(config):
        return Segment(**stored["segments"][str(config.segment)])
    return span_segment(bars, policy, config.start, config.end, flag="--")


def span_segment(bars: Bars, policy: Policy, start: str | None, end: str | None, flag: str = "") -> Segment:
    """Return the rows between two times that a decision can be made on; raise `UserError` where there are none.

    Errors put `flag` before the names of the two.
    """
    check_enough_bars(bars, policy.layout, policy.window)
    first = policy.layout.first_bar(policy.window)
    begin, stop = max(first, row_of(bars, start, f"{flag}start", 0)), row_of(bars, end, f"{flag}end", len(bars))
    if stop - begin < 2:
        raise UserError(
            f"{bars.source or bars.symbol} leaves {max(0, stop - begin)} bars between {flag}start and {flag}end after "
            f"{first} bars of warm-up; widen the span or give a longer history."
        )
    return Segment(begin, stop)


def row_of(bars: Bars, time: str | None, name: str, default: int) -> int:
    """Return the first row at or after a UTC time; errors call it `name`."""
    return default if time is None else int(bars.timestamps.searchsorted(utc_time(time, name)))


def default_name(config: BacktestConfig, span: Sequence[str]) -> str:
    """Return the folder name that says what was played."""
    if not (config.data or config.start or config.end):
        return str(config.segment)
    prefix = f"{config.data.stem}-" if config.data else ""
    return prefix + "-".join(time[:16].replace(":", "").replace("-", "") for time in span)


class _CallableModule(ModuleType):
    """``jtf.backtest`` is a module for ``python -m`` and `main`, and a function for Python."""

    def __call__(self, *args: Any, **settings: Any) -> RunResult:
        return backtest(*args, **settings)


if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = _CallableModule
