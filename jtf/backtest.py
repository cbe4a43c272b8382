"""``python -m jtf.backtest``: replay a trained policy on the NumPy mirror over any span of bars. No JAX."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from jtf.console import Terminal, print_metrics
from jtf.data import BARS_SETTINGS, bars_sha256, load_bars
from jtf.errors import UserError, run_command
from jtf.flags import parse_flags
from jtf.models.policy import Policy
from jtf.models.policy_file import FILE_NAME, load_policy
from jtf.results.evaluation import evaluate, evaluate_baselines, ruin_note
from jtf.results.run_directory import BACKTESTS, BEST, read_config, write_json
from jtf.results.trades import Trade, backtest_trades
from jtf.splits import Segment
from jtf_env.bars import Bars
from jtf_env.mirror.backtest import replay


@dataclass(frozen=True)
class BacktestConfig:
    """Replay the best policy of a run on bars, without JAX; writes trades (CSV) and metrics (JSON) into the run."""

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
    name: str | None = None
    """Name of the folder under RUN/backtests. Default: the segment, or the span."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run_from_args(argv))


def run_from_args(argv: Sequence[str] | None) -> None:
    """Parse, replay, write and print."""
    config = parse_flags(BacktestConfig, argv, "jtf backtest")
    config = resolve_segment(config)
    stored = read_config(config.run)
    policy = load_policy(config.run / BEST / FILE_NAME)
    bars = load_run_bars(config, stored)
    segment = choose_segment(config, stored, bars, policy)
    market = policy.market(bars)
    decide = replay(policy.actions(market))
    metrics, backtest = evaluate(decide, market, policy.env_params, segment, policy.bars_per_year)
    baselines = evaluate_baselines(market, policy.env_params, segment, policy.bars_per_year)

    synthetic = bars.source == "synthetic"
    span = [bars.timestamps[row].isoformat() for row in (segment.start, segment.stop - 1)]
    record = {
        "symbol": policy.symbol,
        "data": {"kind": "synthetic" if synthetic else "file", "sha256": bars_sha256(bars), "source": bars.source},
        "start": span[0],
        "end": span[1],
        "metrics": asdict(metrics),
        "baselines": {name: asdict(values) for name, values in baselines.items()},
        "dropped_orders": backtest.dropped_orders,
        "costs": float(backtest.costs.sum()),
        "ruined": backtest.terminated,
    }
    folder = config.run / BACKTESTS / (config.name or default_name(config, span))
    folder.mkdir(parents=True, exist_ok=True)
    write_trades(folder / "trades.csv", backtest_trades(backtest, policy.env_params), bars)
    write_json(folder / "metrics.json", record)

    console = Terminal()
    kind = "SYNTHETIC bars" if synthetic else bars.source
    columns = {"policy": metrics, "buy and hold": baselines["buy_and_hold"]}
    print_metrics(console, columns, f"{policy.symbol} on {kind}: {span[0]} to {span[1]}")
    ruin = ruin_note(backtest, policy.env_params, bars.timestamps)
    if ruin is not None:
        console.print(f"  note: {ruin}", highlight=False, soft_wrap=True)
    console.print(f"trades and metrics: {folder}", soft_wrap=True, highlight=False)


def resolve_segment(config: BacktestConfig) -> BacktestConfig:
    """Return `config` with its segment decided; raise `UserError` where two spans are asked for."""
    elsewhere = bool(config.data or config.start or config.end)
    if elsewhere and config.segment not in (None, "all"):
        raise UserError(f"--segment {config.segment} excludes --data, --start and --end; give one or the other.")
    return replace(config, segment=config.segment or ("all" if elsewhere else "test"))


def load_run_bars(config: BacktestConfig, stored: dict[str, Any]) -> Bars:
    """Return the bars of ``--data``, else those the run was trained on; refuse changed bars for a named segment."""
    settings, recorded = stored["config"], stored["data"]
    trained_on = Path(settings["data"]) if settings["data"] is not None else None
    same = {name: settings[name] for name in BARS_SETTINGS}
    cut = {"start": None, "end": None} if config.data else {}  # the span of a run is the span of its own bars
    bars = load_bars(settings["symbol"], config.data or trained_on, **(same | cut))
    if uses_split(config) and bars_sha256(bars) != recorded["sha256"]:
        raise UserError(
            f"the bars of {bars.source} are not those {config.run} was trained on, so its {config.segment} segment "
            "is not defined; use --segment all or --start and --end."
        )
    return bars


def uses_split(config: BacktestConfig) -> bool:
    """Whether the span is a segment of the run's own split."""
    return config.segment != "all"


def choose_segment(config: BacktestConfig, stored: dict[str, Any], bars: Bars, policy: Policy) -> Segment:
    """Return the rows to replay; raise `UserError` where fewer than two bars are left."""
    if uses_split(config):
        return Segment(**stored["segments"][str(config.segment)])
    first = policy.layout.first_bar(policy.window)
    start = max(first, row_of(bars, config.start, "--start", 0))
    stop = row_of(bars, config.end, "--end", len(bars))
    if stop - start < 2:
        raise UserError(
            f"{bars.source} leaves {max(0, stop - start)} bars between --start and --end after {first} bars of "
            "warm-up; widen the span or give a longer history."
        )
    return Segment(start, stop)


def row_of(bars: Bars, time: str | None, flag: str, default: int) -> int:
    """Return the first row at or after a UTC time."""
    if time is None:
        return default
    try:
        stamp = pd.Timestamp(time)
    except ValueError:
        raise UserError(f"{flag} {time!r} is not a date or time such as 2024-01-31 or 2024-01-31T15:00.") from None
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    return int(bars.timestamps.searchsorted(stamp))


def default_name(config: BacktestConfig, span: list[str]) -> str:
    """Return the folder name that says what was replayed."""
    if not (config.data or config.start or config.end):
        return str(config.segment)
    prefix = f"{config.data.stem}-" if config.data else ""
    return prefix + "-".join(time[:16].replace(":", "").replace("-", "") for time in span)


def write_trades(path: Path, trades: list[Trade], bars: Bars) -> None:
    """Write one row per round trip; the entry and exit bars also as UTC times."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["entry_time", "exit_time", *Trade._fields])
        for trade in trades:
            times = bars.timestamps[np.array([trade.entry_bar, trade.exit_bar])]
            writer.writerow([*(time.isoformat() for time in times), *trade])


if __name__ == "__main__":
    sys.exit(main())
