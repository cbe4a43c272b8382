"""The reader of optimised HLO counts programs whose counts are known; the described GPUs can be compiled for."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compiled_for
from benchmarks.compiled_for import Model
from benchmarks.hlo import Kernel, UnreadableProgramError, kernels, parse
from benchmarks.targets import NAMES, load_target
from jtf.errors import EXIT_USER_ERROR, run_command

ROOT = Path(__file__).parents[2]
HAS_CUDA = importlib.util.find_spec("jax_cuda12_plugin") is not None

LOOP = """HloModule hand_made

%fused_dot (p0: bf16[8,16], p1: bf16[16,4]) -> f32[8,4] {
  %p0 = bf16[8,16]{1,0} parameter(0)
  %p1 = bf16[16,4]{1,0} parameter(1)
  %dot = f32[8,4]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %exp = f32[8,4]{1,0} exponential(%dot)
}

%fused_slice (q0: s32[], q1: f32[100,4]) -> f32[1,4] {
  %q0 = s32[] parameter(0)
  %q1 = f32[100,4]{1,0} parameter(1)
  %zero = s32[] constant(0)
  %slice = f32[1,4]{1,0} dynamic-slice(%q1, %q0, %zero), dynamic_slice_sizes={1,4}
  ROOT %negate = f32[1,4]{1,0} negate(%slice)
}

%fused_update (r0: f32[100,4], r1: s32[], r2: f32[1,4]) -> f32[100,4] {
  %r0 = f32[100,4]{1,0} parameter(0)
  %r1 = s32[] parameter(1)
  %r2 = f32[1,4]{1,0} parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %update = f32[100,4]{1,0} dynamic-update-slice(%r0, %r2, %r1, %zero.1)
}

%body (arg: (s32[], f32[100,4], bf16[8,16], bf16[16,4])) -> (s32[], f32[100,4], bf16[8,16], bf16[16,4]) {
  %arg = (s32[], f32[100,4]{1,0}, bf16[8,16]{1,0}, bf16[16,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %table = f32[100,4]{1,0} get-tuple-element(%arg), index=1
  %left = bf16[8,16]{1,0} get-tuple-element(%arg), index=2
  %right = bf16[16,4]{1,0} get-tuple-element(%arg), index=3
  %product = f32[8,4]{1,0} fusion(%left, %right), kind=kLoop, calls=%fused_dot, metadata={op_name="jit(f)/dot"}
  %row = f32[1,4]{1,0} fusion(%i, %table), kind=kLoop, calls=%fused_slice
  %table.2 = f32[100,4]{1,0} fusion(%table, %i, %row), kind=kLoop, calls=%fused_update
  ROOT %out = (s32[], f32[100,4]{1,0}, bf16[8,16]{1,0}, bf16[16,4]{1,0}) tuple(%i, %table.2, %left, %right)
}

%condition (arg.1: (s32[], f32[100,4], bf16[8,16], bf16[16,4])) -> pred[] {
  %arg.1 = (s32[], f32[100,4]{1,0}, bf16[8,16]{1,0}, bf16[16,4]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%arg.1), index=0
  %limit = s32[] constant(5)
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (a: (s32[], f32[100,4], bf16[8,16], bf16[16,4])) -> (s32[], f32[100,4], bf16[8,16], bf16[16,4]) {
  %a = (s32[], f32[100,4]{1,0}, bf16[8,16]{1,0}, bf16[16,4]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[100,4]{1,0}, bf16[8,16]{1,0}, bf16[16,4]{1,0}) while(%a), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
"""  # noqa: E501

BRANCHES = """HloModule hand_made

%small (s: f32[10]) -> f32[10] {
  %s = f32[10]{0} parameter(0)
  ROOT %copy = f32[10]{0} copy(%s)
}

%large (l: f32[10]) -> f32[10] {
  %l = f32[10]{0} parameter(0)
  %first = f32[10]{0} negate(%l)
  ROOT %second = f32[10]{0} multiply(%first, %first)
}

ENTRY %main (p: pred[], x: f32[10]) -> f32[10] {
  %p = pred[] parameter(0)
  %x = f32[10]{0} parameter(1)
  ROOT %either = f32[10]{0} conditional(%p, %x, %x), true_computation=%small, false_computation=%large
}
"""

CONVERTED = """HloModule hand_made

%fused (p: f32[100]) -> bf16[5] {
  %p = f32[100]{0} parameter(0)
  %narrow = bf16[100]{0} convert(%p)
  ROOT %slice = bf16[5]{0} slice(%narrow), slice={[10:15]}
}

ENTRY %main (x: f32[100]) -> bf16[5] {
  %x = f32[100]{0} parameter(0)
  ROOT %part = bf16[5]{0} fusion(%x), kind=kLoop, calls=%fused
}
"""

ALONE = """HloModule hand_made

%add (u: f32[], v: f32[]) -> f32[] {
  %u = f32[] parameter(0)
  %v = f32[] parameter(1)
  ROOT %sum = f32[] add(%u, %v)
}

%fused_scatter (t: f32[1000], i: s32[64,1], w: f32[64]) -> f32[1000] {
  %t = f32[1000]{0} parameter(0)
  %i = s32[64,1]{1,0} parameter(1)
  %w = f32[64]{0} parameter(2)
  ROOT %scatter = f32[1000]{0} scatter(%t, %i, %w), update_window_dims={}, to_apply=%add
}

ENTRY %main (t0: f32[1000], i0: s32[64,1], w0: f32[64], k0: bf16[3,16,32], x0: bf16[2,10,16]) -> f32[2,8,32] {
  %t0 = f32[1000]{0} parameter(0)
  %i0 = s32[64,1]{1,0} parameter(1)
  %w0 = f32[64]{0} parameter(2)
  %k0 = bf16[3,16,32]{2,1,0} parameter(3)
  %x0 = bf16[2,10,16]{2,1,0} parameter(4)
  %summed = f32[1000]{0} fusion(%t0, %i0, %w0), kind=kInput, calls=%fused_scatter
  ROOT %conv = f32[2,8,32]{2,1,0} convolution(%x0, %k0), window={size=3}, dim_labels=b0f_0io->b0f
}
"""


def found(text: str) -> dict[str, Kernel]:
    return {kernel.name: kernel for kernel in kernels(parse(text))}


def test_a_loop_multiplies_its_kernels_by_the_trip_count_and_bookkeeping_launches_nothing() -> None:
    assert {name: kernel.times for name, kernel in found(LOOP).items()} == {"product": 5, "row": 5, "table.2": 5}


def test_a_product_counts_two_operations_a_multiply_add_by_the_type_of_its_inputs() -> None:
    product = found(LOOP)["product"]
    assert product.matrix_flops == {"bf16": 2 * 8 * 16 * 4}
    assert product.scalar_ops == 8 * 4  # The exponential fused behind it.
    assert product.bytes == 2 * 8 * 16 + 2 * 16 * 4 + 4 * 8 * 4
    assert product.source == "jit(f)/dot"


def test_a_slice_counts_what_is_sliced_and_an_update_in_place_what_is_updated() -> None:
    assert found(LOOP)["row"].bytes == 4 + 16 + 16  # The index, one row in, one row out.
    assert found(LOOP)["table.2"].bytes == 4 + 16 + 16


def test_what_is_converted_before_it_is_sliced_counts_as_the_slice() -> None:
    # 5 of 100 float32 numbers are read, and 5 bfloat16 are written.
    assert found(CONVERTED)["part"].bytes == 5 * 4 + 5 * 2


def test_a_scatter_reads_and_writes_its_elements_and_not_the_table() -> None:
    assert found(ALONE)["summed"].bytes == 64 * 4 + 64 * 4 + 2 * 64 * 4


def test_a_convolution_counts_every_kernel_point_of_every_output() -> None:
    assert found(ALONE)["conv"].matrix_flops == {"bf16": 2 * (2 * 8 * 32) * 3 * 16}


def test_of_a_conditional_the_costlier_branch_counts() -> None:
    assert list(found(BRANCHES)) == ["first", "second"]


def test_a_loop_of_unknown_length_is_refused_and_not_counted_once() -> None:
    with pytest.raises(UnreadableProgramError, match="loop has no known trip count"):
        list(kernels(parse(LOOP.replace("known_trip_count", "unknown"))))


def test_a_text_that_is_no_program_is_refused() -> None:
    with pytest.raises(UnreadableProgramError, match="ENTRY"):
        parse("HloModule empty")


def test_the_products_of_a_program_compiled_here_are_counted_as_its_arithmetic() -> None:
    def chain(x: jax.Array, y: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ y), None), x, length=7)[0]

    square = jax.ShapeDtypeStruct((24, 24), jnp.float32)
    text = jax.jit(chain).lower(square, square).compile().as_text()
    assert sum(k.times * k.matrix_flops.get("f32", 0) for k in kernels(parse(text))) == 7 * 2 * 24**3


def test_a_kernel_takes_its_launch_and_the_longer_of_bytes_and_operations() -> None:
    target, model = load_target("h100"), Model()
    idle = Kernel("idle", "copy", "", 1, 0, (), bytes=0)
    copy = Kernel("copy", "copy", "", 1, 0, (), bytes=3_352_320_000)
    product = Kernel("product", "dot", "", 1, 0, (), bytes=1, matrix_flops={"bf16": 989_400_000_000})
    assert model.seconds(idle, target) == pytest.approx(3e-6)
    assert model.seconds(copy, target) == pytest.approx(3e-6 + 1e-3 / 0.75)
    assert model.seconds(product, target) == pytest.approx(3e-6 + 1e-3 / 0.6)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_described_gpu_names_its_source(name: str) -> None:
    path = Path(compiled_for.__file__).parent / "targets" / f"{name}.toml"
    numbers = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith(("#", "name"))]
    assert len(numbers) == 20
    assert all(any(f"[{source}]" in line for source in "ACX") for line in numbers)


@pytest.mark.skipif(HAS_CUDA, reason="XLA's CUDA compiler is installed")
def test_without_the_cuda_compiler_one_sentence_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: compiled_for.main(["h100", "--no-write"])) == EXIT_USER_ERROR
    assert "install jtf[cuda12]" in capsys.readouterr().err


@pytest.mark.skipif(not HAS_CUDA, reason="XLA's CUDA compiler is not installed (jtf[cuda12])")
@pytest.mark.parametrize("name", NAMES)
def test_a_program_compiles_for_a_described_gpu(name: str, tmp_path: Path) -> None:
    args = [name, "--num-envs", "64", "--num-bars", "2000", "--programs", "env only", "--out", str(tmp_path)]
    # In a process of its own: the compiler is found only before JAX has looked for a GPU.
    subprocess.run([sys.executable, "-m", "benchmarks.compiled_for", *args], check=True, cwd=ROOT)
    record = json.loads((tmp_path / f"compiled_for_{name}.json").read_text())
    assert record["words"] == f"compiled for, never run on {load_target(name).name}"
    (row,) = record["rows"]
    assert row["kernels"] > 128 and row["model s"] > row["kernels"] * 3e-6


@pytest.mark.parametrize("program", ["env only", "rollout", "epochs", "update", "validation"])
def test_every_committed_program_of_an_h100_takes_at_most_three_times_its_floor(program: str) -> None:
    record = json.loads((ROOT / "benchmarks/results/compiled_for_h100.json").read_text())
    (row,) = [row for row in record["rows"] if row["program"] == program and row["envs"] == 65_536]
    assert row["x floor"] <= 3
