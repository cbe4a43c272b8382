"""Networks from elsewhere: dense first layers over the flattened observation, as PyTorch saves them. No JAX, no torch.

Names of the tensors (`torch.nn.Linear` layers; ``weight [outputs, inputs]``, ``bias [outputs]``): ``first``, then
``hidden_0``, ``hidden_1`` …, then the heads ``policy`` (8 logits) and ``value`` (1), ReLU between them. ``first`` takes
the observation ``[W, D]`` flattened, oldest bar first, columns in the layout's order. ``scaler.mean`` and
``scaler.std`` ``[D]`` are optional: what every column was standardised with. Account columns must have 0 and 1 there.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from jtf.errors import UserError
from jtf.models.policy import Params, Policy
from jtf_env.actions import NUM_ACTIONS
from jtf_env.assets import AssetClass, asset_class_of
from jtf_env.layouts import DEFAULT_WINDOW, HourVisibility, Layout, get_layout, layout_from_obs_dim
from jtf_env.params import make_params
from jtf_env.scaler import Scaler
from jtf_env.sessions import scheduled_per_year

WIDE = 2.0**20
"""Deviations are widened by this power of two where nothing is clipped: exact, and 10 of them are beyond any column."""

SOME_YEAR = "2024-07-01"
"""The bars of this year are a year's bars: a network alone has none."""

Tensors = dict[str, np.ndarray]


def read_dense(
    path: Path,
    symbol: str,
    *,
    window: int = DEFAULT_WINDOW,
    hour_visibility: HourVisibility = "previous",
    bar_minutes: int = 15,
    asset_class: AssetClass | None = None,
    clip: bool = True,
) -> Policy:
    """Return the policy of a dense network in the safetensors file `path`.

    The layout is the one whose observation has exactly as many numbers. The `W` copies of a broadcast column meet `W`
    rows of the dense kernel, which are summed.

    Parameters
    ----------
    clip
        Whether the network saw standardised values clipped to +-10. Without a scaler in the file nothing is clipped.

    Raises
    ------
    UserError, LayoutError
        For tensors of other names or shapes, for NaN and infinity, and for a size that no layout has.
    """
    tensors = _read(path)
    sizes = _layer_sizes(tensors, path)
    layout = get_layout(layout_from_obs_dim(sizes[0], window), hour_visibility)
    scaler, times = _scaler(tensors, layout, clip, path)
    first = first_layer(tensors["first.weight"], tensors["first.bias"], layout, window, times)
    later = [name for name in layer_names(len(sizes) - 1) if name != "first"]
    params: Params = {"first": first} | {
        name: {
            "kernel": np.ascontiguousarray(tensors[f"{name}.weight"].T, np.float32),
            "bias": tensors[f"{name}.bias"].astype(np.float32),
        }
        for name in later
    }
    asset_class = asset_class_of(symbol, asset_class)
    return Policy(
        members=(params,),
        seeds=(0,),
        scaler=scaler,
        symbol=symbol,
        layout=layout,
        window=window,
        env_params=make_params(asset_class),
        bars_per_year=scheduled_per_year(pd.DatetimeIndex([SOME_YEAR], tz="UTC"), asset_class, bar_minutes),
        bar_minutes=bar_minutes,
        asset_class=asset_class,
    )


def first_layer(weight: np.ndarray, bias: np.ndarray, layout: Layout, window: int, times: np.ndarray) -> Params:
    """Return the first layer for ``weight [H, W * D]``, its columns multiplied by ``times [F + C + E]``."""
    dense = weight.astype(np.float64).reshape(len(weight), window, layout.count)
    ordered = dense[:, :, np.argsort(layout.observation_order)] * times
    num_columns = len(layout.bar_columns)
    return {
        "kernel": np.ascontiguousarray(ordered[:, :, :num_columns].transpose(1, 2, 0), np.float32),
        "context_kernel": (ordered[:, :, num_columns:].sum(axis=1) / window).T.astype(np.float32),
        "bias": bias.astype(np.float64),
    }


def layer_names(num_hidden: int) -> list[str]:
    """Return the names of the layers of a network with so many hidden layers, the first one included."""
    return ["first", *(f"hidden_{k}" for k in range(num_hidden - 1)), "policy", "value"]


def _read(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise UserError(f"there is no file {path}; save the state dict with safetensors.torch.save_file.")
    try:
        tensors = load_file(path)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a safetensors file of float32 or float64 ({error}); save the state dict with "
            "safetensors.torch.save_file."
        ) from None
    for name, tensor in tensors.items():
        finite = tensor.dtype.kind == "f" and (np.isfinite(tensor).all() or name == "scaler.std")
        if not finite or np.isnan(tensor).any():
            raise UserError(f"{path}: {name} holds NaN, infinity or no floating-point numbers; export it again.")
    return tensors


def _layer_sizes(tensors: Tensors, path: Path) -> list[int]:
    """Return the sizes of the observation and of every hidden layer; raise `UserError` where the layers do not fit."""
    num_hidden = 1 + sum(name.startswith("hidden_") and name.endswith(".weight") for name in tensors)
    names = layer_names(num_hidden)
    needed = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    odd = sorted(needed ^ set(tensors) - {"scaler.mean", "scaler.std"})
    if odd:
        raise UserError(
            f"{path} lacks or adds the tensor {odd[0]}; name the layers first, hidden_0, …, policy and value, each "
            "with weight and bias."
        )
    shapes = {name: (tensors[f"{name}.weight"].shape, tensors[f"{name}.bias"].shape) for name in names}
    widths = [shape[1][0] if len(shape[1]) == 1 else 0 for shape in (shapes[name] for name in names[:num_hidden])]
    first = shapes["first"][0]
    sizes = [first[1] if len(first) == 2 else 0, *widths]
    outputs = [*widths, NUM_ACTIONS, 1]
    inputs = [*sizes, sizes[-1]]
    for name, one, other in zip(names, inputs, outputs, strict=True):
        if shapes[name] != ((other, one), (other,)):
            raise UserError(
                f"{path}: {name} has weight {shapes[name][0]} and bias {shapes[name][1]}, the layer before it and its "
                f"own outputs need {(other, one)} and {(other,)}."
            )
    return sizes


def _scaler(tensors: Tensors, layout: Layout, clip: bool, path: Path) -> tuple[Scaler, np.ndarray]:
    """Return the scaler of bar and context columns, and what the kernel's columns ``[F + C + E]`` are multiplied by."""
    built = np.argsort(layout.observation_order)
    num_scaled = layout.count - len(layout.columns_from("state"))
    given = "scaler.mean" in tensors or "scaler.std" in tensors
    mean, std = (
        tensors.get(f"scaler.{name}", np.full(layout.count, value)).astype(np.float64)
        for name, value in (("mean", 0.0), ("std", 1.0))
    )
    if mean.shape != (layout.count,) or std.shape != (layout.count,) or not (std > 0).all():
        raise UserError(f"{path}: scaler.mean and scaler.std are not {layout.count} numbers, the second positive.")
    mean, std = mean[built], std[built]
    if (mean[num_scaled:] != 0).any() or (std[num_scaled:] != 1).any():
        raise UserError(f"{path}: account columns are not standardised here; set scaler.mean to 0 and scaler.std to 1.")
    wide = 1.0 if given and clip else WIDE
    times = np.where(np.arange(layout.count) < num_scaled, wide, 1.0)
    return Scaler(mean=mean[:num_scaled], std=std[:num_scaled] * wide), times
