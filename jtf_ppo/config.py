"""Every setting of the learner, the checks on them, and the sizes the device decides."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from jtf_ppo.errors import ConfigError

EngineName = Literal["auto", "rows", "samples"]
FirstLayer = Literal["auto", "gather", "conv", "fft"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class PPOConfig:
    """Settings of one training run. A field that is None is decided by `resolve` from the device."""

    total_steps: int = 200_000
    """Environment steps of the whole run, all environments together."""
    num_envs: int | None = None
    """Environments stepped side by side. Default: by device and length of the run."""
    num_steps: int = 128
    """Steps per environment between two updates."""
    steps_at_once: int | None = None
    """Steps of a rollout in one iteration of a compiled loop; changes speed, not results. Default: 8 on a GPU, 1 on a
    CPU."""
    flat_parameters: bool | None = None
    """Whether an update holds parameters and moments as one array each; changes speed, not results. Default: on a GPU.
    """
    update_epochs: int = 4
    """Passes over each rollout."""
    minibatch_size: int | None = None
    """Samples (engine samples) or rows (engine rows) per optimiser step. Default: by device."""
    learning_rate: float = 1e-3
    """Peak learning rate of Adam."""
    warmup_fraction: float = 0.05
    """Share of the optimiser steps over which the learning rate rises from a tenth to its peak."""
    final_fraction: float = 0.01
    """Learning rate at the end, as a share of the peak (cosine)."""
    gamma: float = 0.991
    """Discount a step."""
    gae_lambda: float = 0.95
    """Trace decay of generalised advantage estimation."""
    clip_eps: float = 0.2
    """Clip range of the probability ratio."""
    ent_coef: float = 0.015
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Global norm the gradient is scaled down to."""
    target_kl: float = 0.0
    """Epochs of an update stop once the mean KL from the old policy exceeds this; 0 is off."""
    engine: EngineName = "auto"
    """rows: sums over the samples of each row, exact, for observations that are row addresses. samples: ordinary PPO.
    Default: rows where they can be used."""
    first_layer: FirstLayer = "auto"
    """How blocks of rows meet the window layer: gathered windows, convolution, or overlap-save Fourier products.
    Default: gather on a GPU, fft on a CPU."""
    hidden_sizes: tuple[int, ...] | None = None
    """Widths of the trunk. Default: 512 256 128 on a GPU, 64 on a CPU."""
    precision: Precision = "auto"
    """Type of the inputs of the trunk's matrix products. Products accumulate in float32; the heads are float32.
    Default: bfloat16 on a GPU, float32 on a CPU."""
    feature_noise: float = 1.0
    """Deviation of Gaussian noise on the columns of the row table that change, fresh at every minibatch."""
    context_noise: float = 0.0
    """The same for the broadcast context columns."""
    dropout: float = 0.0
    """Share of first-layer activations dropped in training."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the first layer's kernel."""
    validation_interval: int | None = None
    """Updates between validations; 0 is never. Default: about ten in a run."""
    checkpoint_interval: int | None = None
    """Updates between checkpoints; 0 is never. Default: at every validation."""
    patience: int = 0
    """Validations without a better score after which training stops; 0 is off."""
    seed: int = 0
    """Seed of parameters, rollouts, minibatches and noise."""

    @property
    def batch_size(self) -> int:
        """Samples of one rollout."""
        return self.num_steps * (self.num_envs or 0)

    @property
    def total_updates(self) -> int:
        """Updates of the whole run: steps over samples of a rollout, rounded up."""
        return max(1, -(-self.total_steps // self.batch_size))


LARGEST_SEED = 2**32 - 1
"""JAX keeps 32 bits of a seed: a larger one would repeat the run of a smaller one."""

LARGEST_BATCH = 2**31 - 1
"""Samples of a rollout are counted in 32 bits."""

_AT_LEAST = {
    "total_steps": 1, "num_envs": 1, "num_steps": 1, "steps_at_once": 1, "update_epochs": 1, "minibatch_size": 1,
    "validation_interval": 0, "checkpoint_interval": 0, "patience": 0, "learning_rate": 0.0, "ent_coef": 0.0,
    "vf_coef": 0.0, "target_kl": 0.0, "feature_noise": 0.0, "context_noise": 0.0, "weight_decay": 0.0,
}  # fmt: skip
_WITHIN = {
    "gamma": (0.0, 1.0), "gae_lambda": (0.0, 1.0), "clip_eps": (1e-6, 1.0), "warmup_fraction": (0.0, 1.0),
    "final_fraction": (0.0, 1.0), "dropout": (0.0, 0.95), "max_grad_norm": (1e-6, 1e9),
    "seed": (0, LARGEST_SEED),
}  # fmt: skip
_CHOICES = {
    "engine": ("auto", "rows", "samples"),
    "first_layer": ("auto", "gather", "conv", "fft"),
    "precision": ("auto", "float32", "bfloat16"),
}


def check_config(config: PPOConfig) -> PPOConfig:
    """Return `config`, or raise `ConfigError` naming the setting that is out of range. None fields pass."""
    for name, low in _AT_LEAST.items():
        value = getattr(config, name)
        if value is not None and not low <= value < math.inf:
            raise ConfigError(f"{name}={value} must be at least {low} and finite.")
    for name, (low_end, high_end) in _WITHIN.items():
        value = getattr(config, name)
        if not low_end <= value <= high_end:
            raise ConfigError(f"{name}={value} must lie in {low_end:g}..{high_end:g}.")
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise ConfigError(f"{name}={getattr(config, name)!r} is not one of {', '.join(choices)}.")
    if config.hidden_sizes is not None and (not config.hidden_sizes or min(config.hidden_sizes) < 1):
        raise ConfigError(f"hidden_sizes={config.hidden_sizes} needs at least one width, each at least 1.")
    return config


def resolve(config: PPOConfig, platform: str, address_only: bool, num_rows: int) -> PPOConfig:
    """Return `config` with every None and ``auto`` decided, and checked.

    Parameters
    ----------
    platform: JAX backend, ``cpu`` or ``gpu``.
    address_only: whether the environment's observations are row addresses.
    num_rows: usable rows of the training table (0 for dense observations).
    """
    check_config(config)
    gpu = platform == "gpu"
    engine = config.engine
    if engine == "auto":
        engine = "rows" if address_only else "samples"
    if engine == "rows" and not address_only:
        raise ConfigError("engine=rows needs observations that are row addresses alone; use engine=samples.")
    num_envs = config.num_envs or _default_num_envs(config, gpu)
    resolved = replace(
        config,
        engine=engine,
        num_envs=num_envs,
        steps_at_once=config.steps_at_once or (8 if gpu else 1),
        flat_parameters=gpu if config.flat_parameters is None else config.flat_parameters,
        hidden_sizes=config.hidden_sizes or ((512, 256, 128) if gpu else (64,)),
        precision=("bfloat16" if gpu else "float32") if config.precision == "auto" else config.precision,
        first_layer=("gather" if gpu else "fft") if config.first_layer == "auto" else config.first_layer,
    )
    if resolved.batch_size > LARGEST_BATCH:
        raise ConfigError(
            f"num_envs={num_envs} times num_steps={config.num_steps} must stay below {LARGEST_BATCH + 1:,}."
        )
    minibatch = config.minibatch_size or _default_minibatch(resolved, num_rows, gpu)
    resolved = replace(resolved, minibatch_size=minibatch)
    limit, unit = (num_rows, "rows of the training table") if engine == "rows" else (resolved.batch_size, "samples")
    if minibatch > limit:
        raise ConfigError(f"minibatch_size={minibatch} is larger than the batch ({limit} {unit}); lower it.")
    validation = config.validation_interval
    if config.patience and validation == 0:
        raise ConfigError("`patience` counts validations, and validation_interval=0 makes none; leave one of them out.")
    if validation is None:
        validation = max(1, resolved.total_updates // 10)
    checkpoint = validation if config.checkpoint_interval is None else config.checkpoint_interval
    return replace(resolved, validation_interval=validation, checkpoint_interval=checkpoint)


def _default_num_envs(config: PPOConfig, gpu: bool) -> int:
    """Powers of two: as many as the device fills, but at least 12 updates in the run.

    With fewer than about one sample per row, the update overfits the rollout: few large updates are better than many
    small ones.
    """
    most = 65_536 if gpu else 2048
    wanted = max(1, config.total_steps // (12 * config.num_steps))
    return min(most, 1 << (wanted.bit_length() - 1))


def _default_minibatch(config: PPOConfig, num_rows: int, gpu: bool) -> int:
    if not num_rows:
        return min(config.batch_size, 12_288 if gpu else 1_024)
    # On a CPU the kernel's transform and Adam weigh as much as 2 000 rows; many visited rows afford larger steps.
    visited = min(num_rows, config.batch_size)
    rows = min(num_rows, 20_480 if gpu else max(2_048, min(8_192, visited // 8)))
    # Samples share the first layer of their row: as many as stand on that many rows.
    return rows if config.engine == "rows" else min(config.batch_size, config.batch_size * rows // visited)
