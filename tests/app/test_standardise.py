"""The deviation that columns are divided by: in the long run by default, of a bar where it is asked for."""

from dataclasses import replace

import numpy as np
import pytest

from jtf.config import parse_config
from jtf.problem import training_rows
from jtf.task import load_symbol, prepare
from jtf_env.scaler import fit_scaler, variance_inflation


@pytest.fixture(scope="module")
def tasks(tiny_args):
    return {how: prepare(parse_config([*tiny_args, *flags])) for how, flags in
            {"default": [], "bar": ["--standardise", "bar"]}.items()}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tasks):
    task = tasks["bar"]
    return training_rows(load_symbol(task.config).natural, task.problem.fold)


def test_by_bar_the_scaler_is_that_of_the_training_rows(tasks, rows):
    np.testing.assert_array_equal(tasks["bar"].problem.scaler.std, fit_scaler(*rows).std)


def test_by_default_slow_columns_are_divided_by_their_long_run_deviation(tasks, rows):
    names = tasks["default"].layout.bar_columns
    by_bar, long_run = (scaler.std[: len(names)] for scaler in (fit_scaler(*rows), tasks["default"].problem.scaler))
    np.testing.assert_allclose(long_run, by_bar * np.sqrt(variance_inflation(rows[0])))
    moving = np.isfinite(by_bar)
    columns = dict(zip(np.array(names)[moving], long_run[moving] / by_bar[moving], strict=True))
    assert columns["return"] < 1.2 and columns["mean_100"] > 5.0


def test_the_training_table_is_standardised_by_the_scaler_of_the_policy(tasks):
    problem = tasks["default"].problem
    by_scaler = np.asarray(problem.data[0].features)[problem.data[0].first_bar :].std(axis=0)
    inflation = variance_inflation(np.asarray(problem.data[0].features, np.float64))
    moving = by_scaler > 0
    np.testing.assert_allclose(by_scaler[moving] * np.sqrt(inflation[moving]), 1.0, rtol=0.3)


def test_runs_of_other_deviations_do_not_share_checkpoints(tasks):
    other = replace(tasks["default"], config=tasks["bar"].config)
    assert other.settings_sha256 != tasks["default"].settings_sha256
