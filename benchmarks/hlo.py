"""Count what a compiled XLA program does from the text of its optimised HLO: kernels, operations, bytes.

The counts are of the program, not of a run: loops are multiplied by the trip counts the compiler knows, and every
instruction of a computation that is not fused away is one kernel. `kernels` walks a program in that order.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "s64": 8, "u64": 8,
    "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16, "token": 0,
}  # fmt: skip
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id",
    "opt-barrier", "copy-done", "async-done", "async-update", "add-dependency",
}  # fmt: skip
"""Instructions that launch nothing."""
MOVES = FREE | {
    "copy", "broadcast", "reshape", "transpose", "slice", "dynamic-slice", "dynamic-update-slice", "gather", "pad",
    "concatenate", "iota", "reverse", "scatter", "fusion", "call", "while", "conditional", "custom-call", "dot",
    "convolution", "sort", "async-start", "copy-start", "reduce",
}  # fmt: skip
"""Instructions without arithmetic of one operation an element of their own."""


class UnreadableProgramError(ValueError):
    """The text is no HLO this reader knows, or has a loop whose trip count the compiler did not find."""


@dataclass(frozen=True)
class Shape:
    """An array, or a tuple of arrays."""

    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    """Element type and dimensions."""

    @property
    def elements(self) -> int:
        """Elements of all arrays."""
        return sum(math.prod(dims) for _, dims in self.arrays)

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(BYTES.get(kind, 1) * math.prod(dims) for kind, dims in self.arrays)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: Shape
    opcode: str
    arguments: str
    """What stands in the brackets."""
    attributes: str
    """The rest of the line."""
    is_root: bool = False

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of the instructions it takes."""
        return tuple(re.findall(r"%([\w.\-]+)", self.arguments))

    def called(self, attribute: str) -> str | None:
        """Return the computation named by ``attribute=%name``."""
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.attributes)
        return found[1] if found else None


@dataclass(frozen=True)
class Computation:
    """A named list of instructions in order of execution."""

    name: str
    instructions: tuple[Instruction, ...]

    @cached_property
    def by_name(self) -> dict[str, Instruction]:
        """Instructions by name."""
        return {instruction.name: instruction for instruction in self.instructions}

    @property
    def root(self) -> Instruction:
        """The instruction whose value the computation returns."""
        return next(i for i in self.instructions if i.is_root)

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Instructions that take a named one as an operand."""
        users: dict[str, list[Instruction]] = {}
        for instruction in self.instructions:
            for operand in set(instruction.operands):
                users.setdefault(operand, []).append(instruction)
        return users

    def shape_of(self, operand: str) -> Shape:
        """Return the shape of an operand."""
        return self.by_name[operand].shape


@dataclass(frozen=True)
class Program:
    """A module: its computations by name, and the one that runs."""

    computations: dict[str, Computation]
    entry: Computation


@dataclass(frozen=True)
class Kernel:
    """One launch, and how often it happens."""

    name: str
    opcode: str
    source: str
    """The JAX operation it came from, where the compiler kept it."""
    times: int
    depth: int
    """Loops around it."""
    loops: tuple[str, ...]
    bytes: int
    """Read and written by one launch. What is indexed counts what is indexed, at most the whole array."""
    matrix_flops: dict[str, int] = field(default_factory=dict)
    """Operations of matrix products and convolutions of one launch, by the type of their inputs."""
    scalar_ops: int = 0
    """One for each element of every other arithmetic instruction fused into it."""


_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\]")


def parse(text: str) -> Program:
    """Return the program of the text of an optimised HLO module."""
    computations: dict[str, Computation] = {}
    entry, name, is_entry, lines = "", "", False, []
    for line in text.splitlines():
        header = _COMPUTATION.match(line)
        if header:
            is_entry, name, lines = bool(header[1]), header[2], []
        elif line.startswith("}") and name:
            computations[name] = Computation(name, tuple(lines))
            entry, name = (name if is_entry else entry), ""
        elif name and (found := _INSTRUCTION.match(line)):
            lines.append(_instruction(found))
    if not entry:
        raise UnreadableProgramError("the text has no ENTRY computation.")
    return Program(computations, computations[entry])


def _instruction(found: re.Match[str]) -> Instruction:
    rest = found[3]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opcode = re.match(r"\s*([\w\-]+)\(", rest[end:])
    if opcode is None:
        raise UnreadableProgramError(f"the instruction {found[2]} has no opcode.")
    begin = end + opcode.end() - 1
    stop = _closing(rest, begin)
    return Instruction(
        found[2], _shape(rest[:end]), opcode[1], rest[begin + 1 : stop], rest[stop + 1 :], bool(found[1])
    )


def _closing(text: str, begin: int) -> int:
    depth = 0
    for position in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if not depth:
            return position
    raise UnreadableProgramError("a bracket is never closed.")


def _shape(text: str) -> Shape:
    arrays = [
        (kind, tuple(int(size.lstrip("<=")) for size in dims.split(",") if size)) for kind, dims in _ARRAY.findall(text)
    ]
    return Shape(tuple((kind, dims) for kind, dims in arrays if kind in BYTES))


def kernels(program: Program) -> Iterator[Kernel]:
    """Yield every kernel of the program with its number of launches; of a conditional, the branch that costs most."""
    yield from _walk(program, program.entry, 1, ())


def _walk(program: Program, computation: Computation, times: int, loops: tuple[str, ...]) -> Iterator[Kernel]:
    for instruction in computation.instructions:
        if instruction.opcode == "while":
            # The condition of a loop of known length is not evaluated.
            body = program.computations[instruction.called("body") or ""]
            yield from _walk(program, body, times * trip_count(instruction), (*loops, instruction.name))
        elif instruction.opcode in ("call", "async-start") and _target(program, instruction):
            yield from _walk(program, _target(program, instruction), times, loops)
        elif instruction.opcode == "conditional":
            branches = [list(_walk(program, branch, times, loops)) for branch in _branches(program, instruction)]
            yield from max(branches, key=lambda branch: (sum(k.bytes for k in branch), len(branch)))
        elif instruction.opcode not in FREE:
            yield replace(_kernel(program, computation, instruction), times=times, depth=len(loops), loops=loops)


def trip_count(loop: Instruction) -> int:
    """Return how often a loop runs; raise `UnreadableProgramError` where the compiler did not find it."""
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    if found is None:
        raise UnreadableProgramError(f"the loop {loop.name} has no known trip count.")
    return int(found[1])


def _target(program: Program, instruction: Instruction) -> Computation | None:
    name = instruction.called("to_apply") or instruction.called("calls")
    return program.computations[name] if name else None


def _branches(program: Program, instruction: Instruction) -> list[Computation]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
    names = (
        re.findall(r"%([\w.\-]+)", listed[1])
        if listed
        else [instruction.called("true_computation"), instruction.called("false_computation")]
    )
    return [program.computations[name] for name in names if name]


def _kernel(program: Program, computation: Computation, instruction: Instruction) -> Kernel:
    source = re.search(r'op_name="([^"]*)"', instruction.attributes)
    fused = program.computations.get(instruction.called("calls") or "") if instruction.opcode == "fusion" else None
    matrix: dict[str, int] = {}
    if fused is None:
        inside, traffic = [(computation, instruction)], _bytes_alone(computation, instruction)
    else:
        inside, traffic = list(_flattened(program, fused)), _bytes_fused(program, fused)
    for owner, part in inside:
        for kind, flops in matrix_flops(owner, part).items():
            matrix[kind] = matrix.get(kind, 0) + flops
    scalar = sum(_scalar_ops(owner, part) for owner, part in inside)
    return Kernel(instruction.name, instruction.opcode, source[1] if source else "", 1, 0, (), traffic, matrix, scalar)


def _flattened(program: Program, computation: Computation) -> Iterator[tuple[Computation, Instruction]]:
    for instruction in computation.instructions:
        inner = program.computations.get(instruction.called("calls") or "") if instruction.opcode == "fusion" else None
        if inner is None:
            yield computation, instruction
        else:
            yield from _flattened(program, inner)


def _scalar_ops(computation: Computation, instruction: Instruction) -> int:
    if instruction.opcode == "reduce":
        return computation.shape_of(instruction.operands[0]).elements
    return 0 if instruction.opcode in MOVES else instruction.shape.elements


def matrix_flops(computation: Computation, instruction: Instruction) -> dict[str, int]:
    """Return ``{input type: operations}`` of a product or convolution, two for a multiply-add; else an empty dict."""
    target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    name = target[1] if target else ""
    if instruction.opcode == "dot" or name.startswith("__cublas"):
        left = computation.shape_of(instruction.operands[0]).arrays[0]
        contracted = _contracted(instruction.attributes)
        return {left[0]: 2 * math.prod(left[1][d] for d in contracted) * _first(instruction.shape)}
    if instruction.opcode == "convolution" or name.startswith("__cudnn$conv"):
        return {
            computation.shape_of(instruction.operands[0]).arrays[0][0]: _convolution_flops(computation, instruction)
        }
    return {}


def _first(shape: Shape) -> int:
    """Elements of the first array: a custom call returns its scratch beside the result."""
    return math.prod(shape.arrays[0][1])


def _contracted(attributes: str) -> list[int]:
    found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", attributes)
    found = found or re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', attributes)
    if found is None:
        raise UnreadableProgramError("a product does not say which dimensions it contracts.")
    return [int(d) for d in re.findall(r"\d+", found[1])]


def _convolution_flops(computation: Computation, instruction: Instruction) -> int:
    """Return ``2 x outputs x kernel points x input columns`` of a forward convolution, whichever way it is asked for.

    The two gradients of a convolution do as many operations as the forward pass: their sizes are the same three.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        raise UnreadableProgramError(f"the convolution {instruction.name} has no dimension labels.")
    kernel = computation.shape_of(instruction.operands[1]).arrays[0][1]
    return 2 * _first(instruction.shape) * math.prod(kernel) // kernel[labels[2].index("o")]


def _bytes_alone(computation: Computation, instruction: Instruction) -> int:
    sizes = [computation.shape_of(operand).bytes for operand in instruction.operands]
    if instruction.opcode == "dynamic-update-slice":
        return 2 * sizes[1]
    if instruction.opcode in ("dynamic-slice", "slice"):
        return 2 * instruction.shape.bytes
    if instruction.opcode == "gather":
        return min(sizes[0], instruction.shape.bytes) + sizes[1] + instruction.shape.bytes
    if instruction.opcode == "scatter":
        return sizes[1] + 3 * sizes[2]
    return sum(sizes) + instruction.shape.bytes


def _bytes_fused(program: Program, fused: Computation) -> int:
    needed = _needed(program, fused)
    read = sum(_bytes_read(i, needed[i.name]) for i in fused.instructions if i.opcode == "parameter")
    return read + sum(_written(fused, result) for result in _results(fused))


def _bytes_read(parameter: Instruction, elements: int) -> int:
    arrays = parameter.shape.arrays
    return elements * BYTES[arrays[0][0]] if len(arrays) == 1 else parameter.shape.bytes


def _needed(program: Program, fused: Computation) -> dict[str, int]:
    """Elements of every value that the computation looks at; users stand behind what they use."""
    results, needed = _results(fused), {}
    for value in reversed(fused.instructions):
        total = value.shape.elements if value in results else 0
        for user in fused.users.get(value.name, []):
            total += _needed_by(program, user, value, needed)
        needed[value.name] = min(total, value.shape.elements)
    return needed


def _needed_by(program: Program, user: Instruction, value: Instruction, needed: dict[str, int]) -> int:
    """Elements of `value` that one of its users looks at, given what is needed of the user."""
    at = user.operands.index(value.name)
    if user.opcode in ("dynamic-slice", "slice", "gather") and at == 0:
        return user.shape.elements
    if user.opcode in ("dynamic-update-slice", "scatter") and at == 0:
        return 0
    if user.opcode == "fusion":
        inner = program.computations[user.called("calls") or ""]
        parameter = next(i for i in inner.instructions if i.opcode == "parameter" and int(i.arguments) == at)
        return _needed(program, inner)[parameter.name]
    if user.opcode == "bitcast" or user.opcode not in MOVES:
        return needed[user.name]  # Element by element.
    return value.shape.elements


def _results(fused: Computation) -> list[Instruction]:
    root = _through_bitcasts(fused, fused.root)
    if root.opcode != "tuple":
        return [root]
    return [_through_bitcasts(fused, fused.by_name[operand]) for operand in root.operands]


def _through_bitcasts(fused: Computation, instruction: Instruction) -> Instruction:
    while instruction.opcode == "bitcast":
        instruction = fused.by_name[instruction.operands[0]]
    return instruction


def _written(fused: Computation, result: Instruction) -> int:
    """Bytes of a result that are written; of an update in place the update, of a scatter its elements both ways."""
    if result.opcode == "dynamic-update-slice":
        return fused.shape_of(result.operands[1]).bytes
    if result.opcode == "scatter":
        # The operands are n arrays, the indices and n arrays of updates; every element is read and written.
        updates = result.operands[len(result.operands) // 2 + 1 :]
        return 2 * sum(fused.shape_of(update).bytes for update in updates)
    return result.shape.bytes
