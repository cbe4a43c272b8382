"""No column looks ahead, on either side; and the check that says so catches columns that do."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtf_env import market as jax_market
from jtf_env import mirror
from jtf_env.bars import Bars
from tests.parity.samples import EVERY_COLUMN, columns_of, real_bars, walk_bars

Columns = dict[str, np.ndarray]
Build = Callable[[Bars], Columns]

PREFIXES = (202, 203, 257, 1000, 1001, 4195, 4196, 4197, 7999)
JAX_PREFIXES = (310, 320, 7700, 7999)
"""Lengths that JAX pads to the shapes other tests compile anyway."""
LAST_KNOWN = (230, 1234, 7501)


def build_mirror(bars: Bars) -> Columns:
    return columns_of(mirror.build_market(bars, EVERY_COLUMN))


def build_jax(bars: Bars) -> Columns:
    with jax.enable_x64(True):
        return columns_of(jax_market.build_market(bars, EVERY_COLUMN, dtype=jnp.float64))


def build_jax_float32(bars: Bars) -> Columns:
    return columns_of(jax_market.build_market(bars, EVERY_COLUMN))


def prefix_leaks(build: Build, bars: Bars, rows: int, tolerance: float = 0.0) -> list[str]:
    """Names of the columns whose first `rows` values change when the bars after them are taken away."""
    whole, prefix = build(bars), build(bars[:rows])
    return [name for name in whole if not np.allclose(prefix[name], whole[name][:rows], rtol=tolerance, atol=tolerance)]


def future_leaks(build: Build, bars: Bars, last: int) -> list[str]:
    """Names of the columns with a changed bit at rows ``<= last`` when the bars after `last` are others."""
    before, after = build(bars), build(with_another_future(bars, last))
    return [name for name in before if before[name][: last + 1].tobytes() != after[name][: last + 1].tobytes()]


def with_another_future(bars: Bars, last: int) -> Bars:
    """The same bars up to `last`; later ones have other prices and volumes and start seven hours later."""
    rng = np.random.default_rng(last)
    later = np.arange(len(bars)) > last
    factor = np.where(later, rng.uniform(0.5, 2.0, len(bars)), 1.0)
    prices = {name: getattr(bars, name) * factor for name in ("open", "high", "low", "close", "volume")}
    delay = pd.to_timedelta(np.where(later, 7, 0), unit="h")
    return replace(bars, **prices, timestamps=bars.timestamps + delay, tradable=bars.tradable & ~later)


@pytest.fixture(scope="module", params=["SPY", "walk"])
def bars(request):
    return walk_bars() if request.param == "walk" else real_bars(request.getfixturevalue("real_data"), "SPY")


@pytest.mark.parametrize("rows", PREFIXES)
def test_mirror_columns_of_a_prefix_are_the_prefix_of_the_columns_bitwise(bars, rows):
    assert prefix_leaks(build_mirror, bars, rows) == []


@pytest.mark.parametrize("rows", JAX_PREFIXES)
def test_jax_columns_of_a_prefix_are_the_prefix_of_the_columns(bars, rows):
    assert prefix_leaks(build_jax, bars, rows, tolerance=1e-9) == []


@pytest.mark.parametrize("last", LAST_KNOWN)
@pytest.mark.parametrize("build", [build_mirror, build_jax, build_jax_float32])
def test_another_future_leaves_every_bit_of_the_past(bars, build, last):
    assert future_leaks(build, bars, last) == []


def centred_mean(bars: Bars) -> Columns:
    """A mean of five bars around each bar: the classic leak."""
    return {"honest": bars.close, "leaking": np.convolve(bars.close, np.full(5, 0.2), mode="same")}


def next_move(bars: Bars) -> Columns:
    """One bar of foresight."""
    return {"honest": bars.close, "leaking": np.diff(bars.close, append=bars.close[-1])}


def whole_sample_score(bars: Bars) -> Columns:
    """Standardised by moments of all bars, later ones too."""
    return {"honest": bars.close, "leaking": (bars.close - bars.close.mean()) / bars.close.std()}


def hour_ahead(bars: Bars) -> Columns:
    """Prices stand still; only the clock of a later bar is read."""
    return {"honest": bars.close, "leaking": np.roll(bars.timestamps.hour.to_numpy(), -1).astype(np.float64)}


@pytest.mark.parametrize("leak", [centred_mean, next_move, whole_sample_score])
def test_prefix_check_catches_a_leaking_column(leak):
    assert prefix_leaks(leak, walk_bars(), 1001, tolerance=1e-9) == ["leaking"]


@pytest.mark.parametrize("leak", [centred_mean, next_move, whole_sample_score, hour_ahead])
def test_future_check_catches_a_leaking_column(leak):
    assert future_leaks(leak, walk_bars(), 1234) == ["leaking"]
