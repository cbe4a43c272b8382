"""The network of an ensemble bar by bar: float32, all members at once, in a fixed order of arithmetic. No JAX.

The first layer meets the whole window at every bar, but all of the window except its last row is known before it is.
So the oldest taps of the kernel are applied a block of bars ahead, to all bars of the next block at once, a slice of
them at every bar: the weights are read from memory once a block instead of once a bar. The taps of one block's length
are applied when a block begins; the newest, as many again, wait for the bar. Blocks lie at multiples of `BLOCK` rows
since the first bar, so a row's numbers depend on that bar and on the window alone, not on when the stream began.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

BLOCK = 16
"""Bars in a block: larger ones read the old taps less often and leave more taps for the bar itself."""

Params = dict[str, Any]
"""``{"first": {"kernel" [W, F, H], "context_kernel" [C + E, H], "bias" [H]}, "hidden_k": {"kernel", "bias"}, "policy":
..., "value": ...}``, NumPy; ``kernel[0]`` meets the oldest row of the window."""


class Layer(NamedTuple):
    """A layer of all members."""

    kernel: np.ndarray
    """``[S, I, O]`` float32."""
    bias: np.ndarray
    """``[S, 1, O]`` float32."""


class Network(NamedTuple):
    """The members of an ensemble, side by side."""

    kernel: np.ndarray
    """``[W, F, S * H]`` float32, first layer, bar columns; oldest bar first."""
    broadcast_kernel: np.ndarray
    """``[C + E, S * H]`` float64, first layer, times `W`."""
    bias: np.ndarray
    """``[S * H]`` float64, first layer."""
    hidden: tuple[Layer, ...]
    policy: Layer
    value: Layer

    def outputs(self, windowed: np.ndarray, broadcast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return action probabilities ``[S, A]`` float64 and values ``[S]`` of one bar.

        From the windows' part of the first layer ``[S * H]`` and the context and account columns ``[C + E]``.
        """
        first = windowed + (self.bias + broadcast @ self.broadcast_kernel)
        members = len(self.policy.bias)
        layer = np.maximum(first, 0.0).astype(np.float32).reshape(members, 1, -1)
        for kernel, bias in self.hidden:
            layer = np.maximum(layer @ kernel + bias, 0.0)
        logits = (layer @ self.policy.kernel + self.policy.bias)[:, 0].astype(np.float64)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        values = (layer @ self.value.kernel + self.value.bias)[:, 0, 0].astype(np.float64)
        return weights / weights.sum(axis=1, keepdims=True), values


def make_network(members: Sequence[Params]) -> Network:
    """Return the members side by side; kernels that already lie so in memory, as a bundle's do, are not copied."""
    first = [params["first"] for params in members]
    window, num_columns, width = first[0]["kernel"].shape
    broadcast = [np.asarray(layer["context_kernel"], np.float64) for layer in first]
    hidden = sorted(
        (name for name in members[0] if name.startswith("hidden_")), key=lambda name: int(name.split("_")[1])
    )
    policy, value, *layers = (
        stack_layer([params[name] for params in members]) for name in ("policy", "value", *hidden)
    )
    return Network(
        kernel=side_by_side([layer["kernel"] for layer in first]).reshape(window, num_columns, len(first) * width),
        broadcast_kernel=window * np.concatenate(broadcast, axis=1),
        bias=np.concatenate([np.asarray(layer["bias"], np.float64) for layer in first]),
        hidden=tuple(layers),
        policy=policy,
        value=value,
    )


def side_by_side(kernels: Sequence[np.ndarray]) -> np.ndarray:
    """Return first layers ``[W, F, H]`` as one ``[W, F, S, H]`` float32, a view where they lie in one array so."""
    together = kernels[0].base
    shape = (*kernels[0].shape[:2], len(kernels), kernels[0].shape[2])
    if isinstance(together, np.ndarray) and together.size == np.prod(shape) and together.dtype == np.float32:
        together = together.reshape(shape)
        if all(_place(together[:, :, k]) == _place(kernel) for k, kernel in enumerate(kernels)):
            return together
    return np.stack([np.asarray(kernel, np.float32) for kernel in kernels], axis=2)


def _place(array: np.ndarray) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides


def stack_layer(layers: Sequence[Params]) -> Layer:
    """Return a later layer of all members."""
    kernels = [np.asarray(layer["kernel"], np.float32) for layer in layers]
    biases = [np.asarray(layer["bias"], np.float32)[None] for layer in layers]
    return Layer(np.stack(kernels), np.stack(biases))


class WindowStream:
    """The windows' part of the first layer, bar by bar."""

    def __init__(self, kernel: np.ndarray, rows: np.ndarray, num_rows: int) -> None:
        """Begin behind the last of ``rows [n, F]``, which is row `num_rows` - 1 since the first bar.

        `history_rows` tells how many rows matter.
        """
        self._window, num_columns, width = kernel.shape
        self._flat = kernel.reshape(self._window * num_columns, width)
        self._num_columns = num_columns
        old, new = max(0, self._window - 2 * BLOCK), max(0, self._window - BLOCK)
        self._before = (old, new)
        self._newest = self._flat[new * num_columns :]
        self._slices = list(pairwise(np.linspace(0, old, BLOCK + 1).astype(int).tolist()))
        self._block, self._ahead = np.zeros((2, BLOCK, width), np.float32)
        self._kept = self._window + 3 * BLOCK
        self._rows = np.zeros((self._kept + 32 * BLOCK, num_columns), np.float32)
        self._end = self._kept
        self.num_rows = max(0, ((num_rows - 1) // BLOCK - 1) * BLOCK)
        """Rows since the first bar."""
        pushed = num_rows - self.num_rows
        known = rows[:-pushed][-self._kept :]
        self._rows[self._end - len(known) : self._end] = known
        self.last = self._block[0]
        """Output ``[S * H]`` float32 of the last bar."""
        for row in rows[-pushed:]:
            self.push(row)

    def push(self, row: np.ndarray) -> np.ndarray:
        """Take the next standardised row ``[F]`` and return the output of the window that ends with it."""
        place = self.num_rows % BLOCK
        if place == 0:
            self._make_room()
            self._block, self._ahead = self._ahead, np.zeros_like(self._ahead)
            self._apply(self._before, self._end, self._block)
        self._rows[self._end] = row
        self._end += 1
        self.num_rows += 1
        newest = self._rows[self._end - len(self._newest) // self._num_columns : self._end].reshape(1, -1)
        self.last = self._block[place] + (newest @ self._newest)[0]
        self._apply(self._slices[place], self._end - place - 1 + BLOCK, self._ahead)
        return self.last

    def _apply(self, taps: tuple[int, int], block: int, outputs: np.ndarray) -> None:
        """Add what the taps ``[first, last)``, oldest first, make of the bars of a block to ``outputs [BLOCK, S * H]``.

        The rows of the block begin at the place `block`; the rows that these taps meet are known.
        """
        first, last = taps
        if last == first:
            return
        begin = block - self._window + 1 + first
        rows = self._rows[begin : begin + BLOCK + last - first - 1]
        windows = np.lib.stride_tricks.sliding_window_view(rows, last - first, axis=0)
        kernel = self._flat[first * self._num_columns : last * self._num_columns]
        outputs += windows.transpose(0, 2, 1).reshape(BLOCK, -1) @ kernel

    def _make_room(self) -> None:
        if self._end + BLOCK > len(self._rows):
            self._rows[: self._kept] = self._rows[self._end - self._kept : self._end]
            self._end = self._kept


def history_rows(window: int) -> int:
    """Return how many rows up to a bar decide the state of a stream behind it."""
    return window + 5 * BLOCK


class MarketStream:
    """The windows' part of the first layer at any row of a market; rows in order of time cost one step each."""

    def __init__(self, kernel: np.ndarray, features: np.ndarray) -> None:
        self._kernel, self._features = kernel, features
        self._stream: WindowStream | None = None

    def at(self, row: int) -> np.ndarray:
        """Return ``[S * H]`` float32 of the window that ends at `row` of ``features [T, F]``."""
        length = history_rows(len(self._kernel))
        stream = self._stream
        if stream is None or not 0 <= row - (stream.num_rows - 1) <= length:
            rows = self._features[max(0, row + 1 - length) : row + 1]
            stream = self._stream = WindowStream(self._kernel, rows, row + 1)
        for following in self._features[stream.num_rows : row + 1]:
            stream.push(following)
        return stream.last
