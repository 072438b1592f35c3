"""Safetensors files, read without a map of the file.

The header is checked in full before any tensor is read: sizes, types, positions without gap or overlap. A damaged or
hostile file gives one InputError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ...errors import InputError
from .json_object import json_object
from .tensor_source import TORCH_DTYPES, FileSource, TensorEntry, is_name

_OTHER_BITS = {"U64": 64, "U32": 32, "U16": 16, "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "F6_E2M3": 6}
_OTHER_BITS |= {"F6_E3M2": 6, "F4": 4, "C64": 64}
_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit


class SafetensorsSource(FileSource):
    """One safetensors file."""

    container = "safetensors"

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """file: open at its start; closing the source closes it. Raises InputError when the header is damaged."""
        header, start, size = _read_header(path, file)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise _damaged(path, "its metadata are not strings")
        entries = {key: _entry(path, key, entry, size) for key, entry in header.items()}
        _check_layout(path, entries, size)
        placed = {key: entry._replace(begin=start + entry.begin) for key, entry in entries.items()}
        super().__init__(path, file, metadata, placed)

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        return self.read(key).view(self._stored(key)).reshape(self.shape(key)).to(device=device, dtype=dtype)

    def rows(self, key: str, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        entry, stored = self._entries[key], self._stored(key)
        row = math.prod(entry.shape[1:])
        raw = self._bytes(key, entry.begin + start * row * stored.itemsize, (stop - start) * row * stored.itemsize)
        return raw.view(stored).reshape(stop - start, *entry.shape[1:]).to(dtype=dtype)

    def _stored(self, key: str) -> torch.dtype:
        name = self.dtype(key)
        stored = TORCH_DTYPES.get(name)
        if stored is None:
            raise InputError(f"{self.path.name}: {key} is {name}, a type that cannot be read; use the bf16 file")
        return stored


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path.name} is damaged or not a safetensors file ({why}); download it again")


def _parse(path: Path, text: bytes) -> dict:
    try:
        return json_object(text)
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def _read_header(path: Path, file: BinaryIO) -> tuple[dict, int, int]:
    """Header, position of the data, length of the data."""
    total = path.stat().st_size
    first = file.read(8)
    if first[:4] == b"PK\x03\x04" or (first[:1] == b"\x80" and first[1:2] in b"\x02\x03\x04\x05"):
        raise InputError(
            f"{path.name} is a pickle or zip file under another name, and could run code; use the .safetensors file"
        )
    if first.startswith(b"version "):
        raise InputError(f"{path.name} is only a Git LFS pointer; download the file itself")
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(total - 8, _HEADER_LIMIT):
        raise _damaged(path, "its header does not fit into the file")
    return _parse(path, file.read(length)), 8 + length, total - 8 - length


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _entry(path: Path, key: str, entry: object, size: int) -> TensorEntry:
    """Type, shape and place of one tensor, checked against each other and the length of the file."""
    if not is_name(key):
        raise _damaged(path, f"a tensor is called {key[:40]!a}")
    if not isinstance(entry, dict):
        raise _damaged(path, f"{key} is no table")
    name, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    bits = TORCH_DTYPES[name].itemsize * 8 if name in TORCH_DTYPES else _OTHER_BITS.get(str(name))
    if bits is None:
        raise _damaged(path, f"{key} has the unknown type {str(name)[:20]!r}")
    if not isinstance(shape, list) or not all(_is_size(n) for n in shape) or len(shape) > 16:
        raise _damaged(path, f"{key} has no valid shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(n) for n in offsets):
        raise _damaged(path, f"{key} has no valid position")
    begin, end = offsets
    if not begin <= end <= size:
        raise InputError(f"{path.name} is incomplete: {key} ends after the end of the file; download it again")
    if (end - begin) * 8 != bits * math.prod(shape):
        raise _damaged(path, f"{key} has another size than its shape {tuple(shape)} says")
    return TensorEntry(str(name), tuple(shape), begin, end - begin)


def _check_layout(path: Path, entries: Mapping[str, TensorEntry], size: int) -> None:
    """Raises InputError unless the tensors fill the file without gap or overlap, as the format demands."""
    position = 0
    for key, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].length)):
        if entry.begin != position:
            raise _damaged(path, f"{key} starts at {entry.begin}, not {position}")
        position += entry.length
    if position != size:
        raise _damaged(path, f"{size - position} bytes belong to no tensor")
