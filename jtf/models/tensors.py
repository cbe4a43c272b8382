"""Tensors in the safetensors format, read in place from bytes that are already in memory.

`safetensors.numpy.load` copies every tensor; five members of a wide network would then be in memory twice.
"""

import json
from typing import Any

import numpy as np

DTYPES: dict[str, np.dtype] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8")}
LENGTH_BYTES = 8


def read_tensors(content: bytearray) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file as writable views of `content`.

    Raises `ValueError` unless the tensors, of float32, float64 or int64, fill the file without gap or overlap. A
    ``__metadata__`` entry is refused.
    """
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    if len(content) < LENGTH_BYTES or start > len(content):
        raise ValueError("its header is longer than the file")
    header = json.loads(content[LENGTH_BYTES:start].decode())
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    tensors, place = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: _begin(*item)):
        dtype, shape, (begin, end) = _entry(name, entry)
        count = int(np.prod(shape, dtype=object))
        if begin != place or end - begin != count * dtype.itemsize or start + end > len(content):
            raise ValueError(f"tensor {name} does not lie where its shape and dtype put it")
        tensors[name] = np.frombuffer(content, dtype, count, start + begin).reshape(shape)
        place = end
    if start + place != len(content):
        raise ValueError("bytes are left over behind the tensors")
    return tensors


def _begin(name: str, entry: Any) -> int:
    return _entry(name, entry)[2][0]


def _entry(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], tuple[int, int]]:
    """Return dtype, shape and byte range of a header's entry; raise `ValueError` where it is none."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is no tensor")
    shape, offsets = entry["shape"], entry["data_offsets"]
    sizes = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if any(type(size) is not int or size < 0 for size in sizes) or len(offsets) != 2 or entry["dtype"] not in DTYPES:
        raise ValueError(f"tensor {name} has no known dtype, shape and place")
    begin, end = offsets
    return DTYPES[entry["dtype"]], tuple(map(int, shape)), (begin, end)
