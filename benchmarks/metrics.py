"""Measuring a backtest: both accounts, trades and metrics of a million bars, and the baselines beside them.

The policy trades every 20 bars, at random, so that it has about 64 000 fills: more than any that pays its costs.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import Row, make_parser, report
from jtf.errors import run_command
from jtf.results.bar_account import bar_account, trading_days
from jtf.results.baselines import further_backtests, random_timing, trade_levels
from jtf.results.evaluation import steps_metrics
from jtf.results.luck import sharpe_luck
from jtf.results.metrics import bar_returns
from jtf.results.trade_account import trade_accounts
from jtf.results.trades import backtest_trades
from jtf.splits import Segment
from jtf_env.bars import Bars, make_bars
from jtf_env.layouts import DEFAULT_LAYOUT, get_layout
from jtf_env.mirror.backtest import Backtest
from jtf_env.mirror.market import Market
from jtf_env.params import EnvParams
from jtf_env.stretches import stretch_rows

BARS_A_TRADE = 20
PARAMS = EnvParams(fee=0.0, slippage=0.0, max_drawdown=1.0)


def random_walk(num_bars: int) -> Bars:
    """Return 24/7 bars of a random walk of 0.2 % a bar."""
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0.0, 2e-3, num_bars)))
    opened = np.concatenate([close[:1], close[:-1]])
    columns = {"open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close}
    index = pd.date_range("1990-01-01", periods=num_bars, freq="15min", tz="UTC", name="timestamp")
    return make_bars(pd.DataFrame(columns | {"volume": 1.0}, index=index), "BTCUSDT")


def price_market(bars: Bars) -> Market:
    """Return a market without columns: what is traded here needs prices alone."""
    nothing = np.zeros((len(bars), 0))
    prices = (bars.open, bars.high, bars.low, bars.close, bars.tradable)
    rows = stretch_rows([(0, len(bars))], len(bars))
    return Market(nothing, nothing, *prices, *rows, get_layout(DEFAULT_LAYOUT), window=1, first_bar=0)


def measure_everything(backtest: Backtest, bars: Bars) -> None:
    """Compute all that a result says of one backtest, from its equity and fills on."""
    trades = backtest_trades(backtest, PARAMS)
    steps_metrics(backtest, trades, PARAMS, bars.bars_per_year, np.ones(len(backtest.actions), bool))
    bar_account(backtest, bars, trading_days(bars))
    trade_accounts(trades, bars, PARAMS.fill)
    sharpe_luck(bar_returns(backtest.equity), bars.bars_per_year, [0.1, 0.2])


def timed(part: str, function: Callable[[], Any], repeats: int) -> Row:
    """Return the fastest of some runs: the least disturbed one. CPU seconds beside wall seconds."""
    wall, cpu = [], []
    for _ in range(repeats):
        began = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    return {"part": part, "run s": min(wall), "CPU s": min(cpu)}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--num-bars", type=int, default=1_000_000)
    parser.add_argument("--baseline-bars", type=int, default=14_000, help="bars of the segment the baselines trade")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    bars = random_walk(args.num_bars)
    market, rng = price_market(bars), np.random.default_rng(1)
    levels = np.repeat(rng.integers(-4, 5, args.num_bars // BARS_A_TRADE + 1), BARS_A_TRADE)
    backtest = trade_levels(market, levels[: args.num_bars - 1], PARAMS, Segment(0, args.num_bars))
    short = Segment(0, min(args.baseline_bars, args.num_bars))
    traded = trade_levels(market, levels[: len(short) - 1], PARAMS, short)
    rows = [
        timed("metrics, both accounts, luck", partial(measure_everything, backtest, bars), args.repeats),
        timed("cross and foresight", partial(further_backtests, market, PARAMS, short), args.repeats),
        timed(
            "100 random timings",
            partial(random_timing, traded, market, PARAMS, short),
            min(2, args.repeats),
        ),
    ]
    trades = len(backtest_trades(backtest, PARAMS))
    summary = {"bars": args.num_bars, "fills": len(backtest.fills), "trades": trades, "baseline bars": len(short)}
    report("metrics", rows, args, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
