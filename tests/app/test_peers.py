"""Other projects' trainers on our environment: each learns, in 50 000 steps, to earn money after costs.

The market tells the sign of the next bar's return. A policy that does not look at it loses its costs.
"""

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.learning import known_problem, num_bars_for
from benchmarks.peer import PEERS, PeerConfig, start_peer
from jtf.known_optimum.markets import KnownOptimumMarket, known_market
from jtf_env.adapters.gymnax import TradingEnv

STEPS = 50_000
CONFIG = PeerConfig(
    num_envs=16, num_minibatches=8, update_epochs=4, hidden_sizes=(64,), learning_rate=1e-3, gamma=0.9, ent_coef=0.0
)
LIBRARY = {"purejaxrl": "gymnax", "rejax": "rejax", "sb3": "stable_baselines3", "cleanrl": "torch"}
# Warnings of other projects' libraries are theirs, and they promote ranks.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def foreign_rules():
    with jax.numpy_rank_promotion("allow"):
        yield


@cache
def market() -> KnownOptimumMarket:
    return known_market("next_bar", num_bars_for(6_000, 4_000), unseen_bars=4_000)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_earns_after_costs_on_unseen_bars(peer: str) -> None:
    pytest.importorskip(LIBRARY[peer])
    known = market()
    problem = known_problem(known)
    session = start_peer(peer, problem.data, CONFIG, seed=0)
    for _ in range(-(-STEPS // CONFIG.batch_size)):
        session.iterate()
    validation = problem.validation.data.market
    actions = np.zeros(known.natural.num_bars, np.int32)
    actions[-validation.num_bars :] = session.row_logits(validation).argmax(axis=1)
    assert known.normalised_score(actions) > 0.3


@pytest.mark.parametrize("algorithm", ["PPO", "DQN", "SAC"])
def test_rejax_trains_and_evaluates_by_itself(algorithm: str) -> None:
    rejax = pytest.importorskip("rejax")
    env = TradingEnv(*known_problem(market()).data, api="classic")
    common: dict[str, Any] = {
        "env": env,
        "env_params": env.default_params,
        "total_timesteps": STEPS,
        "eval_freq": STEPS,
        "skip_initial_evaluation": True,
        "learning_rate": 1e-3,
        "gamma": 0.9,
        "num_envs": 32,
    }
    replay = {"buffer_size": 4096, "fill_buffer": 1024, "batch_size": 256, "num_epochs": 2}
    own = {
        "PPO": {"num_steps": 32, "num_minibatches": 8, "num_epochs": 4, "ent_coef": 0.0},
        "DQN": replay,
        "SAC": replay | {"hidden_layer_sizes": (64,), "target_entropy_ratio": 0.3},
    }
    trainer = getattr(rejax, algorithm).create(**common, **own[algorithm])
    state, (lengths, returns) = jax.jit(lambda trainer, key: trainer.train(key))(trainer, jax.random.key(0))
    assert state.global_step >= STEPS
    assert np.all(lengths <= env.default_params.max_steps_in_episode)
    assert returns.mean() > 0.0
