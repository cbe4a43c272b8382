"""The least arithmetic and memory traffic each phase of an iteration needs, counted from the sizes.

A floor is the larger of two times: operations over the measured matrix rate, and bytes over the measured copy
bandwidth of the device (Williams et al. 2009, "Roofline"). Axis letters: `[T]` bars, `[W]` window, `[F]` bar columns,
`[C]` context columns, `[H]` first width, `[A]` actions. One multiply-add counts as two operations.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from jtf_ppo.blocks import expected_blocks, partition
from jtf_ppo.config import PPOConfig
from jtf_ppo.engine import is_noisy
from jtf_ppo.window_dense import block_length

STATE_BYTES = 112
"""Environment state, read and written once a step (56 bytes each way)."""
MARKET_BYTES = 17
"""Open, high, low, close and tradable of one bar."""
STORED_BYTES = 15
"""What a rollout keeps of a sample: row, final row, reward (4 each), action, terminated, truncated (1 each)."""
WORD_BYTES = 4
"""One float32, int32 or random word."""
OPTIMISER_PASSES = 8
"""Float32 passes over the parameters in an Adam step: the gradient, the parameter and both moments, each way."""


@dataclass(frozen=True)
class Rates:
    """What the device was measured to do."""

    matrix: dict[str, float]
    """Operations a second of a large matrix product, by precision."""
    copy: float
    """Bytes a second of a large copy, read plus written."""


@dataclass(frozen=True)
class Work:
    """Matrix operations and bytes through memory."""

    flops: float
    bytes: float

    def seconds(self, rates: Rates, precision: str) -> float:
        """The floor: whichever of the two takes longer."""
        return max(self.flops / rates.matrix[precision], self.bytes / rates.copy)

    def bound(self, rates: Rates, precision: str) -> str:
        """Which of the two it is."""
        return "arithmetic" if self.flops / rates.matrix[precision] > self.bytes / rates.copy else "memory"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the problem that the configuration does not hold."""

    num_rows: int
    """Rows of the training table."""
    window: int
    num_features: int
    num_context: int
    num_actions: int
    num_account: int = 0


def env_work(config: PPOConfig) -> Work:
    """Random actions: state, one bar of prices and one random word a step."""
    return Work(0.0, config.batch_size * (STATE_BYTES + MARKET_BYTES + WORD_BYTES))


def policy_table_work(config: PPOConfig, sizes: Sizes) -> Work:
    """One forward pass over all rows."""
    first, rest = row_flops(config, sizes)
    flops = sizes.num_rows * (first + rest) + kernel_transform_flops(config, sizes)
    traffic = WORD_BYTES * sizes.num_rows * (sizes.num_features + sizes.num_context + sizes.num_actions + 1)
    return Work(flops, traffic + WORD_BYTES * num_parameters(config, sizes))


def rollout_work(config: PPOConfig, sizes: Sizes) -> Work:
    """One rollout with its advantages.

    Bars: the policy table, then per sample the step, a gather of ``A - 1`` edges, 15 stored bytes written and read
    back, two values, an advantage written and read twice, and five sums per row updated. Samples: the first layer of
    all rows, then a gather of it and one forward pass of the rest per sample.
    """
    samples, step = config.batch_size, env_work(config)
    advantage_bytes = STORED_BYTES + 5 * WORD_BYTES
    if config.engine == "samples":
        assert config.hidden_sizes is not None, "config must be resolved"
        first, rest = row_flops(config, sizes)
        flops = sizes.num_rows * first + kernel_transform_flops(config, sizes)
        flops += samples * (account_flops(config, sizes) + rest)
        width = config.hidden_sizes[0]
        tables = WORD_BYTES * sizes.num_rows * (sizes.num_features + sizes.num_context + width)
        gathered = WORD_BYTES * (width + 2 * sizes.num_account)
        return Work(flops, step.bytes + tables + samples * (STORED_BYTES + advantage_bytes + gathered))
    table = policy_table_work(config, sizes)
    sums = 5 * 2 * WORD_BYTES
    gathered = (sizes.num_actions - 1) * WORD_BYTES
    per_sample = gathered + STORED_BYTES + advantage_bytes + sums
    return Work(table.flops, table.bytes + step.bytes + samples * per_sample)


def epochs_work(config: PPOConfig, sizes: Sizes) -> Work:
    """All epochs: forward and backward over rows (bars) or samples.

    The first layer has no input gradient, so it costs two passes; the others three. Noise and dropout add a forward
    pass of the behaviour policy, whose kernel goes to the frequencies once. Samples pay the first layer of bars by
    visited rows, that of the account and the rest one by one. Bytes: activations written forward and read backward
    with their gradients, rows read, and the optimiser's passes over the parameters.
    """
    assert config.minibatch_size is not None and config.hidden_sizes is not None, "config must be resolved"
    rows = visited_rows(config, sizes)
    items = rows if config.engine == "rows" else config.batch_size
    first, rest = row_flops(config, sizes)
    minibatches = -(-items // config.minibatch_size)
    columns = sizes.num_features + sizes.num_context
    activations = 4 * (sum(config.hidden_sizes) + sizes.num_actions + 1)
    again = int(is_noisy(config))
    flops = rows * (2 + again) * first + items * ((2 + again) * account_flops(config, sizes) + (3 + again) * rest)
    transform = kernel_transform_flops(config, sizes)
    flops += minibatches * 2 * transform
    optimiser = minibatches * OPTIMISER_PASSES * num_parameters(config, sizes)
    traffic = WORD_BYTES * (rows * 3 * columns + items * (activations + sizes.num_account) + optimiser)
    return Work(config.update_epochs * flops + again * transform, config.update_epochs * traffic)


def visited_rows(config: PPOConfig, sizes: Sizes) -> int:
    """Rows whose first layer an epoch needs: those of the blocks of rows, or those that samples are expected on."""
    if config.engine == "samples":
        return round(sizes.num_rows * -math.expm1(-config.batch_size / sizes.num_rows))
    cut = partition(sizes.num_rows, sizes.window, config)
    if not cut.few:
        return sizes.num_rows
    return round(cut.length * expected_blocks(sizes.num_rows, cut.length, config))


def row_flops(config: PPOConfig, sizes: Sizes) -> tuple[float, float]:
    """Return operations of one forward pass per row: the first layer, and everything after it."""
    assert config.hidden_sizes is not None, "config must be resolved"
    widths = config.hidden_sizes
    rest = sum(2 * fan_in * width for fan_in, width in pairwise(widths)) + 2 * widths[-1] * (sizes.num_actions + 1)
    context = 2 * sizes.num_context * widths[0]
    if config.first_layer == "fft":
        return _fourier_flops(sizes, widths[0]) + context, rest
    return 2 * sizes.window * sizes.num_features * widths[0] + context, rest


def account_flops(config: PPOConfig, sizes: Sizes) -> float:
    """Return operations of one forward pass of the account's columns through the first layer, per sample."""
    assert config.hidden_sizes is not None, "config must be resolved"
    return 2 * sizes.num_account * config.hidden_sizes[0]


def _fourier_flops(sizes: Sizes, width: int) -> float:
    """Per row, as `jtf_ppo.window_dense.overlap_save` does it: a product a frequency, and frequencies to outputs.

    Two outputs share the products of the second part, but for the one in the middle.
    """
    length = block_length(sizes.window)
    frequencies = (length + sizes.window - 1) // 2 + 1
    outputs = 4 * frequencies * width * -(-length // 2) / length
    return 8 * frequencies * sizes.num_features * width / length + outputs


def kernel_transform_flops(config: PPOConfig, sizes: Sizes) -> float:
    """The kernel's way to the frequencies, once a minibatch and pass, where the first layer is done there."""
    if config.first_layer != "fft":
        return 0.0
    assert config.hidden_sizes is not None, "config must be resolved"
    frequencies = (block_length(sizes.window) + sizes.window - 1) // 2 + 1
    return 4 * frequencies * sizes.window * sizes.num_features * config.hidden_sizes[0]


def num_parameters(config: PPOConfig, sizes: Sizes) -> int:
    """Weights and biases of the network."""
    assert config.hidden_sizes is not None, "config must be resolved"
    widths = config.hidden_sizes
    first = (sizes.window * sizes.num_features + sizes.num_context + sizes.num_account + 1) * widths[0]
    hidden = sum((fan_in + 1) * width for fan_in, width in pairwise(widths))
    return first + hidden + (widths[-1] + 1) * (sizes.num_actions + 1)
