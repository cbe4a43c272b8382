"""The verdict from both sides: a trader with an edge ends APPROVED but for SYNTHETIC, luck on noise never.

Traders here are the optimum and random ones; `benchmarks.verdict_proof` trains policies, and its table is committed.
"""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from benchmarks.verdict_proof import (
    SETTINGS,
    SHUFFLED,
    approved_but_for_synthetic,
    judge_market,
    known_rows,
    made_symbol,
    shuffled_bars,
)
from jtf.data import load_bars
from jtf.known_optimum.markets import known_market
from jtf.results.baselines import baseline_backtests, random_timing
from jtf.results.evaluation import backtest_metrics, evaluate
from jtf.results.luck import sharpe_luck
from jtf.results.metrics import bar_returns
from jtf.results.run_directory import write_json
from jtf.results.verdict import Evidence, Verdict, judge
from jtf.splits import Segment
from jtf_env.bars import Bars
from jtf_env.layouts import DEFAULT_LAYOUT, get_layout
from jtf_env.mirror.backtest import replay
from jtf_env.mirror.market import Market
from jtf_env.params import EnvParams, make_params
from jtf_env.stretches import stretch_rows


def verdict_on(bars: Bars, actions: np.ndarray, params: EnvParams, synthetic: bool) -> Verdict:
    """Judge one action a bar ``[T]`` as a run is judged: the last quarter is test, a quarter before it validation."""
    size, nothing = len(bars), np.zeros((len(bars), 0))
    prices = (bars.open, bars.high, bars.low, bars.close, bars.tradable)
    rows = stretch_rows([(0, size)], size)
    market = Market(nothing, nothing, *prices, *rows, get_layout(DEFAULT_LAYOUT), window=1, first_bar=0)
    cuts = (0, size // 2, 3 * size // 4, size)
    segments = {name: Segment(*cuts[k : k + 2]) for k, name in enumerate(("train", "validation", "test"))}
    decide, per_year = replay(actions), bars.bars_per_year
    played = {name: evaluate(decide, market, params, part, per_year) for name, part in segments.items()}
    test, backtest = played["test"]
    held = backtest_metrics(baseline_backtests(market, params, segments["test"])["buy_and_hold"], params, per_year)
    luck = sharpe_luck(bar_returns(backtest.equity), per_year, [test.sharpe or 0.0])
    evidence = Evidence(
        held_sharpe=held.sharpe,
        held_return=held.total_return,
        synthetic=synthetic,
        deflated_sharpe=luck.deflated_sharpe,
        random_return=random_timing(backtest, market, params, segments["test"], draws=40).percentile(95),
    )
    return judge({name: metrics for name, (metrics, _) in played.items()}, evidence)


def random_actions(rng: np.random.Generator, size: int) -> np.ndarray:
    """Decisions that hold for 40 bars on average."""
    drawn = rng.choice(8, size)
    return np.where(rng.random(size) < 1 / 40, drawn, 0)


@pytest.mark.parametrize("name", ["regime", "next_bar"])
def test_the_best_trader_of_a_market_with_an_edge_is_approved_but_for_synthetic(name):
    market = known_market(name, 12_000, unseen_bars=6_000)
    actions = market.optimum_actions(Segment(0, len(market.bars)))
    judged = verdict_on(market.bars, actions, market.params, synthetic=True)
    assert judged.status == "REVIEW" and len(judged.reasons) == 1 and "SYNTHETIC" in judged.reasons[0]
    assert verdict_on(market.bars, actions, market.params, synthetic=False).status == "APPROVED"


def test_no_random_trader_of_noise_is_approved():
    rng = np.random.default_rng(0)
    statuses: Counter[str] = Counter()
    for seed in range(5):
        market = known_market("noise", 8_000, seed, unseen_bars=4_000)
        for _ in range(8):
            actions = random_actions(rng, len(market.bars))
            statuses[verdict_on(market.bars, actions, market.params, synthetic=False).status] += 1
    assert statuses["APPROVED"] == 0 and sum(statuses.values()) == 40


def test_no_random_trader_of_twenty_shuffles_of_spy_is_approved(real_data):
    frame = pd.read_parquet(real_data / "SPY_15Min.parquet")
    rng = np.random.default_rng(1)
    for seed in range(20):
        bars = shuffled_bars(frame, seed)
        judged = verdict_on(bars, random_actions(rng, len(bars)), make_params("us_equity"), synthetic=False)
        assert judged.status != "APPROVED", judged.reasons


# --- the whole pipeline ----------------------------------------------------------------------------------------


def test_shuffled_bars_are_the_bars_in_another_order(real_data):
    kept = load_bars("SPY", real_data)
    names = ["open", "high", "low", "close", "volume"]
    before = pd.DataFrame({name: getattr(kept, name) for name in names}, index=kept.timestamps)
    shuffled = shuffled_bars(before, 0)
    after = pd.DataFrame({name: getattr(shuffled, name) for name in names}, index=shuffled.timestamps)
    shapes = [table[names[:4]].iloc[1:].to_numpy() / table[["close"]].iloc[:-1].to_numpy() for table in (before, after)]
    np.testing.assert_allclose(np.sort(shapes[0], axis=0), np.sort(shapes[1], axis=0), rtol=1e-9)
    assert np.corrcoef(shapes[0][:, 3], shapes[1][:, 3])[0, 1] < 0.1


def test_a_made_market_is_measured_on_the_table_it_is_learnt_from():
    symbol = made_symbol("regime", 0, 3_000)
    np.testing.assert_array_equal(symbol.mirror.features, np.asarray(symbol.natural.features))
    np.testing.assert_array_equal(symbol.mirror.close, symbol.bars.close)
    assert symbol.optimum_return(Segment(2_000, 3_000)) > 0
    assert made_symbol("noise", 0, 3_000).optimum_return(Segment(2_000, 3_000)) is None


@pytest.mark.parametrize(
    ("status", "reasons", "approved"),
    [
        ("APPROVED", (), True),
        ("REVIEW", ("The bars are SYNTHETIC: nothing is shown.",), True),
        ("REVIEW", ("The bars are SYNTHETIC: nothing is shown.", "Test Sharpe 0.10 is below 1."), False),
        ("DROP", ("The bars are SYNTHETIC: nothing is shown.",), False),
    ],
)
def test_only_synthetic_may_stand_against_an_approved_market(status, reasons, approved):
    assert approved_but_for_synthetic(Verdict(status, reasons)) is approved


@pytest.mark.slow
@pytest.mark.parametrize(("market", "approved"), [("regime", True), ("noise", False), (SHUFFLED, False)])
def test_trained_policies_are_approved_where_there_is_an_edge_and_nowhere_else(market, approved, real_data, tmp_path):
    assert judge_market(market, 0, tmp_path, real_data)["approved but for SYNTHETIC"] is approved


@pytest.mark.parametrize(
    ("settings", "revision", "known"),
    [(SETTINGS, "this", 1), (SETTINGS, "another", 0), (SETTINGS | {"dropout": 0.0}, "this", 0)],
)
def test_verdicts_of_another_revision_or_other_settings_are_judged_anew(
    settings, revision, known, tmp_path, monkeypatch
):
    monkeypatch.setattr("benchmarks.verdict_proof.git_revision", lambda: "this")
    write_json(tmp_path / "proof.json", {"settings": settings, "revision": revision, "rows": [{"market": "noise"}]})
    assert len(known_rows(tmp_path / "proof.json")) == known
