"""GGUF files (ComfyUI-GGUF's and others'): the header is read here, the blocks are unpacked by the package `gguf`.

The package's own reader maps the file and trusts its counts, so a hostile header could exhaust the memory; this one
reads a bounded header and checks every position. Tensors that a converter reshaped carry their shape in the metadata
(`comfy.gguf.orig_shape.<name>`). The package is optional: `pip install gguf`.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import torch
from torch import Tensor

from ...errors import InputError
from .tensor_source import TORCH_DTYPES, FileSource, TensorEntry, is_name

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_HEADER_LIMIT = 64_000_000  # bytes
_LISTED = 16  # longer arrays (token lists) are skipped
_CHUNK = 1 << 22  # elements unpacked at a time: the unpacking needs several times their memory
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."


def _package() -> ModuleType:
    try:
        import gguf
    except ImportError:
        raise InputError("GGUF files need the package gguf; install it with: pip install gguf") from None
    return gguf


class _Header:
    """Bounded reads from the start of the file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.name, self._file, self.position = path.name, file, 0
        self._limit = min(path.stat().st_size, _HEADER_LIMIT)

    def damaged(self, why: str) -> InputError:
        return InputError(f"{self.name} is a damaged GGUF file ({why}); download it again")

    def take(self, count: int) -> bytes:
        if count > self._limit - self.position:
            raise self.damaged("its header does not fit into the file")
        self.position += count
        return self._file.read(count)

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        try:
            return self.take(self.number("<Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged("a name is no UTF-8") from None

    def value(self, kind: int, deep: bool = False) -> object:
        """One metadata value; None for a long array, which is skipped."""
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY or deep:
            raise self.damaged(f"metadata of the unknown type {kind}")
        inner, count = self.number("<I"), self.number("<Q")
        if inner in _SCALARS and count > _LISTED:
            self.take(count * struct.calcsize(_SCALARS[inner]))
            return None
        values = []
        for _ in range(count):
            value = self.value(inner, deep=True)
            if count <= _LISTED:
                values.append(value)
        return values if count <= _LISTED else None


class GgufSource(FileSource):
    """One GGUF file. `get` gives block-quantised tensors as flat bytes; `dequantised` unpacks them."""

    container = "GGUF"

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """file: open at its start; closing the source closes it.

        Raises InputError when the header is damaged, or the package gguf is not there.
        """
        self._gguf = _package()
        metadata, entries = self._read_header(path, file)
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
        super().__init__(path, file, texts, entries)

    def _read_header(self, path: Path, file: BinaryIO) -> tuple[dict, dict[str, TensorEntry]]:
        head = _Header(path, file)
        head.take(4)
        version = head.number("<I")
        if version not in (2, 3):
            raise InputError(f"{path.name} is GGUF version {version}, 2 and 3 are known; convert it again")
        tensors, pairs = head.number("<Q"), head.number("<Q")
        metadata = {}
        for _ in range(pairs):
            name = head.text()
            metadata[name] = head.value(head.number("<I"))
        found = [self._entry(head, metadata) for _ in range(tensors)]
        entries = dict(found)
        if len(entries) < len(found):
            raise head.damaged("a tensor appears twice")
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise head.damaged(f"alignment {alignment}")
        start = -(-head.position // alignment) * alignment
        size = path.stat().st_size
        for name, entry in entries.items():
            if start + entry.begin + entry.length > size:
                raise InputError(f"{path.name} is incomplete: {name} ends after the end; download it again")
        placed = {name: entry._replace(begin=start + entry.begin) for name, entry in entries.items()}
        return {name: value for name, value in metadata.items() if value is not None}, placed

    def _entry(self, head: _Header, metadata: dict) -> tuple[str, TensorEntry]:
        """Name and place, counted from the start of the data, of the next tensor."""
        name, rank = head.text(), head.number("<I")
        if not is_name(name):
            raise head.damaged(f"a tensor is called {name[:40]!a}")
        if rank > 8:
            raise head.damaged(f"{name} has {rank} dimensions")
        shape = tuple(head.number("<Q") for _ in range(rank))[::-1]
        number, offset = head.number("<I"), head.number("<Q")
        try:
            kind = self._gguf.GGMLQuantizationType(number)
            block, size = self._gguf.GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError):
            raise InputError(f"{head.name}: {name} has the type {number}, unknown to this gguf; update gguf") from None
        if shape and shape[-1] % block:
            raise head.damaged(f"{name} has rows of {shape[-1]}, no multiple of {block}")
        original = metadata.get(_ORIGINAL_SHAPE + name)
        if original is not None:
            whole = isinstance(original, list) and all(isinstance(n, int) and n > 0 for n in original)
            if not whole or math.prod(original) != math.prod(shape):
                raise head.damaged(f"{name} is {shape}, but was {original}")
            shape = tuple(original)
        return name, TensorEntry(kind.name, shape, offset, math.prod(shape) // block * size)

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        kind, raw = self.dtype(key), self.read(key)
        if kind in TORCH_DTYPES:
            return raw.view(TORCH_DTYPES[kind]).reshape(self.shape(key)).to(device=device, dtype=dtype)
        return raw.to(device)


def dequantise_blocks(raw: Tensor, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Flat bytes of a block type -> the tensor, on the CPU. Raises InputError for a type that gguf cannot unpack."""
    import numpy as np

    gguf = _package()
    number = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[number]
    values = torch.empty(math.prod(shape), dtype=dtype)
    step = _CHUNK // block
    for first in range(0, len(raw) // size, step):
        part = raw[first * size : (first + step) * size].numpy().reshape(1, -1)
        try:
            with np.errstate(all="ignore"):  # a broken file may hold NaN; who asked checks for it
                plain = gguf.quants.dequantize(part, number)
        except NotImplementedError:
            raise InputError(f"this gguf cannot unpack {kind}; update it, or use a Q4, Q5, Q6 or Q8 file") from None
        values[first * block : first * block + plain.size].copy_(torch.from_numpy(plain[0]))
    return values.reshape(shape)
