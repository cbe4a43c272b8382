"""Stable-Baselines3's PPO on the Gymnasium adapter.

Its usual two networks are replaced by one trunk with two heads, which halves its work.
"""

import os
from collections.abc import Sequence
from itertools import pairwise

import gymnasium
import jax
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.measure import clock
from benchmarks.peer import PeerConfig, Session, host_row_logits
from jtf.environment import TradingData
from jtf_env.adapters.gymnasium import TradingEnv


class Trunk(BaseFeaturesExtractor):
    """Dense ReLU layers that policy and value share."""

    def __init__(self, observation_space: gymnasium.spaces.Box, hidden_sizes: Sequence[int]):
        super().__init__(observation_space, hidden_sizes[-1])
        widths = (observation_space.shape[0], *hidden_sizes)
        layers = [layer for pair in pairwise(widths) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """``[B, D]`` to ``[B, H]``."""
        return self.layers(observations)


def start(data: TradingData, config: PeerConfig, seed: int) -> Session:
    """Make the trainer on a market; compile is the adapters' first step."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    environments = DummyVecEnv([lambda k=k: TradingEnv(*data, seed=seed + k) for k in range(config.num_envs)])
    began = clock()
    environments.reset()
    environments.step([0] * config.num_envs)
    compile_seconds = clock() - began
    model = make_model(environments, config, seed)

    def apply(observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.policy.get_distribution(torch.as_tensor(observation)).distribution.logits.numpy()

    def iterate() -> None:
        model.learn(config.batch_size, reset_num_timesteps=False)

    return Session(iterate, lambda market: host_row_logits(apply, market), compile_seconds)


def make_model(environments: DummyVecEnv, config: PeerConfig, seed: int) -> PPO:
    """Return Stable-Baselines3's PPO with these settings."""
    return PPO(
        "MlpPolicy",
        environments,
        n_steps=config.num_steps,
        batch_size=config.minibatch_size,
        n_epochs=config.update_epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_eps,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={
            "features_extractor_class": Trunk,
            "features_extractor_kwargs": {"hidden_sizes": list(config.hidden_sizes)},
            "share_features_extractor": True,
            "net_arch": [],
        },
        seed=seed,
        device="cuda" if jax.default_backend() == "gpu" else "cpu",
    )
