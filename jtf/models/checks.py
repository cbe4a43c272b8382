"""What every file of a policy is held to, a bundle and a ``policy.safetensors`` alike. No JAX."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jtf.models.fold import layer_shapes
from jtf.models.policy import Policy, leaves
from jtf_env.actions import ACTION_NAMES
from jtf_env.assets import ASSETS
from jtf_env.layouts import Layout
from jtf_env.params import EnvParams, RewardWeights, check_params

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
"""What reading a file of another content than it should have may raise; `InputError` is a `ValueError`."""
MOST_WINDOW, MOST_LAYERS, MOST_WIDTH, MOST_PER_YEAR = 10_000, 20, 2**20, 1e9


def one_line(error: BaseException) -> str:
    """Return the text of an error as a part of a sentence."""
    text = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())[:300].rstrip(".")


def check_sizes(window: int, hidden_sizes: Sequence[int]) -> None:
    """Raise `ValueError` for a window (bars) or hidden layers that no network has."""
    if type(window) is not int or not 1 <= window <= MOST_WINDOW:
        raise ValueError(f"a window of {window} bars is not between 1 and {MOST_WINDOW:,}")
    if not 1 <= len(hidden_sizes) <= MOST_LAYERS or not all(0 < size < MOST_WIDTH for size in hidden_sizes):
        raise ValueError(f"hidden layers of {list(hidden_sizes[:MOST_LAYERS])} are no network")


def check_bars_per_year(found: float) -> float:
    """Return the number, or raise `ValueError` where no year has as many bars."""
    if type(found) not in (int, float) or not 0 < found < MOST_PER_YEAR:
        raise ValueError(f"{str(found)[:40]} bars in a year are not between 0 and {MOST_PER_YEAR:,.0f}")
    return float(found)


def read_env_params(table: Mapping[str, Any]) -> EnvParams:
    """Return the parameters in a table of a file; raise `ValueError` or `ParamsError` where they are none."""
    try:
        rest = dict(table)
        return check_params(EnvParams(reward=RewardWeights(**rest.pop("reward")), **rest))
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"its env_params are not those of this jtf ({one_line(error)})") from None


def check_finite(tensors: Mapping[str, np.ndarray]) -> None:
    """Raise `ValueError` for NaN, infinity or a deviation that is not positive; it may be infinite."""
    for name, tensor in tensors.items():
        if np.isnan(tensor).any() or (name != "scaler/std" and np.isinf(tensor).any()):
            raise ValueError(f"{name} holds NaN or infinity")
    if not (tensors["scaler/std"] > 0).all():
        raise ValueError("scaler/std holds a deviation that is not positive")


def num_columns(layout: Layout) -> tuple[int, int, int]:
    """Return how many columns come from the bar, the context and the account."""
    bar, context, account = (len(layout.columns_from(source)) for source in ("bar", "context", "state"))
    return bar, context, account


def check_policy(policy: Policy) -> Policy:
    """Return `policy`, or raise `ValueError` unless members and scaler fit its layout and hold numbers."""
    from jtf.data.timeframes import TIMEFRAMES

    if not policy.members or not all(type(seed) is int for seed in policy.seeds):
        raise ValueError("its seeds are not those of its members")
    if type(policy.symbol) is not str or type(policy.data_kind) is not str:
        raise ValueError("its symbol or its kind of data is no text")
    if type(policy.bar_minutes) is not int or policy.bar_minutes not in TIMEFRAMES.values():
        raise ValueError(f"bars of {policy.bar_minutes!r:.40} minutes are not of {', '.join(TIMEFRAMES)}")
    if policy.asset_class not in (None, *ASSETS) or type(policy.extended_hours) is not bool:
        raise ValueError("its asset class or its extended hours are none")
    check_bars_per_year(policy.bars_per_year)
    first = dict(leaves(policy.members[0]))
    sizes = [len(first["first/bias"])]
    while f"hidden_{len(sizes) - 1}/bias" in first:
        sizes.append(len(first[f"hidden_{len(sizes) - 1}/bias"]))
    check_sizes(policy.window, sizes)
    bar, context, account = num_columns(policy.layout)
    shapes = layer_shapes(policy.window, bar, context, account, sizes, len(ACTION_NAMES))
    scaler = {"scaler/mean": policy.scaler.mean, "scaler/std": policy.scaler.std}
    for params in policy.members:
        tensors = dict(leaves(params)) | scaler
        found = {name: tensor.shape for name, tensor in tensors.items()}
        expected = shapes | dict.fromkeys(scaler, (bar + context,))
        if found != expected or any(tensor.dtype.kind != "f" for tensor in tensors.values()):
            odd = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            raise ValueError(f"{', '.join(odd[:3]) or 'a dtype'} is not that of layout {policy.layout.name}")
        check_finite(tensors)
    return policy
