"""Train a task and measure what came of it: the way in from Python, and what ``jtf.train`` calls."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from jtf.conclude import base_summary, conclude, learner_summary, record_failure, save_best
from jtf.config import MODE_STEPS, EnvConfig, LearnerConfig, RewardConfig, RunConfig, check_run_config
from jtf.data import load_bars
from jtf.data.check import TIMEFRAME_NAMES
from jtf.errors import UserError
from jtf.flags import errors_name_flags
from jtf.models.policy import Params
from jtf.report import write_report
from jtf.reporter import Reporter, Silent
from jtf.results.health import Alarm, AlarmWatch
from jtf.results.results import RunResult
from jtf.results.run_directory import (
    CONFIG,
    SUMMARY,
    MetricsLog,
    create_run,
    read_metrics,
    run_lock,
    write_atomically,
    write_json,
)
from jtf.resume import refuse_continue, refuse_resume, start_from
from jtf.splits import SplitConfig
from jtf.task import (
    Task,
    bars_settings,
    config_record,
    prepare,
)
from jtf_env.bars import Bars
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
