"""Who is told of a training while it runs: a person at a terminal, or nobody."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console

from jtf.console import LiveLine, print_alarms, print_settings
from jtf.data.check import TIMEFRAME_NAMES
from jtf.results.health import Alarm
from jtf.results.run_directory import last_checkpoint
from jtf.task import Task, cost_warmup, device_name, notes
from jtf_env.assets import describe_asset
from jtf_ppo.blocks import partition
from jtf_ppo.config import PPOConfig
from jtf_ppo.types import Metrics


class Reporter(Protocol):
    """What is told of a training while it runs."""

    def started(self, task: Task, directory: Path) -> None:
        """Called once, before the program is compiled."""

    def updated(self, records: list[Metrics]) -> None:
        """Called after every update with one record a member that took it."""

    def validated(self, records: list[Metrics], improved: list[bool]) -> None:
        """Called after every validation; `improved` says which record is its member's best."""

    def alarmed(self, alarms: Sequence[Alarm]) -> None:
        """Called with the alarms that begin, once each."""

    def finished(self) -> None:
        """Called when the training has ended, however it ended."""


class Silent:
    """A reporter that says nothing."""

    def started(self, task: Task, directory: Path) -> None:
        """Say nothing."""

    def updated(self, records: list[Metrics]) -> None:
        """Say nothing."""

    def validated(self, records: list[Metrics], improved: list[bool]) -> None:
        """Say nothing."""

    def alarmed(self, alarms: Sequence[Alarm]) -> None:
        """Say nothing."""

    def finished(self) -> None:
        """Say nothing."""


class ConsoleReporter:
    """Prints the settings at the start, and a live line, or a plain one a validation, while training runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line: LiveLine | None = None

    def started(self, task: Task, directory: Path) -> None:
        """Print what will be trained on what, and every size that was chosen; show that the compiler is at work."""
        announce(self._console, task, directory)
        heading = f"{task.config.mode} {device_name().split()[0]} {task.learner.engine}"
        self._line = LiveLine(self._console, heading, task.learner.total_updates)
        self._line.start()

    def updated(self, records: list[Metrics]) -> None:
        """Show one update."""
        assert self._line is not None
        self._line.update(records)

    def validated(self, records: list[Metrics], improved: list[bool]) -> None:
        """Show one validation and keep a line of it."""
        assert self._line is not None
        self._line.validated(records, improved)

    def alarmed(self, alarms: Sequence[Alarm]) -> None:
        """Print what goes wrong, and leave it on the screen."""
        print_alarms(self._console, alarms)

    def finished(self) -> None:
        """Remove the live line."""
        if self._line is not None:
            self._line.stop()


def announce(console: Console, task: Task, directory: Path) -> None:
    """Print what will be trained on what, and every size that was chosen."""
    config, learner, bars = task.config, task.learner, task.bars
    span = " to ".join(f"{bars.timestamps[row]:%Y-%m-%d}" for row in (0, -1))
    earlier = config.resume or config.continue_from
    source = last_checkpoint(earlier) if earlier else None
    if task.synthetic:
        console.print("SYNTHETIC bars: the built-in market, not real prices (--data reads real ones)", style="bold red")
    print_settings(
        console,
        f"jtf train {config.symbol}",
        [
            ("bars", f"{len(bars):,} of {TIMEFRAME_NAMES[bars.bar_minutes]} from {span}"),
            ("asset", describe_asset(bars.asset_class)),
            ("split", ", ".join(f"{name} {len(part):,}" for name, part in task.segments.items())),
            ("layout", f"{task.layout.name}: {task.layout.count} columns x {config.window} bars"),
            ("costs", costs(task)),
            ("device", device_name()),
            ("engine", engine(learner)),
            ("network", " x ".join(str(width) for width in learner.hidden_sizes or ())),
            ("steps", f"{learner.total_steps:,} in {learner.total_updates} updates"),
            ("rollout", f"{learner.num_envs:,} environments x {learner.num_steps} steps"),
            ("minibatch", f"{minibatch(task)}, {learner.update_epochs} epochs"),
            ("validation", every(learner.validation_interval)),
            ("checkpoint", every(learner.checkpoint_interval)),
            ("seed" if config.members == 1 else "seeds", ", ".join(map(str, task.seeds))),
            ("run", directory),
            *([("goes on from", source)] if source else []),
        ],
    )  # fmt: skip
    for note in notes(task):
        console.print(f"  note: {note}", highlight=False, soft_wrap=True)


def costs(task: Task) -> str:
    """Return the costs, and over which part of the training they rise."""
    rising = cost_warmup(task.config)
    warmup = f"; in training rising from 0 over the first {rising:.0%} of it" if rising else ""
    return f"fee {task.params.fee:g}, slippage {task.params.slippage:g} a side{warmup}"


def engine(learner: PPOConfig) -> str:
    """Return the engine, and how its first layer is computed."""
    return f"{learner.engine} (first layer {learner.first_layer}, {learner.precision})"


def minibatch(task: Task) -> str:
    """Return what an optimiser step sees: samples, or the whole blocks of rows that come nearest to the setting."""
    if task.learner.engine == "samples":
        return f"{task.learner.minibatch_size:,} samples"
    market = task.problem.data[0]
    cut = partition(market.num_bars - market.first_bar, task.config.window, task.learner)
    return f"{cut.size * cut.length:,} bars ({cut.size} x {cut.length})"


def every(interval: int | None) -> str:
    """Return how often something done every `interval` updates happens, in words."""
    if not interval:
        return "never"
    return "every update" if interval == 1 else f"every {interval} updates"
