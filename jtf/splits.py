"""Segments and folds: which bars are learnt from, which choose the checkpoint, which are read once. No JAX."""

from dataclasses import dataclass

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
    if not (config.train > 0 and config.validation > 0 and config.train + config.validation < 1):
        raise UserError(
            f"--split.train {config.train:g} and --split.validation {config.validation:g} must be positive and "
            "leave a share for test (sum below 1)."
        )
    embargo = embargo_bars(window, bar_minutes) if config.embargo is None else config.embargo
    if embargo < 0:
        raise UserError(f"--split.embargo {embargo} must be at least 0.")
    usable = num_bars - first_bar - 2 * embargo
    train = int(usable * config.train)
    validation = int(usable * config.validation)
    test = usable - train - validation
    if min(train, validation, test) < 2:
        needed = first_bar + 2 * embargo + int(2 / min(config.train, config.validation)) + 2
        raise UserError(
            f"{num_bars} bars are too few for train, validation and test: at least {needed} are needed "
            f"({first_bar} of warm-up and window, 2 x {embargo} of embargo); give a longer history."
        )
    validation_start = first_bar + train + embargo
    test_start = validation_start + validation + embargo
    return Fold(
        train=(Segment(first_bar, first_bar + train),),
        validation=Segment(validation_start, validation_start + validation),
        test=Segment(test_start, num_bars),
    )
