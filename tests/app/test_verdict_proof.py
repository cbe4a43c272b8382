"""The verdict from both sides: a trader with an edge ends APPROVED but for SYNTHETIC, luck on noise never."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from jtf.known_optimum.markets import known_market
from jtf.results.baselines import baseline_backtests, random_timing
from jtf.results.evaluation import backtest_metrics, evaluate
from jtf.results.luck import sharpe_luck
from jtf.results.metrics import bar_returns
from jtf.results.verdict import Evidence, Verdict, judge
from jtf.splits import Segment
from jtf_env.bars import Bars, make_bars
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
    held = baseline_backtests(market, params, segments["test"])["buy_and_hold"]
    luck = sharpe_luck(bar_returns(backtest.equity), per_year, [test.sharpe or 0.0])
    evidence = Evidence(
        held_sharpe=backtest_metrics(held, params, per_year).sharpe,
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


def shuffled_bars(frame: pd.DataFrame, rng: np.random.Generator) -> Bars:
    """Bars at the times of `frame` with its moves from close to close in random order."""
    close = frame["close"].to_numpy()
    moves = rng.permutation(close[1:] / close[:-1])
    close = close[0] * np.cumprod(np.concatenate([[1.0], moves]))
    opened = np.concatenate([close[:1], close[:-1]])
    columns = {"open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close}
    return make_bars(pd.DataFrame(columns | {"volume": 1.0}, index=frame.index), "SPY")


def test_no_random_trader_of_twenty_shuffles_of_spy_is_approved(real_data):
    frame = pd.read_parquet(real_data / "SPY_15Min.parquet")
    rng = np.random.default_rng(1)
    for _ in range(20):
        bars = shuffled_bars(frame, rng)
        judged = verdict_on(bars, random_actions(rng, len(bars)), make_params("us_equity"), synthetic=False)
        assert judged.status != "APPROVED", judged.reasons
