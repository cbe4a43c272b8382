"""The scaler inside the first layer: a network that takes columns in natural units, and back. No JAX.

A policy standardises a column ``x`` to ``z = clip((x - mean) / std, -10, 10)``. Clipping is not linear, so it is not
folded: it is moved before the layer, where it bounds the natural value, ``clip(x, mean - 10 std, mean + 10 std)``.
What is left, ``(x - mean) / std``, is linear and becomes part of kernel and bias:

``kernel' = kernel / std`` and ``bias' = bias - sum(kernel' * mean)``, the sum over the window and its columns.

Both are computed in float64. The kernel is rounded to float32 first and the bias is computed from the rounded kernel
and kept in float64, so the rounding multiplies ``x - mean`` and not ``x``. A column that was constant in training has
an infinite deviation: its kernel becomes 0 and its bounds are infinite.
"""

from collections.abc import Sequence

import numpy as np

from jtf.models.stream import Params
from jtf_env.scaler import Scaler

Tensors = dict[str, np.ndarray]


def fold_members(members: Sequence[Params], scaler: Scaler) -> Tensors:
    """Return the tensors of `S` members whose first layer takes natural units.

    ``first/kernel [W, F, S, H]``, ``first/context_kernel [C + E, S, H]`` and ``first/bias [S, H]`` (float64); each
    later layer ``NAME/kernel [S, I, O]`` and ``NAME/bias [S, O]``; ``scaler/mean`` and ``scaler/std`` ``[F + C]``.
    Account columns (`E`) are never standardised.
    """
    kernel = np.stack([np.asarray(params["first"]["kernel"], np.float64) for params in members], axis=2)
    context = np.stack([np.asarray(params["first"]["context_kernel"], np.float64) for params in members], axis=1)
    bias = np.stack([np.asarray(params["first"]["bias"], np.float64) for params in members])
    num_columns, num_scaled = kernel.shape[1], len(scaler.std)
    kernel = (kernel / scaler.std[:num_columns, None, None]).astype(np.float32)
    context[: num_scaled - num_columns] /= scaler.std[num_columns:, None, None]
    context = context.astype(np.float32)
    tensors = {
        "first/kernel": kernel,
        "first/context_kernel": context,
        "first/bias": bias - mean_response(kernel, context, scaler.mean),
        "scaler/mean": np.asarray(scaler.mean, np.float64),
        "scaler/std": np.asarray(scaler.std, np.float64),
    }
    for layer in later_layers(members[0]):
        for part in ("kernel", "bias"):
            tensors[f"{layer}/{part}"] = np.stack([np.asarray(params[layer][part], np.float32) for params in members])
    return tensors


def unfold_members(tensors: Tensors) -> tuple[tuple[Params, ...], Scaler]:
    """Return members of standardised columns and their scaler; undoes `fold_members` but for float32 rounding.

    The kernels in `tensors` are changed in place and the members are views of them: one copy is in memory.
    """
    scaler = Scaler(mean=tensors["scaler/mean"], std=tensors["scaler/std"])
    kernel, context = tensors["first/kernel"], tensors["first/context_kernel"]
    bias = tensors["first/bias"] + mean_response(kernel, context, scaler.mean)
    std = np.where(np.isinf(scaler.std), 0.0, scaler.std)[:, None, None]
    num_columns = kernel.shape[1]
    for row in kernel:
        row[:] = row * std[:num_columns]
    num_context = len(std) - num_columns
    context[:num_context] = context[:num_context] * std[num_columns:]
    layers = [name.removesuffix("/kernel") for name in tensors if name.endswith("/kernel")]
    members = []
    for k in range(kernel.shape[2]):
        first = {"kernel": kernel[:, :, k], "context_kernel": context[:, k], "bias": bias[k]}
        later = {name: {"kernel": tensors[f"{name}/kernel"][k], "bias": tensors[f"{name}/bias"][k]} for name in layers}
        members.append(later | {"first": first})
    return tuple(members), scaler


def mean_response(kernel: np.ndarray, context: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return ``[S, H]`` float64: what the first layer makes of columns that stand at their mean."""
    num_columns = kernel.shape[1]
    context_mean = mean[num_columns:]
    windowed = np.einsum("f,fsh->sh", mean[:num_columns], kernel.sum(axis=0, dtype=np.float64))
    return windowed + len(kernel) * np.einsum(
        "c,csh->sh", context_mean, context[: len(context_mean)].astype(np.float64)
    )


def later_layers(params: Params) -> list[str]:
    """Return the names of the layers after the first."""
    return [name for name in params if name != "first"]


def folded_shapes(
    window: int, num_columns: int, num_context: int, num_account: int, sizes: Sequence[int], num_members: int,
    num_actions: int,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Return the shape of every tensor of `fold_members` for hidden layers of `sizes`."""
    shapes = layer_shapes(window, num_columns, num_context, num_account, sizes, num_actions)
    axes = {"first/kernel": 2, "first/context_kernel": 1}
    for name, shape in shapes.items():
        axis = axes.get(name, 0)
        shapes[name] = (*shape[:axis], num_members, *shape[axis:])
    return shapes | dict.fromkeys(("scaler/mean", "scaler/std"), (num_columns + num_context,))


def layer_shapes(
    window: int, num_columns: int, num_context: int, num_account: int, sizes: Sequence[int], num_actions: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of one member with hidden layers of `sizes`."""
    shapes: dict[str, tuple[int, ...]] = {
        "first/kernel": (window, num_columns, sizes[0]),
        "first/context_kernel": (num_context + num_account, sizes[0]),
        "first/bias": (sizes[0],),
    }
    layers = [(f"hidden_{k}", sizes[k], sizes[k + 1]) for k in range(len(sizes) - 1)]
    for name, width, outputs in (*layers, ("policy", sizes[-1], num_actions), ("value", sizes[-1], 1)):
        shapes |= {f"{name}/kernel": (width, outputs), f"{name}/bias": (outputs,)}
    return shapes
