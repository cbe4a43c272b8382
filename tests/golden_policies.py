"""Golden policies: a small one of every layout, and what it decided on stored bars when it was made.

``python -m tests.golden_policies`` writes the files under ``tests/data``. Run it when `FEATURES_VERSION` or
`ENV_VERSION` is raised, and never to make a test pass: the files are there to show that decisions have not changed.

- ``bars.csv``: made bars of US equity, 2 to 29 November 2023: the clocks change on the 5th, the 23rd has no session and
  the 24th ends early; some bars have no volume.
- ``<layout>.safetensors``: two members with random weights, whose decisions follow the account where they see it.
- ``decisions.json``: by layout the action at every bar of the closed loop, the mean probabilities of some of them, and
  the equity at its end.
- ``features_version_1.safetensors`` was written by the code before 007dfe1, and is never written again.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jtf.models.policy import Policy
from jtf.models.policy_file import load_policy, save_policy
from jtf_env.bars import Bars, make_bars
from jtf_env.layouts import LAYOUTS, Layout
from jtf_env.mirror.account import Observation
from jtf_env.mirror.backtest import run_backtest
from jtf_env.mirror.market import build_market
from jtf_env.params import make_params
from jtf_env.scaler import fit_scaler
from jtf_env.sessions import exchange_schedule

FOLDER = Path(__file__).parent / "data"
BARS, DECISIONS = FOLDER / "bars.csv", FOLDER / "decisions.json"
SYMBOL, WINDOW, WIDTH, MEMBERS = "GOLD", 6, 4, 2
EVERY = 25
"""One decision in so many has its probabilities stored."""
MARGIN = 1e-4
"""Least difference of the two largest probabilities: rounding decides nothing."""


def golden_bars() -> Bars:
    """Return the stored bars."""
    frame = pd.read_csv(BARS, parse_dates=["timestamp"])
    return make_bars(frame, SYMBOL, asset_class="us_equity", source=str(BARS))


def golden_path(layout: str) -> Path:
    """Return the policy file of a layout."""
    return FOLDER / f"{layout}.safetensors"


def decisions_of(policy: Policy, bars: Bars) -> tuple[dict[str, Any], float]:
    """Return what `policy` decides on `bars` in a closed loop, as `DECISIONS` holds it, and the least margin."""
    market = policy.market(bars)
    decide, probabilities = policy.decider(market), []

    def watched(observation: Observation) -> int:
        probabilities.append(policy.probabilities_at(market, observation))
        return decide(observation)

    backtest = run_backtest(market, watched, policy.env_params)
    second, first = np.partition(np.array(probabilities), [-2, -1], axis=1)[:, -2:].T
    decided = {
        "actions": "".join(map(str, backtest.actions.tolist())),
        "probabilities": np.array(probabilities)[::EVERY].round(12).tolist(),
        "equity": float(backtest.equity[-1]),
    }
    return decided, float((first - second).min())


def make_frame() -> pd.DataFrame:
    """Return new bars: a random walk of 0.3 % a bar in cents, volumes of some hundred, some of 0."""
    rng = np.random.default_rng(11)
    schedule = exchange_schedule(2023, 2023)
    days = (schedule.open >= pd.Timestamp("2023-11-02", tz="UTC")) & (
        schedule.open < pd.Timestamp("2023-11-30", tz="UTC")
    )
    times = pd.DatetimeIndex(
        [
            time
            for first, last in zip(schedule.open[days], schedule.close[days], strict=True)
            for time in pd.date_range(first, last, freq="15min", inclusive="left")
        ]
    )
    close = 50.0 * np.exp(np.cumsum(0.003 * rng.standard_t(4, len(times))))
    opens = np.concatenate([close[:1], close[:-1]])
    wicks = 1.0 + 0.001 * rng.exponential(size=(2, len(times)))
    columns = {
        "open": opens, "high": np.maximum(opens, close) * wicks[0], "low": np.minimum(opens, close) / wicks[1],
        "close": close,
    }  # fmt: skip
    frame = pd.DataFrame({name: column.round(2) for name, column in columns.items()})
    frame["volume"] = np.where(rng.random(len(times)) < 0.02, 0, np.exp(rng.normal(6.0, 1.0, len(times))).round())
    frame.insert(0, "timestamp", times.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return frame


def make_policy(layout: Layout, bars: Bars, seed: int) -> Policy:
    """Return a policy of random weights for `layout`."""
    rng = np.random.default_rng(seed)
    natural = build_market(bars, layout, window=WINDOW)
    features, context = len(layout.bar_columns), len(layout.context_columns + layout.state_columns)

    def draw(deviation: float, *shape: int) -> np.ndarray:
        return rng.normal(0.0, deviation, shape).astype(np.float32)

    def member() -> dict[str, Any]:
        return {
            "first": {
                "kernel": draw(0.1, WINDOW, features, WIDTH),
                "context_kernel": draw(0.2, context, WIDTH),
                "bias": draw(0.1, WIDTH),
            },
            "hidden_0": {"kernel": draw(0.7, WIDTH, WIDTH), "bias": draw(0.3, WIDTH)},
            "policy": {"kernel": draw(2.0, WIDTH, 8), "bias": draw(0.1, 8)},
            "value": {"kernel": draw(1.0, WIDTH, 1), "bias": draw(0.1, 1)},
        }

    return Policy(
        members=tuple(member() for _ in range(MEMBERS)),
        seeds=tuple(range(MEMBERS)),
        scaler=fit_scaler(natural.features, natural.context, layout.warmup),
        symbol=SYMBOL,
        layout=layout,
        window=WINDOW,
        env_params=make_params("us_equity"),
        bars_per_year=6_540.0,
        data_kind="synthetic",
    )  # fmt: skip


def main() -> None:
    """Write every file; for each layout the first seed that uses five actions and leaves nothing to rounding."""
    FOLDER.mkdir(exist_ok=True)
    make_frame().to_csv(BARS, index=False)
    bars, decisions = golden_bars(), {}
    for layout in LAYOUTS.values():
        for seed in range(1000):
            policy = make_policy(layout, bars, seed)
            decided, margin = decisions_of(policy, bars)
            if margin > MARGIN and len(set(decided["actions"])) >= 5:
                break
        save_policy(policy, golden_path(layout.name))
        decisions[layout.name] = decisions_of(load_policy(golden_path(layout.name)), bars)[0]
        print(f"{layout.name}: seed {seed}, {len(decided['actions'])} decisions, margin {margin:.1e}")
    DECISIONS.write_text(json.dumps(decisions, indent=1) + "\n")


if __name__ == "__main__":
    main()
