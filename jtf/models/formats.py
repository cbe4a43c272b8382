"""Policies as programs for other runtimes: StableHLO (`jax.export`) and ONNX. Each is compared with the policy first.

Both take ``observation [B, W, D]`` float32, the layout's columns in natural units and in the layout's order (broadcast
columns repeated in every row, account columns as they are), and return ``probabilities [B, A]`` and ``value [B]``,
means over the members. The scaler and its clip are inside.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jtf.errors import UserError
from jtf.models.policy import Policy
from jtf.results.run_directory import write_atomically
from jtf_env.bars import Bars
from jtf_env.mirror import Market, build_market, scale_market
from jtf_env.mirror.account import Observation
from jtf_env.scaler import CLIP

NUM_WINDOWS = 1_000
"""Real windows on which a program is compared with its policy."""
TOLERANCE = 1e-5
"""Largest difference of a probability; of a value, times the largest one or 1."""
OPSET, IR_VERSION = 17, 8
"""Versions that ONNX Runtime reads since 1.14."""

Program = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def export_program(policy: Policy, bars: Bars, out: Path, name: Literal["stablehlo", "onnx"]) -> float:
    """Write `policy` as a program and return its largest difference from the policy on windows of `bars`.

    Raises `UserError` where a difference exceeds `TOLERANCE`, or the libraries of the format are not installed; nothing
    is written then.
    """
    make, load = {"stablehlo": (stablehlo_bytes, load_stablehlo), "onnx": (onnx_bytes, load_onnx)}[name]
    content = make(policy)
    difference = program_difference(policy, bars, load(content))
    if not difference <= TOLERANCE:
        raise UserError(
            f"the {name} program differs from the policy by {difference:.1e} on windows of "
            f"{bars.source or bars.symbol}, more than {TOLERANCE:g}; export the bundle instead."
        )
    write_atomically(out, content)
    return difference


def program_difference(policy: Policy, bars: Bars, program: Program) -> float:
    """Return the largest difference between a program and `policy` on `NUM_WINDOWS` windows spread over `bars`.

    Account columns are drawn between -1 and 1.
    """
    natural = build_market(bars, policy.layout, window=policy.window)
    rows = np.unique(np.linspace(natural.first_bar, natural.num_bars - 1, NUM_WINDOWS).astype(int))
    num_account = len(policy.layout.columns_from("state"))
    accounts = np.random.default_rng(0).uniform(-1.0, 1.0, (len(rows), num_account))
    found, values = program(observations(natural, rows, accounts))
    standard = scale_market(natural, policy.scaler)
    expected = [
        policy.outputs_at(standard, Observation(int(row), one)) for row, one in zip(rows, accounts, strict=True)
    ]
    probabilities = np.stack([members.mean(axis=0) for members, _ in expected])
    expected_values = np.array([value.mean() for _, value in expected])
    scale = max(1.0, float(np.abs(expected_values).max()))
    return float(max(np.abs(found - probabilities).max(), np.abs(values - expected_values).max() / scale))


def observations(natural: Market, rows: np.ndarray, accounts: np.ndarray) -> np.ndarray:
    """Return ``[B, W, D]`` float32 observations in natural units at `rows`, with ``accounts [B, E]``."""
    offsets = np.arange(-natural.window + 1, 1)
    windows = natural.features[rows[:, None] + offsets]
    constant = np.concatenate([natural.context[rows], accounts], axis=1)[:, None]
    broadcast = np.broadcast_to(constant, (*windows.shape[:2], constant.shape[2]))
    built = np.concatenate([windows, broadcast], axis=2)
    return built[:, :, natural.layout.observation_order].astype(np.float32)


def columns_in_order(policy: Policy) -> tuple[np.ndarray, np.ndarray]:
    """Return where an observation has the bar columns, and where it has the context and account columns."""
    built = np.argsort(policy.layout.observation_order)
    num_columns = len(policy.layout.bar_columns)
    return built[:num_columns], built[num_columns:]


def standard_scale(policy: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, deviation and bound ``[F + C + E]`` float32; account columns pass unchanged."""
    num_account = len(policy.layout.columns_from("state"))
    mean = np.concatenate([policy.scaler.mean, np.zeros(num_account)])
    std = np.concatenate([policy.scaler.std, np.ones(num_account)])
    bound = np.concatenate([np.full(len(policy.scaler.std), CLIP), np.full(num_account, np.inf)])
    return mean.astype(np.float32), std.astype(np.float32), bound.astype(np.float32)


# StableHLO


def stablehlo_bytes(policy: Policy) -> bytes:
    """Return the policy as a serialised StableHLO program for CPU, CUDA and TPU with any batch size."""
    import jax
    from jax import export

    batch = export.symbolic_shape("b")[0]
    shape = jax.ShapeDtypeStruct((batch, policy.window, policy.layout.count), np.float32)
    program = export.export(jax.jit(jax_program(policy)), platforms=("cpu", "cuda", "tpu"))(shape)
    return bytes(program.serialize())


def jax_program(policy: Policy) -> Callable[[Any], tuple[Any, Any]]:
    """Return the policy as a JAX function of observations."""
    import jax
    import jax.numpy as jnp

    bar, broadcast = columns_in_order(policy)
    mean, std, bound = (one[None, None] for one in standard_scale(policy))
    network = policy.network
    num_members = len(policy.members)
    product = jax.lax.Precision.HIGHEST
    kernel = network.kernel.reshape(-1, network.kernel.shape[2])
    first_bias, broadcast_kernel = network.bias.astype(np.float32)[None], network.broadcast_kernel.astype(np.float32)

    def apply(observation: Any) -> tuple[Any, Any]:
        ordered = observation[:, :, np.concatenate([bar, broadcast])]
        standard = jnp.clip((ordered - mean) / std, -bound, bound)
        windows = standard[:, :, : len(bar)].reshape(observation.shape[0], kernel.shape[0])
        constant = standard[:, -1, len(bar) :]
        first = jnp.matmul(windows, kernel, precision=product) + first_bias
        first = first + jnp.matmul(constant, broadcast_kernel, precision=product)
        layer = jax.nn.relu(first).reshape(observation.shape[0], num_members, -1)
        for weights, bias in network.hidden:
            layer = jax.nn.relu(jnp.einsum("bsi,sio->bso", layer, weights, precision=product) + bias[None, :, 0])
        heads = [
            jnp.einsum("bsi,sio->bso", layer, head.kernel, precision=product) + head.bias[None, :, 0]
            for head in (network.policy, network.value)
        ]
        return jax.nn.softmax(heads[0], axis=-1).mean(axis=1), heads[1][..., 0].mean(axis=1)

    return apply


def load_stablehlo(content: bytes) -> Program:
    """Return a serialised StableHLO program as a function."""
    from jax import export

    program = export.deserialize(bytearray(content))

    def run(observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities, value = program.call(observation)
        return np.asarray(probabilities), np.asarray(value)

    return run


# ONNX


class _Graph:
    """Nodes and constants of an ONNX graph as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def add(self, kind: str, *inputs: str | np.ndarray, name: str | None = None, **attributes: Any) -> str:
        """Add a node and return its output; arrays among its inputs become constants."""
        from onnx import helper

        output = name or f"{kind.lower()}_{len(self.nodes)}"
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output


def onnx_bytes(policy: Policy) -> bytes:
    """Return the policy as an ONNX model with any batch size."""
    helper, checker = _onnx()
    import onnx

    graph = _Graph()
    onnx_nodes(graph, policy)
    size = ["batch", policy.window, policy.layout.count]
    inputs = [helper.make_tensor_value_info("observation", onnx.TensorProto.FLOAT, size)]
    num_actions = policy.network.policy.kernel.shape[2]
    outputs = [
        helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", num_actions]),
        helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, ["batch"]),
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="jtf",
    )
    model.ir_version = IR_VERSION
    checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def onnx_nodes(graph: _Graph, policy: Policy) -> None:
    """Add the nodes from ``observation`` to ``probabilities`` and ``value``."""
    network = policy.network
    bar, broadcast = columns_in_order(policy)
    mean, std, bound = standard_scale(policy)
    ordered = graph.add("Gather", "observation", np.concatenate([bar, broadcast]), axis=2)
    standard = graph.add("Div", graph.add("Sub", ordered, mean), std)
    standard = graph.add("Max", graph.add("Min", standard, bound), -bound)
    windows = graph.add("Flatten", graph.add("Gather", standard, np.arange(len(bar)), axis=2), axis=1)
    last = graph.add("Gather", standard, np.array(policy.window - 1), axis=1)
    constant = graph.add("Gather", last, len(bar) + np.arange(len(broadcast)), axis=1)
    kernel = network.kernel.reshape(-1, network.kernel.shape[2])
    first = graph.add("Gemm", windows, kernel, network.bias.astype(np.float32))
    first = graph.add("Add", first, graph.add("MatMul", constant, network.broadcast_kernel.astype(np.float32)))
    trunk = graph.add("Relu", first)
    width = kernel.shape[1] // len(policy.members)
    heads: tuple[list[str], list[str]] = ([], [])
    for k in range(len(policy.members)):
        layer = graph.add("Gather", trunk, np.arange(k * width, (k + 1) * width), axis=1)
        for weights, bias in network.hidden:
            layer = graph.add("Relu", graph.add("Gemm", layer, weights[k], bias[k, 0]))
        logits = graph.add("Gemm", layer, network.policy.kernel[k], network.policy.bias[k, 0])
        heads[0].append(graph.add("Softmax", logits, axis=1))
        heads[1].append(graph.add("Gemm", layer, network.value.kernel[k], network.value.bias[k, 0]))
    graph.add("Mean", *heads[0], name="probabilities")
    graph.add("Squeeze", graph.add("Mean", *heads[1]), np.array([1]), name="value")


def load_onnx(content: bytes) -> Program:
    """Return an ONNX model as a function, run by ONNX Runtime on one core."""
    _onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities, value = session.run(None, {"observation": observation})
        return probabilities, value

    return run


def _onnx() -> tuple[Any, Any]:
    try:
        import onnxruntime  # noqa: F401
        from onnx import checker, helper
    except ImportError:
        raise UserError('the format onnx needs two more packages; install them with pip install "jtf[onnx]".') from None
    return helper, checker
