"""What four ways to see the hourly picture are worth: 51 columns, 58 with it broadcast, two full windows, two models.

Every architecture but ``dual models, twice`` takes the same number of environment steps on the same training bars,
with the same settings; its parameters are chosen on validation bars, and its score is on test bars that chose nothing.
In the known *hourly* market a seed is another market and another network, and scores are shares of the optimum. On real
bars (``--real FOLDER``) a seed is another network, and scores are net log returns a 1 000 bars.

``dual models`` are two policies of 51 columns, one of 15-minute bars and one of hourly bars, that vote (`vote`). Each
takes half of the steps, and a step of the hourly one is an hour. In ``dual models, twice`` each takes all of them.
Finished cells are kept in a file, so a run that was killed goes on where it stopped.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from benchmarks.defaults import log_growth
from benchmarks.dual_windows import dual_problem
from benchmarks.learning import add_learning_flags, learner_config, shared_compilations
from benchmarks.measure import Row, make_parser, report
from benchmarks.phases import resolve_for
from benchmarks.pictures import new_figure, save_figure
from benchmarks.two_timeframes import (
    ALONE,
    BROADCAST,
    KNOWN,
    PER_HOUR,
    SEGMENTS,
    TwoTimeframes,
    known_two_timeframes,
    real_two_timeframes,
    segments,
)
from jtf.environment import row_table
from jtf.errors import run_command
from jtf.problem import Problem, make_problem
from jtf.results.run_directory import git_revision
from jtf_env.actions import BUY_75, NUM_ACTIONS
from jtf_env.market import Market, fold_market, scale_market
from jtf_ppo import PPOConfig, train
from jtf_ppo.learner import make_learner
from jtf_ppo.networks import make_network
from jtf_ppo.types import MemberResult

VOTES = (0.15, 0.25)
"""Weights of the 15-minute and of the hourly model in the vote of v5.2.0."""
GPU_TRUNK = (512, 256, 128)
CELLS = Path("runs/architectures.jsonl")
"""Finished cells, one a line."""
NO_FEE = ", no fee"
SETTINGS = (
    "train_bars", "validation_bars", "unseen_bars", "updates", "num_envs", "num_steps", "minibatch_size",
    "update_epochs", "hidden_sizes", "learning_rate", "validation_interval", "cost_warmup",
)  # fmt: skip
"""Flags that decide the numbers of a cell."""
CHOICES = ("best", "last")
"""Parameters that validated best, as a run saves them, and those of the last update, without selection."""


class Trained(NamedTuple):
    """An architecture after training."""

    probabilities: dict[str, np.ndarray]
    """``[T, A]`` of every 15-minute bar, for each of `CHOICES`."""
    networks: int
    inputs: int
    """Numbers that a decision sees."""
    parameters: int
    first_layer: int
    """Parameters of the first layer."""
    steps: int
    """Environment steps."""
    cpu_seconds: float
    """Of all updates and their validations, by those after the first one. Other work on the machine
    lengthens them less than seconds of the clock."""
    compile_seconds: float


def vote(quarters: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Return the mean of the action probabilities ``[T, A]`` of both models, weighted by `VOTES`."""
    return (VOTES[0] * quarters + VOTES[1] * hours) / sum(VOTES)


def train_problem(problem: Problem, whole: Market, config: PPOConfig) -> Trained:
    """Train one member; `whole` is the standardised market of all bars."""
    env, config = problem.environment, resolve_for(problem.data[0], config)
    ticks: list[float] = []
    result = train(
        env,
        problem.data,
        config,
        validation=problem.validation,
        on_update=lambda _: ticks.append(time.process_time()),
    )
    (member,) = result.members
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(layer)) for name, layer in member.params.items()}
    return Trained(
        row_probabilities(problem, whole, config, member),
        1,
        env.observation_dim,
        sum(sizes.values()),
        sizes["first"],
        result.steps,
        (ticks[-1] - ticks[0]) * len(ticks) / max(len(ticks) - 1, 1),
        result.compile_seconds,
    )


def row_probabilities(
    problem: Problem, whole: Market, config: PPOConfig, member: MemberResult
) -> dict[str, np.ndarray]:
    """Return the action probabilities ``[T, A]`` of each of `CHOICES`, zero before the first decision bar."""
    env, learner = problem.environment, make_learner(problem.environment, config)
    rows = fold_market(whole, [(whole.first_bar, whole.num_bars)])
    table = row_table((rows, problem.data[1]))
    _, state = make_network(env, config, jax.random.key(0))
    evaluate = jax.jit(lambda state, table: jax.nn.softmax(learner.evaluate(state).evaluate_rows(table)[0]))
    found = {}
    for choice, params in zip(CHOICES, (member.best_params, member.params), strict=True):
        nnx.replace_by_pure_dict(state, params)
        later = np.asarray(evaluate(state, table))[rows.first_bar :]
        found[choice] = np.concatenate([np.zeros((whole.first_bar, env.num_actions)), later])
    return found


def layout_problem(both: TwoTimeframes, layout: str, cost_warmup: float) -> tuple[Problem, Market]:
    """Return the problem of the 15-minute bars in a layout, and its market of all bars."""
    natural = both.natural[layout]
    problem = make_problem(
        natural, both.fold, both.params, both.bars_per_year, cost_warmup=cost_warmup, long_run=both.long_run
    )
    return problem, scale_market(natural, problem.scaler)


def hourly_problem(both: TwoTimeframes, cost_warmup: float) -> tuple[Problem, Market]:
    """Return the problem of the hourly bars, and its market of all of them."""
    problem = make_problem(
        both.hourly,
        both.hourly_fold,
        both.params,
        both.bars_per_year / PER_HOUR,
        cost_warmup=cost_warmup,
        long_run=both.long_run,
    )
    return problem, scale_market(both.hourly, problem.scaler)


def train_layout(both: TwoTimeframes, config: PPOConfig, cost_warmup: float, layout: str) -> Trained:
    """Train one policy of the 15-minute bars in a layout."""
    return train_problem(*layout_problem(both, layout, cost_warmup), config)


def train_dual_windows(both: TwoTimeframes, config: PPOConfig, cost_warmup: float) -> Trained:
    """Train one policy of both windows in full."""
    alone = [layout_problem(both, ALONE, cost_warmup)[0], hourly_problem(both, cost_warmup)[0]]
    return train_problem(*dual_problem(both, *alone, cost_warmup), config)


def train_dual_models(both: TwoTimeframes, config: PPOConfig, cost_warmup: float, share: float) -> Trained:
    """Train a policy of 15-minute bars and one of hourly bars, each for a share of the steps, and let them vote."""
    config = replace(config, total_steps=int(share * config.total_steps))
    quarters = train_problem(*layout_problem(both, ALONE, cost_warmup), config)
    hours = train_problem(*hourly_problem(both, cost_warmup), config)
    seen = np.maximum(both.last, 0)
    voted = {choice: vote(quarters.probabilities[choice], hours.probabilities[choice][seen]) for choice in CHOICES}
    return Trained(voted, *(a + b for a, b in zip(quarters[1:], hours[1:], strict=True)))


Architecture = Callable[[TwoTimeframes, PPOConfig, float], Trained]
ARCHITECTURES: dict[str, Architecture] = {
    "51 columns": partial(train_layout, layout=ALONE),
    "58, hour broadcast": partial(train_layout, layout=BROADCAST),
    "dual windows": train_dual_windows,
    "dual models": partial(train_dual_models, share=0.5),
    "dual models, twice": partial(train_dual_models, share=1.0),
}


def load_market(market: str, seed: int, args: argparse.Namespace) -> TwoTimeframes:
    """Return a market by the name it has in the table."""
    if market == KNOWN:
        return known_two_timeframes(seed, (args.train_bars, args.validation_bars, args.unseen_bars))
    return real_two_timeframes(market.removesuffix(NO_FEE), args.real, market.endswith(NO_FEE))


def train_cell(market: str, architecture: str, seed: int, args: argparse.Namespace) -> Row:
    """Train one architecture on one market and score it on every segment."""
    both = load_market(market, seed, args)
    trained = ARCHITECTURES[architecture](both, learner_config(args, seed), args.cost_warmup)
    cell = {name: value for name, value in trained._asdict().items() if name != "probabilities"}
    for choice in CHOICES:
        actions = np.argmax(trained.probabilities[choice], axis=1)
        for name, part, priced, unit in zip(SEGMENTS, segments(both.fold), both.priced, both.units, strict=True):
            seen = actions[part.start - priced.window + 1 : part.stop]
            cell[f"{choice} {name}"] = log_growth(seen, priced, both.params) / unit
    held = np.full(both.priced[-1].num_bars, BUY_75)
    cell["held test"] = log_growth(held, both.priced[-1], both.params) / both.units[-1]
    return {"market": market, "architecture": architecture, "seed": seed, **cell, "revision": git_revision()}


def run_cells(markets: Sequence[str], args: argparse.Namespace) -> list[Row]:
    """Return the cells of every market, architecture and seed; what the file of cells holds is not trained again."""
    settings = {name: value for name, value in vars(args).items() if name in SETTINGS}
    done = [json.loads(line) for line in args.cells.read_text().splitlines()] if args.cells.exists() else []
    cells = []
    for market, architecture, seed in product(markets, args.architectures, args.seeds):
        key = {"market": market, "architecture": architecture, "seed": seed, "settings": settings}
        cell = next((cell for cell in done if key.items() <= cell.items()), None)
        if cell is None:
            cell = key | train_cell(market, architecture, seed, args)
            args.cells.parent.mkdir(parents=True, exist_ok=True)
            with args.cells.open("a") as file:
                file.write(json.dumps(cell) + "\n")
        print(f"{market}, {architecture}, seed {seed}: {cell['best test']:.3f}", flush=True)
        cells.append(cell)
    return cells


def summary_row(cells: Sequence[Row]) -> Row:
    """Return one line of an architecture on a market: medians over the seeds, and the range of the test score."""
    first = cells[0]
    middle = {name: median(cell[name] for cell in cells) for name, value in first.items() if isinstance(value, float)}
    tests = [cell["best test"] for cell in cells]
    widths = first["settings"]["hidden_sizes"]
    return {
        "market": first["market"],
        "architecture": first["architecture"],
        "seeds": len(cells),
        "inputs": first["inputs"],
        "parameters": first["parameters"],
        "first layer": first["first_layer"] / first["parameters"],
        "first layer, GPU trunk": wide_share(first["first_layer"] / widths[0], first["networks"]),
        "steps": first["steps"],
        "CPU s": middle.get("cpu_seconds"),
        "train": middle["last train"],
        "validation": middle["last validation"],
        "gap": median(cell["last train"] - cell["last validation"] for cell in cells),
        "test of last": middle["last test"],
        "test": middle["best test"],
        "lowest": min(tests),
        "highest": max(tests),
        "buy and hold": middle["held test"],
    }


def wide_share(rows: float, networks: int, widths: Sequence[int] = GPU_TRUNK) -> float:
    """Return the first layer's share of the parameters where `networks` have `rows` first-layer rows and `widths`."""
    later = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise([*widths, NUM_ACTIONS + 1]))
    return rows * widths[0] / (rows * widths[0] + networks * later)


def draw(rows: Sequence[Row], cells: Sequence[Row], path: Path) -> None:
    """Draw the gap and the test score of every seed as dots and their medians as bars, a panel a market."""
    markets = list(dict.fromkeys(row["market"] for row in rows))
    figure, panels = new_figure(len(markets), across=min(2, len(markets)))
    for market, axes in zip(markets, panels, strict=True):
        mine = [row for row in rows if row["market"] == market]
        for place, row in enumerate(mine):
            runs = [cell for cell in cells if (cell["market"], cell["architecture"]) == (market, row["architecture"])]
            for shift, colour, values in (
                (-0.2, "#9aa7b3", [run["last train"] - run["last validation"] for run in runs]),
                (0.2, "#2f6f9f", [run["best test"] for run in runs]),
            ):
                axes.bar(place + shift, median(values), width=0.36, color=colour)
                axes.plot(place + shift + np.linspace(-0.1, 0.1, len(values)), values, "o", color="black", markersize=3)
        held = "" if market == KNOWN else ", buy and hold (dashed)"
        axes.set_xticks(range(len(mine)), [row["architecture"].replace(", ", ",\n") for row in mine], fontsize=7)
        axes.set_ylabel("share of the known optimum" if market == KNOWN else "net log return a 1 000 bars")
        axes.set_title(f"{market}: train - validation (grey), test (blue){held}", fontsize=9)
        axes.axhline(0.0, color="grey", linewidth=1)
        if market != KNOWN:
            axes.axhline(mine[0]["buy and hold"], color="tab:orange", linewidth=1, linestyle="--")
    save_figure(figure, path)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add_learning_flags(parser, updates=14, num_envs=2048, update_epochs=6, learning_rate=5e-4, validation_interval=1)
    parser.set_defaults(minibatch_size=None)
    parser.add_argument("--validation-bars", type=int, default=6_000)
    parser.add_argument("--cost-warmup", type=float, default=1.0, help="share of the run over which costs rise")
    parser.add_argument("--architectures", nargs="+", choices=tuple(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--real", type=Path, help="folder of SYMBOL_15Min files; adds real bars, needs pyarrow")
    parser.add_argument("--no-fee", nargs="*", default=["BTCUSDT"], help="symbols with --real that are added so")
    parser.add_argument("--cells", type=Path, default=CELLS, help="file of finished cells")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/architectures.png"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    real = [*args.symbols, *(symbol + NO_FEE for symbol in args.no_fee)] if args.real else []
    with shared_compilations():
        cells = run_cells([KNOWN, *real], args)
    groups: dict[tuple[str, str], list[Row]] = {}
    for cell in cells:
        groups.setdefault((cell["market"], cell["architecture"]), []).append(cell)
    rows = [summary_row(group) for group in groups.values()]
    report("architectures", rows, args, details=cells)
    if not args.no_write:
        draw(rows, cells, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
