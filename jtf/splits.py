"""Segments and folds: which bars are learnt from, which choose the checkpoint, which are read once. No JAX."""

import itertools
import math
from collections.abc import Iterable
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
    further_tests: tuple[Segment, ...] = ()
    """More test segments, each a pass of its own."""

    @property
    def train_bars(self) -> int:
        """Bars the policy learns from."""
        return sum(len(stretch) for stretch in self.train)

    @property
    def learns_after_test(self) -> bool:
        """Whether bars after the first tested ones are trained or selected on, as in cross-validation."""
        return any(part.start > self.test.start for part in (*self.train, self.validation))

    @property
    def segments(self) -> dict[str, Segment]:
        """``{train, validation, test}``, then ``test_2`` and so on, a pass each; of training stretches the longest."""
        named = {"train": max(self.train, key=len), "validation": self.validation, "test": self.test}
        return named | {f"test_{index}": test for index, test in enumerate(self.further_tests, start=2)}


def judged_segment(names: Iterable[str]) -> str:
    """Return the segment whose numbers stand for a result: test, and of a backtest of other bars the last one."""
    names = list(names)
    return "test" if "test" in names else names[-1]


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


@dataclass(frozen=True)
class Combination:
    """One way to hold some groups of bars out and learn from the others."""

    train: tuple[Segment, ...]
    validation: Segment
    """The last bars of the longest training stretch."""
    tests: dict[int, Segment]
    """Group -> its bars, each a pass of its own."""

    @property
    def fold(self) -> Fold:
        """The fold that tests every group held out, in order of time."""
        first, *others = self.tests.values()
        return Fold(self.train, self.validation, first, tuple(others))

    def segment_of(self, group: int) -> str:
        """Return the name of the segment of `fold` that holds the bars of `group`."""
        return [name for name in self.fold.segments if name.startswith("test")][list(self.tests).index(group)]


def combinatorial(
    num_bars: int,
    first_bar: int,
    window: int,
    config: SplitConfig,
    groups: int = 6,
    tested: int = 2,
    bar_minutes: int = 15,
) -> tuple[Combination, ...]:
    """Return the combinations of combinatorial purged cross-validation (Lopez de Prado 2018, chapter 12).

    The bars are cut into equal groups; the last one also holds the remainder. Every choice of `tested` groups is held
    out once; the rest, but for an embargo on either side of what is held out, is learnt from. Validation takes its
    share in `config` of train and validation together, from the end of the longest training stretch. Raises `UserError`
    where a group is too short.
    """
    if not 1 <= tested < groups:
        raise UserError(
            f"--tested {tested} of --folds {groups} groups cannot be; test at least 1 and fewer than all of them."
        )
    embargo = embargo_of(config, window, bar_minutes)
    share = config.validation / (config.train + config.validation)
    needed = first_bar + groups * _shortest_group(groups, tested, embargo, share)
    if num_bars < needed:
        raise UserError(
            f"{num_bars} bars are too few for {groups} groups: at least {needed} are needed ({first_bar} of warm-up "
            f"and window, {embargo} of embargo); give a longer history or ask for fewer --folds."
        )
    size = (num_bars - first_bar) // groups
    bounds = [*(first_bar + group * size for group in range(groups)), num_bars]
    return tuple(
        _combination(bounds, held_out, embargo, share) for held_out in itertools.combinations(range(groups), tested)
    )


def _shortest_group(groups: int, tested: int, embargo: int, share: float) -> int:
    """Return how many bars a group needs, so that every stretch and the validation hold two bars in any combination."""
    learnt = groups - tested
    left = math.ceil(learnt / (tested + 1)) - share * learnt
    if left <= 0:
        raise UserError(
            f"a validation share of {share:.0%} of the training bars does not fit into one stretch of {groups} groups "
            f"with {tested} tested; lower --split.validation or test fewer groups."
        )
    apart = 2 * embargo + 2
    holds_validation = (3 * embargo + 2 + groups) / left  # The last group may be longer by its remainder.
    is_validation = (2 / share + 2 * embargo * tested) / learnt
    return math.ceil(max(apart, holds_validation, is_validation)) + 1


def combined_paths(groups: int, tested: int) -> tuple[tuple[int, ...], ...]:
    """Return the whole out-of-sample paths of `combinatorial`: for every group the index of the combination it is from.

    Path `p` takes each group from the `p`-th combination that tests it.
    """
    held_out = list(itertools.combinations(range(groups), tested))
    testing = [[index for index, chosen in enumerate(held_out) if group in chosen] for group in range(groups)]
    return tuple(zip(*testing, strict=True))


def _combination(bounds: list[int], held_out: tuple[int, ...], embargo: int, share: float) -> Combination:
    tests = {group: Segment(bounds[group], bounds[group + 1]) for group in held_out}
    stretches, start = [], bounds[0]
    for test in (*tests.values(), Segment(bounds[-1] + embargo, bounds[-1] + embargo)):
        if test.start - embargo > start:
            stretches.append(Segment(start, test.start - embargo))
        start = test.stop + embargo
    longest = max(range(len(stretches)), key=lambda index: (len(stretches[index]), index))
    begin, stop = stretches[longest].start, stretches[longest].stop
    validation = Segment(stop - int(share * sum(map(len, stretches))), stop)
    stretches[longest] = Segment(begin, validation.start - embargo)
    return Combination(tuple(stretches), validation, tests)
