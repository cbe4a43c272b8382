"""The hourly picture in four ways: what a bar sees of the hours, the layer over both windows, the vote, the command."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from benchmarks import architectures
from benchmarks.architectures import Trained, train_dual_windows, vote, wide_share
from benchmarks.dual_windows import DualWindowDense, dual_market
from benchmarks.two_timeframes import (
    ALONE,
    SEGMENTS,
    TwoTimeframes,
    first_bar_and_embargo,
    known_two_timeframes,
    last_completed_hour,
    rows_back,
    segments,
)
from jtf.data import load_bars
from jtf.data.synthetic import synthetic_bars
from jtf.environment import row_table
from jtf.known_optimum.markets import known_market
from jtf_env.bars import Bars
from jtf_env.market import Market, build_market
from jtf_env.resample import resample
from jtf_ppo import PPOConfig
from tests.app.test_benchmarks import drawn, result

WINDOW = 100
SIZES = (200, 150, 150)


@pytest.fixture(scope="module")
def equity() -> Bars:
    """Forty sessions of 26 bars, 7 hours each, the first of them half an hour."""
    return synthetic_bars("CLSK", years=1.0)[: 40 * 26]


@pytest.fixture(scope="module")
def known() -> TwoTimeframes:
    """A short known market."""
    return known_two_timeframes(0, SIZES)


def test_a_bar_sees_the_hour_that_ended_when_it_starts(equity: Bars) -> None:
    last = last_completed_hour(equity, resample(equity, 60))
    # 9:30 and 9:45 make the hour that 10:00 sees; from 15:00 on it is the sixth; the seventh is for the next morning.
    first_day = [-1] * 2 + [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4
    np.testing.assert_array_equal(last[:26], first_day)
    np.testing.assert_array_equal(last[26:32], [6, 6, 7, 7, 7, 7])


def test_no_later_bar_changes_the_hours_that_a_bar_sees(equity: Bars) -> None:
    row = 700
    later = {name: np.r_[getattr(equity, name)[: row + 1], 3.0 * getattr(equity, name)[row + 1 :]] for name in PRICES}
    whole, changed, cut = equity, replace(equity, **later), equity[: row + 1]
    seen = [seen_hours(bars, row) for bars in (whole, changed, cut)]
    assert len(seen[0]) == last_completed_hour(equity, resample(equity, 60))[row] + 1
    for other in seen[1:]:
        np.testing.assert_array_equal(other, seen[0])
    assert not np.array_equal(seen_hours(changed, row + 8), seen_hours(whole, row + 8))


PRICES = ("open", "high", "low", "close")


def seen_hours(bars: Bars, row: int) -> np.ndarray:
    """The prices of the hourly bars up to the last one that a bar sees."""
    hourly = resample(bars, 60)
    last = last_completed_hour(bars, hourly)[row]
    return np.stack([getattr(hourly, name) for name in PRICES], axis=1)[: last + 1]


def test_an_hour_is_found_where_it_was_first_seen(equity: Bars) -> None:
    last = last_completed_hour(equity, resample(equity, 60))
    back = rows_back(last, 3)
    # Row 31 sees hour 7 since row 28, hour 6 since row 26 (the morning), hour 5 since row 22 (15:00 the day before).
    np.testing.assert_array_equal(back[31], [3, 5, 9])
    np.testing.assert_array_equal(back[27], [1, 5, 9])
    assert not back[:10].any()


@pytest.fixture(scope="module")
def tables(equity: Bars) -> tuple[Market, Market, np.ndarray]:
    """Random columns of both bar lengths, and which hour every bar sees."""

    def random_columns(num_bars: int, seed: int) -> Market:
        market = known_market("noise", num_bars, seed, ALONE, unseen_bars=2, distractor=1.0).natural
        return replace(market, features=jnp.asarray(market.features, jnp.float32))

    last = last_completed_hour(equity, resample(equity, 60))
    return random_columns(len(equity), 0), random_columns(400, 1), last


def test_the_dual_layer_is_the_dense_layer_over_both_windows(tables: tuple[Market, Market, np.ndarray]) -> None:
    market, hourly, last = tables
    dual = dual_market(*tables)
    layer = DualWindowDense(dual.window, 2 * 51, 1 + WINDOW, 3, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(params=0))
    kernels = [np.asarray(half.kernel[...], np.float64).reshape(-1, 3) for half in (layer.quarters, layer.hours)]
    # The first of the block's rows come before any decision: nobody reads them, and their context is zero.
    rows = np.arange(dual.first_bar - 5, dual.first_bar + 40)
    table = row_table((dual, None))
    history = np.arange(rows[0] - dual.window + 1, rows[-1] + 1)
    assert not table.context[rows[0]].any()
    found = layer.blocks(table.features[history][None], table.context[rows][None], "fft")[0]
    assert np.isfinite(found).all()
    for row, values in zip(rows[5:], np.asarray(found)[5:], strict=True):
        windows = (market.features[row - WINDOW + 1 : row + 1], hourly.features[last[row] - WINDOW + 1 : last[row] + 1])
        dense = sum(np.asarray(x, np.float64).reshape(-1) @ kernel for x, kernel in zip(windows, kernels, strict=True))
        np.testing.assert_allclose(values, dense, atol=1e-4)


def test_the_vote_is_the_weighted_mean_of_both_models() -> None:
    # (.15 * .6 + .25 * .1) / .4 = .2875, and (.15 * .4 + .25 * .9) / .4 = .7125.
    np.testing.assert_allclose(vote(np.array([[0.6, 0.4]]), np.array([[0.1, 0.9]])), [[0.2875, 0.7125]])


def test_no_window_reaches_over_the_embargo(equity: Bars) -> None:
    check_embargo(equity)


@pytest.mark.parametrize("symbol", ["SPY", "BTCUSDT"])
def test_no_window_of_real_bars_reaches_over_the_embargo(symbol: str, real_data: Path) -> None:
    check_embargo(load_bars(symbol, real_data))


def check_embargo(bars: Bars) -> None:
    """Every hour of a bar's window began after the last bar that the embargo keeps apart from it."""
    hourly = resample(bars, 60)
    last = last_completed_hour(bars, hourly)
    first, embargo = first_bar_and_embargo(bars, last)
    rows = np.arange(first, len(bars))
    assert np.all(hourly.timestamps[last[rows] - (WINDOW - 1)] > bars.timestamps[rows - embargo - 1])
    assert embargo < 5 * WINDOW


def test_the_segments_of_the_known_market_lie_an_embargo_apart(known: TwoTimeframes) -> None:
    first, embargo = first_bar_and_embargo(known.bars, known.last)
    parts = segments(known.fold)
    assert [len(part) for part in parts] == list(SIZES) and parts[-1].stop == len(known.bars)
    assert parts[0].start >= first
    assert all(later.start - earlier.stop >= embargo for earlier, later in pairwise(parts))


def test_the_hourly_model_trades_inside_the_segments_of_the_other(known: TwoTimeframes) -> None:
    stamps, ends = known.bars.timestamps, resample(known.bars, 60).timestamps + pd.Timedelta(hours=1)
    for part, hours in zip(segments(known.fold), segments(known.hourly_fold), strict=True):
        # Its first decision is made as an hour ends, and its last mark is that of an hour that has ended.
        assert ends[hours.start] <= stamps[part.start] < ends[hours.start + 1]
        assert ends[hours.stop - 1] <= stamps[part.stop - 1]


def test_the_hourly_return_is_real_and_the_other_hourly_columns_of_the_known_market_are_not(
    known: TwoTimeframes,
) -> None:
    hourly = build_market(resample(known.bars, 60), ALONE, dtype=jnp.float64)
    same = [bool(np.array_equal(a, b)) for a, b in zip(hourly.features.T, known.hourly.features.T, strict=True)]
    assert [name for name, yes in zip(hourly.layout.bar_columns, same, strict=True) if yes] == ["return"]


def test_the_51_columns_are_those_of_the_58_without_the_hour(known: TwoTimeframes) -> None:
    alone = known_market("hourly", len(known.bars), 0, ALONE, unseen_bars=2).natural
    for name in ("features", "context", "close", "segment_end"):
        np.testing.assert_array_equal(getattr(known.natural[ALONE], name), getattr(alone, name))
    assert known.natural[ALONE].first_bar == alone.first_bar


TINY = PPOConfig(
    total_steps=64, num_envs=4, num_steps=8, hidden_sizes=(4,), update_epochs=1, first_layer="fft",
    minibatch_size=64, validation_interval=1,
)  # fmt: skip


@pytest.mark.slow
def test_two_windows_train_in_the_row_engine_and_decide_at_every_bar(known: TwoTimeframes) -> None:
    trained = train_dual_windows(known, TINY, 1.0)
    assert (trained.inputs, trained.steps) == (10_200, 64)
    # Two kernels of 100 x 51 rows, two biases; two heads of 4 inputs and a bias.
    assert (trained.first_layer, trained.parameters) == (2 * 5_101 * 4, 2 * 5_101 * 4 + 9 * 5)
    for table in trained.probabilities.values():
        np.testing.assert_allclose(table[known.fold.train[0].start :].sum(axis=1), 1.0, atol=1e-5)
        assert np.abs(np.diff(table[known.fold.test.start :], axis=0)).max() > 0


def test_a_larger_trunk_shrinks_the_share_of_the_first_layer() -> None:
    # 5 100 rows and a bias of 8; then (8 + 1) * 6 and the heads (6 + 1) * 9.
    assert wide_share(5_101, 1, (8, 6)) == pytest.approx(40_808 / (40_808 + 54 + 63))
    assert wide_share(2 * 5_101, 2, (8, 6)) == pytest.approx(40_808 / (40_808 + 54 + 63))


def test_architectures_compares_all_of_them_and_keeps_finished_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instant(problem: Any, whole: Market, config: PPOConfig) -> Trained:
        table = np.random.default_rng(config.seed).dirichlet(np.ones(8), whole.num_bars)
        return Trained({"best": table, "last": table[::-1]}, 1, 5_100, 100, 90, config.total_steps, 1.0, 2.0)

    monkeypatch.setattr(architectures, "train_problem", instant)
    figures = drawn(architectures, monkeypatch)
    sizes = [str(size) for size in SIZES]
    flags = ["--train-bars", sizes[0], "--validation-bars", sizes[1], "--unseen-bars", sizes[2], "--seeds", "0"]
    flags += ["--cells", str(tmp_path / "cells.jsonl"), "--picture", str(tmp_path / "a.png"), "--out", str(tmp_path)]
    assert architectures.main(flags) == 0
    record = result(tmp_path, "architectures")
    rows = {row["architecture"]: row for row in record["rows"]}
    assert list(rows) == list(architectures.ARCHITECTURES)
    assert rows["dual models"]["steps"] == rows["51 columns"]["steps"] == rows["dual models, twice"]["steps"] / 2
    assert rows["dual models"]["inputs"] == 10_200
    for cell in record["details"]:
        assert rows[cell["architecture"]]["gap"] == cell["last train"] - cell["last validation"]
    (axes,) = figures[tmp_path / "a.png"].axes
    assert [bar.get_height() for bar in axes.patches][1::2] == [row["test"] for row in record["rows"]]
    monkeypatch.setattr(architectures, "train_cell", lambda *cell: pytest.fail(f"{cell} was trained again"))
    assert architectures.main(flags) == 0


def test_the_optimum_of_the_known_market_scores_one_on_every_segment(
    known: TwoTimeframes, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = known_market("hourly", len(known.bars), 0, ALONE, unseen_bars=2)
    optimum = np.zeros(len(known.bars), int)
    for part in segments(known.fold):
        optimum[part.start : part.stop] = market.optimum_actions(part)[part.start : part.stop]
    table = np.eye(8)[optimum]
    trained = Trained({"best": table, "last": np.roll(table, 1, axis=1)}, 1, 1, 1, 1, 1, 1.0, 1.0)
    monkeypatch.setitem(architectures.ARCHITECTURES, "optimum", lambda *_: trained)
    args = architectures.parse(["--train-bars", str(SIZES[0]), "--validation-bars", str(SIZES[1])])
    args.unseen_bars = SIZES[2]
    cell = architectures.train_cell("hourly", "optimum", 0, args)
    assert [cell[f"best {name}"] for name in SEGMENTS] == pytest.approx([1.0] * 3, abs=1e-3)
    assert all(cell[f"last {name}"] < 0.9 for name in SEGMENTS)
    test = known.fold.test
    held = market.net_log_return(np.full(len(known.bars), 3), test) / known.units[-1]
    assert cell["held test"] == pytest.approx(held, abs=1e-3)
