"""A PPO loop in CleanRL's style, written from that project's description, not its code: one file, torch, a vector env.

Huang et al. 2022, "CleanRL: High-quality Single-file Implementations of Deep Reinforcement Learning Algorithms": one
trunk with two heads, orthogonal initialisation, GAE with one ``done``, advantages normalised per minibatch, clipped
policy and value losses, global-norm clip, Adam.
"""

import os
from itertools import pairwise
from typing import NamedTuple

import gymnasium
import jax
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import clock
from benchmarks.peer import PeerConfig, Session, host_row_logits
from jtf.environment import TradingData
from jtf_env.actions import NUM_ACTIONS
from jtf_env.adapters.gymnasium import TradingEnv


class Rollout(NamedTuple):
    """Samples of an iteration ``[N, B, ...]``, or of a minibatch ``[M, ...]``."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    reward: Tensor
    done: Tensor


class Agent(nn.Module):
    """One ReLU trunk, two linear heads."""

    def __init__(self, size: int, hidden_sizes: tuple[int, ...]):
        super().__init__()
        pairs = pairwise((size, *hidden_sizes))
        layers = [layer for pair in pairs for layer in (_linear(*pair, 2**0.5), nn.ReLU())]
        self.trunk = nn.Sequential(*layers)
        self.policy = _linear(hidden_sizes[-1], NUM_ACTIONS, 0.01)
        self.value = _linear(hidden_sizes[-1], 1, 1.0)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, D]`` to ``(logits [B, A], value [B])``."""
        hidden = self.trunk(observation)
        return self.policy(hidden), self.value(hidden)[:, 0]


def _linear(fan_in: int, width: int, gain: float) -> nn.Linear:
    layer = nn.Linear(fan_in, width)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def start(data: TradingData, config: PeerConfig, seed: int) -> Session:
    """Make the trainer on a market; compile is the adapters' first step."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    device = torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")
    environments = gymnasium.vector.SyncVectorEnv(
        [lambda: TradingEnv(*data) for _ in range(config.num_envs)],
        autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
    )
    began = clock()
    observation, _ = environments.reset(seed=seed)
    observation, *_ = environments.step(np.zeros(config.num_envs, np.int64))
    compile_seconds = clock() - began
    agent = Agent(observation.shape[1], config.hidden_sizes).to(device)
    optimiser = torch.optim.Adam(agent.parameters(), lr=config.learning_rate, eps=1e-5)

    def iterate() -> None:
        nonlocal observation
        observation, rollout = collect(environments, agent, observation, config, device)
        advantages = advantages_of(agent, rollout, torch.as_tensor(observation, device=device), config)
        optimise(agent, optimiser, rollout, advantages, config)

    def apply(observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return agent(torch.as_tensor(observation, device=device))[0].cpu().numpy()

    return Session(iterate, lambda market: host_row_logits(apply, market), compile_seconds)


def collect(
    environments: gymnasium.vector.VectorEnv,
    agent: Agent,
    observation: np.ndarray,
    config: PeerConfig,
    device: torch.device,
) -> tuple[np.ndarray, Rollout]:
    """Return the observation after `num_steps` steps of every environment, and these steps."""
    steps = []
    for _ in range(config.num_steps):
        seen = torch.as_tensor(observation.copy(), device=device)
        with torch.no_grad():
            logits, value = agent(seen)
        choice = torch.distributions.Categorical(logits=logits)
        action = choice.sample()
        observation, reward, terminated, truncated, _ = environments.step(action.cpu().numpy())
        outcome = (torch.as_tensor(x, dtype=torch.float32, device=device) for x in (reward, terminated | truncated))
        steps.append((seen, action, choice.log_prob(action), value, *outcome))
    return observation, Rollout(*(torch.stack(column) for column in zip(*steps, strict=True)))


def advantages_of(agent: Agent, rollout: Rollout, last_observation: Tensor, config: PeerConfig) -> Tensor:
    """Return GAE ``[N, B]`` (Schulman et al. 2016, eq. 16), cut where an episode is done."""
    with torch.no_grad():
        next_value = agent(last_observation)[1]
    advantages = torch.zeros_like(rollout.reward)
    advantage = torch.zeros_like(next_value)
    for t in reversed(range(len(rollout.reward))):
        alive = 1.0 - rollout.done[t]
        delta = rollout.reward[t] + config.gamma * next_value * alive - rollout.value[t]
        advantage = delta + config.gamma * config.gae_lambda * alive * advantage
        advantages[t], next_value = advantage, rollout.value[t]
    return advantages


def optimise(
    agent: Agent, optimiser: torch.optim.Optimizer, rollout: Rollout, advantages: Tensor, config: PeerConfig
) -> None:
    """Take the epochs' optimiser steps."""
    flat = Rollout(*(column.flatten(0, 1) for column in rollout))
    advantages = advantages.flatten()
    targets = advantages + flat.value
    for _ in range(config.update_epochs):
        for chosen in torch.randperm(config.batch_size, device=advantages.device).split(config.minibatch_size):
            batch = Rollout(*(column[chosen] for column in flat))
            loss = loss_of(agent, batch, advantages[chosen], targets[chosen], config)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), config.max_grad_norm)
            optimiser.step()


def loss_of(agent: Agent, batch: Rollout, advantage: Tensor, target: Tensor, config: PeerConfig) -> Tensor:
    """Return PPO's loss of a minibatch (Schulman et al. 2017, eq. 9), both parts clipped."""
    logits, value = agent(batch.observation)
    choice = torch.distributions.Categorical(logits=logits)
    ratio = (choice.log_prob(batch.action) - batch.log_prob).exp()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = ratio.clamp(1 - config.clip_eps, 1 + config.clip_eps)
    policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
    near = batch.value + (value - batch.value).clamp(-config.clip_eps, config.clip_eps)
    value_loss = 0.5 * torch.maximum((value - target) ** 2, (near - target) ** 2).mean()
    return policy_loss + config.vf_coef * value_loss - config.ent_coef * choice.entropy().mean()
