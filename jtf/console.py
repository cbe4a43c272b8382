"""What a person sees: the start, one live line while training, the result as a table. No JAX."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jtf.results.health import Alarm
from jtf.results.metrics import METRIC_NAMES, Metrics
from jtf.results.results import RunResult
from jtf.results.verdict import Verdict
from jtf_env.actions import ACTION_NAMES

FRACTIONS = (
    "total_return", "max_drawdown", "win_rate", "exposure", "open_position", "traded_share", "direction_accuracy",
)  # fmt: skip
NOT_SHOWN = ("hold_share",)
"""Metrics that the files hold and no table shows."""
STATUS_STYLE = {"APPROVED": "bold green", "REVIEW": "bold yellow", "DROP": "bold red"}


class Terminal(Console):
    """A console whose broken pipe (``| head -1``) is an error that `jtf.errors.run_command` ends silently."""

    def on_broken_pipe(self) -> None:
        """Stop printing and raise the error, where rich would exit with code 1."""
        self.quiet = True
        raise BrokenPipeError


class LiveLine:
    """The live line of a training run; on anything but a terminal a plain line at every validation."""

    def __init__(self, console: Console, heading: str, total_updates: int) -> None:
        self._console = console
        self._heading = heading
        self._total = total_updates
        self._latest: dict[str, Any] = {}
        self._members = 1
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def start(self) -> None:
        """Say that the program is being compiled, which takes seconds."""
        compiling = f"{self._heading} | compiling ..."
        if self._console.is_terminal:
            self._live.start()
            self._live.update(Text(compiling))
        else:
            self._console.print(Text(compiling), soft_wrap=True)

    def stop(self) -> None:
        """Remove the live line."""
        if self._console.is_terminal:
            self._live.stop()

    def update(self, records: list[dict[str, Any]]) -> None:
        """Show one update: of several members the median of each number."""
        self._members = max(self._members, len(records))
        self._latest |= medians(records)
        self._live.update(Text(self.line()))

    def validated(self, records: list[dict[str, Any]], improved: list[bool]) -> None:
        """Show one validation, and keep a line of it on the screen."""
        self._latest |= medians(records)
        self._live.update(Text(self.line()))
        best = f"  * best for {sum(improved)} of {self._members}" if self._members > 1 else "  * best"
        self._console.print(Text(self.line() + (best if any(improved) else "")), soft_wrap=True)

    def line(self) -> str:
        """Return the line: mode, device, engine, progress, speed, learning, validation."""
        latest = self._latest
        heading = self._heading + (f" x {self._members}, medians" if self._members > 1 else "")
        parts = [
            heading,
            f"update {int(latest.get('update', 0))}/{self._total}",
            f"{latest.get('perf/steps_per_second', 0.0):,.0f} steps/s",
            f"ETA {clock(latest.get('perf/eta_seconds'))}",
            f"return {number(latest.get('train/return_bp'), '+.2f')} bp/step",
            f"entropy {number(latest.get('train/entropy'), '.2f')}",
            f"KL {number(latest.get('train/kl'), '.4f')}",
            action_shares(latest),
        ]
        if latest.get("train/cost_share", 1.0) < 1.0:
            parts.append(f"costs {latest['train/cost_share']:.0%}")
        if "val/total_return" in latest:
            parts.append(
                f"val {number(latest['val/total_return'], '+.1%')} PF {number(latest['val/profit_factor'], '.2f')} "
                f"traded {number(latest['val/traded_share'], '.0%')}"
            )
        return " | ".join(parts)


def medians(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of every number over the members that have it; of one member its own numbers."""
    columns = {name: [record[name] for record in records] for name in records[0]}
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in columns.items()}
    return {name: median(values) if values else math.nan for name, values in finite.items()}


def action_shares(metrics: dict[str, Any]) -> str:
    """Return the shares of holding, buying, selling and closing in the last rollout, in per cent."""
    shares = {"HOLD": 0.0, "BUY": 0.0, "SELL": 0.0, "CLOSE": 0.0}
    for action, name in enumerate(ACTION_NAMES):
        shares[name.split("_")[0]] += metrics.get(f"train/action_share_{action}", 0.0)
    return " ".join(f"{name} {100 * share:.0f}" for name, share in shares.items()) + " %"


def number(value: Any, spec: str) -> str:
    """Return `value` formatted, or a dash where it is undefined."""
    return "-" if value is None or not math.isfinite(value) else format(value, spec)


def clock(seconds: float | None) -> str:
    """Return seconds as h:mm:ss or m:ss."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def print_settings(console: Console, title: str, rows: Iterable[tuple[str, Any]]) -> None:
    """Print a heading and one aligned line per setting."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(f"  {name}", str(value))
    console.print(title, style="bold")
    console.print(table, highlight=False)


def print_metrics(console: Console, columns: dict[str, Metrics], title: str) -> None:
    """Print a heading, and a table with one metric a row and one backtest a column."""
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("metric", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    values = [asdict(metrics) for metrics in columns.values()]
    for metric in (name for name in METRIC_NAMES if name not in NOT_SHOWN):
        spec = ".1%" if metric in FRACTIONS else "d" if metric == "num_trades" else ".2f"
        table.add_row(metric.replace("_", " "), *(number(column[metric], spec) for column in values))
    console.print(table)


def print_result(console: Console, result: RunResult, title: str, notes: Iterable[str] = ()) -> None:
    """Print the metrics of every segment beside buying and holding the judged one, `notes`, optimum and verdict."""
    judged = result.judged
    columns = result.metrics | {"buy and hold": result.baselines[judged]["buy_and_hold"]}
    print_metrics(console, columns, title if len(columns) == 2 else f"{title} (buy and hold: {judged})")
    if result.luck is not None:
        print_luck(console, asdict(result.luck), f"{judged}: ")
    print_notes(console, notes)
    if result.optimum is not None:
        print_optimum(console, result.optimum[judged], judged)
    if result.verdict is not None:
        print_verdict(console, result.verdict)


def print_members(console: Console, result: RunResult) -> None:
    """Print one line a member, and median and spread of what they did, where there are several."""
    if len(result.members) < 2:
        return
    columns: dict[str, list[Any]] = {
        "best update": [member.best_update for member in result.members],
        "validation return": [member.metrics["validation"].total_return for member in result.members],
        "test return": [member.metrics["test"].total_return for member in result.members],
        "test sharpe": [member.metrics["test"].sharpe for member in result.members],
        "test trades": [member.metrics["test"].num_trades for member in result.members],
    }
    console.print("members alone (the policy above is their ensemble)", style="bold")
    table = Table()
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    specs = [".1%" if name.endswith("return") else ".2f" if name.endswith("sharpe") else "g" for name in columns]
    for index, seed in enumerate(result.seeds):
        table.add_row(f"seed {seed}", *map(number, [values[index] for values in columns.values()], specs))
    summaries: dict[str, Callable[[list[Any]], Any]] = {"median": median, "least": min, "most": max}
    for name, summary in summaries.items():
        known = [[x for x in values if x is not None] or [math.nan] for values in columns.values()]
        table.add_row(name, *map(number, [summary(values) for values in known], specs))
    console.print(table)


def print_luck(console: Console, luck: Mapping[str, Any], where: str = "") -> None:
    """Print how sure the Sharpe ratio of a record is, and within what it and the return lie by chance, where known."""
    if luck["probabilistic_sharpe"] is not None:
        trials, bars = luck["num_trials"], luck["minimum_track_record"]
        console.print(
            f"  {where}probability that the Sharpe ratio is above 0: {luck['probabilistic_sharpe']:.2f}; above the "
            f"luckiest expected of {trials} trial{'' if trials == 1 else 's'}: {luck['deflated_sharpe']:.2f} "
            f"(deflated); minimum track record: {'-' if bars is None else f'{math.ceil(bars):,} bars'}",
            highlight=False,
            soft_wrap=True,
        )
    ratio, growth = luck.get("sharpe_interval"), luck.get("total_return_interval")
    if ratio is None or growth is None:
        return
    console.print(
        f"  {where}90 % interval of the Sharpe ratio {ratio['low']:.2f} to {ratio['high']:.2f}, of the return "
        f"{growth['low']:+.1%} to {growth['high']:+.1%} (block bootstrap)",
        highlight=False,
        soft_wrap=True,
    )


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Print one line per note."""
    for note in notes:
        console.print(f"  note: {note}", highlight=False, soft_wrap=True)


def print_alarms(console: Console, alarms: Iterable[Alarm], where: str = "") -> None:
    """Print one line an alarm, of several members with the same one together; `where` says whose they are."""
    together: dict[tuple[str, int], list[Alarm]] = {}
    for alarm in alarms:
        together.setdefault((alarm.name, alarm.begin), []).append(alarm)
    for (name, update), some in together.items():
        seeds = ", ".join(str(alarm.seed) for alarm in some)
        said = f"{where}alarm: {name} (seed{'s' if len(some) > 1 else ''} {seeds}, update {update})."
        sentences = f"{some[0].sentence} Likely: {some[0].cause} Remedy: {some[0].remedy}"
        console.print(Text(said, style="bold yellow"), Text(sentences), soft_wrap=True)


def print_optimum(console: Console, optimum: dict[str, float | None], segment: str) -> None:
    """Print how much of what could be earned on a market of known optimum was earned."""
    console.print(
        f"known optimum of this market on {segment}: {number(optimum['log_return'], '+.3f')} log return after costs; "
        f"normalised score of the policy {number(optimum['normalised_score'], '.2f')} (1 is the optimum)",
        highlight=False,
        soft_wrap=True,
    )


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Print the verdict and its reasons."""
    console.print(f"verdict: {verdict.status}", style=STATUS_STYLE[verdict.status])
    for reason in verdict.reasons:
        console.print(f"  - {reason}", highlight=False, soft_wrap=True)
