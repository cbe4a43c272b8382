"""How much of a result may be luck: Sharpe ratios as estimates, the best of many trials, intervals. No JAX.

Sharpe ratios here are per return, not annualised; ``[...]`` arguments broadcast. Returns are simple returns of equal
spacing. The formulas hold for independent returns.

The formulas of the probabilistic and the deflated Sharpe ratio were read in secondary sources (Lopez de Prado 2018,
14.7.2, and others), and tests hold them equal to skfolio's. The papers themselves could not be had: their worked
examples in the tests are from memory.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from jtf.errors import UserError
from jtf.results.metrics import returns_sharpe, sharpe_or_zero

LUCK_CONFIDENCE = 0.90
"""Of the intervals in `SharpeLuck`."""


@dataclass(frozen=True)
class SharpeEstimate:
    """A Sharpe ratio and what its standard error needs."""

    sharpe: float
    """Mean over standard deviation (ddof 1) of the returns."""
    count: int
    """Returns it was estimated from."""
    skewness: float
    """Third standardised moment."""
    kurtosis: float
    """Fourth standardised moment; 3 for normal returns."""


def estimate_sharpe(returns: np.ndarray) -> SharpeEstimate | None:
    """Return the Sharpe ratio of ``returns [T]`` and their higher moments; None for fewer than two or no variance."""
    sharpe = returns_sharpe(returns)
    if sharpe is None:
        return None
    centred = returns - returns.mean()
    deviation = centred.std()
    return SharpeEstimate(
        sharpe=sharpe,
        count=len(returns),
        skewness=float((centred**3).mean() / deviation**3),
        kurtosis=float((centred**4).mean() / deviation**4),
    )


def sharpe_variance(
    sharpe: np.ndarray | float, skewness: np.ndarray | float, kurtosis: np.ndarray | float
) -> np.ndarray:
    """Return ``1 - skewness * SR + (kurtosis - 1) / 4 * SR^2``: T - 1 times the variance of an estimate SR.

    Bailey and Lopez de Prado 2012, "The Sharpe ratio efficient frontier".
    """
    return 1.0 - np.multiply(skewness, sharpe) + (np.asarray(kurtosis) - 1.0) / 4.0 * np.square(sharpe)


def probabilistic_sharpe(
    sharpe: np.ndarray | float,
    benchmark: np.ndarray | float,
    count: np.ndarray | int,
    skewness: np.ndarray | float = 0.0,
    kurtosis: np.ndarray | float = 3.0,
) -> np.ndarray:
    """Return ``[...]`` the probability that the true Sharpe ratio is above `benchmark`.

    ``Phi((SR - SR*) sqrt(T - 1) / sqrt(1 - skewness SR + (kurtosis - 1) / 4 SR^2))``: Bailey and Lopez de Prado 2012.
    """
    from scipy.special import ndtr  # Here and below: whoever only reads a result need not wait for scipy.

    error = np.sqrt(sharpe_variance(sharpe, skewness, kurtosis) / (np.asarray(count) - 1.0))
    return ndtr((np.asarray(sharpe) - benchmark) / error)


def minimum_track_record(
    sharpe: float, benchmark: float = 0.0, skewness: float = 0.0, kurtosis: float = 3.0, confidence: float = 0.95
) -> float | None:
    """Return how many returns it takes to say with `confidence` that the true Sharpe ratio is above `benchmark`.

    Bailey and Lopez de Prado 2012. None where `sharpe` is not above `benchmark`: no number is enough.
    """
    from scipy.special import ndtri

    if sharpe <= benchmark:
        return None
    variance = float(sharpe_variance(sharpe, skewness, kurtosis))
    return 1.0 + variance * (float(ndtri(confidence)) / (sharpe - benchmark)) ** 2


def expected_maximum_sharpe(deviation: np.ndarray | float, num_trials: int) -> np.ndarray:
    """Return ``[...]`` the Sharpe ratio expected of the best of `num_trials` independent trials without skill.

    `deviation` is the standard deviation of the trials' Sharpe ratios. Bailey and Lopez de Prado 2014, "The deflated
    Sharpe ratio"; 0 for a single trial.
    """
    from scipy.special import ndtri

    if num_trials < 2:
        return np.zeros_like(deviation, dtype=np.float64)
    ordinary, extreme = ndtri(1.0 - 1.0 / num_trials), ndtri(1.0 - 1.0 / (num_trials * math.e))
    return np.asarray(deviation) * ((1.0 - np.euler_gamma) * ordinary + np.euler_gamma * extreme)


def deflated_sharpe(
    sharpe: np.ndarray | float,
    deviation: np.ndarray | float,
    num_trials: int,
    count: np.ndarray | int,
    skewness: np.ndarray | float = 0.0,
    kurtosis: np.ndarray | float = 3.0,
) -> np.ndarray:
    """Return ``[...]`` the probability that the best of `num_trials` is above `expected_maximum_sharpe`.

    `deviation` is that of the trials' Sharpe ratios, in the unit of `sharpe`. Bailey and Lopez de Prado 2014.
    With one trial it is the probabilistic Sharpe ratio against 0. With more it is conservative: the best of lucky
    trials varies less than a single one, so that fewer than 5 % of them reach 0.95.
    """
    benchmark = expected_maximum_sharpe(deviation, num_trials)
    return probabilistic_sharpe(sharpe, benchmark, count, skewness, kurtosis)


@dataclass(frozen=True)
class SharpeLuck:
    """How much of the annualised Sharpe ratio of a backtest may be luck, from its returns a bar."""

    probabilistic_sharpe: float | None
    """Probability that the true Sharpe ratio is above 0."""
    deflated_sharpe: float | None
    """Probability that it is above what the luckiest of the trials is expected to show."""
    num_trials: int
    """Runs whose test segment was looked at, this one included."""
    expected_maximum: float
    """Annualised Sharpe ratio that the luckiest of them is expected to show."""
    minimum_track_record: float | None
    """Bars it takes to say with 95 % confidence that the true one is above 0; None where the estimate is not."""
    sharpe_interval: "Interval | None" = None
    """90 % interval of the annualised Sharpe ratio by the stationary bootstrap."""
    total_return_interval: "Interval | None" = None
    """The same of the total return (fraction), from the same draws."""


def read_luck(record: Mapping[str, Any]) -> SharpeLuck:
    """Return the luck that ``summary.json`` holds."""
    names = ("sharpe_interval", "total_return_interval")
    intervals = {name: Interval(**record[name]) for name in names if record.get(name) is not None}
    return SharpeLuck(**{**record, **intervals})


def sharpe_luck(returns: np.ndarray, bars_per_year: float, trials: Sequence[float]) -> SharpeLuck:
    """Return the luck in the Sharpe ratio of ``returns [N]``; `trials` are the annualised ones of all, its own too."""
    deviation = float(np.std(trials, ddof=1)) if len(trials) > 1 else 0.0
    expected = float(expected_maximum_sharpe(deviation, len(trials)))
    found = estimate_sharpe(returns)
    if found is None:
        return SharpeLuck(None, None, len(trials), expected, None)
    shape = (found.count, found.skewness, found.kurtosis)
    per_bar = expected / math.sqrt(bars_per_year)
    values = bootstrap_values(
        returns, lambda drawn: np.array([sharpe_or_zero(returns_sharpe(drawn)), np.prod(1.0 + drawn) - 1.0])
    )
    ratios, growths = (percentile_interval(column, LUCK_CONFIDENCE) for column in values.T)
    year = math.sqrt(bars_per_year)
    return SharpeLuck(
        probabilistic_sharpe=float(probabilistic_sharpe(found.sharpe, 0.0, *shape)),
        deflated_sharpe=float(probabilistic_sharpe(found.sharpe, per_bar, *shape)),
        num_trials=len(trials),
        expected_maximum=expected,
        minimum_track_record=minimum_track_record(found.sharpe, 0.0, found.skewness, found.kurtosis),
        sharpe_interval=Interval(ratios.low * year, ratios.high * year),
        total_return_interval=growths,
    )


@dataclass(frozen=True)
class Overfitting:
    """Combinatorially symmetric cross-validation of the choice of the best of `K` settings."""

    probability: float
    """Share of the combinations in which the setting that was best in sample is no better than the median out of
    sample (PBO)."""
    loss_probability: float
    """Share of the combinations in which it loses money out of sample."""
    logits: np.ndarray
    """``[C]`` logarithm of the odds of its relative rank out of sample; 0 is the median."""


def overfitting(returns: np.ndarray, num_blocks: int = 16) -> Overfitting:
    """Return how often the best of ``K`` settings by in-sample Sharpe ratio fails out of sample; ``returns [T, K]``.

    The rows are cut into `num_blocks` (even) equal blocks in order of time, a remainder at the front left out; every
    half of the blocks is in-sample once. Bailey, Borwein, Lopez de Prado and Zhu 2015, "The probability of backtest
    overfitting". Raises `UserError` for fewer than two settings or rows than two a block.
    """
    rows, settings = returns.shape
    size = rows // num_blocks if num_blocks >= 2 else 0
    if settings < 2 or num_blocks % 2 or size < 2:
        raise UserError(
            f"the probability of overfitting needs at least 2 settings and 2 returns in each of an even number of "
            f"blocks; there are {settings} settings, {rows} returns and {num_blocks} blocks."
        )
    blocks = returns[rows - size * num_blocks :].reshape(num_blocks, size, settings)
    halves = np.array(list(combinations(range(num_blocks), num_blocks // 2)))
    chosen = np.zeros((len(halves), num_blocks))
    np.put_along_axis(chosen, halves, 1.0, axis=1)
    inside, outside = _block_sharpes(blocks, chosen), _block_sharpes(blocks, 1.0 - chosen)
    best = inside.argmax(axis=1)
    found = np.take_along_axis(outside, best[:, None], axis=1)
    # A tie counts half, so that settings without any difference lie at the median.
    rank = (outside < found).sum(axis=1) + ((outside == found).sum(axis=1) + 1) / 2
    share = rank / (settings + 1)
    logits = np.log(share / (1.0 - share))
    return Overfitting(float(np.mean(logits <= 0)), float(np.mean(found < 0)), logits)


def _block_sharpes(blocks: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return ``[C, K]`` Sharpe ratios over the blocks ``[S, n, K]`` that ``chosen [C, S]`` (0 or 1) picks."""
    shift = blocks.mean(axis=(0, 1))  # Sums of squares of centred numbers lose no digits.
    centred = blocks - shift
    count = chosen.sum(axis=1, keepdims=True) * blocks.shape[1]
    mean = chosen @ centred.sum(axis=1) / count
    variance = (chosen @ (centred**2).sum(axis=1) / count - mean**2) * count / (count - 1)
    mean = mean + shift
    return np.divide(mean, np.sqrt(np.maximum(variance, 0.0)), out=np.zeros_like(mean), where=variance > 1e-30)


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def bootstrap_values(
    returns: np.ndarray,
    statistic: Callable[[np.ndarray], float | np.ndarray],
    seed: int = 0,
    draws: int = 1_000,
    block_length: int | None = None,
) -> np.ndarray:
    """Return ``[draws]`` values of ``statistic(returns)`` by the stationary bootstrap (Politis and Romano 1994).

    Where the statistic is several numbers ``[K]``, the values are ``[draws, K]``.

    Parameters
    ----------
    returns: ``[T]``, or ``[T, K]`` whose rows are drawn together (a paired comparison).
    statistic: of returns of the same shape.
    block_length: mean length of a block; None: the optimal one for the mean (Politis and White 2004), of several
        columns the longest.
    """
    # arch imports statsmodels, which takes seconds; only an interval needs them.
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    if block_length is None:
        with np.errstate(invalid="ignore"):  # Returns that never move, e.g. of an account without a trade, have none.
            lengths = optimal_block_length(returns)["stationary"].to_numpy()
        block_length = round(float(np.nanmax(lengths, initial=1.0)))
    bootstrap = StationaryBootstrap(block_length, returns, seed=np.random.default_rng(seed))
    values = bootstrap.apply(lambda drawn: np.asarray(statistic(drawn)), draws)
    return values[:, 0] if values.shape[1] == 1 else values


def percentile_interval(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Return the interval that holds the middle share `confidence` of ``values [draws]``."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Spread:
    """How members or folds differ in one number."""

    count: int
    median: float
    least: float
    most: float
    deviation: float | None
    """Standard deviation (ddof 1); None for a single value."""


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of the values that are defined; None where none is."""
    known = np.array([value for value in values if value is not None])
    if len(known) == 0:
        return None
    deviation = float(known.std(ddof=1)) if len(known) > 1 else None
    return Spread(len(known), float(np.median(known)), float(known.min()), float(known.max()), deviation)


def share_above(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the share of pairs, e.g. folds, in which a value is above the other, e.g. that of buying and holding."""
    return float(np.mean(np.asarray(values) > np.asarray(others)))
