"""The first layer: a dense layer over `[W, F + C]` observations that is handed row addresses instead.

For an address `i` the dense observation is the window ``features[i-W+1 .. i]`` beside `W` copies of
``context[i]``. Copies of one value meet only the sum of their kernel rows, so one context row times `W` is the
dense layer exactly, in value and, under Adam, in every step it takes (`expand_kernel`, `collapse_kernel`).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jtf_ppo.types import RowTable

FLOAT32 = jax.lax.Precision.HIGHEST
"""Precision of a float32 product: without it a GPU rounds the inputs to TF32, 10 bits."""

ALIGNED = 8
"""Sizes a GPU's matrix units take as they are, in elements: 16 bytes of bfloat16. Others are copied to padded ones."""


class WindowDense(nnx.Module):
    """``[B]`` addresses (or blocks of consecutive rows) to ``[B, H]`` pre-activations.

    Parameters
    ----------
    window, num_features, num_context, width: `W`, `F`, ``C + E``, `H`.
    dtype: inputs of the matrix products; sums are accumulated in the parameters' dtype.
    rngs: consumes ``rngs.params`` twice.
    """

    def __init__(
        self,
        window: int,
        num_features: int,
        num_context: int,
        width: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.window, self.dtype = window, dtype
        # He et al. 2015 for the dense layer; the sum of W independent rows has W times their variance.
        std = math.sqrt(2.0 / (window * (num_features + num_context)))
        normal = jax.random.normal
        self.kernel = nnx.Param(std * normal(rngs.params(), (window, num_features, width)))
        self.context_kernel = nnx.Param(std / math.sqrt(window) * normal(rngs.params(), (num_context, width)))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, addresses: Array, table: RowTable, account: Array | None = None) -> Array:
        """Apply to ``addresses [B]`` int32, each at least ``W - 1``, beside ``account [B, E]``; returns ``[B, H]``."""
        rows = addresses[:, None] + jnp.arange(1 - self.window, 1, dtype=addresses.dtype)[None, :]
        windows = table.features[rows].reshape(addresses.shape[0], -1)
        kernel = self.kernel[...].reshape(windows.shape[1], -1)
        context = table.context[addresses]
        if account is not None:
            context = jnp.concatenate([context, account], axis=1)
        return self._product(windows, kernel) + self._broadcast_part(context)

    def blocks(self, features: Array, context: Array, method: str) -> Array:
        """Apply to blocks of consecutive rows, all but the account's part.

        Parameters
        ----------
        features: ``[K, L + W - 1, F]``, each block's `L` rows behind the ``W - 1`` rows before them.
        context: ``[K, L, C]``.
        method: ``gather``, ``conv`` or ``fft``; equal up to rounding.

        Returns
        -------
        ``[K, L, H]`` pre-activations.
        """
        kernel = self.kernel[...]
        if method == "gather":
            return self._gathered(features, context)
        if method == "fft":
            windowed = overlap_save(features, kernel)
        else:
            windowed = jax.lax.conv_general_dilated(
                features.astype(self.dtype),
                kernel.astype(self.dtype),
                window_strides=(1,),
                padding="VALID",
                dimension_numbers=("NWC", "WIO", "NWC"),
                preferred_element_type=kernel.dtype,
                precision=_precision(self.dtype),
            )
        return windowed + self._broadcast_part(context)

    def _gathered(self, features: Array, context: Array) -> Array:
        """One product of windows and context side by side; zeros fill its inner size up to a multiple of ALIGNED."""
        num_blocks, length, _ = context.shape
        width = self.bias[...].shape[0]
        rows = jnp.arange(length)[:, None] + jnp.arange(self.window)[None, :]
        windows = features.astype(self.dtype)[:, rows].reshape(num_blocks * length, -1)
        beside = (self.window * context).astype(self.dtype).reshape(num_blocks * length, -1)
        fill = -(windows.shape[1] + beside.shape[1]) % ALIGNED
        inputs = jnp.concatenate([windows, beside, jnp.zeros((num_blocks * length, fill), self.dtype)], axis=1)
        zeros = jnp.zeros((fill, width), self.bias[...].dtype)
        context_kernel = self.context_kernel[: context.shape[-1]]
        kernel = jnp.concatenate([self.kernel[...].reshape(-1, width), context_kernel, zeros])
        return self._product(inputs, kernel).reshape(num_blocks, length, width) + self._bias(3)

    def _broadcast_part(self, context: Array) -> Array:
        """``W * context @ context_kernel + bias`` for ``context [..., C]``, or ``[..., C + E]`` with the account."""
        kernel = self.context_kernel[: context.shape[-1]]
        return self.window * self._product(context, kernel) + self._bias(context.ndim)

    def account_part(self, account: Array) -> Array:
        """Return what ``account [..., E]`` adds to the pre-activations of its row (`blocks`): ``[..., H]``."""
        kernel = self.context_kernel[...]
        return self.window * self._product(account, kernel[kernel.shape[0] - account.shape[-1] :])

    def _bias(self, ndim: int) -> Array:
        return self.bias[...].reshape((1,) * (ndim - 1) + (-1,))

    def _product(self, left: Array, kernel: Array) -> Array:
        flat = left.reshape(math.prod(left.shape[:-1]), left.shape[-1])
        return product(flat, kernel, self.dtype).reshape(*left.shape[:-1], kernel.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(left: Array, kernel: Array, dtype: jnp.dtype) -> Array:
    """``left [B, D] @ kernel [D, H]`` with inputs of `dtype`, sums and result in the kernel's own, both ways.

    Without a rule of its own the backward pass would multiply in the wide dtype and round the kernel's gradient to the
    narrow one.
    """
    precision = _precision(dtype)
    return jnp.matmul(
        left.astype(dtype), kernel.astype(dtype), preferred_element_type=kernel.dtype, precision=precision
    )


def _product_forward(left: Array, kernel: Array, dtype: jnp.dtype) -> tuple[Array, tuple[Array, Array]]:
    return product(left, kernel, dtype), (left, kernel)


def _product_backward(dtype: jnp.dtype, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    left, kernel = saved
    narrow, precision = gradient.astype(dtype), _precision(dtype)
    of_left = jnp.matmul(narrow, kernel.astype(dtype).T, preferred_element_type=left.dtype, precision=precision)
    of_kernel = jnp.matmul(left.astype(dtype).T, narrow, preferred_element_type=kernel.dtype, precision=precision)
    return of_left, of_kernel


product.defvjp(_product_forward, _product_backward)


def overlap_save(features: Array, kernel: Array) -> Array:
    """Correlate ``features [K, L + W - 1, F]`` with ``kernel [W, F, H]`` through the Fourier domain: ``[K, L, H]``.

    Overlap-save (Oppenheim and Schafer, Discrete-Time Signal Processing, 8.7.3): the circular correlation of a block
    with the zero-padded kernel equals the linear one on the block's first `L` outputs. ``X conj(K)`` is taken in real
    arithmetic, so that all of it but the small transform of `features` is matrix products (kernel to frequencies,
    product a frequency, frequencies to outputs), forward and backward; on two CPU cores that is 2 to 3 times faster
    than Fourier transforms of the kernel and the outputs. Always in the parameters' precision: what cancels in the
    transforms would not in less.

    Two outputs equally far from the middle one are the sum and the difference of a cosine and a sine series, which
    halves the last product.
    """
    num_blocks, points, num_features = features.shape
    window, _, width = kernel.shape
    length, frequencies = points - window + 1, points // 2 + 1
    cosines, sines, to_middle = middle_out(points, length)
    signal = jnp.fft.rfft(features.astype(kernel.dtype), axis=1).transpose(1, 0, 2)
    signal = signal * jnp.asarray(to_middle, signal.dtype)[:, None, None]
    forward = jnp.asarray(fourier_matrix(points)[:, :window], kernel.dtype)
    response = _exact(forward, kernel.reshape(window, -1)).reshape(frequencies, 2 * num_features, width)
    real, imag = _correlate(
        jnp.concatenate([signal.real, signal.imag], -1), jnp.concatenate([signal.imag, -signal.real], -1), response
    )
    even = _exact(jnp.asarray(cosines, kernel.dtype), real.reshape(frequencies, -1))
    odd = _exact(jnp.asarray(sines, kernel.dtype), imag.reshape(frequencies, -1))
    before = jnp.flip((even + odd)[length % 2 :], axis=0)
    return jnp.concatenate([before, even - odd]).reshape(length, num_blocks, width).transpose(1, 0, 2)


@jax.custom_vjp
def _correlate(for_real: Array, for_imag: Array, response: Array) -> tuple[Array, Array]:
    """Multiply ``[M, K, 2F]`` twice by ``response [M, 2F, H]``: real and imaginary parts of the products.

    Its own rule for the backward pass adds both gradients of the response up inside one product.
    """
    return _exact(for_real, response), _exact(for_imag, response)


def _correlate_forward(
    for_real: Array, for_imag: Array, response: Array
) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
    return _correlate(for_real, for_imag, response), (for_real, for_imag, response)


def _correlate_backward(
    saved: tuple[Array, Array, Array], gradients: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    for_real, for_imag, response = saved
    transposed = response.transpose(0, 2, 1)
    left = jnp.concatenate([for_real, for_imag], axis=1).transpose(0, 2, 1)
    of_response = _exact(left, jnp.concatenate(gradients, axis=1))
    return _exact(gradients[0], transposed), _exact(gradients[1], transposed), of_response


_correlate.defvjp(_correlate_forward, _correlate_backward)


def _precision(dtype: jnp.dtype) -> jax.lax.Precision | None:
    return None if dtype == jnp.bfloat16 else FLOAT32


def _exact(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=FLOAT32)


def fourier_matrix(points: int) -> np.ndarray:
    """Return the real discrete Fourier transform of `points` samples as a float64 matrix ``[2M, points]``.

    It holds ``cos`` and ``-sin`` of each of the ``M = points // 2 + 1`` frequencies in turn.
    """
    frequency = np.arange(points // 2 + 1)[:, None]
    angle = 2.0 * np.pi * (frequency * np.arange(points)[None, :] % points) / points
    return np.stack([np.cos(angle), -np.sin(angle)], axis=1).reshape(-1, points)


def middle_out(points: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the inverse real transform of the first `length` of `points` samples, from their middle outwards.

    Of spectra multiplied by ``to_middle [M]``, ``cosines [D, M] @ real`` less and plus ``sines [D, M] @ imag`` are the
    samples behind and before the middle: at distance 0, 1, .. for an odd `length`, 1/2, 3/2, .. for an even one.
    Frequencies between zero and the last one count twice.
    """
    frequency = np.arange(points // 2 + 1)
    twice = np.where((frequency == 0) | (2 * frequency == points), 1.0, 2.0) / points
    distance = np.arange(-(-length // 2)) + (length % 2 == 0) / 2.0
    angle = 2.0 * np.pi * frequency[None, :] * distance[:, None] / points
    to_middle = np.exp(2.0j * np.pi * frequency * ((length - 1) / 2.0) / points)
    return twice * np.cos(angle), twice * np.sin(angle), to_middle


def block_length(window: int, method: str = "fft") -> int:
    """Return the rows of a block.

    For ``fft`` block and history fill the next multiple of 8 points from 5/3 of the window on: fewer points make the
    kernel's transform cheaper, which every optimiser step pays, more points the product of a row. Else it is the power
    of two that is at least twice the window.
    """
    if method == "fft":
        return 8 * -(-5 * window // 24) - window + 1
    return 1 << (2 * window - 1).bit_length()


def expand_kernel(kernel: Array, context_kernel: Array) -> Array:
    """Return the dense ``[W * (F + C), H]`` kernel over the flattened observation ``[W, F + C]``."""
    window = kernel.shape[0]
    copies = jnp.broadcast_to(context_kernel[None], (window, *context_kernel.shape))
    return jnp.concatenate([kernel, copies], axis=1).reshape(-1, kernel.shape[-1])


def collapse_kernel(dense: Array, window: int, num_context: int) -> tuple[Array, Array]:
    """Return ``(kernel [W, F, H], context_kernel [C, H])`` of a dense ``[W * (F + C), H]`` kernel: same outputs."""
    rows = dense.reshape(window, -1, dense.shape[-1])
    split = rows.shape[1] - num_context
    return rows[:, :split], rows[:, split:].mean(axis=0)
