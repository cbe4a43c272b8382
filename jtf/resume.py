"""Which run a training goes on from, and where it must not: another fold, other bars, an edited configuration."""

from dataclasses import asdict
from pathlib import Path

from jtf.errors import UserError
from jtf.results.run_directory import (
    CONFIG,
    SUMMARY,
    how_to_finish,
    is_cell,
    json_ready,
    last_checkpoint,
    read_config,
    read_summary,
)
from jtf.task import (
    Task,
    config_sha256,
)


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


def start_from(task: Task, directory: Path) -> Path | None:
    """Return the run whose newest checkpoint training goes on from: its own, else the run that is lengthened."""
    parent = task.config.continue_from
    if task.config.resume is not None and (parent is None or last_checkpoint(directory) is not None):
        return directory
    return parent
