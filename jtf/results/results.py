"""What a finished run or backtest holds: `RunResult`, how it is measured, written and read back. No JAX."""

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jtf.errors import UserError
from jtf.models.policy import Policy
from jtf.models.policy_file import FILE_NAME, load_policy
from jtf.results.bar_account import BarAccount, Drawdown, bar_account, trading_days
from jtf.results.baselines import RandomTiming, baseline_backtests, further_backtests, random_timing
from jtf.results.costs import CostSweep, sweep_costs
from jtf.results.evaluation import (
    backtest_metrics,
    label_metrics,
    open_note,
    ruin_note,
)
from jtf.results.figure import equity_png
from jtf.results.luck import SharpeLuck, read_luck
from jtf.results.metrics import METRIC_NAMES, Metrics
from jtf.results.provenance import Spans, label_bars, label_shares
from jtf.results.run_directory import BEST, SUMMARY, read_summary, write_atomically, write_json
from jtf.results.tables import (
    FILL_COLUMNS,
    PROBABILITIES,
    TRADE_COLUMNS,
    bar_table,
    curve_table,
    fill_table,
    observed_table,
    parquet_bytes,
    read_table,
    trade_table,
)
from jtf.results.trade_account import TradeAccount, TradeAccounts, trade_accounts
from jtf.results.trades import backtest_trades
from jtf.results.verdict import Verdict
from jtf.splits import Segment, judged_segment
from jtf_env.bars import Bars
from jtf_env.mirror.backtest import Backtest, run_backtest
from jtf_env.mirror.market import Market
from jtf_env.params import EnvParams

CURVES, FILLS, TRADES, PICTURE = "curves.parquet", "fills.csv", "trades.csv", "equity.png"
OBSERVATIONS = "observations.parquet"
NO_VERDICT = "There is no verdict: training or the choice of the best update used bars after the tested ones."
"""What a fit of combinatorial cross-validation says."""


@dataclass(frozen=True)
class Accounts:
    """Both accounts of one backtest: they count different things and are never mixed."""

    bars: BarAccount
    trades: TradeAccounts


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """One policy, played once through every segment."""

    metrics: dict[str, Metrics]
    """By segment; where a segment holds bars of more than one label, also by label (`provenance.LABELS`)."""
    baselines: dict[str, dict[str, Metrics]]
    """The same keys, then by name: ``buy_and_hold``, ``flat``; of the judged segment also ``moving_average_cross`` and
    ``perfect_foresight``."""
    accounts: dict[str, Accounts]
    """By segment: the account a bar and the account a trade."""
    random: RandomTiming
    """Of the judged segment: what the same positions earn at random times."""
    cost_sweep: CostSweep | None
    """Of the judged segment; None for layouts with account columns, which decide anew at every cost."""
    curves: pd.DataFrame
    """A row per bar of every segment; the columns are those of `curve_table`, and of several members
    `add_member_equity`."""
    fills: pd.DataFrame
    """A row per fill; `tables.FILL_COLUMNS`."""
    trades: pd.DataFrame
    """A row per round trip; `tables.TRADE_COLUMNS`."""
    observations: pd.DataFrame
    """What the policy saw of the judged segment: `tables.observed_table`."""
    seen: dict[str, float] | None
    """Share of the decisions on bars the policy was trained on, selected on, or never saw; None where not known."""
    notes: tuple[str, ...]
    """Sentences on ruin and on positions still open."""
    derived: dict[str, Any]
    """What the tables were derived from: hash of the parameters, costs, spans."""


@dataclass(frozen=True)
class MemberResult:
    """One member of a run."""

    seed: int
    params_sha256: str
    best_update: int | None
    metrics: dict[str, Metrics]
    """By segment."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RunResult(Measured):
    """A finished run, or a backtest of one (without members, verdict and optimum)."""

    symbol: str
    members: tuple[MemberResult, ...] = ()
    verdict: Verdict | None = None
    optimum: dict[str, dict[str, float | None]] | None = None
    """By segment, on markets whose optimum is known: ``log_return`` and the policy's ``normalised_score``."""
    luck: SharpeLuck | None = None
    """Of the test segment; None for a backtest."""
    summary: dict[str, Any] = field(default_factory=dict)
    """What else ``summary.json`` says: status, device, speed, data."""
    directory: Path | None = None

    @classmethod
    def from_measured(cls, measured: Measured, notes: Iterable[str] = (), **rest: Any) -> "RunResult":
        """Return a result with everything of `measured`, `notes` before its own; `rest` are the other fields."""
        return cls(**vars(measured) | {"notes": (*notes, *measured.notes)}, **rest)

    @property
    def judged(self) -> str:
        """The segment whose numbers stand for the result (`jtf.splits.judged_segment`)."""
        return judged_segment(self.derived["segments"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the members."""
        return tuple(member.seed for member in self.members)


def measure(
    policy: Policy, bars: Bars, market: Market, segments: Mapping[str, Segment], spans: Spans | None = None
) -> Measured:
    """Play `policy` over each segment of `market` (its own tables of `bars`) and measure it beside the baselines.

    `spans` says what the policy has seen (`provenance.seen_spans`); None where that is not known.
    """
    params, per_year = policy.env_params, bars.bars_per_year
    decide = policy.decider(market)
    labels = label_bars(bars.timestamps, spans) if spans is not None else np.full(len(bars), "unknown", object)
    table = bar_table(bars, labels, policy_outputs(policy, market))
    days, judged = trading_days(bars), judged_segment(segments)
    metrics: dict[str, Metrics] = {}
    baselines: dict[str, dict[str, Metrics]] = {}
    accounts: dict[str, Accounts] = {}
    curves, passes, notes = [], {}, []
    for name, segment in segments.items():
        backtest = run_backtest(market, decide, params, segment.start, segment.stop)
        compared = baseline_backtests(market, params, segment)
        compared |= further_backtests(market, params, segment) if name == judged else {}
        beside = {key: segment_metrics(name, one, params, per_year, labels) for key, one in compared.items()}
        metrics |= segment_metrics(name, backtest, params, per_year, labels)
        baselines |= {part: {key: parts[part] for key, parts in beside.items()} for part in beside["flat"]}
        accounts[name] = Accounts(
            bar_account(backtest, bars, days), trade_accounts(backtest_trades(backtest, params), bars, params.fill)
        )
        curves.append(curve_table(name, segment, table, backtest, compared["buy_and_hold"]))
        notes += segment_notes(name, backtest, policy, bars)
        passes[name] = backtest
    decided = np.concatenate([labels[one.bars[:-1]] for one in passes.values()])
    trades = {name: backtest_trades(one, params) for name, one in passes.items()}
    return Measured(
        metrics=metrics,
        baselines=baselines,
        accounts=accounts,
        random=random_timing(passes[judged], market, params, segments[judged]),
        cost_sweep=sweep_costs(decide, market, params, segments[judged], per_year)
        if policy.layout.address_only
        else None,
        curves=pd.concat(curves, ignore_index=True),
        fills=fill_table(((name, fill) for name, one in passes.items() for fill in one.fills), bars.timestamps),
        trades=trade_table([(name, trade) for name, some in trades.items() for trade in some], bars, params.fill),
        observations=observed_table(judged, segments[judged], bars, market, policy.scaler),
        seen=label_shares(decided) if spans is not None else None,
        notes=tuple(notes),
        derived=derived_from(policy, bars, passes),
    )


def policy_outputs(policy: Policy, market: Market) -> dict[str, np.ndarray]:
    """Return the columns ``[T]`` of a policy's outputs that are known for every row without an account."""
    if not policy.layout.address_only:
        return {}
    outputs = dict(zip(PROBABILITIES, policy.probabilities(market).T, strict=True))
    return outputs | {"value": policy.values(market)}


def segment_metrics(
    name: str, backtest: Backtest, params: EnvParams, bars_per_year: float, labels: np.ndarray
) -> dict[str, Metrics]:
    """Return the metrics of a segment, and of its parts where its decisions have several of ``labels [T]``."""
    several = len(set(labels[backtest.bars[:-1]])) > 1
    parts = label_metrics(backtest, params, bars_per_year, labels) if several else {}
    return {name: backtest_metrics(backtest, params, bars_per_year)} | parts


def segment_notes(name: str, backtest: Backtest, policy: Policy, bars: Bars) -> list[str]:
    """Return the sentences on ruin, dropped orders, and a position still open at the end of a segment."""
    dropped = backtest.dropped_orders
    lost = [f"{dropped:,} orders met untradable bars and were dropped."] if dropped else []
    ruin = ruin_note(backtest, policy.env_params, bars.timestamps)
    last = backtest_trades(backtest, policy.env_params)[-1:]
    left = [open_note(trade, bars.timestamps) for trade in last if trade.open_at_end]
    return [f"On {name}, {sentence}" for sentence in ([ruin] if ruin else []) + lost + left]


def derived_from(policy: Policy, bars: Bars, passes: Mapping[str, Backtest]) -> dict[str, Any]:
    """Return what a measurement was derived from, and what the passes left that is no metric."""
    return {
        "params_sha256": policy.sha256,
        "env_params": asdict(policy.env_params),
        "segments": {
            name: {
                "start": bars.timestamps[int(one.bars[0])].isoformat(),
                "end": bars.timestamps[int(one.bars[-1])].isoformat(),
                "dropped_orders": one.dropped_orders,
                "costs": float(one.costs.sum()),
                "ruined": one.terminated,
            }
            for name, one in passes.items()
        },
    }


def write_results(directory: Path, result: RunResult) -> RunResult:
    """Write curves, fills, trades, the picture and last ``summary.json``; return the result with its directory.

    Every file is written atomically, the summary after the files whose hashes it names.
    """
    label = result.derived["params_sha256"]
    files = {
        CURVES: parquet_bytes(result.curves, label),
        FILLS: result.fills.to_csv(index=False).encode(),
        TRADES: result.trades.to_csv(index=False).encode(),
        OBSERVATIONS: parquet_bytes(result.observations, label),
        PICTURE: equity_png(result.curves, picture_title(result), {"Description": f"params_sha256 {label}"}),
    }
    for name, content in files.items():
        write_atomically(directory / name, content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    written = replace(result, directory=directory, derived=result.derived | {"files": hashes})
    write_json(directory / SUMMARY, result_record(written))
    return written


def picture_title(result: RunResult) -> str:
    """Return one line that names symbol, costs and policy."""
    costs = result.derived["env_params"]
    return (
        f"{result.symbol}: policy {result.derived['params_sha256'][:12]}, fee {costs['fee']:g} and slippage "
        f"{costs['slippage']:g} a side"
    )


def result_record(result: RunResult) -> dict[str, Any]:
    """Return the content of ``summary.json``."""
    return result.summary | {
        "symbol": result.symbol,
        "metrics": _plain(result.metrics),
        "baselines": {name: _plain(metrics) for name, metrics in result.baselines.items()},
        "accounts": _plain(result.accounts),
        "random": asdict(result.random),
        "cost_sweep": None if result.cost_sweep is None else asdict(result.cost_sweep),
        "luck": None if result.luck is None else asdict(result.luck),
        "members": [asdict(member) for member in result.members],
        "verdict": None if result.verdict is None else asdict(result.verdict),
        "optimum": result.optimum,
        "seen": result.seen,
        "notes": list(result.notes),
        "derived": result.derived,
    }


def read_result(directory: str | Path) -> RunResult:
    """Return the result that `write_results` left in `directory`.

    Raises `UserError` where there is none, where it is of another version, and where a file is not the one the
    summary names (it is stale, or was edited). A note says where the policy is another one by now.
    """
    directory = Path(directory)
    summary = read_summary(directory)
    derived = summary.get("derived")
    if derived is None or summary.get("metrics") is None:
        raise UserError(f"{directory} has no results (status: {summary['status']}); name a finished run.")
    stale = stale_note(directory, derived["params_sha256"])
    contents = {name: _read_file(directory / name, digest) for name, digest in derived["files"].items()}
    try:
        return _result(directory, summary, contents, [] if stale is None else [stale])
    except (KeyError, TypeError):  # A key that this version does not write, or one that it needs.
        raise other_version(directory) from None


def _result(directory: Path, summary: dict[str, Any], contents: Mapping[str, bytes], notes: Iterable[str]) -> RunResult:
    """Return the result that a summary and the files beside it describe; `notes` come after its own."""
    verdict, derived = summary["verdict"], summary["derived"]
    return RunResult(
        symbol=summary["symbol"],
        metrics=_metrics(directory, summary["metrics"]),
        baselines={name: _metrics(directory, values) for name, values in summary["baselines"].items()},
        accounts={name: _accounts(values) for name, values in summary["accounts"].items()},
        random=RandomTiming(tuple(summary["random"]["total_returns"])),
        cost_sweep=_cost_sweep(summary["cost_sweep"]),
        luck=None if summary["luck"] is None else read_luck(summary["luck"]),
        curves=pd.read_parquet(io.BytesIO(contents[CURVES])),
        fills=read_table(contents[FILLS], FILL_COLUMNS),
        trades=read_table(contents[TRADES], TRADE_COLUMNS),
        observations=pd.read_parquet(io.BytesIO(contents[OBSERVATIONS])),
        seen=summary["seen"],
        notes=(*summary["notes"], *notes),
        derived=derived,
        members=tuple(
            MemberResult(**member | {"metrics": _metrics(directory, member["metrics"])})
            for member in summary["members"]
        ),
        verdict=None if verdict is None else Verdict(verdict["status"], tuple(verdict["reasons"])),
        optimum=summary["optimum"],
        summary=summary,
        directory=directory,
    )


def other_version(directory: Path) -> UserError:
    """Return the error that results in `directory` cannot be read by this version."""
    return UserError(f"{directory / SUMMARY} was written by another version of jtf; run jtf.backtest again.")


def stale_note(directory: Path, params_sha256: str) -> str | None:
    """Return a sentence where results in a run, or in one of its backtests, are not those of its best policy."""
    for run in (directory, directory.parent.parent):
        path = run / BEST / FILE_NAME
        if path.is_file():
            found = load_policy(path).sha256
            same = found == params_sha256
            return None if same else f"Stale: results of policy {params_sha256[:12]}, but {path} is {found[:12]}."
    return None


def _read_file(path: Path, digest: str) -> bytes:
    if not path.is_file():
        raise UserError(f"{path} is missing, although the summary beside it names it; run jtf.backtest again.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path} is stale: it is not the file the summary beside it names; run jtf.backtest again.")
    return content


def _cost_sweep(values: Mapping[str, Any] | None) -> CostSweep | None:
    if values is None:
        return None
    by_fill = {name: {fill: tuple(row) for fill, row in values[name].items()} for name in ("total_return", "sharpe")}
    return CostSweep(tuple(values["basis_points"]), **by_fill)


def _accounts(values: Mapping[str, Any]) -> Accounts:
    by_bar = BarAccount(**values["bars"] | {"drawdown": Drawdown(**values["bars"]["drawdown"])})
    groups = {
        name: {key: TradeAccount(**account) for key, account in group.items()}
        for name, group in values["trades"].items()
        if name != "total"
    }
    return Accounts(by_bar, TradeAccounts(total=TradeAccount(**values["trades"]["total"]), **groups))


def _plain(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: asdict(values) for name, values in metrics.items()}


def _metrics(directory: Path, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Metrics]:
    for metrics in values.values():
        if set(metrics) != set(METRIC_NAMES):
            raise other_version(directory)
    return {name: Metrics(**metrics) for name, metrics in values.items()}
