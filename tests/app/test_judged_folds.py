"""Folds as one record: what is chained, what is counted, and the verdict on all of them; the trials on disk."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jtf.results.baselines import RandomTiming
from jtf.results.folds import judge_folds, pool_folds, random_percentile
from jtf.results.metrics import sharpe
from jtf.results.trials import trial_sharpes
from tests.app.test_verdict import GOOD

pytestmark = pytest.mark.quick

YEAR = 6_552.0
BARS = 1_500
SEGMENTS = ("train", "validation", "test")


def fold(seed: int, drift: float, kind: str = "file", timing: float = 0.0):
    """A result with 40 closed trades a segment and returns of `drift` a bar; random timing earns `timing`."""
    rng = np.random.default_rng(seed)
    curves, trades = [], []
    for name in SEGMENTS:
        returns = rng.normal(drift, 1e-3, BARS - 1)
        equity = 1e5 * np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
        curves.append(pd.DataFrame({"segment": name, "equity": equity, "buy_and_hold": 1e5}))
        net = np.where(np.arange(40) % 2 == 0, 300.0, -100.0)
        trades.append(pd.DataFrame({"segment": name, "net": net, "open_at_end": np.arange(40) == 39}))
    curves, trades = pd.concat(curves, ignore_index=True), pd.concat(trades, ignore_index=True)
    last = curves[curves["segment"] == "test"]["equity"]
    metrics = {name: replace(GOOD, total_return=float(last.iloc[-1] / 1e5 - 1)) for name in SEGMENTS}
    draws = RandomTiming(tuple(rng.normal(timing, 0.01, 100)))
    return SimpleNamespace(
        curves=curves, trades=trades, metrics=metrics, random=draws, summary={"data": {"kind": kind}}
    )


GOOD_FOLDS = [fold(seed, 1.2e-4) for seed in range(4)]


def test_equity_of_the_folds_is_chained_and_their_trades_are_counted_together():
    pooled = pool_folds(GOOD_FOLDS, "test", YEAR)
    growth = np.prod([1 + one.metrics["test"].total_return for one in GOOD_FOLDS])
    assert pooled.total_return == pytest.approx(growth - 1)
    # Of 40 trades a fold the last, a loss, is still open: 20 wins of 300 and 19 losses of 100.
    assert pooled.num_trades == 4 * 39 and pooled.profit_factor == pytest.approx(20 * 300 / (19 * 100))
    assert pooled.exposure == pytest.approx(GOOD.exposure)


def test_a_move_between_folds_is_no_return():
    split = [fold(seed, 1.2e-4) for seed in range(2)]
    split[1].curves["equity"] *= 7
    assert pool_folds(split, "test", YEAR).sharpe == pytest.approx(pool_folds(GOOD_FOLDS[:2], "test", YEAR).sharpe)


def test_pooled_sharpe_is_that_of_all_bars():
    pooled = pool_folds(GOOD_FOLDS[:1], "test", YEAR)
    curves = GOOD_FOLDS[0].curves
    assert pooled.sharpe == pytest.approx(sharpe(curves.loc[curves["segment"] == "test", "equity"].to_numpy(), YEAR))


def test_random_timing_over_folds_is_the_product_of_independent_draws():
    one = [
        SimpleNamespace(random=RandomTiming((0.1, -0.1, 0.0))),
        SimpleNamespace(random=RandomTiming((0.1, 0.2, 0.0))),
    ]
    assert random_percentile(one, 100) == pytest.approx(0.21)
    assert random_percentile(one, 0) == pytest.approx(0.0)  # 1, and 0.9 * 1.2 = 1.08.


def test_good_folds_of_a_real_market_are_approved():
    judged = judge_folds(GOOD_FOLDS, YEAR, [], smoke=False)
    assert judged.verdict.status == "APPROVED", judged.verdict.reasons


@pytest.mark.parametrize(
    ("folds", "more", "reason"),
    [
        ([fold(seed, 1.2e-4, kind="synthetic") for seed in range(4)], {}, "SYNTHETIC"),
        (GOOD_FOLDS, {"smoke": True}, "smoke test"),
        ([fold(seed, 1.2e-4, timing=0.9) for seed in range(4)], {}, "random times"),
        ([fold(1, 6e-4), *(fold(seed, -5e-5) for seed in (2, 3))], {}, "folds with a profit"),
        (GOOD_FOLDS, {"trials": list(np.linspace(-9, 9, 40))}, "luck"),
    ],
)
def test_what_stands_against_folds_is_said(folds, more, reason):
    arguments = {"trials": [], "smoke": False} | more
    judged = judge_folds(folds, YEAR, arguments["trials"], smoke=arguments["smoke"])
    assert judged.verdict.status == "REVIEW" and any(reason in sentence for sentence in judged.verdict.reasons)


# --- the trials on disk ------------------------------------------------------------------------------------------


def write(path, **summary) -> None:
    path.mkdir(parents=True)
    (path / "summary.json").write_text(json.dumps({"status": "finished", "symbol": "AB/C"} | summary))


def measured(ratio):
    return {"test": {"sharpe": ratio}}


def test_trials_are_the_other_finished_runs_and_walk_forwards_of_the_symbol(tmp_path):
    own = tmp_path / "ABC" / "4"
    write(own, metrics=measured(9.0))
    write(tmp_path / "ABC" / "1", metrics=measured(1.0))
    write(tmp_path / "ABC" / "2", metrics=measured(None))
    write(tmp_path / "ABC" / "3", status="interrupted", metrics=None)
    write(tmp_path / "XYZ" / "1", symbol="XYZ", metrics=measured(5.0))
    write(tmp_path / "cells" / "ABC" / "k", metrics=measured(6.0))
    write(tmp_path / "walkforward" / "ABC-rolling-1", metrics=measured(2.0))
    write(tmp_path / "walkforward" / "XYZ-rolling-1", symbol="XYZ", metrics=measured(7.0))
    (tmp_path / "ABC" / "5").mkdir()
    (tmp_path / "ABC" / "5" / "summary.json").write_text("{")
    assert trial_sharpes(own, "AB/C") == [1.0, 0.0, 2.0]
    assert trial_sharpes(tmp_path / "walkforward" / "ABC-rolling-1", "AB/C") == [1.0, 0.0, 9.0]


def test_what_a_cell_says_depends_on_nothing_else_on_disk(tmp_path):
    write(tmp_path / "cells" / "ABC" / "other", metrics=measured(1.0))
    assert trial_sharpes(tmp_path / "cells" / "ABC" / "own", "AB/C") == []


def test_an_evaluation_is_a_trial_of_each_of_its_symbols(tmp_path):
    both = {"AB/C": {"metrics": measured(3.0)}, "XYZ": {"metrics": measured(4.0)}}
    write(tmp_path / "evaluate" / "2-symbols", symbol=None, symbols=both)
    own = tmp_path / "ABC" / "1"
    assert [trial_sharpes(own, symbol) for symbol in ("AB/C", "XYZ", "Q")] == [[3.0], [4.0], []]


def folds_of(*keys):
    return [{"run": f"runs/cells/ABC/{key}"} for key in keys]


def test_a_walk_forward_and_an_evaluation_of_the_same_cells_are_one_trial(tmp_path):
    write(tmp_path / "walkforward" / "ABC-rolling-1", metrics=measured(2.0), folds=folds_of("k", "l"))
    write(tmp_path / "walkforward" / "ABC-rolling-2", metrics=measured(5.0), folds=folds_of("k", "m"))
    both = {"AB/C": {"metrics": measured(2.0), "folds": folds_of("k", "l")}}
    write(tmp_path / "evaluate" / "2-symbols", symbol=None, symbols=both)
    assert trial_sharpes(tmp_path / "ABC" / "1", "AB/C") == [2.0, 5.0]


def test_an_experiment_does_not_count_another_one_of_its_own_cells(tmp_path):
    write(tmp_path / "walkforward" / "ABC-rolling-1", metrics=measured(2.0), folds=folds_of("k", "l"))
    own = tmp_path / "evaluate" / "2-symbols"
    own.mkdir(parents=True)
    cells = [{"key": "k", "symbol": "AB/C"}, {"key": "l", "symbol": "AB/C"}, {"key": "z", "symbol": "XYZ"}]
    (own / "experiment.json").write_text(json.dumps({"cells": cells}))
    assert trial_sharpes(own, "AB/C") == []


def test_spellings_of_one_pair_are_one_symbol(tmp_path):
    for name, symbol in (("BTC-USD", "BTC-USD"), ("BTCUSD", "BTC/USD"), ("BTCUSDT", "BTCUSDT")):
        write(tmp_path / name / "1", symbol=symbol, metrics=measured(float(len(symbol))))
    assert trial_sharpes(tmp_path / "BTCUSD" / "2", "BTCUSD") == [7.0, 7.0]
