"""A trained policy in NumPy: bars in, action probabilities out. No JAX; all a live machine needs beside the mirror."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from jtf.errors import UserError
from jtf.models.session import Account, Decision, Session
from jtf.models.stream import MarketStream, Network, Params, make_network
from jtf_env.actions import HOLD
from jtf_env.assets import AssetClass
from jtf_env.bars import Bars
from jtf_env.layouts import Layout, get_layout
from jtf_env.mirror.account import Observation
from jtf_env.mirror.backtest import NO_ACCOUNT, Decide, replay
from jtf_env.mirror.market import Market, build_market
from jtf_env.params import EnvParams
from jtf_env.scaler import Scaler

CHUNK_ROWS = 4096
"""Rows evaluated at once: some 60 MB of spectra at a width of 256."""

TIE = 1e-5
"""Probabilities this close are told apart by the arithmetic of a session; rounding is some 1e-7."""


@dataclass(frozen=True, eq=False)
class Policy:
    """An ensemble of members (often one) and everything needed to apply it to bars of the same symbol.

    It decides by the mean of the members' action probabilities; a member alone is an ensemble of one.
    """

    members: tuple[Params, ...]
    seeds: tuple[int, ...]
    """One a member."""
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
    asset_class: AssetClass | None = None
    """None: what the spelling of the symbol tells."""
    extended_hours: bool = False
    """Whether it was trained on bars outside regular hours too."""

    @classmethod
    def load(cls, path: str | Path) -> "Policy":
        """Read a bundle (``clsk.zip``) or a ``policy.safetensors``; raise `UserError` for anything else."""
        from jtf.models.bundle import load_bundle
        from jtf.models.policy_file import load_policy

        path = Path(path)
        return load_bundle(path).policy if is_bundle(path) else load_policy(path)

    @cached_property
    def sha256(self) -> str:
        """What identifies the policy: of one member its parameters' hash, else the hash of the members' hashes."""
        hashes = [params_sha256(params) for params in self.members]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    def market(self, bars: Bars) -> Market:
        """Return the standardised mirror market of `bars`; decisions start once window and columns are warm."""
        return build_market(bars, get_layout(self.layout), self.scaler, window=self.window)

    def probabilities(self, market: Market) -> np.ndarray:
        """Return the ``[T, A]`` float64 action probabilities at every bar of an address-only layout.

        Rows before `market.first_bar` are certain of HOLD.
        """
        table = np.mean([_softmax(member_outputs(params, market).logits) for params in self.members], axis=0)
        table[: market.first_bar] = np.eye(table.shape[1])[HOLD]
        return table

    def values(self, market: Market) -> np.ndarray:
        """Return the ``[T]`` value of every bar, mean over the members; 0 before `market.first_bar`."""
        return np.mean([member_outputs(params, market).values for params in self.members], axis=0)

    @cached_property
    def network(self) -> Network:
        """The members side by side, as live decisions evaluate them."""
        return make_network(self.members)

    def start(self, history: Bars | pd.DataFrame) -> Session:
        """Return a session behind `history`, which goes on bar by bar (`Session.update`).

        Parameters
        ----------
        history
            Bars of the policy's symbol and length, or a data frame of them as `jtf.load_bars` takes it: at least those
            of warm-up and window. Recursive columns (RSI, MACD, regimes) remember their first bars ever less, so a
            longer history is closer to training.

        Raises
        ------
        BarsError, UserError
            For bars that are too few, of another length, or none at all.
        """
        return Session(self, self._as_bars(history))

    def decide(self, bars: Bars | pd.DataFrame, account: Account | None = None) -> Decision:
        """Return the decision at the close of the last of `bars`, what a session behind them would decide.

        `account` is needed by layouts with account columns (`jtf.models.session.Account`).
        """
        return self.start(bars).decide(account)

    def _as_bars(self, bars: Bars | pd.DataFrame) -> Bars:
        if not isinstance(bars, Bars):
            from jtf.data.check import TIMEFRAME_NAMES
            from jtf.data.load import load_bars

            bars = load_bars(
                self.symbol, bars, asset_class=self.asset_class, extended_hours=self.extended_hours,
                timeframe=TIMEFRAME_NAMES[self.bar_minutes],  # type: ignore[arg-type]
            )  # fmt: skip
        if bars.bar_minutes != self.bar_minutes:
            raise UserError(
                f"{bars.source or bars.symbol} has {bars.bar_minutes}-minute bars and the policy was trained on "
                f"{self.bar_minutes}-minute bars; give bars of that length."
            )
        return bars

    def member(self, index: int) -> "Policy":
        """Return one member as a policy of its own."""
        return replace(self, members=self.members[index : index + 1], seeds=self.seeds[index : index + 1])

    def actions(self, market: Market) -> np.ndarray:
        """Return the ``[T]`` most likely action at every bar of an address-only layout.

        `probabilities` are computed for all rows at once; rows whose two most likely actions lie within their rounding
        are decided as a session decides them, so both take the same action on every bar.
        """
        table = self.probabilities(market)
        actions = np.argmax(table, axis=1)
        first, second = np.partition(table, [-2, -1], axis=1)[:, -2:].T[::-1]
        rows = np.flatnonzero(first - second < TIE)
        for row in rows[rows >= market.first_bar].tolist():
            actions[row] = self.probabilities_at(market, Observation(row, NO_ACCOUNT)).argmax()
        return actions

    def decider(self, market: Market) -> Decide:
        """Return the decisions of this policy on `market`, asked bar by bar.

        An address-only policy knows them all in advance; with account columns the network is evaluated at every bar.
        """
        if self.layout.address_only:
            return replay(self.actions(market))
        return lambda observation: int(np.argmax(self.probabilities_at(market, observation)))

    def probabilities_at(self, market: Market, observation: Observation) -> np.ndarray:
        """Return the ``[A]`` action probabilities of one observation of any layout, as a session computes them."""
        return self.outputs_at(market, observation)[0].mean(axis=0)

    def outputs_at(self, market: Market, observation: Observation) -> tuple[np.ndarray, np.ndarray]:
        """Return the members' action probabilities ``[S, A]`` and values ``[S]`` of one observation."""
        if market not in self._streams:
            self._streams[market] = MarketStream(self.network.kernel, market.features)
        windowed = self._streams[market].at(observation.row)
        return self.network.outputs(windowed, np.concatenate([market.context[observation.row], observation.account]))

    @cached_property
    def _streams(self) -> WeakKeyDictionary[Market, MarketStream]:
        return WeakKeyDictionary()


def is_bundle(path: Path) -> bool:
    """Whether a file is, or by its name should be, a zip archive."""
    if not path.is_file():
        return path.suffix == ".zip"
    with path.open("rb") as file:
        return path.suffix == ".zip" or file.read(2) == b"PK"


class Outputs(NamedTuple):
    """What a network says, float64."""

    logits: np.ndarray
    """``[B, A]``"""
    values: np.ndarray
    """``[B]``"""


_KNOWN: WeakKeyDictionary[Market, dict[str, Outputs]] = WeakKeyDictionary()
"""Outputs of members on whole markets by their hash: members, their ensemble and its values ask for the same ones."""


def member_outputs(params: Params, market: Market) -> Outputs:
    """Return the outputs ``[T, ...]`` of an address-only network on every row; those before `first_bar` are 0."""
    known = _KNOWN.setdefault(market, {})
    name = params_sha256(params)
    if name not in known:
        known[name] = row_outputs(params, market.features, market.context, market.first_bar)
    return known[name]


def row_outputs(params: Params, features: np.ndarray, context: np.ndarray, first_row: int) -> Outputs:
    """Return the outputs of an address-only network for every row of the standardised table; earlier rows are 0.

    Parameters
    ----------
    features, context: ``[T, F]`` and ``[T, C]``; windows of `F` columns end at their row.
    first_row: first row with a full window.
    """
    kernel = np.asarray(params["first"]["kernel"], np.float64)
    window, num_rows = len(kernel), len(features)
    points = 1 << (2 * window - 1).bit_length()
    response = np.conj(np.fft.rfft(kernel, points, axis=0))
    outputs = Outputs(np.zeros((num_rows, len(params["policy"]["bias"]))), np.zeros(num_rows))
    for start in range(first_row, num_rows, CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, num_rows))
        products = overlap_save(features[rows.start - window + 1 : rows.stop], response, window)
        outputs.logits[rows], outputs.values[rows] = later_layers(params, products, context[rows])
    return outputs


def overlap_save(features: np.ndarray, response: np.ndarray, window: int) -> np.ndarray:
    """Return the products of a kernel with every full window of ``features [R + W - 1, F]``: ``[R, H]``.

    Overlap-save in the Fourier domain (Oppenheim and Schafer, Discrete-Time Signal Processing, 8.7.3): a sixth of the
    operations of the windows' own products, and equal to them but for rounding. ``response [P // 2 + 1, F, H]`` is the
    conjugate transform of the kernel ``[W, F, H]`` over `P` points.
    """
    points, num_rows = 2 * (len(response) - 1), len(features) - window + 1
    length = points - window + 1
    starts = np.arange(0, num_rows, length)
    padded = np.concatenate([features, np.zeros((points, features.shape[1]))])
    blocks = padded[starts[None, :] + np.arange(points)[:, None]]
    outputs = np.fft.irfft(np.fft.rfft(blocks, axis=0) @ response, points, axis=0)[:length]
    return outputs.transpose(1, 0, 2).reshape(-1, outputs.shape[2])[:num_rows]


def later_layers(params: Params, windowed: np.ndarray, broadcast: np.ndarray) -> Outputs:
    """Return the outputs for the windows' part of the first layer, ``[B, H]``, beside ``broadcast [B, C + E]``.

    First layer: ``relu(windows @ kernel + W * broadcast @ context_kernel + bias)``. Then ReLU layers and two linear
    heads, float64.

    The `W` equal copies of a broadcast column meet one kernel row, times `W`.
    """
    first = {name: np.asarray(array, np.float64) for name, array in params["first"].items()}
    hidden = windowed + first["bias"][None, :]
    if broadcast.shape[1]:
        hidden = hidden + len(first["kernel"]) * (broadcast @ first["context_kernel"])
    hidden = np.maximum(hidden, 0.0)
    for k in range(sum(name.startswith("hidden_") for name in params)):
        kernel, bias = _layer(params[f"hidden_{k}"])
        hidden = np.maximum(hidden @ kernel + bias, 0.0)
    (policy_kernel, policy_bias), (value_kernel, value_bias) = _layer(params["policy"]), _layer(params["value"])
    return Outputs(hidden @ policy_kernel + policy_bias, (hidden @ value_kernel + value_bias)[:, 0])


def params_sha256(params: Params) -> str:
    """Return the SHA-256 over path, dtype, shape and bytes of every parameter, paths sorted."""
    digest = hashlib.sha256()
    for name, array in sorted(leaves(params), key=lambda leaf: leaf[0]):
        contiguous = np.ascontiguousarray(array)
        digest.update(f"{name} {contiguous.dtype.str} {contiguous.shape};".encode())
        digest.update(contiguous.tobytes())
    return digest.hexdigest()


def leaves(params: Params, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield ``(path, array)`` of a nested dict, path parts joined by ``/``."""
    for name, value in params.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(value)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _layer(layer: Params) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(layer["kernel"], np.float64), np.asarray(layer["bias"], np.float64)[None, :]
