"""The shared trunk for Stable-Baselines3: the only module that imports torch."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import gymnasium
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


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


def policy_kwargs(hidden_sizes: Sequence[int]) -> dict[str, Any]:
    """Return the arguments that give ``MlpPolicy`` one trunk and two linear heads."""
    return {
        "features_extractor_class": Trunk,
        "features_extractor_kwargs": {"hidden_sizes": list(hidden_sizes)},
        "share_features_extractor": True,
        "net_arch": [],
    }
