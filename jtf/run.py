"""Train a task and measure what came of it: the way in from Python, and what ``jtf.train`` calls."""

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from jtf.config import MODE_STEPS, EnvConfig, LearnerConfig, RewardConfig, RunConfig, check_run_config
from jtf.data import load_bars
from jtf.data.check import TIMEFRAME_NAMES, bars_record
from jtf.environment import first_bars_share
from jtf.errors import UserError
from jtf.flags import errors_name_flags
from jtf.models.policy import Params, Policy, params_sha256
from jtf.models.policy_file import FILE_NAME, save_policy
from jtf.report import write_report
from jtf.reporter import Reporter, Silent
from jtf.results.evaluation import evaluate
from jtf.results.health import Alarm, AlarmWatch, alarm_history
from jtf.results.luck import SharpeLuck, sharpe_luck
from jtf.results.metrics import Metrics, bar_returns, sharpe_or_zero
from jtf.results.provenance import seen_spans
from jtf.results.results import NO_VERDICT, Measured, MemberResult, RunResult, measure, write_results
from jtf.results.run_directory import (
    BEST,
    CONFIG,
    SUMMARY,
    MetricsLog,
    create_run,
    how_to_finish,
    is_cell,
    json_ready,
    last_checkpoint,
    read_config,
    read_metrics,
    read_summary,
    run_lock,
    write_atomically,
    write_json,
)
from jtf.results.tables import add_member_equity
from jtf.results.trials import trial_sharpes
from jtf.results.verdict import Evidence, judge
from jtf.splits import SplitConfig
from jtf.task import (
    Task,
    bars_settings,
    config_record,
    config_sha256,
    device_name,
    make_policy,
    notes,
    prepare,
)
from jtf_env.bars import Bars
from jtf_env.mirror.backtest import Backtest
from jtf_env.mirror.market import Market, scale_market
from jtf_ppo import PPOConfig, TrainResult, train
from jtf_ppo.errors import LearnerError
from jtf_ppo.types import Metrics as Record

BARS = "bars.parquet"
"""Bars that came from memory, kept in the run so that it can be resumed and backtested."""


@dataclass(frozen=True)
class Interrupted:
    """A training that was asked to stop; its checkpoint is in the run directory."""

    directory: Path


def fit(
    bars: Bars | pd.DataFrame | str | Path | None,
    symbol: str,
    *,
    mode: str = "smoke",
    members: int = 1,
    **settings: Any,
) -> RunResult:
    """Train a policy for `symbol` and return what ``jtf.train`` would have written, which is written too.

    Parameters
    ----------
    bars: bars, a DataFrame of OHLCV rows (see `jtf.load_bars`), a folder or file of them, or None for the built-in
        synthetic market of that symbol name.
    mode, members: as the flags of ``jtf.train``.
    settings: any other flag by its field name, whatever its group: ``seed=3, fee=0.001, num_envs=512, out="runs"``.

    Raises
    ------
    UserError and the packages' own input errors: one sentence each, before anything is written.
    """
    if isinstance(bars, (str, Path)):
        settings, bars = settings | {"data": Path(bars)}, None
    config = check_run_config(settings_config({"symbol": symbol, "mode": mode, "members": members} | settings))
    if isinstance(bars, pd.DataFrame):
        bars = load_bars(symbol, bars, **bars_settings(config))
    done = run_task(prepare(config, bars), from_memory=bars is not None)
    assert isinstance(done, RunResult), "nobody can ask a silent training to stop"
    if config.report and done.directory is not None:
        write_report(done.directory)
    return done


def settings_config(settings: dict[str, Any]) -> RunConfig:
    """Return the configuration with these fields set, each in the group that has it; `UserError` for an unknown one."""
    groups: dict[str, Any] = {
        "": RunConfig(), "ppo": LearnerConfig(), "env": EnvConfig(), "split": SplitConfig(), "reward": RewardConfig(),
    }  # fmt: skip
    if unfit := {"resume", "continue_from", "config"} & set(settings):
        raise UserError(f"fit starts a new run and takes no {unfit.pop()}; use python -m jtf.train for that.")
    mode = settings.get("mode", RunConfig.mode)
    if mode not in MODE_STEPS:
        raise UserError(f"mode={mode!r} is not one of {', '.join(MODE_STEPS)}.")
    chosen: dict[str, dict[str, Any]] = {"ppo": {"total_steps": MODE_STEPS[mode]}}
    for name, value in settings.items():
        homes = [group for group, default in groups.items() if name in {f.name for f in fields(default)}]
        if not homes:
            raise UserError(f"fit has no setting {name!r}; it takes the flags of jtf.train by their field names.")
        value = Path(value) if name in ("out", "data") and value is not None else value
        value = tuple(value) if isinstance(value, list) else value
        chosen.setdefault(homes[0], {})[name] = value
    parts = {name: replace(groups[name], **chosen.get(name, {})) for name in ("ppo", "env", "split", "reward")}
    parts["env"] = replace(parts["env"], reward=parts.pop("reward"))
    config = replace(RunConfig(), **parts | chosen.get("", {}))
    return replace(config, ppo=replace(config.ppo, seed=config.seed))


def run_task(
    task: Task,
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] | None = None,
    *,
    from_memory: bool = False,
    directory: Path | None = None,
) -> RunResult | Interrupted:
    """Train, measure and write a run; the run directory holds the result, whatever becomes of it.

    A new run lies in `directory`, by default one of its own under ``--out``.
    """
    started = time.time()
    reporter = reporter or Silent()
    with ExitStack() as held:
        if task.config.resume is not None:
            directory = task.config.resume
            held.enter_context(run_lock(directory))  # First: another process may finish the run meanwhile.
            refuse_resume(task, directory)
        else:
            refuse_continue(task)
            if directory is None:
                directory = create_run(task.config.out, task.config.symbol)
            else:
                directory.mkdir(parents=True, exist_ok=True)
            held.enter_context(run_lock(directory))
            task = keep_bars(task, directory) if from_memory else task
            write_json(directory / CONFIG, config_record(task))
        try:
            result = learn(task, directory, reporter, should_stop)
            if result.stopped == "interrupted":
                summary = base_summary(task, directory, started, "interrupted")
                write_json(directory / SUMMARY, summary | learner_summary(result, read_metrics(directory), started))
                return Interrupted(directory)
            return conclude(task, result, directory, started)
        except BaseException as error:
            record_failure(task, directory, started, error)
            raise
        finally:
            reporter.finished()


def refuse_resume(task: Task, directory: Path) -> None:
    """Raise `UserError` where nothing is left to resume, or the bars are not those of the run."""
    if (directory / SUMMARY).is_file() and read_summary(directory)["status"] == "finished":
        raise UserError(f"--resume {directory} has finished; lengthen it with --continue, or start a new run.")
    stored = read_config(directory)
    if "config_sha256" not in stored:
        raise UserError(f"--resume {directory} was begun by another version of jtf; start a new run with --config.")
    if stored["config_sha256"] != config_sha256(stored["config"]):
        raise UserError(f"--resume {directory} has an edited {CONFIG}; restore it, or start a new run with --config.")
    if stored["data"]["sha256"] != task.data_sha256:
        raise UserError(
            f"--resume {directory} was started on other data than the bars of {task.bars.source}; resume it with its "
            "own bars, or start a new run."
        )
    if stored.get("fold") != json_ready(asdict(task.problem.fold)):
        way = how_to_finish(directory) if is_cell(directory) else "start a new run"
        raise UserError(f"--resume {directory} was started on another fold of its bars; {way}.")


def refuse_continue(task: Task) -> None:
    """Raise `UserError` where the run to lengthen has not finished, kept no checkpoint, or had other bars."""
    parent = task.config.continue_from
    if parent is None:
        return
    if not (parent / SUMMARY).is_file() or read_summary(parent)["status"] != "finished":
        raise UserError(f"--continue {parent} has not finished; go on with it by --resume first.")
    if last_checkpoint(parent) is None:
        raise UserError(f"--continue {parent} kept no checkpoint; train it with --ppo.checkpoint-interval above 0.")
    stored = read_config(parent)
    if stored["data"]["sha256"] != task.data_sha256:
        raise UserError(f"--continue {parent} had other bars than those of {task.bars.source}; give its own.")
    if stored.get("fold") != json_ready(asdict(task.problem.fold)):
        raise UserError(f"--continue {parent} was trained on another fold of its bars; start a new run with --config.")


def keep_bars(task: Task, directory: Path) -> Task:
    """Write bars that came from memory into the run and return the task that names them."""
    columns = {name: getattr(task.bars, name) for name in ("open", "high", "low", "close", "volume")}
    path = (directory / BARS).resolve()
    write_atomically(path, pd.DataFrame(columns, index=task.bars.timestamps.rename("timestamp")).to_parquet())
    # What the reading of them changed must not be done to them again.
    read: dict[str, Any] = {
        "timeframe": TIMEFRAME_NAMES[task.bars.bar_minutes],
        "asset_class": task.bars.asset_class,
        "extended_hours": True,
        "stamps": "start",
        "start": None,
        "end": None,
    }
    return replace(task, config=replace(task.config, data=path, **read))


def learn(task: Task, directory: Path, reporter: Reporter, should_stop: Callable[[], bool] | None) -> TrainResult:
    """Run the learner, with the logs and the policy file of the best parameters so far."""
    log, watch = MetricsLog(directory), AlarmWatch(read_metrics(directory))

    def keep(records: list[Record]) -> list[Alarm]:
        marked, begun = watch.follow(records)
        log.write(marked)
        return begun

    def on_update(records: list[Record]) -> None:
        begun = keep(records)
        reporter.updated(records)
        reporter.alarmed(begun)

    def on_validation(records: list[Record], best: dict[int, Params], improved: list[bool]) -> None:
        begun = keep(records)
        if any(improved):
            save_best(task, best, directory)
        reporter.validated(records, improved)
        reporter.alarmed(begun)

    try:
        with errors_name_flags(PPOConfig, "ppo.", LearnerError):
            return train(
                task.problem.environment,
                task.problem.data,
                task.learner,
                num_members=task.config.members,
                validation=task.problem.validation,
                directory=directory,
                start_from=start_from(task, directory),
                identity=task.identity,
                on_start=lambda: reporter.started(task, directory),
                on_update=on_update,
                on_validation=on_validation,
                should_stop=should_stop,
            )
    finally:
        log.close()


def start_from(task: Task, directory: Path) -> Path | None:
    """Return the run whose newest checkpoint training goes on from: its own, else the run that is lengthened."""
    parent = task.config.continue_from
    if task.config.resume is not None and (parent is None or last_checkpoint(directory) is not None):
        return directory
    return parent


def save_best(task: Task, members: dict[int, Params], directory: Path) -> None:
    """Write ``best/policy.safetensors``, the ensemble, and of several members one file of the same format each."""
    (directory / BEST).mkdir(exist_ok=True)
    save_policy(make_policy(task, members), directory / BEST / FILE_NAME)
    alone = {f"member_{seed}.safetensors": seed for seed in members} if len(task.seeds) > 1 else {}
    for name, seed in alone.items():
        save_policy(make_policy(task, {seed: members[seed]}), directory / BEST / name)
    for stale in set(directory.glob(f"{BEST}/member_*")) - {directory / BEST / name for name in alone}:
        stale.unlink()  # Of a member that diverged since.


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
