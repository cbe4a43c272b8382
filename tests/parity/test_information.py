"""What the columns of every layout hold on real bars: no constants, and no copy or dependency that was not meant."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from jtf_env import mirror
from jtf_env.bars import make_bars
from jtf_env.layouts import GROUPS, LAYOUTS, Layout
from jtf_env.mirror.account import Observation
from jtf_env.mirror.backtest import run_backtest
from jtf_env.mirror.market import Market
from jtf_env.params import EnvParams
from tests.parity.samples import EVERY_COLUMN, columns_of

Columns = dict[str, np.ndarray]

RANKS = {"v2.3.0": 46, "v2.4.0": 49, "v2.7.0": 52, "v5.3.0": 58, "v5.5.0": 46, "v5.6.0": 53}
"""Columns less the exact dependencies: the posteriors of each of four filters sum to 1, MACD line - signal = histogram,
and with intraday4 session_elapsed = session_progress, session_left = 1 - session_elapsed."""
RANK_TOLERANCE = 1e-10
"""Singular values of the standardised table below this share of the largest one are rounding."""
TWO_RETURNS = {("return", "log_return")}
"""They differ by half their square: copies to 1 - 4e-5 on 15-minute bars, and both are columns of the layout."""
SESSION_COPIES = {
    ("session_elapsed", "session_left"), ("session_elapsed", "session_progress"), ("session_left", "session_progress"),
}  # fmt: skip
"""The session's progress stands in intraday4 twice and in temporal7 once."""
POSITION_COPIES = {("position_level", "position_cash")}
"""Cash over equity is 1 less the exposure, which prices move little away from the quarters it was bought at."""


class Sample(NamedTuple):
    market: Market
    columns: Columns
    """Every warm row of every bar, natural units."""


@pytest.fixture(scope="module", params=["SPY", "BTCUSDT"])
def sample(request, real_data) -> Sample:
    symbol = request.param
    bars = make_bars(pd.read_parquet(real_data / f"{symbol}_15Min.parquet"), symbol)
    market = mirror.build_market(bars, EVERY_COLUMN)
    return Sample(market, {name: column[market.layout.warmup :] for name, column in columns_of(market).items()})


@pytest.fixture
def columns(sample) -> Columns:
    return sample.columns


def standardised(columns: Columns) -> np.ndarray:
    table = np.stack(list(columns.values()), axis=1)
    return (table - table.mean(axis=0)) / table.std(axis=0)


def rank_of(columns: Columns) -> int:
    singular = np.linalg.svd(standardised(columns), compute_uv=False)
    return int((singular > RANK_TOLERANCE * singular[0]).sum())


def copies_among(columns: Columns) -> set[tuple[str, str]]:
    table, names = standardised(columns), list(columns)
    correlation = table.T @ table / len(table)
    return {(names[i], names[j]) for i, j in np.argwhere(np.triu(np.abs(correlation) > 0.999, k=1))}


def with_account(market: Market, columns: Columns, layout: Layout) -> Columns:
    """The columns of `layout` in its order on the rows of one account that trades at random for some months."""
    rng, seen = np.random.default_rng(1), []

    def decide(observation: Observation) -> int:
        seen.append(observation)
        # Positions are held for ten bars or so; an account that trades at every bar sees little but its costs.
        return int(rng.integers(1, 8)) if rng.random() < 0.1 else 0

    watched = Layout("watched", (*market.layout.groups, GROUPS["account3"], GROUPS["position3"]))
    params = EnvParams(fee=0.0, slippage=0.0001, episode_bars=0, max_drawdown=1.0, allow_short=True)
    first = market.first_bar
    run_backtest(replace(market, layout=watched), decide, params, first, min(first + 12_000, market.num_bars))
    account = dict(zip(watched.state_columns, np.stack([one.account for one in seen]).T, strict=True))
    rows = np.array([one.row for one in seen]) - market.layout.warmup
    return {name: account[name] if name in account else columns[name][rows] for name in layout.columns}


def test_no_column_is_constant(columns):
    assert [name for name, column in columns.items() if column.std() < 1e-9] == []


def test_no_two_columns_are_copies_except_the_two_returns_and_the_progress_of_the_session(columns):
    assert copies_among(columns) == TWO_RETURNS | SESSION_COPIES


def test_no_two_columns_of_the_default_layout_are_copies_except_the_two_returns(columns):
    assert copies_among({name: columns[name] for name in LAYOUTS["v5.6.0"].columns}) == TWO_RETURNS


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS.values() if layout.address_only], ids=lambda x: x.name)
def test_the_standardised_table_has_every_rank_but_the_meant_dependencies(columns, layout):
    # Measured: the last that counts is 9e-4 (SPY) and 1.4e-3 (BTCUSDT) of the first singular value, the next 1e-14.
    assert rank_of({name: columns[name] for name in layout.columns}) == RANKS[layout.name]


@pytest.mark.parametrize("name", ["v2.4.0", "v2.7.0", "v5.3.0"])
def test_account_columns_of_a_random_trader_add_their_full_rank(sample, name):
    table = with_account(*sample, LAYOUTS[name])
    assert tuple(table) == LAYOUTS[name].columns
    assert rank_of(table) == RANKS[name]
    meant = TWO_RETURNS | SESSION_COPIES | (POSITION_COPIES if "position_level" in table else set())
    assert copies_among(table) == meant


def test_the_dependencies_are_the_posterior_sums_the_macd_histogram_and_the_session(columns):
    filters = np.stack([columns[name] for name in GROUPS["markov12"].columns]).reshape(4, 3, -1)
    np.testing.assert_allclose(filters.sum(axis=1), 1.0, rtol=1e-12)
    macd, signal, histogram = (columns[name] for name in ("macd", "macd_signal", "macd_histogram"))
    np.testing.assert_allclose(macd - signal, histogram, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(columns["session_elapsed"], columns["session_progress"])
    np.testing.assert_array_equal(columns["session_left"], 1.0 - columns["session_elapsed"])
