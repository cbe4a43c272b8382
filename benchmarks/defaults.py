"""Which settings earn most: one axis at a time on five built-in markets, reported on nine others.

Every setting trains several members on every market as ``jtf.train --mode smoke`` does, and is scored on the test bars:
1 is the optimum, 0 is flat. The single score is that of a member's best-validated parameters, as a run saves them.
Finished cells are kept in a file, so a run that was killed goes on where it stopped.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from benchmarks.learning import shared_compilations
from benchmarks.measure import Row, make_parser, report
from benchmarks.pictures import new_figure, save_figure
from jtf.data.synthetic import synthetic_market
from jtf.environment import on_device, trade_once
from jtf.errors import run_command
from jtf.models.policy import Params, row_outputs
from jtf.results.run_directory import git_revision
from jtf.splits import split
from jtf_env.constants import MIN_GROWTH
from jtf_env.market import Market, fold_market, scale_market
from jtf_env.params import EnvParams
from jtf_ppo import train

CHOSEN_ON = ("CLSK", "AAA", "BBB", "CCC", "AAA/USD")
"""Markets that settings are chosen on."""
REPORTED_ON = ("DDD", "EEE", "FFF", "GGG", "HHH", "III", "BBB/USD", "CCC/USD", "DDD/USD")
"""Markets nothing was chosen on."""

Settings = dict[str, Any]
"""Flags of ``jtf.train`` by their field names, as `jtf.fit` takes them."""

BEFORE: Settings = {
    "preset": "composite", "standardise": "bar", "cost_warmup": 0.0, "hidden_sizes": (256, 128), "update_epochs": 10,
    "learning_rate": 3e-4, "feature_noise": 1.0, "dropout": 0.0, "ent_coef": 0.015,
}  # fmt: skip
"""The defaults before this benchmark."""
START: Settings = BEFORE | {
    "preset": "log_return", "standardise": "long_run", "cost_warmup": 0.6, "hidden_sizes": (64,), "update_epochs": 4,
    "learning_rate": 1e-3,
}  # fmt: skip
"""Where the search starts: a tenth of the arithmetic, so that every axis can be tried."""
SETTINGS: dict[str, Settings] = {
    "start": {},
    "reward composite": {"preset": "composite"},
    "reward log_return_clipped": {"preset": "log_return_clipped"},
    "standardise bar": {"standardise": "bar"},
    "cost warm-up off": {"cost_warmup": 0.0},
    "cost warm-up to the end": {"cost_warmup": 1.0},
    "noise 0.5": {"feature_noise": 0.5},
    "noise 2": {"feature_noise": 2.0},
    "dropout 0.5": {"dropout": 0.5},
    "entropy 0.005": {"ent_coef": 0.005},
    "noise 2, entropy 0.005": {"feature_noise": 2.0, "ent_coef": 0.005},
    "before": BEFORE,
}
"""What differs from `START`."""
REPORTED = ["start", "cost warm-up to the end"]
"""Settings that are trained on the nine markets; the last one became the defaults."""
CELLS = Path("runs/defaults.jsonl")
"""Finished cells, one a line."""


def train_cell(market: str, settings: Settings, members: int) -> Row:
    """Train one setting on one built-in market and score every member and their ensemble on the test bars."""
    # They need what a machine for measuring the engines may lack, e.g. tyro.
    from jtf.run import settings_config
    from jtf.task import load_symbol, make_task

    began = time.perf_counter()
    config = settings_config({"symbol": market, "members": members, "mode": "smoke"} | START | settings)
    data = load_symbol(config)
    fold = split(len(data.bars), data.first_bar, config.window, config.split, data.bars.bar_minutes)
    task = make_task(config, data, fold)
    problem = task.problem
    result = train(problem.environment, problem.data, task.learner, num_members=members, validation=problem.validation)
    test = fold_market(scale_market(data.natural, problem.scaler), [(fold.test.start, fold.test.stop)])
    optimum = synthetic_market(market).optimum_return(task.params, fold.test)
    best, last = (
        [row_probabilities(params, test) for params in choice]
        for choice in ([m.best_params for m in result.members], [m.params for m in result.members])
    )

    def score(tables: Sequence[np.ndarray]) -> float:
        return log_growth(np.argmax(np.mean(tables, axis=0), axis=1), test, task.params) / optimum

    return {
        "market": market,
        "settings": settings,
        "members": members,
        "best": [score([table]) for table in best],
        "last": [score([table]) for table in last],
        "ensemble": score(best),
        "ensemble of last": score(last),
        "best updates": [member.best_update for member in result.members],
        "updates": task.learner.total_updates,
        "seconds": time.perf_counter() - began,
        "revision": git_revision(),
    }


def row_probabilities(params: Params, test: Market) -> np.ndarray:
    """Return the action probabilities ``[T, A]`` of one member at the rows of the test market."""
    features, context = np.asarray(test.features), np.asarray(test.context)
    return softmax(row_outputs(params, features, context, test.first_bar).logits, axis=1)


def log_growth(actions: np.ndarray, test: Market, params: EnvParams) -> float:
    """Return the log growth of equity, net of costs, of one action a row ``[T]`` of the test market."""
    return float(trade_actions(jnp.asarray(actions, jnp.int32), test, on_device(replace(params, episode_bars=0))))


@jax.jit
def trade_actions(actions: jax.Array, market: Market, params: EnvParams) -> jax.Array:
    """Trade one action a row once through a market, from the first decision row on."""
    steps = trade_once(lambda state: actions[state.bar], market, params)
    return jnp.log(jnp.maximum(steps.equity[-1] / params.initial_equity, MIN_GROWTH))


def run_cells(markets: Sequence[str], names: Sequence[str], members: int, path: Path) -> list[Row]:
    """Return the cells of every setting and market; what `path` holds is not trained again."""
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {cell_key(cell["market"], cell["settings"], cell["members"]): cell for cell in done}
    cells = []
    for name, market in product(names, markets):
        key = cell_key(market, SETTINGS[name], members)
        if key not in known:
            known[key] = train_cell(market, SETTINGS[name], members)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(known[key]) + "\n")
        cell = known[key]
        print(f"{name}, {market}: ensemble {cell['ensemble']:.2f}, {cell['seconds']:.0f} s", flush=True)
        cells.append({"setting": name, **cell})
    return cells


def cell_key(market: str, settings: Settings, members: int) -> str:
    """Return what identifies a cell."""
    return json.dumps([market, START | settings, members], sort_keys=True)


def summary_rows(cells: Sequence[Row], markets: str) -> list[Row]:
    """Return one line a setting: quartiles over markets and members of the single score, and the ensembles' median."""
    rows = []
    for setting in dict.fromkeys(cell["setting"] for cell in cells):
        mine = [cell for cell in cells if cell["setting"] == setting]
        single = np.quantile(np.concatenate([cell["best"] for cell in mine]), [0.25, 0.5, 0.75])
        together = np.quantile([cell["ensemble"] for cell in mine], [0.25, 0.5, 0.75])
        rows.append(
            {
                "setting": setting,
                "markets": markets,
                "members": mine[0]["members"],
                "single 25 %": float(single[0]),
                "single": float(single[1]),
                "single 75 %": float(single[2]),
                "single mean": float(np.mean(np.concatenate([cell["best"] for cell in mine]))),
                "ensemble 25 %": float(together[0]),
                "ensemble": float(together[1]),
                "ensemble 75 %": float(together[2]),
                "last mean": float(np.mean(np.concatenate([cell["last"] for cell in mine]))),
                "seconds": sum(cell["seconds"] for cell in mine),
            }
        )
    return rows


def draw(cells: Sequence[Row], path: Path) -> None:
    """Draw every market's single scores and ensemble, a panel a setting."""
    settings = list(dict.fromkeys(cell["setting"] for cell in cells))
    figure, panels = new_figure(len(settings))
    scores = [score for cell in cells for score in (*cell["best"], cell["ensemble"])]
    for axes, setting in zip(panels, settings, strict=True):
        mine = [cell for cell in cells if cell["setting"] == setting]
        for place, cell in enumerate(mine):
            axes.plot([place] * len(cell["best"]), cell["best"], "o", color="tab:blue", alpha=0.4, markersize=4)
            axes.plot(place, cell["ensemble"], "D", color="tab:orange", markersize=6)
        axes.axhline(1.0, color="grey", linewidth=1, linestyle="--")
        axes.axhline(0.0, color="grey", linewidth=1)
        axes.set_xticks(range(len(mine)), [cell["market"] for cell in mine], rotation=60, fontsize=8)
        axes.set_ylim(min(0.0, *scores) - 0.1, max(1.0, *scores) + 0.1)
        axes.set_ylabel("normalised score, test bars")
        axes.set_title(f"{setting} (diamonds: ensembles)", fontsize=9)
    save_figure(figure, path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--settings", nargs="+", choices=tuple(SETTINGS), default=list(SETTINGS), help="to choose among"
    )
    parser.add_argument("--reported", nargs="*", choices=tuple(SETTINGS), default=REPORTED, help="on nine others")
    parser.add_argument("--members", type=int, nargs=2, default=[3, 5], help="on the five markets and on the nine")
    parser.add_argument("--cells", type=Path, default=CELLS, help="file of finished cells")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/defaults.png"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    with shared_compilations():
        chosen = run_cells(CHOSEN_ON, args.settings, args.members[0], args.cells)
        reported = run_cells(REPORTED_ON, args.reported, args.members[1], args.cells)
    rows = summary_rows(chosen, "chosen on") + summary_rows(reported, "reported on")
    report("defaults", rows, args, details=chosen + reported)
    if reported and not args.no_write:
        draw(reported, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
