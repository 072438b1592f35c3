"""Named tensors on disk, whatever the format: what a reader offers, and what readers share.

Lazy: opening reads headers only, `get` reads one tensor into memory of its own. Nothing is mapped, so a load needs the
memory of its result plus one tensor, and no CPU kernel meets an odd address.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO

import torch
from torch import Tensor

from ...errors import InputError

# Names of the format, with torch's where torch has one. U16, U32, U64, F4 and the like are left to those who know them.
TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAME_LIMIT = 512


class TensorSource(ABC):
    """Named tensors on disk. A context manager; `get` after closing raises."""

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self.path = path
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the tensors lie in."""
        return (self.path,)

    @abstractmethod
    def keys(self) -> list[str]:
        """Every tensor name, in the order of the file."""

    @abstractmethod
    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, read from the header."""

    @abstractmethod
    def dtype(self, key: str) -> str:
        """Stored type, as the format names it: "BF16", "F8_E4M3", "Q4_K"."""

    @abstractmethod
    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        """One tensor that owns its memory, by default in its stored type. Raises InputError when it cannot be read."""

    @abstractmethod
    def close(self) -> None:
        """Close the files."""

    def __enter__(self) -> TensorSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()


class JoinedSource(TensorSource):
    """Several sources as one: the shards of a model. Raises InputError when two hold one name."""

    def __init__(self, path: Path, sources: Sequence[TensorSource]) -> None:
        self._sources = tuple(sources)
        self._of: dict[str, TensorSource] = {}
        for source in sources:
            for key in source.keys():
                if key in self._of:
                    raise InputError(
                        f"{source.path.name} and {self._of[key].path.name} both hold {key}; they are not parts of one "
                        "model, give one of them"
                    )
                self._of[key] = source
        metadata = {key: value for source in sources for key, value in source.metadata.items()}
        super().__init__(path, metadata)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for source in self._sources for file in source.files)

    def keys(self) -> list[str]:
        return list(self._of)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._of[key].shape(key)

    def dtype(self, key: str) -> str:
        return self._of[key].dtype(key)

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        return self._of[key].get(key, device, dtype)

    def close(self) -> None:
        for source in self._sources:
            source.close()


def is_name(key: str) -> bool:
    """False for what no tensor is called: names that cannot be printed on one line, or of absurd length."""
    return 0 < len(key) <= _NAME_LIMIT and key.isprintable()


def read_bytes(file: BinaryIO, offset: int, length: int, name: str) -> Tensor:
    """`length` bytes as a uint8 tensor of its own memory. Raises InputError when the file ends before."""
    raw = torch.empty(length, dtype=torch.uint8)
    view, done = memoryview(raw.numpy()), 0
    file.seek(offset)
    while done < length:
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise InputError(f"{name} is cut short; the file is incomplete, download it again")
        done += count
    return raw
