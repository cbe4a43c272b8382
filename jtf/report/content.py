"""Everything the page says, as plain data: the content of ``report.json``. No JAX."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pandas as pd

from jtf.console import FRACTIONS, NOT_SHOWN, number
from jtf.data.check import is_synthetic
from jtf.report.arrays import REASONS
from jtf.report.series import Rolling, Series, monthly_returns
from jtf.report.training import training_content
from jtf.results.baselines import RandomTiming
from jtf.results.costs import CostSweep
from jtf.results.metrics import METRIC_NAMES, Metrics
from jtf.results.results import NO_VERDICT, RunResult
from jtf_env.actions import ACTION_NAMES
from jtf_env.layouts import GROUPS

FORMAT = "jtf-report/1"
TILES = {
    "total_return": "return after costs",
    "sharpe": "Sharpe ratio",
    "max_drawdown": "largest drawdown",
    "profit_factor": "profit factor",
    "win_rate": "winning trades",
    "num_trades": "closed trades",
    "exposure": "exposure",
}
"""Metric -> what its tile calls it."""
LOWER_IS_BETTER = ("max_drawdown",)
Tile = dict[str, Any]
"""``name``, ``label``, ``value``, ``text`` and ``beside``: what stands under it."""
NO_RANK = ("num_trades", "exposure")
"""Metrics of which neither more nor less is better."""
LONGEST_LIST = 12
"""Entries of a list of gaps that the page shows."""


def report_content(
    result: RunResult,
    settings: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    series: Mapping[str, Series],
    lines: Mapping[str, Rolling],
) -> dict[str, Any]:
    """Return what the page says.

    Parameters
    ----------
    result: the run, or a backtest of one.
    settings: its ``config.json``; empty for a backtest.
    records: its ``metrics.jsonl``; empty for a backtest.
    series, lines: `segment_series` and the rolling lines of its curves, by segment.
    """
    verdict = result.verdict
    return {
        "format": FORMAT,
        "symbol": result.symbol,
        "kind": "run" if result.members else "backtest",
        "title": f"{result.symbol} – {'trained policy' if result.members else 'backtest'}",
        "shows": shown(result),
        "directory": str(result.directory),
        "synthetic": is_synthetic(result.summary["data"]),
        "verdict": None if verdict is None else asdict(verdict),
        "no_verdict": NO_VERDICT if result.members else "A backtest has no verdict: the verdict belongs to the run.",
        "judged": result.judged,
        "headline": headline(result),
        "card": card(result, settings),
        "notes": list(result.notes),
        "segments": {name: segment_content(result, one, lines[name]) for name, one in series.items()},
        "parts": {name: columns(result, name) for name in result.metrics if name not in series},
        "members": members_content(result),
        "training": training_content(records),
        "data": data_content(result.summary["data"]),
        "observed": observed_content(result.observations),
        "random": random_content(result.random),
        "luck": None if result.luck is None else asdict(result.luck),
        "cost_sweep": None if result.cost_sweep is None else sweep_content(result.cost_sweep, result.derived),
        "names": {"actions": ACTION_NAMES, "reasons": REASONS},
        "derived": result.derived,
    }


def shown(result: RunResult) -> list[str]:
    """Return the parts of the page, in order; ``page.js`` draws a part by its name."""
    wanted = {
        "tiles": True, "equity": True, "months": True, "rolling": True, "price": True, "trades": True,
        "metrics": True, "accounts": True, "members": len(result.members) > 1,
        "costs": result.cost_sweep is not None, "luck": True, "training": True, "bars": True,
    }  # fmt: skip
    return [name for name, present in wanted.items() if present]


def headline(result: RunResult) -> str:
    """Return the one sentence that matters: the judged segment after costs beside its baselines."""
    name = result.judged
    policy, held = result.metrics[name], result.baselines[name]["buy_and_hold"]
    made = [f"buying and holding made {held.total_return:+.1%}"]
    if cross := result.baselines[name].get("moving_average_cross"):
        made.append(f"a moving-average cross {cross.total_return:+.1%}")
    made.append(f"the same positions at random times {result.random.percentile(50):+.1%} (median)")
    sentence = f"On {name}, after costs, the policy made {policy.total_return:+.1%}; {', '.join(made)}."
    labels = result.curves.loc[result.curves["segment"] == name, "seen"]
    shares = {label: float((labels == label).mean()) for label in ("in-sample", "selection")}
    used = [f"{share:.0%} of these bars are {label}" for label, share in shares.items() if share]
    return f"{sentence} {', '.join(used)}." if used else sentence


def card(result: RunResult, settings: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows ``[name, value]`` of the run card; what an older version did not record is left out."""
    perf, versions = result.summary.get("perf") or {}, settings.get("versions", {})
    rows = {
        "run": None if result.directory is None else str(result.directory),
        **common_rows(result.summary, result.derived["env_params"], result.seeds),
        "speed": f"{perf['steps_per_second']:,.0f} steps a second" if perf.get("steps_per_second") else None,
        "policy": result.derived["params_sha256"][:12],
        "jtf": " ".join(filter(None, [versions.get("jtf"), (settings.get("git_revision") or "")[:12]])) or None,
    }
    return [[name, value] for name, value in rows.items() if value]


def common_rows(summary: Mapping[str, Any], costs: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, str | None]:
    """Return the rows of the card that runs and experiments share; None where `summary` does not say."""
    data = summary["data"]
    return {
        "bars": f"{data['bars']:,} from {data['source']}",
        "span": f"{data['start'][:10]} to {data['end'][:10]}",
        "costs a side": f"fee {basis_points(costs['fee'])}, slippage {basis_points(costs['slippage'])}",
        "fills at": {"next_open": "the next open", "close": "the same close"}.get(costs["fill"], costs["fill"]),
        "trained": f"{summary['steps']:,} steps in all, mode {summary['mode']}" if "steps" in summary else None,
        "members": f"{len(seeds)}, seeds {', '.join(map(str, seeds))}" if seeds else None,
        "layout": summary.get("layout"),
        "device": summary.get("device"),
    }


def basis_points(fraction: float) -> str:
    """Return a fraction in basis points."""
    return f"{fraction * 1e4:g} bp"


def segment_content(result: RunResult, series: Series, lines: Rolling) -> dict[str, Any]:
    """Return what the page says of one segment."""
    name = series.name
    timezone = result.summary["data"]["timezone"]
    accounts = result.accounts[name]
    trades = result.trades[result.trades["segment"] == name]
    return {
        **result.derived["segments"][name],
        "bars": len(series.equity),
        "tiles": tiles(result, name),
        **columns(result, name),
        "monthly": {
            "policy": monthly_returns(series.times, series.equity, timezone),
            "buy_and_hold": monthly_returns(series.times, series.buy_and_hold, timezone),
            "timezone": timezone,
        },
        "bar_account": asdict(accounts.bars),
        "drawdown": asdict(accounts.bars.drawdown),
        "trade_accounts": asdict(accounts.trades),
        "seen": series.seen,
        "rolling_bars": lines.window,
        "quiet": longest_quiet(result.fills[result.fills["segment"] == name], series),
        "trades": len(trades),
        "members": sorted(series.members),
        "line_names": ["policy", "members", "seed"],
    }


def tiles(result: RunResult, name: str) -> list[Tile]:
    """Return the headline numbers of a segment, each beside that of buying and holding."""
    policy, held = asdict(result.metrics[name]), asdict(result.baselines[name]["buy_and_hold"])
    spent = result.derived["segments"][name]["costs"] / result.derived["env_params"]["initial_equity"]
    paid = {"name": "costs", "label": "fees and slippage", "value": spent, "text": f"{spent:.1%}"}
    found = [tile(metric, policy[metric], held[metric]) for metric in TILES]
    if name == "test" and result.luck is not None:
        found = with_intervals(found, asdict(result.luck))
    return [
        *found,
        paid | {"beside": "of the first equity"},
        *([random_tile(result, name)] if name == result.judged else []),
    ]


def with_intervals(tiles: Sequence[Tile], luck: Mapping[str, Any]) -> list[Tile]:
    """Return tiles of which those of the return and of the Sharpe ratio also say within what chance moves them."""
    found = []
    for one in tiles:
        interval = luck.get(f"{one['name']}_interval")
        if interval is not None:
            low, high = (tile_text(one["name"], interval[end]) for end in ("low", "high"))
            one = one | {"interval": interval, "beside": f"{one['beside']}; 90 % interval {low} to {high}"}
        found.append(one)
    return found


def random_tile(result: RunResult, name: str) -> Tile:
    """Return the share of the random timings that the policy's return on a segment is above."""
    own, drawn = result.metrics[name].total_return, result.random.total_returns
    share = sum(one < own for one in drawn) / len(drawn)
    return {
        "name": "random",
        "label": "above random timing",
        "value": share,
        "text": f"{share:.0%}",
        "beside": f"of {len(drawn)} draws of the same positions",
    }


def tile(metric: str, policy: Any, *compared_with: Any) -> Tile:
    """Return one headline number, beside that of buying and holding where that is given."""
    held = compared_with[0] if compared_with else None
    rank = better(metric, policy, held)
    compared = {None: "buy and hold", True: "ahead of buy and hold,", False: "behind buy and hold,"}[rank]
    beside = "not defined for buy and hold" if held is None else f"{compared} {tile_text(metric, held)}"
    return {
        "name": metric,
        "label": TILES[metric],
        "value": policy,
        "text": tile_text(metric, policy),
        "buy_and_hold": held,
        "beside": beside if compared_with else "",
    }


def tile_text(metric: str, value: Any) -> str:
    """Return a metric as a tile shows it: a return with its sign."""
    return number(value, "+.1%") if metric == "total_return" else metric_text(metric, value)


def better(metric: str, policy: float | None, held: float | None) -> bool | None:
    """Return whether the policy's number is the better one; None where neither is."""
    if metric in NO_RANK or policy is None or held is None or policy == held:
        return None
    return (policy < held) if metric in LOWER_IS_BETTER else (policy > held)


def columns(result: RunResult, name: str) -> dict[str, Any]:
    """Return every metric of a segment, or of a part of one, for the policy and every baseline."""
    table = {"policy": result.metrics[name]} | result.baselines[name]
    return {"metrics": {column: asdict(metrics) for column, metrics in table.items()}, "table": metrics_table(table)}


def metrics_table(table: Mapping[str, Metrics]) -> list[list[str]]:
    """Return a row a metric, as text: its name, then a value a column of `table`."""
    values = [asdict(metrics) for metrics in table.values()]
    return [
        [metric.replace("_", " "), *(metric_text(metric, column[metric]) for column in values)]
        for metric in METRIC_NAMES
        if metric not in NOT_SHOWN
    ]


def metric_text(metric: str, value: Any) -> str:
    """Return a metric as the terminal prints it."""
    return number(value, ".1%" if metric in FRACTIONS else "d" if isinstance(value, int) else ".2f")


def longest_quiet(fills: pd.DataFrame, series: Series) -> dict[str, Any]:
    """Return the longest stretch without a fill: its bars, and when it begins and ends."""
    stamps = pd.DatetimeIndex(pd.to_datetime(fills["time"], utc=True, format="ISO8601"))
    rows = [0, *series.times.searchsorted(stamps), len(series.times) - 1]
    size, first = max((int(after - before), int(before)) for before, after in pairwise(rows))
    return {
        "bars": size,
        "start": series.times[first].isoformat(),
        "end": series.times[first + size].isoformat(),
    }


def members_content(result: RunResult) -> list[dict[str, Any]]:
    """Return a row a member: its seed, best update, and metrics by segment."""
    names = ("total_return", "sharpe", "max_drawdown", "num_trades")
    return [
        {
            "seed": member.seed,
            "best_update": member.best_update,
            "segments": {
                part: {metric: metric_text(metric, getattr(metrics, metric)) for metric in names}
                for part, metrics in member.metrics.items()
            },
        }
        for member in result.members
    ]


def data_content(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data-quality sheet."""
    report = data["report"]
    missing = sum(gap[2] for gap in report["gaps"])
    rows = [
        ("bars used", data["bars"]),
        ("rows read", report["rows"]),
        ("sessions; all bars of a market around the clock are one", report["sessions"]),
        ("half days", data["half_days"]),
        ("untradable bars: no volume, or the first after a hole", data["untradable"]),
        ("holes inside sessions", len(report["gaps"])),
        ("bars missing in them; nothing was filled in", missing),
        ("scheduled sessions without a bar", len(report["missing_sessions"])),
        ("bars dropped after an early close", report["dropped_after_close"]),
        ("bars dropped outside regular hours", report["dropped_extended_hours"]),
        ("bars dropped on days without a session", report["dropped_no_session"]),
        ("bars left out because finer rows are missing", report["incomplete_bins"]),
        ("moves beyond the asset's limit, allowed", len(report["jumps"])),
        ("prices that look like a bad tick, allowed", len(report["bad_ticks"])),
        ("most consecutive bars at one price", report["standstill"]),
    ]
    gaps = sorted(report["gaps"], key=lambda gap: -gap[2])[:LONGEST_LIST]
    return {
        "rows": [[name, f"{value:,}"] for name, value in rows],
        "gaps": [[first, last, bars] for first, last, bars in gaps],
        "missing_sessions": report["missing_sessions"][:LONGEST_LIST],
    }


def sweep_content(sweep: CostSweep, derived: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cost sweep, and the costs a side (basis points) and the fill mode of the result itself."""
    costs = derived["env_params"]
    own = {"basis_points": round_to(1e4 * (costs["fee"] + costs["slippage"])), "fill": costs["fill"]}
    return asdict(sweep) | {"own": own}


def random_content(random: RandomTiming) -> dict[str, Any]:
    """Return what the policy's positions earn at random times, and the percentiles the page names."""
    return {
        "total_returns": list(random.total_returns),
        "percentiles": {str(percent): random.percentile(percent) for percent in (5, 50, 95)},
    }


def observed_content(table: pd.DataFrame) -> dict[str, Any]:
    """Return names, groups and natural units of the columns the inspector shows."""
    names = [str(name) for name in table if name not in ("segment", "time")]
    return {
        "segment": str(table["segment"].iloc[0]),
        "bars": len(table),
        "columns": names,
        "groups": [group_of(name) for name in names],
        "mean": [round_to(value) for value in table.attrs["mean"]],
        "std": [round_to(value) for value in table.attrs["std"]],
    }


def group_of(column: str) -> str:
    """Return the group of a layout column."""
    return next((name for name, group in GROUPS.items() if column in group.columns), "other")


def round_to(value: float, digits: int = 7) -> float:
    """Return a number rounded to significant digits."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else 0.0
