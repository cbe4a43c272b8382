"""Can a reward be raised by losing money? A search over simple policies on constructed markets and on real bars."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtf_env import actions as codes
from jtf_env import environment
from jtf_env.bars import make_bars
from jtf_env.constants import MIN_GROWTH
from jtf_env.orders import select
from jtf_env.params import DEFAULT_REWARD, REWARD_PRESETS, EnvParams, make_params
from jtf_env.rewards import weighted_reward
from tests.contract.helpers import Prices, make_markets

STEPS = 4_000
FIRST = 2
"""First decision bar of the helpers' windows of 3."""
BP = 1e4


class Case(NamedTuple):
    """Prices of `STEPS` steps and the rules they are traded under."""

    prices: Prices
    params: EnvParams


def from_moves(moves: np.ndarray, wick: float = 0.0) -> Prices:
    """Bars without gaps whose closes return ``moves [T]``; highs reach `wick` (fraction) above the body."""
    close = 100.0 * np.cumprod(1.0 + moves)
    opens = np.r_[100.0, close[:-1]]
    return {
        "open": opens,
        "high": np.maximum(opens, close) * (1.0 + wick),
        "low": np.minimum(opens, close),
        "close": close,
        "tradable": np.ones(len(moves), bool),
    }


def rules(slippage: float, **others: float) -> EnvParams:
    return make_params(slippage=slippage, episode_bars=0, **others)


def reversal() -> Case:
    """Moves of 4 bp that change their sign 58 times in 100, at 2 bp a side."""
    rng = np.random.default_rng(0)
    signs = np.cumprod(np.where(rng.random(STEPS + FIRST + 1) < 0.58, -1.0, 1.0))
    return Case(from_moves(4e-4 * signs), rules(2e-4))


def take_profit() -> Case:
    """Prices that stand still but for highs of 6 bp, a take-profit at 1 bp, 2 bp a side: a trip loses 1 bp."""
    return Case(from_moves(np.zeros(STEPS + FIRST + 1), wick=6e-4), rules(2e-4, take_profit=1e-4))


def crashes() -> Case:
    """+1 bp a bar, and -3 % every hundredth: half the crash is hidden from a clip of 50 bp."""
    bar = np.arange(STEPS + FIRST + 1)
    return Case(from_moves(np.where(bar % 100 == 99, -0.03, 1e-4)), rules(1e-5))


def jackpots() -> Case:
    """-1 bp a bar, and +3 % every hundredth: holding loses on 99 of 100 bars and earns."""
    bar = np.arange(STEPS + FIRST + 1)
    return Case(from_moves(np.where(bar % 100 == 99, 0.03, -1e-4)), rules(1e-5))


def walk() -> Case:
    """A driftless random walk of 20 bp a bar, at 2 bp a side, with stops."""
    moves = 20e-4 * np.random.default_rng(1).standard_normal(STEPS + FIRST + 1)
    return Case(from_moves(moves, wick=5e-4), rules(2e-4, stop_loss=0.01, take_profit=0.005))


MARKETS: dict[str, Callable[[], Case]] = {
    "reversal": reversal, "take_profit": take_profit, "crashes": crashes, "jackpots": jackpots, "walk": walk,
}  # fmt: skip


def spy(folder: Path) -> Case:
    """Real bars at the default costs."""
    bars = make_bars(pd.read_parquet(folder / "SPY_15Min.parquet"), "SPY")[: STEPS + FIRST + 1]
    prices = {name: np.asarray(getattr(bars, name)) for name in ("open", "high", "low", "close", "tradable")}
    return Case(prices, make_params(episode_bars=0))


def policies(close: np.ndarray) -> dict[str, np.ndarray]:
    """Actions ``[STEPS]`` of constant, alternating, fading, following and random policies."""
    step = np.arange(STEPS)
    moves = np.diff(close, prepend=close[0])[FIRST : FIRST + STEPS]
    sides = {
        "25": (codes.BUY_25, codes.SELL_25),
        "50": (codes.BUY_50, codes.SELL_50),
        "75": (codes.BUY_75, codes.SELL_75),
    }
    found = {f"always {codes.ACTION_NAMES[a]}": np.full(STEPS, a) for a in range(codes.NUM_ACTIONS)}
    for size, (buy, sell) in sides.items():
        for period in (1, 2, 4, 16):
            found[f"alternate {size} every {period}"] = np.where(step // period % 2 == 0, buy, sell)
            found[f"buy {size}, close every {period}"] = np.where(step // period % 2 == 0, buy, codes.CLOSE)
        found[f"fade {size}"] = np.where(moves > 0, sell, np.where(moves < 0, buy, codes.HOLD))
        found[f"follow {size}"] = np.where(moves > 0, buy, np.where(moves < 0, sell, codes.HOLD))
    for seed in range(16):
        found[f"random {seed}"] = np.random.default_rng(seed).integers(0, codes.NUM_ACTIONS, STEPS)
    return found


class Totals(NamedTuple):
    """What every policy of a search had, summed over the steps: a number a policy."""

    names: list[str]
    rewards: dict[str, np.ndarray]
    """By preset."""
    money: np.ndarray
    """Log growth of equity."""

    def best(self, preset: str) -> int:
        """The policy with the highest reward."""
        return int(np.argmax(self.rewards[preset]))

    def upside_down(self, preset: str) -> int:
        """Pairs of policies of which one has more reward and the other more money."""
        reward, money = self.rewards[preset] / STEPS, self.money / STEPS
        # float32 equity over 4 000 steps: differences below a thousandth of a basis point a step say nothing.
        more_reward = reward[:, None] > reward[None, :] + 1e-5
        less_money = money[:, None] < money[None, :] - 1e-7
        return int((more_reward & less_money).sum())


@jax.jit
@jax.vmap
def play(actions, market, params):
    """Sums of one policy's rewards under every preset, and its log growth; ruin ends both."""

    def body(carry, action):
        state, alive = carry
        after, result = environment.step(state, action, market, params)
        rewards = jnp.stack([weighted_reward(result.info.components, w) for w in REWARD_PRESETS.values()])
        return (select(alive, after, state), alive & ~result.terminated), jnp.where(alive, rewards, 0.0)

    start = environment.reset_at(FIRST, market, params)
    (state, _), rewards = jax.lax.scan(body, (start, jnp.bool_(True)), actions)
    return rewards.sum(axis=0), jnp.log(jnp.maximum(state.equity / params.initial_equity, MIN_GROWTH))


def search(case: Case) -> Totals:
    """Let every policy trade the market once."""
    market = make_markets(case.prices)[0]
    named = policies(case.prices["close"])
    actions = jnp.asarray(np.stack(list(named.values())), jnp.int32)
    copies = len(named)
    spread = jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x), (copies, *jnp.shape(x))), (market, case.params))
    rewards, money = jax.device_get(play(actions, *spread))
    return Totals(list(named), dict(zip(REWARD_PRESETS, rewards.T, strict=True)), money)


@cache
def totals(name: str) -> Totals:
    return search(MARKETS[name]())


@pytest.fixture(scope="module")
def spy_totals(real_data) -> Totals:
    return search(spy(real_data))


@pytest.mark.parametrize("name", MARKETS)
def test_no_policy_has_more_of_the_default_reward_and_less_money(name):
    assert totals(name).upside_down(DEFAULT_REWARD) == 0


def test_no_policy_has_more_of_the_default_reward_and_less_money_on_real_bars(spy_totals):
    assert spy_totals.upside_down(DEFAULT_REWARD) == 0


@pytest.mark.parametrize("name", ["reversal", "take_profit", "crashes"])
def test_the_composite_reward_is_highest_where_money_is_lost(name):
    found = totals(name)
    best = found.best("composite")
    # To stay flat has a reward of 0 and loses nothing.
    assert found.rewards["composite"][best] > 0 > found.money[best]


def test_the_composite_reward_turns_pairs_of_policies_upside_down_on_real_bars(spy_totals):
    assert spy_totals.upside_down("composite") > 0


def test_the_clipped_log_return_is_highest_where_money_is_lost():
    found = totals("crashes")
    best = found.best("log_return_clipped")
    assert found.rewards["log_return_clipped"][best] > 0 > found.money[best]


def table_rows(name: str, found: Totals) -> list[tuple[str, ...]]:
    """The documented row of each preset on one market."""
    rows = []
    for preset in REWARD_PRESETS:
        best = found.best(preset)
        reward, money = found.rewards[preset][best] / STEPS, BP * found.money[best] / STEPS
        cells = (name, preset, found.names[best], f"{reward:+.4f}", f"{money:+.2f}", str(found.upside_down(preset)))
        rows.append(cells)
    return rows


def documented_rows(name: str) -> list[tuple[str, ...]]:
    page = (Path(__file__).parents[2] / "docs" / "environment.md").read_text()
    return re.findall(rf"^\| ({name}) \| (\w+) \| ([^|]+) \| (\S+) \| (\S+) \| (\d+) \|$", page, re.MULTILINE)


@pytest.mark.parametrize("name", MARKETS)
def test_the_documented_table_is_what_the_search_finds(name):
    assert documented_rows(name) == table_rows(name, totals(name))


def test_the_documented_table_is_what_the_search_finds_on_real_bars(spy_totals):
    assert documented_rows("SPY") == table_rows("SPY", spy_totals)
