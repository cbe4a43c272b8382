"""What the 58 columns of `v5.6.0` hold on real bars: no copies, no constants, and no dependency that was not meant."""

import numpy as np
import pandas as pd
import pytest

from jtf_env import mirror
from jtf_env.bars import make_bars
from jtf_env.layouts import GROUPS
from tests.parity.samples import columns_of

Columns = dict[str, np.ndarray]

DEPENDENCIES = 4 + 1
"""Exact ones: the posteriors of each markov12 filter sum to 1, and MACD line - signal = histogram."""
RANK_TOLERANCE = 1e-10
"""Singular values of the standardised table below this share of the largest one are rounding."""
TWO_RETURNS = {("return", "log_return")}
"""They differ by half their square: copies to 1 - 4e-5 on 15-minute bars, and both are columns of the layout."""


@pytest.fixture(scope="module", params=["SPY", "BTCUSDT"])
def columns(request, real_data) -> Columns:
    """Every warm row of every bar, natural units."""
    symbol = request.param
    market = mirror.build_market(make_bars(pd.read_parquet(real_data / f"{symbol}_15Min.parquet"), symbol))
    return {name: column[market.layout.warmup :] for name, column in columns_of(market).items()}


def standardised(columns: Columns) -> np.ndarray:
    table = np.stack(list(columns.values()), axis=1)
    return (table - table.mean(axis=0)) / table.std(axis=0)


def test_no_column_is_constant(columns):
    assert [name for name, column in columns.items() if column.std() < 1e-9] == []


def test_no_two_columns_are_copies_except_the_two_returns(columns):
    table = standardised(columns)
    correlation = table.T @ table / len(table)
    names = list(columns)
    copies = {(names[i], names[j]) for i, j in np.argwhere(np.triu(np.abs(correlation) > 0.999, k=1))}
    assert copies == TWO_RETURNS


def test_the_standardised_table_has_rank_53(columns):
    # Measured: the 53rd singular value is 9e-4 (SPY) and 1.4e-3 (BTCUSDT) of the first, the 54th below 1e-14.
    singular = np.linalg.svd(standardised(columns), compute_uv=False)
    assert (singular > RANK_TOLERANCE * singular[0]).sum() == len(columns) - DEPENDENCIES == 53


def test_the_dependencies_are_the_posterior_sums_and_the_macd_histogram(columns):
    filters = np.stack([columns[name] for name in GROUPS["markov12"].columns]).reshape(4, 3, -1)
    np.testing.assert_allclose(filters.sum(axis=1), 1.0, rtol=1e-12)
    macd, signal, histogram = (columns[name] for name in ("macd", "macd_signal", "macd_histogram"))
    np.testing.assert_allclose(macd - signal, histogram, rtol=0, atol=1e-15)
