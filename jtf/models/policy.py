"""A trained policy in NumPy: bars in, action logits out. No JAX; all a live machine needs beside the mirror."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from jtf_env.bars import Bars
from jtf_env.layouts import Layout, get_layout
from jtf_env.mirror.backtest import Decide, replay
from jtf_env.mirror.market import Market, build_market
from jtf_env.params import EnvParams
from jtf_env.scaler import Scaler

CHUNK_ROWS = 1024
"""Rows whose windows are unfolded at once: 40 MB at 100 x 51 float64."""


@dataclass(frozen=True, eq=False)
class Policy:
    """Parameters, scaler and everything needed to apply them to bars of the same symbol."""

    params: dict[str, Any]
    """``{"first": {"kernel" [W, F, H], "context_kernel" [C, H], "bias" [H]}, "hidden_k": {"kernel", "bias"},
    "policy": ..., "value": ...}``, NumPy; ``kernel[0]`` meets the oldest row of the window."""
    scaler: Scaler
    symbol: str
    layout: Layout
    window: int
    env_params: EnvParams
    """Costs, fills and stops the policy was trained and tested with."""
    bars_per_year: float
    bar_minutes: int = 15
    data_kind: str = "file"
    """``synthetic`` or ``file``: what it was trained on."""

    def market(self, bars: Bars) -> Market:
        """Return the standardised mirror market of `bars`; decisions start once window and columns are warm."""
        return build_market(bars, get_layout(self.layout), self.scaler, window=self.window)

    def logits(self, market: Market) -> np.ndarray:
        """Return the ``[T, A]`` float64 action logits at every bar; rows before `market.first_bar` are 0."""
        return trunk_outputs(self.params, market.features, market.context, market.first_bar, head="policy")

    def actions(self, market: Market) -> np.ndarray:
        """Return the ``[T]`` most likely action at every bar; HOLD (0) before `market.first_bar`."""
        return np.argmax(self.logits(market), axis=1)

    def probabilities(self, market: Market) -> np.ndarray:
        """Return the ``[T, A]`` action probabilities at every bar: the softmax of `logits`."""
        logits = self.logits(market)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def values(self, market: Market) -> np.ndarray:
        """Return the ``[T]`` outputs of the value head at every bar; rows before `market.first_bar` are 0."""
        return trunk_outputs(self.params, market.features, market.context, market.first_bar, head="value")[:, 0]

    def decider(self, market: Market) -> Decide:
        """Return the decision at any row of `market`: the most likely action, all rows evaluated at once."""
        return replay(self.actions(market))

    @property
    def sha256(self) -> str:
        """Hash of the parameters: what everything derived from this policy names."""
        return params_sha256(self.params)


def trunk_outputs(
    params: dict[str, Any], features: np.ndarray, context: np.ndarray, first_row: int, head: str
) -> np.ndarray:
    """Return the ``[T, O]`` outputs of `head` for every row of the standardised table; earlier rows are 0.

    First layer, for row `i` and window `W`:
    ``relu(sum_w features[i - W + 1 + w] @ kernel[w] + W * context[i] @ context_kernel + bias)``: the `W` equal
    copies of a broadcast column meet one kernel row, times `W`. Then ReLU layers and a linear head, float64.
    """
    kernel = np.asarray(params["first"]["kernel"], np.float64)
    window, num_features, width = kernel.shape
    flat_kernel = kernel.reshape(window * num_features, width)
    offset = np.asarray(params["first"]["bias"], np.float64)[None, :]
    if context.shape[1]:
        offset = offset + window * (context @ np.asarray(params["first"]["context_kernel"], np.float64))
    offset = np.broadcast_to(offset, (len(features), width))
    windows = sliding_window_view(features, window, axis=0)
    layers = [_layer(params[f"hidden_{k}"]) for k in range(len(_hidden_names(params)))]
    head_kernel, head_bias = _layer(params[head])
    outputs = np.zeros((len(features), head_kernel.shape[1]))
    for start in range(first_row, len(features), CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, len(features)))
        block = windows[rows.start - window + 1 : rows.stop - window + 1].transpose(0, 2, 1)
        hidden = np.maximum(block.reshape(len(block), -1) @ flat_kernel + offset[rows], 0.0)
        for layer_kernel, layer_bias in layers:
            hidden = np.maximum(hidden @ layer_kernel + layer_bias, 0.0)
        outputs[rows] = hidden @ head_kernel + head_bias
    return outputs


def params_sha256(params: dict[str, Any]) -> str:
    """Return the SHA-256 over path, dtype, shape and bytes of every parameter, paths sorted."""
    digest = hashlib.sha256()
    for name, array in sorted(leaves(params), key=lambda leaf: leaf[0]):
        contiguous = np.ascontiguousarray(array)
        digest.update(f"{name} {contiguous.dtype.str} {contiguous.shape};".encode())
        digest.update(contiguous.tobytes())
    return digest.hexdigest()


def leaves(params: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield ``(path, array)`` of a nested dict, path parts joined by ``/``."""
    for name, value in params.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(value)


def _layer(layer: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(layer["kernel"], np.float64), np.asarray(layer["bias"], np.float64)[None, :]


def _hidden_names(params: dict[str, Any]) -> list[str]:
    return [name for name in params if name.startswith("hidden_")]
