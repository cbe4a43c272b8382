"""What a training leaves: policy files, measurement, verdict, and a summary whatever became of it."""

import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jtf.config import MODE_STEPS
from jtf.data.check import bars_record
from jtf.environment import first_bars_share
from jtf.models.policy import Params, Policy, params_sha256
from jtf.models.policy_file import FILE_NAME, save_policy
from jtf.results.evaluation import evaluate
from jtf.results.health import alarm_history
from jtf.results.luck import SharpeLuck, sharpe_luck
from jtf.results.metrics import Metrics, bar_returns, sharpe_or_zero
from jtf.results.provenance import seen_spans
from jtf.results.results import NO_VERDICT, Measured, MemberResult, RunResult, measure, write_results
from jtf.results.run_directory import (
    BEST,
    SUMMARY,
    last_checkpoint,
    read_metrics,
    write_json,
)
from jtf.results.tables import add_member_equity
from jtf.results.trials import trial_sharpes
from jtf.results.verdict import Evidence, judge
from jtf.task import (
    Task,
    device_name,
    make_policy,
    notes,
)
from jtf_env.mirror.backtest import Backtest
from jtf_env.mirror.market import Market, scale_market
from jtf_ppo import TrainResult
from jtf_ppo.types import Metrics as Record


def conclude(task: Task, result: TrainResult, directory: Path, started: float) -> RunResult:
    """Measure the ensemble of the best parameters and its members on every segment, judge, and write it all."""
    sound = [member for member in result.members if member.stopped != "diverged"]
    save_best(task, {member.seed: member.best_params for member in sound}, directory)
    policy = make_policy(task, {member.seed: member.best_params for member in sound})
    market = scale_market(task.data.mirror, policy.scaler)
    spans = seen_spans(task.problem.fold, task.bars.timestamps)
    measured = measure(policy, task.bars, market, task.segments, spans)
    passes = member_passes(task, policy, market)
    members = [
        MemberResult(member.seed, params_sha256(member.best_params), member.best_update, metrics)
        for member, (metrics, _) in zip(sound, passes, strict=True)
    ]
    if len(members) > 1:
        equity = {member.seed: backtests for member, (_, backtests) in zip(sound, passes, strict=True)}
        measured = replace(measured, curves=add_member_equity(measured.curves, equity))
    luck = luck_on_test(task, measured, directory)
    verdict = (
        None if task.problem.fold.learns_after_test else judge(measured.metrics, evidence_of(task, measured, luck))
    )
    lost = [
        f"Member {seed} diverged and is not part of the ensemble." for seed in task.seeds if seed not in policy.seeds
    ]
    records = read_metrics(directory)
    visits = first_bar_visits(task, records)
    summary = base_summary(task, directory, started, "finished") | learner_summary(result, records, started)
    summary |= {"first_bar_visits": visits, "alarms": [alarm._asdict() for alarm in alarm_history(records)]}
    run = RunResult.from_measured(
        measured,
        notes=(
            *notes(task),
            *([] if verdict else [NO_VERDICT]),
            *lost,
            *note_on_visits(visits, result.steps / task.problem.usable_rows),
        ),
        symbol=task.config.symbol,
        members=tuple(members),
        verdict=verdict,
        luck=luck,
        optimum=known_optimum(task, measured.metrics),
        summary=summary | {"ensemble": {"params_sha256": policy.sha256, "metrics": measured.metrics}},
    )
    return write_results(directory, run)


def evidence_of(task: Task, measured: Measured, luck: SharpeLuck) -> Evidence:
    """Return what the verdict on the test segment of a run rests on."""
    held = measured.baselines["test"]["buy_and_hold"]
    return Evidence(
        held_sharpe=held.sharpe,
        held_return=held.total_return,
        synthetic=task.synthetic,
        smoke=task.learner.total_steps <= MODE_STEPS["smoke"],
        deflated_sharpe=luck.deflated_sharpe,
        random_return=measured.random.percentile(95),
    )


def first_bar_visits(task: Task, records: Sequence[Record]) -> float | None:
    """Return how often training visited the first bars of its stretches, a window of each, beside the mean bar."""
    expected = first_bars_share(task.problem.data[0])
    shares = [record["train/first_bars"] for record in records if "train/first_bars" in record]
    return statistics.fmean(shares) / expected if shares and expected else None


def note_on_visits(visits: float | None, passes: float) -> list[str]:
    """Return a sentence where the first bars were visited less than half or more than twice as often as the mean one.

    With fewer than 16 `passes` over the bars chance alone may do that (the deviation is about ``1 / sqrt(passes)``).
    """
    if visits is None or passes < 16 or 0.5 <= visits <= 2.0:
        return []
    return [f"Training visited the first bars {visits:.2f} times as often as the mean bar; 0.5 to 2 is usual."]


def luck_on_test(task: Task, measured: Measured, directory: Path) -> SharpeLuck:
    """Return the luck in the test segment's Sharpe ratio among the trials of this symbol on disk."""
    curve = measured.curves.loc[measured.curves["segment"] == "test", "equity"].to_numpy()
    trials = [*trial_sharpes(directory, task.config.symbol), sharpe_or_zero(measured.metrics["test"].sharpe)]
    return sharpe_luck(bar_returns(curve), task.bars.bars_per_year, trials)


def member_passes(task: Task, policy: Policy, market: Market) -> list[tuple[dict[str, Metrics], dict[str, Backtest]]]:
    """Return metrics and backtest, by segment, of every member of `policy` alone; `market` has the task's bars."""
    per_year = task.bars.bars_per_year
    passes = []
    for index in range(len(policy.members)):
        decide = policy.member(index).decider(market)
        played = {name: evaluate(decide, market, task.params, part, per_year) for name, part in task.segments.items()}
        passes.append(({name: one[0] for name, one in played.items()}, {name: one[1] for name, one in played.items()}))
    return passes


def known_optimum(task: Task, metrics: dict[str, Metrics]) -> dict[str, dict[str, float | None]] | None:
    """Return, where it is known, the net log return of the best possible trader and the normalised score."""
    scores: dict[str, dict[str, float | None]] = {}
    for name, segment in task.segments.items():
        best = task.data.optimum_return(segment)
        if best is None:
            return None
        growth = math.log(max(1.0 + metrics[name].total_return, 1e-6))
        scores[name] = {"log_return": best, "normalised_score": growth / best if best > 0 else None}
    return scores


def save_best(task: Task, members: dict[int, Params], directory: Path) -> None:
    """Write ``best/policy.safetensors``, the ensemble, and of several members one file of the same format each."""
    (directory / BEST).mkdir(exist_ok=True)
    save_policy(make_policy(task, members), directory / BEST / FILE_NAME)
    alone = {f"member_{seed}.safetensors": seed for seed in members} if len(task.seeds) > 1 else {}
    for name, seed in alone.items():
        save_policy(make_policy(task, {seed: members[seed]}), directory / BEST / name)
    for stale in set(directory.glob(f"{BEST}/member_*")) - {directory / BEST / name for name in alone}:
        stale.unlink()  # Of a member that diverged since.


def base_summary(task: Task, directory: Path, started: float, status: str) -> dict[str, Any]:
    """Return what is known of a run whatever became of it."""
    checkpoint = last_checkpoint(directory)
    parent = task.config.continue_from
    return {
        "status": status,
        "symbol": task.config.symbol,
        "layout": task.layout.name,
        "mode": task.config.mode,
        "engine": task.learner.engine,
        "seeds": task.seeds,
        "parent": None if parent is None else str(parent),
        "device": device_name(),
        "data": bars_record(task.bars, task.data_sha256),
        "fold": asdict(task.problem.fold),
        "notes": notes(task),
        "last_checkpoint": None if checkpoint is None else str(checkpoint),
        "perf": {"steps_per_second": None, "compile_seconds": None, "wall_seconds": time.time() - started},
        "metrics": None,
        "baselines": None,
        "verdict": None,
    }


def learner_summary(result: TrainResult, records: Sequence[Record], started: float) -> dict[str, Any]:
    """Return what the learner reports of a run that was not broken off; `records` are those of its ``metrics.jsonl``.

    A run that was killed after its last update, and resumed, took no update of its own: only the file knows the last.
    """
    last = {record["seed"]: record for record in records if "updates" in record}
    return {
        "perf": {
            "steps_per_second": result.steps_timed / result.run_seconds if result.run_seconds else None,
            "compile_seconds": result.compile_seconds,
            "wall_seconds": time.time() - started,
        },
        "stopped": result.stopped,
        "steps": result.steps,
        "training": [
            {
                "seed": member.seed,
                "stopped": member.stopped,
                "updates": member.updates,
                "best_update": member.best_update,
                "skipped_steps": member.skipped_steps,
                "last_params_sha256": params_sha256(member.params),
                "best_params_sha256": params_sha256(member.best_params),
                "last_metrics": last.get(member.seed, {}),
                "best_validation": member.validation,
            }
            for member in result.members
        ],
    }


def record_failure(task: Task, directory: Path, started: float, error: BaseException) -> None:
    """Leave a summary of a run that was broken off, if the disk still takes one."""
    status = "interrupted" if isinstance(error, (KeyboardInterrupt, BrokenPipeError)) else "failed"
    summary = base_summary(task, directory, started, status) | {"reason": str(error) or status}
    try:
        write_json(directory / SUMMARY, summary)
    except OSError as full:
        print(f"the summary could not be written either: {full.strerror}", file=sys.stderr)
