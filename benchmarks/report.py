"""The page of a run of 93 000 bars with three members: seconds to write it, its size, seconds until it is drawn.

The policy is random and trades often, so that there are more fills than any that pays its costs would have. Drawing
is timed in headless Chromium where that and playwright are installed.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, make_parser, report
from benchmarks.metrics import random_walk
from jtf.data.check import bars_record
from jtf.errors import run_command
from jtf.models.policy import Params, Policy
from jtf.report import write_report
from jtf.results.evaluation import evaluate
from jtf.results.results import MemberResult, RunResult, measure, write_results
from jtf.results.tables import add_member_equity
from jtf.splits import SplitConfig, split
from jtf_env.bars import Bars
from jtf_env.layouts import get_layout
from jtf_env.mirror.market import build_market
from jtf_env.params import make_params
from jtf_env.scaler import Scaler

WINDOW, WIDTH = 4, 8


def random_params(seed: int) -> Params:
    """Return the parameters of a small random network that takes every action often."""
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.3, shape).astype(np.float32)

    return {
        "first": {"kernel": array(WINDOW, 51, WIDTH), "context_kernel": array(7, WIDTH), "bias": array(WIDTH)},
        "policy": {"kernel": array(WIDTH, 8), "bias": array(8)},
        "value": {"kernel": array(WIDTH, 1), "bias": array(1)},
    }


def random_policy(bars: Bars, seeds: Sequence[int]) -> Policy:
    """Return an ensemble of random members; nothing costs anything, so that none is ruined."""
    layout = get_layout("v5.6.0")
    natural = build_market(bars, layout, window=WINDOW)
    columns = np.concatenate([natural.features, natural.context], axis=1)[natural.first_bar :]
    return Policy(
        members=tuple(map(random_params, seeds)),
        seeds=tuple(seeds),
        scaler=Scaler(columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-9)),
        symbol=bars.symbol,
        layout=layout,
        window=WINDOW,
        env_params=make_params("crypto", fee=0.0, slippage=0.0, max_drawdown=1.0),
        bars_per_year=bars.bars_per_year,
    )


def make_run(num_bars: int, members: int, directory: Path) -> RunResult:
    """Write the results of a random policy into `directory`."""
    bars = random_walk(num_bars)
    policy = random_policy(bars, range(members))
    market = policy.market(bars)
    segments = split(num_bars, market.first_bar, WINDOW, SplitConfig()).segments
    measured = measure(policy, bars, market, segments)
    plays = []
    for index in range(members):
        decide = policy.member(index).decider(market)
        plays.append(
            {
                name: evaluate(decide, market, policy.env_params, one, bars.bars_per_year)
                for name, one in segments.items()
            }
        )
    equity = {seed: {name: one[1] for name, one in play.items()} for seed, play in enumerate(plays)}
    result = RunResult.from_measured(
        measured,
        symbol=bars.symbol,
        members=tuple(
            MemberResult(seed, policy.sha256, 1, {name: one[0] for name, one in play.items()})
            for seed, play in enumerate(plays)
        ),
        summary={"status": "finished", "data": bars_record(bars, "none")},
    )
    curves = add_member_equity(result.curves, equity)
    return write_results(directory, RunResult(**vars(result) | {"curves": curves}))


def time_drawing(page: Path, repeats: int) -> list[Row]:
    """Return seconds until the first part and until every part of a page is drawn; none where no browser is."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return []
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return []
    first, ready = [], []
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(repeats):
            opened = chromium.new_page(viewport={"width": 1440, "height": 900})
            opened.goto(page.resolve().as_uri())
            opened.wait_for_selector("html[data-ready]", timeout=120_000)
            first.append(float(opened.get_attribute("html", "data-first") or "nan"))
            ready.append(float(opened.get_attribute("html", "data-ready") or "nan"))
            opened.close()
        chromium.close()
    return [
        {"part": "first part drawn", "run s": min(first) / 1000},
        {"part": "every part drawn", "run s": min(ready) / 1000},
    ]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--num-bars", type=int, default=93_000)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-draw", action="store_true", help="leave the browser out")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        result = make_run(args.num_bars, args.members, Path(folder))
        wall, cpu = [], []
        for _ in range(args.repeats):
            began = time.perf_counter(), time.process_time()
            page = write_report(Path(folder))
            wall.append(time.perf_counter() - began[0])
            cpu.append(time.process_time() - began[1])
        rows: list[Row] = [{"part": "page, twin, pictures", "run s": min(wall), "CPU s": min(cpu)}]
        rows += [] if args.no_draw else time_drawing(page, args.repeats)
        summary = {"bars": args.num_bars, "fills": len(result.fills), "page MB": round(page.stat().st_size / 1e6, 2)}
    report("report", rows, args, summary)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
