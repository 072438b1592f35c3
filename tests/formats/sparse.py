"""Weight files with the real names, shapes and types but no data: the header is written, the rest is a hole.

A 28 GB file takes a few kilobytes on the disk and a millisecond; what reads only headers cannot tell the difference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "U8": 1, "I8": 1}
Entries = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> (type, shape)


def sparse_file(path: Path, entries: Entries, metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file whose tensors are all zero and occupy nothing."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (kind, shape) in entries.items():
        end = position + BYTES[kind] * math.prod(shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + position)
    return path
