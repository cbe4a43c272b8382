"""The account a bar and the account a trade, by hand, against empyrical, and calendar-true."""

from dataclasses import replace

import empyrical
import numpy as np
import pandas as pd
import pytest

from jtf.results import bar_account, trade_account
from jtf.results.metrics import bar_returns, max_drawdown, sharpe, sortino, total_return
from jtf.results.trades import Trade, backtest_trades
from jtf_env.actions import BUY_50, BUY_75, CLOSE, HOLD, SELL_50
from jtf_env.bars import Bars, make_bars
from jtf_env.mirror.backtest import Backtest, replay, run_backtest
from jtf_env.params import EnvParams
from tests.contract.helpers import make_markets
from tests.env.test_bars import crypto_day, whole_year

pytestmark = pytest.mark.quick

PARAMS = EnvParams(fee=0.001, slippage=0.002, initial_equity=1_000.0, episode_bars=0, max_drawdown=1.0)
TIMES = pd.date_range("2024-01-01", periods=8, freq="15min", tz="UTC")


def price_bars(rows: list[list[float]]) -> Bars:
    """24/7 bars with these opens, highs, lows and closes."""
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"], dtype=float).assign(volume=1.0)
    return make_bars(frame.set_index(TIMES[: len(rows)].rename("timestamp")), "BTCUSDT")


def play(bars: Bars, actions: list[int], params: EnvParams = PARAMS) -> Backtest:
    """Decide `actions` from row 2 on, HOLD afterwards."""
    prices = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "tradable")}
    codes = np.full(len(bars), HOLD)
    codes[2 : 2 + len(actions)] = actions
    return run_backtest(make_markets(prices)[1], replay(codes), params)


# --- the account a bar ----------------------------------------------------------------------------------------

RETURNS = np.random.default_rng(0).standard_t(5, 2_000) * 0.004 + 0.0002
EQUITY = 1_000.0 * np.cumprod(np.concatenate([[1.0], 1.0 + RETURNS]))
YEAR = 6_552.0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (total_return(EQUITY), empyrical.cum_returns_final(RETURNS)),
        (sharpe(EQUITY, YEAR), empyrical.sharpe_ratio(RETURNS, annualization=YEAR)),
        (sortino(EQUITY, YEAR), empyrical.sortino_ratio(RETURNS, annualization=YEAR)),
        (-max_drawdown(EQUITY), empyrical.max_drawdown(RETURNS)),
        (bar_account.volatility(EQUITY, YEAR), empyrical.annual_volatility(RETURNS, annualization=YEAR)),
        (bar_account.annual_return(EQUITY, YEAR), empyrical.annual_return(RETURNS, annualization=YEAR)),
    ],
    ids=["total_return", "sharpe", "sortino", "max_drawdown", "volatility", "annual_return"],
)
def test_what_empyrical_measures_too_is_the_same(ours, theirs):
    assert ours == pytest.approx(float(theirs), rel=1e-9)


def test_calmar_is_empyricals():
    bars = whole_bars(len(EQUITY))
    account = bar_account.bar_account(backtest_of(EQUITY), bars, bar_account.trading_days(bars))
    theirs = empyrical.calmar_ratio(RETURNS, annualization=bars.bars_per_year)
    assert account.calmar == pytest.approx(float(theirs), rel=1e-9)


def whole_bars(count: int) -> Bars:
    return make_bars(crypto_day(count), "BTCUSDT")


def backtest_of(equity: np.ndarray) -> Backtest:
    """A backtest with this equity and no fills."""
    size = len(equity)
    zeros = np.zeros(size)
    return Backtest(np.arange(size), zeros + 1, equity, zeros, zeros, zeros, zeros[1:], (), 0, False)


def test_fees_slippage_turnover_and_break_even_by_hand():
    # 50 % of 1 000 USD: 500 / (100.2 * 1.001) = 4.9850 units bought at 100.2, sold at 119.76 (120 less 0.2 %).
    backtest = play(price_bars([[100] * 4] * 4 + [[120] * 4] * 2), [BUY_50, CLOSE])
    bars = price_bars([[100] * 4] * 4 + [[120] * 4] * 2)
    account = bar_account.bar_account(backtest, bars, bar_account.trading_days(bars))
    units = 500 / (100.2 * 1.001)
    notional = units * (100.2 + 119.76)
    assert account.fees == pytest.approx(0.001 * notional)
    assert account.slippage == pytest.approx(units * (0.2 + 0.24))
    assert account.break_even_bp == pytest.approx(1e4 * units * 20 / notional)
    per_year = bars.bars_per_year
    assert account.turnover == pytest.approx(notional / backtest.equity.mean() * per_year / 3)


def test_at_the_break_even_cost_the_fills_earn_nothing():
    rows = [[100] * 4] * 4 + [[103] * 4] * 2
    bars = price_bars(rows)
    free = replace(PARAMS, fee=0.0, slippage=0.0)
    account = bar_account.bar_account(play(bars, [BUY_75, CLOSE], free), bars, bar_account.trading_days(bars))
    charged = play(bars, [BUY_75, CLOSE], replace(free, fee=account.break_even_bp / 1e4))
    assert charged.equity[-1] == pytest.approx(1_000.0, abs=1e-9)


def test_without_a_fill_there_is_no_break_even_cost():
    bars = price_bars([[100] * 4] * 6)
    account = bar_account.bar_account(play(bars, []), bars, bar_account.trading_days(bars))
    assert account.break_even_bp is None and (account.turnover, account.fees) == (0.0, 0.0)


def test_a_drawdown_has_the_dates_of_its_peak_trough_and_recovery():
    found = bar_account.find_drawdown(np.array([100.0, 110, 110, 99, 88, 100, 110, 90]), TIMES)
    assert found.depth == pytest.approx(0.2)
    assert [found.peak, found.trough, found.recovery] == [TIMES[k].isoformat() for k in (2, 4, 6)]
    assert found.bars == 4


def test_a_drawdown_that_is_not_recovered_lasts_to_the_end():
    found = bar_account.find_drawdown(np.array([100.0, 110, 90, 95, 100]), TIMES[:5])
    assert (found.recovery, found.bars) == (None, 3)


def test_equity_that_only_rises_has_a_drawdown_of_nothing():
    found = bar_account.find_drawdown(np.array([100.0, 101, 102]), TIMES[:3])
    assert (found.depth, found.peak, found.recovery, found.bars) == (0.0, TIMES[0].isoformat(), TIMES[0].isoformat(), 0)


def test_daily_equity_is_the_last_mark_of_each_day_and_loses_no_return():
    days = np.array([0, 0, 0, 1, 1, 3])
    equity = np.array([100.0, 101, 102, 103, 104, 105])
    np.testing.assert_array_equal(bar_account.daily_equity(equity, days), [100, 102, 104, 105])
    np.testing.assert_array_equal(bar_account.daily_equity(equity[2:], days[2:]), [102, 104, 105])


def test_equity_that_is_gone_has_no_annual_return():
    assert bar_account.annual_return(np.array([100.0, -1.0]), YEAR) is None


# --- annualisation, the golden table ----------------------------------------------------------------------------


def every_other_day(frame: pd.DataFrame) -> pd.DataFrame:
    days = frame.index.tz_convert("America/New_York").normalize()
    kept = np.unique(days)[::2]
    return frame[days.isin(kept)]


GOLDEN = {
    # name: (bars, symbol, bars a year, trading days a year)
    "2022: 251 sessions, one half day of 14 bars": (whole_year(2022), "SPY", 250 * 26 + 14, 251),
    "2023: 250 sessions, two half days": (whole_year(2023), "SPY", 248 * 26 + 28, 250),
    "both years": (pd.concat([whole_year(2022), whole_year(2023)]), "SPY", (6_514 + 6_476) / 2, 250.5),
    "half a year": (whole_year(2022)[: 26 * 120], "SPY", 6_514, 251),
    "every other session": (every_other_day(whole_year(2022)[: 26 * 101]), "SPY", 6_514 * 51 / 101, 251 * 51 / 101),
    "crypto, a whole day": (crypto_day(96), "BTCUSDT", 35_040, 365),
    "crypto, two days of three": (crypto_day(288).iloc[np.r_[0:96, 192:288]], "BTCUSDT", 35_040 * 2 / 3, 365 * 2 / 3),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bars_and_days_a_year_are_those_of_the_golden_table(name):
    frame, symbol, bars_per_year, days_per_year = GOLDEN[name]
    bars = make_bars(frame, symbol)
    assert bars.bars_per_year == pytest.approx(bars_per_year, rel=1e-3)
    assert bar_account.trading_days(bars).per_year == pytest.approx(days_per_year, rel=1e-12)


def test_the_day_of_an_equity_bar_is_its_local_date():
    bars = make_bars(whole_year(2022)[:52], "SPY")
    days = bar_account.trading_days(bars).ids
    assert (days == np.repeat([18995, 18996], 26)).all()  # 2022-01-03 and the day after.


def test_a_real_year_of_spy_has_the_days_of_the_calendar_but_for_the_one_that_is_absent(real_data):
    frame = pd.read_parquet(real_data / "SPY_15Min.parquet")
    bars = make_bars(frame, "SPY")
    days = bar_account.trading_days(bars)
    present = len(np.unique(days.ids))
    assert days.per_year == pytest.approx((251 + 250) / 2 * present / (present + 1))  # 2023-02-10 is absent.


def test_the_daily_sharpe_of_independent_returns_is_near_that_of_the_bars():
    bars = make_bars(pd.concat([whole_year(2022), whole_year(2023)]), "SPY")
    returns = np.random.default_rng(3).normal(1e-4, 2e-3, len(bars) - 1)
    equity = np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
    account = bar_account.bar_account(backtest_of(equity), bars, bar_account.trading_days(bars))
    # Standard error of either: sqrt(1 / 2 years) = 0.7, of their difference about a tenth of it.
    assert account.sharpe_daily == pytest.approx(account.sharpe, abs=0.3)


# --- the account a trade -----------------------------------------------------------------------------------------

# Two warm-up bars, then: bought at 100, sold at 110; sold short at 110, covered at 120; a long left open.
ROWS = [
    [100, 100, 100, 100], [100, 100, 100, 100], [100, 100, 100, 100],
    [100, 106, 97, 104], [110, 130, 90, 110], [120, 140, 80, 120], [120, 121, 119, 120],
]  # fmt: skip
FREE = replace(PARAMS, fee=0.0, slippage=0.0)


def accounts(actions: list[int], params: EnvParams = FREE, rows: list[list[float]] = ROWS):
    bars = price_bars(rows)
    trades = backtest_trades(play(bars, actions, params), params)
    return trades, trade_account.trade_accounts(trades, bars, params.fill)


def test_two_trades_by_hand():
    # 500 USD at 100: 5 units earn 50. Flip at 110: 50 % of 1 050 short, 4.7727 units lose 47.73.
    _, found = accounts([BUY_50, SELL_75_TWICE, CLOSE])
    total = found.total
    assert total.num_trades == 2 and total.win_rate == 0.5
    lost = found.by_direction["short"].net
    assert found.by_direction["long"].net == pytest.approx(50.0) and lost < 0
    assert total.payoff == total.profit_factor == pytest.approx(50.0 / -lost)
    assert total.expectancy == pytest.approx((50.0 + lost) / 2) == pytest.approx(total.net / 2)
    assert total.bars_held == 1.0


SELL_75_TWICE = 6
"""From two levels long through zero to one short."""


def test_excursions_cover_the_bars_held_whole_and_the_exit():
    # Long over the bar 97..106, out at the next open, 110, before that bar reaches 90 or 130.
    trades, _ = accounts([BUY_50, CLOSE])
    bars = price_bars(ROWS)
    mae, mfe = trade_account.excursions(trades, bars.high, bars.low, FREE.fill)
    assert (mae[0], mfe[0]) == (pytest.approx(0.03), pytest.approx(0.10))


def test_excursions_of_a_short_are_turned_round():
    trades, _ = accounts([SELL_50, CLOSE])
    bars = price_bars(ROWS)
    mae, mfe = trade_account.excursions(trades, bars.high, bars.low, FREE.fill)
    assert (mae[0], mfe[0]) == (pytest.approx(0.10), pytest.approx(0.03))


def test_where_orders_fill_at_the_close_the_entry_bar_is_not_held_and_the_exit_bar_is():
    at_close = replace(FREE, fill="close")
    trades, _ = accounts([HOLD, BUY_50, CLOSE], at_close)  # Bought at 104, sold at the close of the bar 90..130.
    bars = price_bars(ROWS)
    mae, mfe = trade_account.excursions(trades, bars.high, bars.low, at_close.fill)
    assert (mae[0], mfe[0]) == (pytest.approx(1 - 90 / 104), pytest.approx(130 / 104 - 1))


def test_the_bar_of_a_stop_counts_up_to_the_stop():
    # Stopped at 95 in the bar that falls on to 90: 130, in the same bar, may have come later.
    stopped = replace(FREE, stop_loss=0.05)
    rows = [*ROWS[:4], [104, 130, 90, 110], *ROWS[5:]]
    trades, found = accounts([BUY_50], stopped, rows)
    bars = price_bars(rows)
    mae, mfe = trade_account.excursions(trades, bars.high, bars.low, stopped.fill)
    assert (mae[0], mfe[0]) == (pytest.approx(0.05), pytest.approx(0.06))
    assert set(found.by_reason) == {"stop"}


def test_excursions_are_those_of_a_loop_over_the_bars():
    rng = np.random.default_rng(1)
    high = 100 + rng.random(50)
    low = 100 - rng.random(50)
    cuts = np.sort(rng.choice(50, 20, replace=False))
    pairs = list(zip(cuts[::2].tolist(), cuts[1::2].tolist(), strict=True))
    trades = [trade_of(entry, leave, direction=1) for entry, leave in pairs]
    mae, mfe = trade_account.excursions(trades, high, low, FREE.fill)
    np.testing.assert_allclose(mae, [1 - min(low[a:b].min(), 100) / 100 for a, b in pairs])
    np.testing.assert_allclose(mfe, [max(high[a:b].max(), 100) / 100 - 1 for a, b in pairs])


def trade_of(entry: int, leave: int, direction: int, net: float = 1.0) -> Trade:
    return Trade(entry, leave, direction, 1.0, 100.0, 100.0, net, 0.0, net, leave - entry, "signal", False, 0.0, 0.0)


def test_trades_are_grouped_by_hour_and_weekday_of_the_entry_on_the_exchanges_clock():
    bars = make_bars(whole_year(2022)[:52], "SPY")  # Monday 3 and Tuesday 4 January, 09:30 New York first.
    trades = [trade_of(0, 1, 1, 5.0), trade_of(2, 3, 1, -1.0), trade_of(27, 28, -1, 2.0)]
    found = trade_account.trade_accounts(trades, bars, FREE.fill)
    assert {hour: account.net for hour, account in found.by_hour.items()} == {"09": 7.0, "10": -1.0}
    assert {day: account.num_trades for day, account in found.by_weekday.items()} == {"Monday": 2, "Tuesday": 1}


def test_a_position_still_open_is_no_closed_trade():
    trades, found = accounts([BUY_50])
    assert trades[0].open_at_end and found.total.num_trades == 0 and found.by_direction == {}


def test_without_a_trade_everything_is_undefined_and_nothing_is_a_sentinel():
    _, found = accounts([])
    assert found.total == trade_account.TradeAccount(0, 0.0, None, None, None, None, None, None, None)


def test_the_returns_of_the_two_accounts_meet_in_the_change_of_equity():
    bars = price_bars(ROWS)
    backtest = play(bars, [BUY_50, CLOSE], PARAMS)
    trades = trade_account.trade_accounts(backtest_trades(backtest, PARAMS), bars, PARAMS.fill)
    per_bar = bar_account.bar_account(backtest, bars, bar_account.trading_days(bars))
    assert trades.total.net == pytest.approx(1_000.0 * per_bar.total_return)
    assert np.prod(1 + bar_returns(backtest.equity)) == pytest.approx(1 + per_bar.total_return)
