"""Arrays and texts as one compressed string that a page unpacks without a network. NumPy only."""

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

KINDS = {"int8": "i1", "uint8": "u1", "int32": "i4", "float16": "f2", "float32": "f4", "float64": "f8"}
"""What the page can read."""


def compressed(content: bytes, level: int = 6) -> str:
    """Return `content` as gzip in base64, the same for the same content."""
    return base64.b64encode(gzip.compress(content, level, mtime=0)).decode()


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Return named arrays as gzip in base64.

    The first four bytes are the length of a JSON header ``{name: [kind, length, offset]}`` that follows; then come the
    arrays, of each the first byte of every number, then the second ones, and so on: that compresses better.
    """
    header: dict[str, list[Any]] = {}
    blocks, offset = [], 0
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array).reshape(-1)
        header[name] = [KINDS[flat.dtype.name], len(flat), offset]
        blocks.append(flat.view(np.uint8).reshape(len(flat), flat.itemsize).T.tobytes())
        offset += flat.nbytes
    text = json.dumps(header).encode()
    return compressed(len(text).to_bytes(4, "little") + text + b"".join(blocks))


def unpack_arrays(text: str) -> dict[str, np.ndarray]:
    """Return the flat arrays that `pack_arrays` was given."""
    content = gzip.decompress(base64.b64decode(text))
    start = 4 + int.from_bytes(content[:4], "little")
    arrays = {}
    for name, (kind, length, offset) in json.loads(content[4:start]).items():
        size = int(kind[1])
        planes = np.frombuffer(content, np.uint8, length * size, start + offset).reshape(size, length)
        arrays[name] = np.ascontiguousarray(planes.T).reshape(-1).view(np.dtype(f"<{kind}"))
    return arrays
