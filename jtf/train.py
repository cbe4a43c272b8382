"""``python -m jtf.train``: train one policy for one symbol; validate, backtest and save it."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from jtf.config import RunConfig, config_to_dict, parse_config
from jtf.console import Progress, Terminal, print_result, print_settings
from jtf.data.synthetic import synthetic_market
from jtf.errors import EXIT_INTERRUPTED, UserError, run_command
from jtf.flags import errors_name_flags
from jtf.models.policy import Policy
from jtf.models.policy_file import FILE_NAME, params_sha256, save_policy
from jtf.problem import Task, device_name, notes, prepare
from jtf.results.metrics import Metrics
from jtf.results.provenance import seen_spans
from jtf.results.results import MemberResult, RunResult, measure, write_results
from jtf.results.run_directory import (
    BEST,
    CONFIG,
    SUMMARY,
    MetricsLog,
    create_run,
    git_revision,
    last_checkpoint,
    library_versions,
    read_config,
    read_summary,
    write_json,
)
from jtf.results.verdict import judge
from jtf_env.layouts import Layout
from jtf_ppo import PPOConfig
from jtf_ppo import train as train_policy
from jtf_ppo.errors import LearnerError
from jtf_ppo.rows import partition
from jtf_ppo.types import TrainResult


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(lambda: run(parse_config(argv), Terminal()))


def run(config: RunConfig, console: Console) -> int:
    """Train as configured; the run directory holds the result. Return the exit code."""
    started = time.time()
    if config.resume is not None:
        refuse_finished(config.resume)
    task = prepare(config)
    if config.resume is None:
        directory = create_run(config.out, config.symbol)
        write_json(directory / CONFIG, describe(task))
    else:
        directory = config.resume
        refuse_other_bars(task, directory)
    announce(console, task, directory)
    log = MetricsLog(directory)
    with StopRequest() as stop:
        try:
            result = learn(task, directory, console, log, stop)
        except BaseException as error:
            if config.resume is None or log.started:
                record_failure(task, directory, started, error)
            raise
        finally:
            log.close()
    if result.stopped == "interrupted":
        summary = base_summary(task, directory, started, "interrupted")
        write_json(directory / SUMMARY, summary | learner_summary(result, started))
        say_interrupted(console, directory)
        return EXIT_INTERRUPTED
    finish(task, result, directory, started, console)
    return 0


def refuse_finished(directory: Path) -> None:
    """Raise `UserError` where nothing is left to resume."""
    if (directory / SUMMARY).is_file() and read_summary(directory)["status"] == "finished":
        raise UserError(f"--resume {directory} has finished; read its {SUMMARY}, or start a new run.")


def refuse_other_bars(task: Task, directory: Path) -> None:
    """Raise `UserError` where a run would be resumed on bars it was not started on."""
    if read_config(directory)["data"]["sha256"] != task.data_sha256:
        raise UserError(
            f"--resume {directory} was started on other data than the bars of {task.bars.source}; resume it with its "
            "own bars, or start a new run."
        )


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a stop with a checkpoint after this update; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.requested

    def _handle(self, signum: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def announce(console: Console, task: Task, directory: Path) -> None:
    """Print what will be trained on what, and every size that was chosen."""
    config, learner, bars = task.config, task.learner, task.bars
    if task.synthetic:
        console.print("SYNTHETIC bars: the built-in market, not real prices (--data reads real ones)", style="bold red")
    print_settings(
        console,
        f"jtf train {config.symbol}",
        [
            ("bars", f"{len(bars):,} from {bars.timestamps[0]:%Y-%m-%d} to {bars.timestamps[-1]:%Y-%m-%d}"),
            ("split", ", ".join(f"{name} {len(part):,}" for name, part in task.segments.items())),
            ("layout", f"{task.layout.name}: {task.layout.count} columns x {config.window} bars"),
            ("costs", f"fee {task.params.fee:g}, slippage {task.params.slippage:g} a side"),
            ("device", device_name()),
            ("engine", engine(learner)),
            ("network", " x ".join(str(width) for width in learner.hidden_sizes or ())),
            ("steps", f"{learner.total_steps:,} in {learner.total_updates} updates"),
            ("rollout", f"{learner.num_envs:,} environments x {learner.num_steps} steps"),
            ("minibatch", f"{minibatch(task)}, {learner.update_epochs} epochs"),
            ("validation", every(learner.validation_interval)),
            ("checkpoint", every(learner.checkpoint_interval)),
            ("seed", learner.seed),
            ("run", directory),
        ],
    )  # fmt: skip
    for note in notes(task):
        console.print(f"  note: {note}", highlight=False, soft_wrap=True)


def engine(learner: PPOConfig) -> str:
    """Return the engine, and how its first layer is computed; that of samples gathers windows."""
    first_layer = f"first layer {learner.first_layer}, " if learner.engine == "rows" else ""
    return f"{learner.engine} ({first_layer}{learner.precision})"


def minibatch(task: Task) -> str:
    """Return what an optimiser step sees: samples, or the whole blocks of bars that come nearest to the setting."""
    size = task.learner.minibatch_size or 0
    if task.learner.engine == "samples":
        return f"{size:,} samples"
    length, _, blocks = partition(len(task.segments["train"]), task.config.window, size)
    return f"{blocks * length:,} bars ({blocks} x {length})"


def every(interval: int | None) -> str:
    """Return how often something done every `interval` updates happens, in words."""
    if not interval:
        return "never"
    return "every update" if interval == 1 else f"every {interval} updates"


def learn(task: Task, directory: Path, console: Console, log: MetricsLog, stop: Callable[[], bool]) -> TrainResult:
    """Run the learner, with the live line, the logs and the policy file of the best parameters."""
    heading = f"{task.config.mode} {device_name().split()[0]} {task.learner.engine}"
    with Progress(console, heading, task.learner.total_updates) as progress:

        def on_update(metrics: dict[str, float]) -> None:
            log.write(metrics)
            progress.update(metrics)

        def on_validation(metrics: dict[str, float], params: dict[str, Any], is_best: bool) -> None:
            log.write(metrics)
            progress.validated(metrics, is_best)
            if is_best:
                save_best(task, params, directory)

        with errors_name_flags(PPOConfig, "ppo.", LearnerError):
            return train_policy(
                task.environment,
                task.training_data,
                task.learner,
                validation=task.validation,
                directory=directory,
                resume=task.config.resume is not None,
                identity=task.identity,
                on_update=on_update,
                on_validation=on_validation,
                should_stop=stop,
            )


def make_policy(task: Task, params: dict[str, Any]) -> Policy:
    """Return the policy with these parameters, as it is saved and backtested."""
    return Policy(
        params=params,
        scaler=task.scaler,
        symbol=task.config.symbol,
        layout=task.layout,
        window=task.config.window,
        env_params=task.params,
        bars_per_year=task.bars.bars_per_year,
        bar_minutes=task.bars.bar_minutes,
        data_kind="synthetic" if task.synthetic else "file",
    )


def save_best(task: Task, params: dict[str, Any], directory: Path) -> Policy:
    """Write ``best/policy.safetensors`` and return the policy."""
    policy = make_policy(task, params)
    (directory / BEST).mkdir(exist_ok=True)
    save_policy(policy, directory / BEST / FILE_NAME)
    return policy


def finish(task: Task, trained: TrainResult, directory: Path, started: float, console: Console) -> None:
    """Measure the best parameters on every segment, judge, write the results and print them."""
    policy = save_best(task, trained.best_params, directory)
    spans = seen_spans(task.segments, task.bars.timestamps)
    measured = measure(policy, task.bars, policy.market(task.bars), task.segments, spans)
    result = RunResult.from_measured(
        measured,
        notes=notes(task),
        symbol=task.config.symbol,
        members=(MemberResult(task.learner.seed, policy.sha256, trained.best_update, measured.metrics),),
        verdict=judge(measured.metrics, measured.baselines["test"], task.synthetic),
        optimum=known_optimum(task, measured.metrics),
        summary=base_summary(task, directory, started, "finished") | learner_summary(trained, started),
    )
    result = write_results(directory, result)
    say_finished(console, task, result, measured.notes)


def known_optimum(task: Task, metrics: dict[str, Metrics]) -> dict[str, dict[str, float | None]] | None:
    """Return, for the built-in market, the net log return of the best possible trader and the policy's share of it."""
    if not task.synthetic:
        return None
    market = synthetic_market(task.config.symbol, asset_class=task.config.asset_class)
    shares: dict[str, dict[str, float | None]] = {}
    for name, segment in task.segments.items():
        best = market.optimum_return(task.params, segment)
        growth = math.log(max(1.0 + metrics[name].total_return, 1e-6))
        shares[name] = {"log_return": best, "share": growth / best if best > 0 else None}
    return shares


def describe(task: Task) -> dict[str, Any]:
    """Return the content of ``config.json``: every resolved setting, the data, versions, device, revision."""
    return {
        "config": config_to_dict(task.config),
        "env_params": asdict(task.params),
        "layout": layout_record(task.layout, task.config.window),
        "data": data_record(task),
        "segments": {name: asdict(part) for name, part in task.segments.items()},
        "spans": seen_spans(task.segments, task.bars.timestamps),
        "versions": library_versions(),
        "device": device_name(),
        "git_revision": git_revision(),
    }


def layout_record(layout: Layout, window: int) -> dict[str, Any]:
    """Return what identifies a layout."""
    return {"name": layout.name, "hash": layout.hash(window), "obs_dim": layout.obs_dim(window)}


def data_record(task: Task) -> dict[str, Any]:
    """Return what identifies the bars, and what was noticed in them."""
    bars = task.bars
    return {
        "kind": "synthetic" if task.synthetic else "file",
        "source": bars.source,
        "bars": len(bars),
        "start": bars.timestamps[0].isoformat(),
        "end": bars.timestamps[-1].isoformat(),
        "sha256": task.data_sha256,
        "bars_per_year": bars.bars_per_year,
        "report": asdict(bars.report),
    }


def base_summary(task: Task, directory: Path, started: float, status: str) -> dict[str, Any]:
    """Return what is known of a run whatever became of it."""
    checkpoint = last_checkpoint(directory)
    return {
        "status": status,
        "symbol": task.config.symbol,
        "layout": task.layout.name,
        "mode": task.config.mode,
        "engine": task.learner.engine,
        "seed": task.learner.seed,
        "device": device_name(),
        "data": data_record(task),
        "notes": notes(task),
        "last_checkpoint": None if checkpoint is None else str(checkpoint),
        "perf": {"steps_per_second": None, "compile_seconds": None, "wall_seconds": time.time() - started},
        "metrics": None,
        "baselines": None,
        "verdict": None,
    }


def learner_summary(result: TrainResult, started: float) -> dict[str, Any]:
    """Return what the learner reports of a run that was not broken off."""
    return {
        "perf": {
            "steps_per_second": result.metrics.get("perf/steps_per_second"),
            "compile_seconds": result.compile_seconds,
            "wall_seconds": time.time() - started,
        },
        "stopped": result.stopped,
        "updates": result.updates,
        "steps": result.steps,
        "best_update": result.best_update,
        "skipped_updates": result.skipped_updates,
        "params_sha256": params_sha256(result.params),
        "best_params_sha256": params_sha256(result.best_params),
        "last_training_metrics": result.metrics,
        "best_validation": result.validation,
    }


def record_failure(task: Task, directory: Path, started: float, error: BaseException) -> None:
    """Leave a summary of a run that was broken off, if the disk still takes one."""
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    summary = base_summary(task, directory, started, status) | {"reason": str(error) or status}
    try:
        write_json(directory / SUMMARY, summary)
    except OSError as full:
        print(f"the summary could not be written either: {full.strerror}", file=sys.stderr)


def say_interrupted(console: Console, directory: Path) -> None:
    """Print where an interrupted run stands and how to go on."""
    checkpoint = last_checkpoint(directory)
    console.print(f"interrupted; last checkpoint: {checkpoint or 'none'}", soft_wrap=True, style="bold")
    if checkpoint is not None:
        console.print(f"continue: python -m jtf.train --resume {directory}", soft_wrap=True, highlight=False)


def say_finished(console: Console, task: Task, result: RunResult, ends: Sequence[str]) -> None:
    """Print the result, the verdict, where everything lies and what to type next; `ends` are notes on the passes."""
    kind = " on SYNTHETIC bars" if task.synthetic else ""
    print_result(console, result, f"{result.symbol}{kind}: best policy after costs", ends)
    console.print(f"run: {result.directory}", soft_wrap=True, highlight=False)
    console.print(f"next: python -m jtf.backtest --run {result.directory}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
