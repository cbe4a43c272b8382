"""The built-in market of a symbol name: what its bars look like, what hides in them, and what that is worth."""

import numpy as np
import pandas as pd
import pytest

from jtf.data.synthetic import RECIPES, SyntheticMarket, synthetic_bars, synthetic_market
from jtf.known_optimum.programme import address_only_rule, net_log_return, solve
from jtf.splits import Segment
from jtf_env.actions import BUY_75, CLOSE, HOLD, SELL_75
from jtf_env.params import make_params

EQUITY = RECIPES["us_equity"]


@pytest.fixture(scope="module")
def clsk() -> SyntheticMarket:
    return synthetic_market("CLSK")


@pytest.fixture(scope="module")
def bitcoin() -> SyntheticMarket:
    return synthetic_market("BTC/USD")


@pytest.fixture(params=["CLSK", "BTC/USD"])
def market(request, clsk, bitcoin) -> SyntheticMarket:
    return {"CLSK": clsk, "BTC/USD": bitcoin}[request.param]


def last_sixth(market: SyntheticMarket) -> Segment:
    return Segment(len(market.bars) * 5 // 6, len(market.bars))


def day_counts(bars) -> pd.Series:
    return pd.Series(1, bars.timestamps).groupby(bars.timestamps.tz_convert(bars.timezone).date).sum()


def first_of_session(bars) -> np.ndarray:
    return np.diff(bars.session_ids, prepend=-1) > 0


def test_the_same_name_gives_the_same_bars(clsk):
    again = synthetic_bars("CLSK")
    for name in ("open", "high", "low", "close", "volume", "timestamps"):
        np.testing.assert_array_equal(getattr(again, name), getattr(clsk.bars, name))


def test_the_bars_of_a_name_are_pinned(clsk):
    # Seeded through SHA-256, so a change of machine, process or hash seed changes nothing.
    assert clsk.bars.close[[0, -1]] == pytest.approx([50.075328, 64.834727], rel=1e-6)


def test_letter_case_of_the_name_does_not_matter(clsk):
    np.testing.assert_array_equal(synthetic_bars("clsk").close, clsk.bars.close)


def test_two_names_give_different_bars(clsk):
    returns = [np.diff(np.log(bars.close)) for bars in (clsk.bars, synthetic_bars("SPY"))]
    assert abs(np.corrcoef(returns)[0, 1]) < 0.05


def test_source_says_synthetic(market):
    assert market.bars.source == "synthetic"


def test_equity_days_have_26_bars_and_half_days_14(clsk):
    counts = day_counts(clsk.bars)
    half_days = counts[counts != 26]
    assert set(half_days) == {14}
    assert {day.isoformat() for day in half_days.index} == {
        "2023-07-03", "2023-11-24", "2024-07-03", "2024-11-29", "2024-12-24",
    }  # fmt: skip


def test_equity_bars_cover_two_years_without_a_hole(clsk):
    report = clsk.bars.report
    assert len(clsk.bars) == pytest.approx(2 * clsk.bars.bars_per_year, rel=0.01)
    assert (report.gaps, report.missing_sessions, report.jumps) == ((), (), ())


def test_crypto_days_have_96_bars_without_a_hole(bitcoin):
    assert set(day_counts(bitcoin.bars)) == {96}
    assert len(bitcoin.bars) == 2 * 35_040


def test_every_bar_is_tradable(market):
    assert market.bars.tradable.all()


def test_noise_has_fat_tails(market):
    bars = market.bars
    noise = (bars.close / bars.open - 1 - market.drift) / market.noise_scale
    assert np.std(noise) == pytest.approx(1, abs=0.05)
    assert np.mean(noise**4) / np.mean(noise**2) ** 2 > 5  # Student-t with 5 degrees of freedom: 9; normal: 3


def test_equity_gaps_overnight_and_only_there(clsk):
    bars = clsk.bars
    gap = bars.open[1:] / bars.close[:-1] - 1
    overnight = first_of_session(bars)[1:]
    assert np.std(gap[overnight]) == pytest.approx(EQUITY.gap, rel=0.2)
    assert np.abs(gap[~overnight]).max() < 1e-12


def test_crypto_never_gaps(bitcoin):
    np.testing.assert_allclose(bitcoin.bars.open[1:], bitcoin.bars.close[:-1], rtol=1e-12)


def test_the_ends_of_an_equity_session_are_wilder_than_its_middle(clsk):
    bars = clsk.bars
    elapsed = (bars.timestamps - bars.session_open) / (bars.session_close - bars.session_open)
    move = bars.close / bars.open - 1
    middle = move[np.abs(elapsed - 0.5) < 0.2].std()
    assert move[elapsed < 0.08].std() > 1.4 * middle
    assert move[elapsed > 0.9].std() > 1.4 * middle


def test_the_hidden_drift_is_the_declared_ar1_process(market):
    recipe = RECIPES[market.bars.asset_class]
    assert np.std(market.drift) == pytest.approx(recipe.drift, rel=0.1)
    assert np.corrcoef(market.drift[1:], market.drift[:-1])[0, 1] == pytest.approx(recipe.coefficient, abs=0.01)


def test_the_forecast_uses_past_bars_only(clsk):
    # The forecast at bar i is uncorrelated with its own error about the move it has not seen.
    bars = clsk.bars
    move = (bars.close / bars.open - 1)[1:]
    slope = np.cov(move, clsk.forecast[:-1])[0, 1] / np.var(clsk.forecast)
    assert slope == pytest.approx(1, abs=0.2)


def test_the_process_has_the_spread_of_the_forecast(market):
    assert market.process.drift[-1] / 4 == pytest.approx(np.std(market.forecast), rel=0.05)


def test_the_optimum_pays_clearly_under_default_costs(market):
    params = make_params(market.bars.asset_class)
    assert solve(market.process, params).gain > 1e-4  # more than 1 basis point a bar


def test_the_optimum_earns_what_dynamic_programming_promises(market):
    whole = Segment(0, len(market.bars))
    params = make_params(market.bars.asset_class)
    realised = market.optimum_return(params, whole) / (len(whole) - 1)
    # Sampling error: noise and gaps of about 25 bp a bar over 13 000 equity bars are 0.22 bp, plus the slow drift.
    assert realised == pytest.approx(solve(market.process, params).gain, abs=0.8e-4)


def test_the_optimum_beats_buy_and_hold_flat_and_the_sign_of_the_last_bar(market):
    params = make_params(market.bars.asset_class)
    segment = last_sixth(market)
    bars = market.bars
    bearish = SELL_75 if params.allow_short else CLOSE
    rivals = {
        "buy and hold": np.full(len(bars), BUY_75),
        "flat": np.full(len(bars), HOLD),
        "sign of the last bar": np.where(bars.close > bars.open, BUY_75, bearish),
        "sign of the forecast": np.where(market.forecast > 0, BUY_75, bearish),
    }
    best = market.optimum_return(params, segment)
    for name, actions in rivals.items():
        assert net_log_return(bars, actions, params, segment) < best, name


def test_a_wider_or_narrower_hold_band_is_not_better(market):
    params = make_params(market.bars.asset_class)
    segment = Segment(0, len(market.bars))
    rule = address_only_rule(solve(market.process, params), params)
    band = market.process.drift[rule == BUY_75].min()
    bearish = SELL_75 if params.allow_short else CLOSE

    def earned(width: float) -> float:
        above, below = market.forecast > width * band, market.forecast < -width * band
        actions = np.select([above, below], [BUY_75, bearish], HOLD)
        return net_log_return(market.bars, actions, params, segment)

    best = market.optimum_return(params, segment)
    # Half the band lies within the sampling error of the whole one: the optimum is flat.
    assert all(earned(width) < best for width in (0.0, 2.0, 3.0))
    assert earned(0.5) < 1.01 * best
