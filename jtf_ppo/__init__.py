"""jtf_ppo: the learner. Networks, advantage, loss, optimiser, checkpoints; environments only by a small protocol."""

from jtf_ppo.config import PPOConfig, resolve
from jtf_ppo.errors import CheckpointError, ConfigError, DivergedError, LearnerError
from jtf_ppo.trainer import train
from jtf_ppo.types import (
    Environment,
    MemberResult,
    Observation,
    PolicyFunctions,
    RowTable,
    Timestep,
    TrainResult,
    Validation,
)

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DivergedError",
    "Environment",
    "LearnerError",
    "MemberResult",
    "Observation",
    "PPOConfig",
    "PolicyFunctions",
    "RowTable",
    "Timestep",
    "TrainResult",
    "Validation",
    "resolve",
    "train",
]
