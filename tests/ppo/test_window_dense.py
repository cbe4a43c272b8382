"""The first layer is the dense layer: in value, in gradient, and in every step an optimiser takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jtf_ppo.hyper import make_hyper
from jtf_ppo.losses import SampleBatch
from jtf_ppo.networks import make_network
from jtf_ppo.optimiser import apply_gradient, make_optimiser
from jtf_ppo.samples import sample_engine
from jtf_ppo.types import RowTable
from jtf_ppo.window_dense import (
    WindowDense,
    block_length,
    collapse_kernel,
    expand_kernel,
)
from tests.ppo.toy import (
    NUM_CONTEXT,
    WINDOW,
    address_of,
    assert_trees_close,
    dense_windows,
    make_rows,
    row_environment,
    tiny_config,
    tiny_network,
)

METHODS = ("gather", "conv", "fft")


def make_layer(window: int, features: int, context: int, width: int, dtype: str = "float32") -> WindowDense:
    layer = WindowDense(window, features, context, width, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.linspace(-1.0, 1.0, width)
    return layer


def blocks_of(table: RowTable, starts: list[int], length: int, window: int) -> tuple[jax.Array, jax.Array]:
    features = jnp.stack([table.features[s - window + 1 : s + length] for s in starts])
    return features, jnp.stack([table.context[s : s + length] for s in starts])


@pytest.fixture(scope="module")
def full_size():
    """The joint layout: 100 rows of 51 features and 7 context columns, 5 800 numbers."""
    return make_layer(100, 51, 7, 16), make_rows(160, 3, 51, 7), jnp.asarray([99, 99, 130, 159], jnp.int32)


def test_addresses_equal_the_dense_5800_wide_layer(full_size):
    layer, table, addresses = full_size
    observation = dense_windows(addresses, table, 100)
    assert observation.shape == (4, 5800)
    dense = observation @ expand_kernel(layer.kernel[...], layer.context_kernel[...]) + layer.bias[...][None]
    np.testing.assert_allclose(layer(addresses, table), dense, atol=1e-5)


def test_gradient_equals_that_of_the_dense_5800_wide_layer(full_size):
    layer, table, addresses = full_size
    graph, params = nnx.split(layer)
    observation, direction = dense_windows(addresses, table, 100), jnp.asarray(np.random.default_rng(0).normal(size=16))
    dense_kernel = expand_kernel(layer.kernel[...], layer.context_kernel[...])

    def objective(x):
        return jnp.sum(jnp.tanh(x) * direction[None])

    ours = jax.grad(lambda p: objective(nnx.merge(graph, p)(addresses, table)))(params)
    dense, bias = jax.grad(lambda k, b: objective(observation @ k + b[None]), argnums=(0, 1))(
        dense_kernel, layer.bias[...]
    )
    # A context row moves 100 dense rows at once, so its gradient is the sum of theirs.
    rows = dense.reshape(100, 58, 16)
    assert_trees_close(ours["kernel"][...], rows[:, :51], 1e-5)
    assert_trees_close(ours["context_kernel"][...], rows[:, 51:].sum(axis=0), 1e-5)
    assert_trees_close(ours["bias"][...], bias, 1e-5)


@pytest.fixture(scope="module")
def small():
    return make_layer(WINDOW, 3, NUM_CONTEXT, 8), make_rows(60, 4)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_equal_addresses(small, method):
    layer, table = small
    length = block_length(WINDOW)
    outputs = layer.blocks(*blocks_of(table, [4, 20, 48], length, WINDOW), method)
    rows = jnp.asarray([4, 20, 48])[:, None] + jnp.arange(length)[None]
    np.testing.assert_allclose(outputs, layer(rows.reshape(-1), table).reshape(3, length, 8), atol=5e-6)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_blocks_equal_those_of_addresses(small, method):
    layer, table = small
    graph, params = nnx.split(layer)
    length = block_length(WINDOW)
    blocks, rows = blocks_of(table, [10], length, WINDOW), jnp.arange(10, 10 + length)
    by_blocks = jax.grad(lambda p: jnp.sum(jnp.sin(nnx.merge(graph, p).blocks(*blocks, method))))(params)
    by_address = jax.grad(lambda p: jnp.sum(jnp.sin(nnx.merge(graph, p)(rows, table))))(params)
    assert_trees_close(by_blocks, by_address, 1e-5)


def test_gradients_of_features_through_fourier_products_equal_those_of_windows(small):
    layer, table = small
    features, context = blocks_of(table, [4, 20], 7, WINDOW)

    def gradient(method):
        return jax.grad(lambda x: jnp.sum(jnp.sin(layer.blocks(x, context, method))))(features)

    np.testing.assert_allclose(gradient("fft"), gradient("gather"), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_three_methods_agree_at_full_size(full_size, method):
    layer, table, _ = full_size
    features, context = table.features[None], table.context[None, 99:]
    np.testing.assert_allclose(layer.blocks(features, context, method)[0], layer(jnp.arange(99, 160), table), atol=1e-5)


def test_a_layer_without_context_columns_is_the_dense_layer():
    layer, table = make_layer(WINDOW, 3, 0, 8), make_rows(20, 5, 3, 0)
    rows = jnp.arange(4, 20)
    dense = dense_windows(rows, table, WINDOW) @ layer.kernel[...].reshape(-1, 8) + layer.bias[...][None]
    np.testing.assert_allclose(layer(rows, table), dense, atol=5e-6)


def test_expanding_and_collapsing_returns_the_kernels(small):
    layer, _ = small
    kernel, context = collapse_kernel(expand_kernel(layer.kernel[...], layer.context_kernel[...]), WINDOW, NUM_CONTEXT)
    np.testing.assert_array_equal(kernel, layer.kernel[...])
    np.testing.assert_allclose(context, layer.context_kernel[...], rtol=1e-6)


def test_any_dense_kernel_collapses_to_the_same_outputs():
    # Its context rows differ from row to row of the window: only their sum meets the one broadcast value.
    table, rows = make_rows(40, 6), jnp.arange(4, 40)
    dense = jnp.asarray(np.random.default_rng(1).normal(size=(WINDOW * 5, 8)), jnp.float32)
    layer = make_layer(WINDOW, 3, NUM_CONTEXT, 8)
    layer.bias[...] = jnp.zeros(8)
    layer.kernel[...], layer.context_kernel[...] = collapse_kernel(dense, WINDOW, NUM_CONTEXT)
    np.testing.assert_allclose(layer(rows, table), dense_windows(rows, table, WINDOW) @ dense, atol=1e-5)


@pytest.mark.parametrize(("window", "length"), [(1, 8), (5, 12), (100, 69), (128, 89), (129, 88)])
def test_a_block_and_its_history_fill_a_multiple_of_eight_points(window, length):
    assert block_length(window) == length
    assert (length + window - 1) % 8 == 0


def test_bfloat16_products_accumulate_in_float32():
    # 5 000 products of exactly representable numbers, 1 * 2^-8 each, sum to 19.53125; a bfloat16 accumulator (8 bits)
    # would stop growing at 1 to 2, where 2^-8 is less than half of the last place.
    layer = make_layer(100, 50, 0, 4, "bfloat16")
    layer.kernel[...] = jnp.full((100, 50, 4), 2.0**-8)
    layer.bias[...] = jnp.zeros(4)
    table = RowTable(jnp.ones((100, 50)), jnp.zeros((100, 0)), jnp.ones(100, bool))
    np.testing.assert_array_equal(layer(jnp.asarray([99]), table), np.full((1, 4), 5000 / 256, np.float32))


def narrow_and_wide() -> tuple[WindowDense, WindowDense, RowTable, jax.Array]:
    table, rows = make_rows(160, 3, 51, 7), jnp.arange(99, 160)
    return make_layer(100, 51, 7, 16, "bfloat16"), make_layer(100, 51, 7, 16), table, rows


def test_bfloat16_rounds_what_it_multiplies():
    narrow, wide, table, rows = narrow_and_wide()
    assert float(jnp.abs(narrow(rows, table) - wide(rows, table)).max()) > 1e-4


def test_the_gradient_of_bfloat16_products_is_float32_within_the_rounding_of_its_inputs():
    narrow, wide, table, rows = narrow_and_wide()
    aim = jnp.asarray(np.random.default_rng(2).normal(size=(61, 16)), jnp.float32)

    def gradient(layer):
        graph, params = nnx.split(layer)
        return jax.grad(lambda p: jnp.sum(aim * nnx.merge(graph, p)(rows, table)))(params)["kernel"][...]

    exact, rounded = gradient(wide), gradient(narrow)
    windows = jnp.abs(dense_windows(rows, table, 100).reshape(61, 100, 58)[:, :, :51])
    magnitude = jnp.einsum("rwf,rh->wfh", windows, jnp.abs(aim))
    assert jnp.all(jnp.abs(rounded - exact) <= 2.0**-8 * magnitude + 1e-5)
    assert float(jnp.abs(rounded - exact).max()) > 1e-4, "the backward product is bfloat16 too"
    assert bool((rounded.astype(jnp.bfloat16).astype(jnp.float32) != rounded).any()), "its sum is not rounded"


def test_the_first_pre_activations_have_the_variance_of_the_dense_layers():
    # He et al. 2015: 2 / (W (F + C)) a weight, so variance 2 for unit inputs; 7 context columns give 7 / 58 of it.
    layer = WindowDense(100, 51, 7, 4096, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    table = RowTable(jnp.zeros((100, 51)), jnp.ones((100, 7)), jnp.ones(100, bool))
    assert float(layer(jnp.asarray([99]), table).var()) == pytest.approx(2 * 7 / 58, rel=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_the_bfloat16_error_stays_within_the_rounding_of_the_inputs(full_size, method):
    # Each input rounds by at most 2^-9 relative, so a product by about 2^-8 and the sum by 2^-8 * sum |x w|.
    layer, table, _ = full_size
    half = make_layer(100, 51, 7, 16, "bfloat16")
    features, context = table.features[None], table.context[None, 99:]
    error = jnp.abs(half.blocks(features, context, method) - layer.blocks(features, context, "gather"))
    rows = jnp.arange(99, 160)
    magnitude = jnp.abs(dense_windows(rows, table, 100)) @ jnp.abs(
        expand_kernel(layer.kernel[...], layer.context_kernel[...])
    )
    assert jnp.all(error[0] <= 2.0**-8 * magnitude + 1e-5)
    assert layer.blocks(features, context, method).dtype == jnp.float32


def test_a_dense_network_trained_beside_takes_the_same_steps():
    table, address, dense = make_rows(60, 7), row_environment(), row_environment(address=False)
    config = tiny_config(
        address, engine="samples", num_envs=8, minibatch_size=64, weight_decay=0.01, max_grad_norm=0.05, ent_coef=0.01
    )
    graph, params = tiny_network(address, table, config)
    dense_graph, dense_params = make_network(dense, config, jax.random.key(9))
    dense_params["first"] = nnx.State(
        {
            "bias": params["first"]["bias"],
            "kernel": nnx.Param(expand_kernel(params["first"]["kernel"][...], params["first"]["context_kernel"][...])),
        }
    )
    for name in ("policy", "value"):
        dense_params[name] = params[name]
    sides = [
        _Side(config, sample_engine(address, config, graph, 60), params, table, address.window),
        _Side(config, sample_engine(dense, config, dense_graph, 0), dense_params, None, 0),
    ]
    rng = np.random.default_rng(8)
    for _ in range(20):
        rows = jnp.asarray(np.sort(rng.integers(4, 60, 64)), jnp.int32)
        batch = SampleBatch(
            address_of(rows),
            jnp.asarray(rng.integers(0, 3, 64), jnp.int32),
            jnp.full(64, -np.log(3.0), jnp.float32),
            jnp.asarray(rng.normal(size=64), jnp.float32),
            jnp.asarray(rng.normal(size=64), jnp.float32),
        )
        norms = [
            sides[0].step(batch),
            sides[1].step(batch._replace(observation=dense_windows(rows, table, WINDOW))),
        ]
        assert norms[0] == pytest.approx(norms[1], rel=1e-4)
        assert norms[0] > config.max_grad_norm, "the clip must act in this test"
    kernel, context = collapse_kernel(sides[1].params["first"]["kernel"][...], WINDOW, NUM_CONTEXT)
    start = params["first"]["context_kernel"][...]
    moved = sides[0].params["first"]["context_kernel"][...] - start
    np.testing.assert_allclose(moved, context - start, atol=1e-4 * float(jnp.abs(moved).max()))
    assert_trees_close(sides[0].params["first"]["kernel"][...], kernel, 1e-4)
    assert_trees_close(sides[0].params["policy"], sides[1].params["policy"], 1e-4)


class _Side:
    """One network with its optimiser, stepped on batches it is handed."""

    def __init__(self, config, engine, params, table, window):
        self.params = params
        hyper = make_hyper(config)
        optimiser = make_optimiser(config, hyper)
        self._state = optimiser.init(params)

        @jax.jit
        def step(params, state, batch):
            everything = engine.epoch_indices(jax.random.key(1), batch)[0][0]
            (loss, _), gradient = jax.value_and_grad(engine.loss, has_aux=True)(
                params, params, batch, everything, jax.random.key(0), hyper, table
            )
            return apply_gradient(
                optimiser, params, state, gradient, loss, jnp.float32(1e-2), config.max_grad_norm, window
            )

        self._step = step

    def step(self, batch: SampleBatch) -> float:
        self.params, self._state, norm, _ = self._step(self.params, self._state, batch)
        return float(norm)
