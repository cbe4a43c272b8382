"""The verdict from both sides, by the whole pipeline: folds, trained policies, one verdict on all folds.

On the market *regime*, whose optimum is known, it must end APPROVED but for SYNTHETIC. On *noise*, and on bars of SPY
in random order, it must never. All markets are trained with the same settings, by more steps than a smoke test has.

Verdicts stand in the ``--json`` file and cells under ``--runs``: a proof that was killed goes on where it stopped. A
file that another revision of the code wrote proves nothing of this one, and is begun anew; so must ``--runs`` be.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import RESULTS, Row, device_info, format_table
from jtf.errors import UserError, run_command
from jtf.experiment.cells import plan_cells
from jtf.experiment.executor import LocalExecutor, Outcome
from jtf.experiment.experiment import Experiment, results, run_experiment
from jtf.known_optimum.markets import KnownOptimumMarket, known_market
from jtf.reporter import Silent
from jtf.results.results import RunResult
from jtf.results.run_directory import git_revision, json_ready, write_json
from jtf.results.verdict import Verdict
from jtf.run import settings_config
from jtf.splits import Segment, walk_forward
from jtf.task import SymbolData, load_symbol
from jtf.walkforward import judge_symbol
from jtf_env.bars import Bars, make_bars
from jtf_env.layouts import DEFAULT_WINDOW
from jtf_env.mirror import market as mirror_market

SETTINGS: dict[str, Any] = {
    "total_steps": 5 * 512 * 128, "num_envs": 512, "hidden_sizes": (64,), "minibatch_size": 2048,
    "feature_noise": 0.5, "dropout": 0.5, "ent_coef": 0.0, "validation_interval": 1, "checkpoint_interval": 0,
}  # fmt: skip
"""Of every training; the rest are the defaults of ``jtf.train``. Dropout is that of the learning checks, noise that of
*regime* seen with the account."""
NUM_BARS = 20_000
"""Of the made markets: three folds train on 10 800 bars each and test 2 300."""
FOLDS = 3
SHUFFLED = "shuffled SPY"
DRAWS = {"regime": 3, "noise": 10, SHUFFLED: 20}
"""Markets, and how many of each are drawn."""


@dataclass(frozen=True, eq=False)
class KnownSymbol(SymbolData):
    """The data of a made market, whose columns are not computed from its prices."""

    known: KnownOptimumMarket | None = None

    @cached_property
    def natural(self) -> Any:
        """The table the market was drawn with."""
        assert self.known is not None
        return self.known.natural

    @cached_property
    def mirror(self) -> mirror_market.Market:
        """The same table in NumPy."""
        rows = {name: np.asarray(getattr(self.natural, name)) for name in mirror_market.Market.__dataclass_fields__
                if name not in ("layout", "window", "first_bar")}  # fmt: skip
        fixed = {name: getattr(self.natural, name) for name in ("layout", "window", "first_bar")}
        return mirror_market.Market(**rows, **fixed)

    def optimum_return(self, segment: Segment) -> float | None:
        """Return the net log return of the best possible trader over a segment; None where there is no edge."""
        assert self.known is not None
        best = self.known.net_log_return(self.known.optimum_actions(segment), segment)
        return best if best > 0 else None


class Quiet:
    """A watcher that only says why a cell failed."""

    def started(self, *_: Any) -> None:
        """Say nothing."""

    def begun(self, *_: Any) -> None:
        """Say nothing."""

    def ended(self, outcome: Outcome) -> None:
        """Raise what made a cell fail."""
        if outcome.state != "finished":
            raise UserError(f"a cell of the proof did not finish: {outcome.error}")

    def finished(self) -> None:
        """Say nothing."""


def made_symbol(name: str, seed: int, num_bars: int = NUM_BARS) -> KnownSymbol:
    """Return the data of a market of `jtf.known_optimum.markets`."""
    known = known_market(name, num_bars, seed, unseen_bars=num_bars // 4)
    sha256 = f"{name} {seed} {num_bars}"
    return KnownSymbol(known.bars, sha256, known.natural.layout, DEFAULT_WINDOW, known.params, known)


def shuffled_symbol(folder: Path, seed: int, settings: dict[str, Any]) -> SymbolData:
    """Return the data of SPY's bars in random order."""
    frame = pd.read_parquet(folder / "SPY_15Min.parquet")
    return load_symbol(settings_config({"symbol": "SPY", **settings}), shuffled_bars(frame, seed))


def shuffled_bars(frame: pd.DataFrame, seed: int) -> Bars:
    """Return the bars of `frame` in random order at its times: every bar keeps its shape, volume and opening gap."""
    prices = frame[["open", "high", "low", "close"]].to_numpy()
    relative = prices[1:] / prices[:-1, 3:]
    order = np.random.default_rng([8, seed]).permutation(len(relative))
    last = prices[0, 3] * np.cumprod(np.append(1.0, relative[order, 3]))[:-1]
    columns = np.concatenate([prices[:1], relative[order] * last[:, None]])
    volume = np.append(frame["volume"].iloc[:1], frame["volume"].to_numpy()[1:][order])
    table = pd.DataFrame(columns, frame.index, ["open", "high", "low", "close"]).assign(volume=volume)
    return make_bars(table, "SPY", source="SPY in random order")


def judge_market(market: str, seed: int, runs: Path, data: Path, settings: dict[str, Any] = SETTINGS) -> Row:
    """Train all folds of a market, judge them together, and return what is remarkable."""
    symbol = shuffled_symbol(data, seed, settings) if market == SHUFFLED else made_symbol(market, seed)
    name = symbol.bars.symbol
    config = settings_config({"symbol": name, "out": runs, "report": False, **settings})
    folds = walk_forward(
        len(symbol.bars), symbol.first_bar, config.window, config.split, FOLDS, bar_minutes=symbol.bars.bar_minutes
    )
    cells = plan_cells(config, symbol, folds)
    experiment = Experiment("walkforward", f"{market.replace(' ', '-')}-{seed}", runs, cells)
    executor = LocalExecutor(runs, {name: symbol}, lambda cell: Silent(), lambda: False)
    run_experiment(experiment, executor, Quiet())
    found = results(experiment)
    judged = judge_symbol(experiment, found, name, symbol.bars.bars_per_year)
    test, verdict = judged.metrics["test"], judged.verdict
    return {
        "market": market,
        "seed": seed,
        "approved but for SYNTHETIC": approved_but_for_synthetic(verdict),
        "status": verdict.status,
        "score": normalised_score(found),
        "return": test.total_return,
        "random 95 %": judged.random_return,
        "Sharpe": test.sharpe,
        "deflated Sharpe": judged.luck.deflated_sharpe,
        "profit factor": test.profit_factor,
        "trades": test.num_trades,
        "drawdown": test.max_drawdown,
        "folds with profit": sum(result.metrics["test"].total_return > 0 for result in found),
        "reasons": list(verdict.reasons),
    }


def approved_but_for_synthetic(verdict: Verdict) -> bool:
    """Whether nothing but that the bars are made stands against a verdict."""
    made = verdict.status == "REVIEW" and all("SYNTHETIC" in reason for reason in verdict.reasons)
    return verdict.status == "APPROVED" or made


def normalised_score(found: Sequence[RunResult]) -> float | None:
    """Return the log growth of all test segments over that of the best possible trader; None where it is not known."""
    optima = [result.optimum["test"]["log_return"] for result in found if result.optimum]
    if len(optima) < len(found):
        return None
    return sum(math.log1p(result.metrics["test"].total_return) for result in found) / sum(map(float, optima))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 1 where a verdict is not the one it must be."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--markets", nargs="+", choices=list(DRAWS), default=list(DRAWS))
    parser.add_argument("--seeds", type=int, nargs="+", help="default: all of the market")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of SPY_15Min.parquet")
    parser.add_argument("--runs", type=Path, default=Path("runs/verdict_proof"), help="folder of the cells")
    parser.add_argument("--json", type=Path, default=RESULTS / "verdict_proof.json", help="file of the rows")
    return run_command(lambda: run(parser.parse_args(argv)))


def known_rows(path: Path) -> list[Row]:
    """Return the rows of the file; none where it is absent, or of other settings or of another revision of the code."""
    record = json.loads(path.read_text()) if path.exists() else {}
    same = (record.get("settings"), record.get("revision")) == (json_ready(SETTINGS), git_revision())
    return record["rows"] if same else []


def run(args: argparse.Namespace) -> int:
    """Judge what is not in the file yet, one line each, add the rows to it, and print the whole table."""
    rows = {(row["market"], row["seed"]): row for row in known_rows(args.json)}
    found = list(rows.values())
    for market in args.markets:
        for seed in args.seeds if args.seeds is not None else range(DRAWS[market]):
            if (market, seed) in rows:
                continue
            rows[market, seed] = judge_market(market, seed, args.runs, args.data)
            print({name: value for name, value in rows[market, seed].items() if name != "reasons"}, flush=True)
            found = [rows[key] for key in sorted(rows)]
            about = {"settings": SETTINGS, "revision": git_revision(), "device": device_info()}
            write_json(args.json, about | {"rows": found})
    print(format_table([{name: value for name, value in row.items() if name != "reasons"} for row in found]))
    wrong = [row for row in found if row["approved but for SYNTHETIC"] != (row["market"] == "regime")]
    print(f"{len(found) - len(wrong)} of {len(found)} verdicts are what they must be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
