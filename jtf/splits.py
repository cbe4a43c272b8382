"""Segments and folds: which bars are learnt from, which choose the checkpoint, which are read once. No JAX."""

from dataclasses import dataclass
from typing import Literal

from jtf.errors import UserError
from jtf_env.constants import RISING_HOURS, TREND_HOURS

HOURLY_LOOKBACK = max(TREND_HOURS, RISING_HOURS)
"""Hours: the longest lookback of the hourly context."""


@dataclass(frozen=True)
class SplitConfig:
    """Shares of the usable bars, in order of time; the rest is test."""

    train: float = 0.70
    """Share of the bars the policy is trained on; the scaler is fitted on these only."""
    validation: float = 0.15
    """Share of the bars that choose the best checkpoint."""
    embargo: int | None = None
    """Bars left out before validation and before test. Default: the window and 4 hours."""


@dataclass(frozen=True)
class Segment:
    """Bars ``start <= i < stop``: decisions at ``start .. stop - 2``, the last one marked at ``stop - 1``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Fold:
    """One way to use the bars of a symbol; training bars may lie on both sides of what is held out."""

    train: tuple[Segment, ...]
    """Stretches in order of time; the scaler is fitted on these bars only."""
    validation: Segment
    test: Segment

    @property
    def train_bars(self) -> int:
        """Bars the policy learns from."""
        return sum(len(stretch) for stretch in self.train)

    @property
    def segments(self) -> dict[str, Segment]:
        """``{train, validation, test}``, a pass each; of several training stretches the longest."""
        return {"train": max(self.train, key=len), "validation": self.validation, "test": self.test}


def embargo_bars(window: int, bar_minutes: int = 15) -> int:
    """Return the bars left out between two segments: the window and the longest lookback of the hourly context."""
    return window + HOURLY_LOOKBACK * 60 // bar_minutes


def split(num_bars: int, first_bar: int, window: int, config: SplitConfig, bar_minutes: int = 15) -> Fold:
    """Return the fold train, validation, test of bars ``first_bar .. num_bars - 1``.

    Between two segments lie `embargo` bars that belong to neither, so that no window of a later segment
    holds a bar of an earlier one. Raises `UserError` where a segment would hold fewer than two bars.
    """
    embargo = embargo_of(config, window, bar_minutes)
    usable = num_bars - first_bar - 2 * embargo
    train, validation = int(usable * config.train), int(usable * config.validation)
    if min(train, validation, usable - train - validation) < 2:
        needed = first_bar + 2 * embargo + int(2 / min(config.train, config.validation)) + 2
        raise UserError(
            f"{num_bars} bars are too few for train, validation and test: at least {needed} are needed "
            f"({first_bar} of warm-up and window, 2 x {embargo} of embargo); give a longer history."
        )
    return _fold(first_bar, train, validation, num_bars, embargo)


def walk_forward(
    num_bars: int,
    first_bar: int,
    window: int,
    config: SplitConfig,
    count: int,
    scheme: Literal["rolling", "expanding"] = "rolling",
    bar_minutes: int = 15,
) -> tuple[Fold, ...]:
    """Return `count` folds whose test segments lie end to end, the last one at the end of the bars.

    A rolling fold holds train, validation and test in the shares of `config`, and each begins a test segment later than
    the one before. An expanding fold has the same validation and test, and trains on all bars before them. Segments of
    a fold are apart by the embargo, as in `split`. Raises `UserError` where a segment would hold fewer than two bars.
    """
    if count < 2:
        raise UserError(f"--folds {count} must be at least 2; one fold is what python -m jtf.train does.")
    embargo = embargo_of(config, window, bar_minutes)
    usable = num_bars - first_bar - 2 * embargo
    share = 1.0 - config.train - config.validation
    length = usable / (1.0 + (count - 1) * share)
    train, validation, test = int(length * config.train), int(length * config.validation), int(length * share)
    if min(train, validation, test) < 2:
        shortest = int(2 / min(config.train, config.validation, share)) + 1
        needed = first_bar + 2 * embargo + int(shortest * (1.0 + (count - 1) * share)) + 1
        raise UserError(
            f"{num_bars} bars are too few for {count} folds: at least {needed} are needed ({first_bar} of warm-up and "
            f"window, 2 x {embargo} of embargo); give a longer history or ask for fewer --folds."
        )
    stops = [num_bars - (count - 1 - index) * test for index in range(count)]
    begins = [stop - test - validation - train - 2 * embargo for stop in stops]
    rolling = scheme == "rolling"
    return tuple(
        _fold(
            begin if rolling else first_bar, train if rolling else begin + train - first_bar, validation, stop, embargo
        )
        for begin, stop in zip(begins, stops, strict=True)
    )


def embargo_of(config: SplitConfig, window: int, bar_minutes: int) -> int:
    """Return the bars between two segments; raise `UserError` for shares or an embargo that cannot be."""
    if not (config.train > 0 and config.validation > 0 and config.train + config.validation < 1):
        raise UserError(
            f"--split.train {config.train:g} and --split.validation {config.validation:g} must be positive and "
            "leave a share for test (sum below 1)."
        )
    embargo = embargo_bars(window, bar_minutes) if config.embargo is None else config.embargo
    if embargo < 0:
        raise UserError(f"--split.embargo {embargo} must be at least 0.")
    return embargo


def _fold(begin: int, train: int, validation: int, stop: int, embargo: int) -> Fold:
    """Return the fold with `train` bars from `begin`, then `validation` bars, then test up to `stop`."""
    held_out = begin + train + embargo
    return Fold(
        train=(Segment(begin, begin + train),),
        validation=Segment(held_out, held_out + validation),
        test=Segment(held_out + validation + embargo, stop),
    )
