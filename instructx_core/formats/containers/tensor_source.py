"""Named tensors on disk, whatever the container: what a reader offers, what readers share, and a view over another.

Lazy: opening reads headers only, `get` reads one tensor into memory of its own. Nothing is mapped, so a load needs the
memory of its result plus one tensor, and no CPU kernel meets an odd address.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import torch
from torch import Tensor

from ...errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

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
FLOATS = ("F64", "F32", "F16", "BF16")  # the types of plain weights
_NAME_LIMIT = 512


class TensorSource(ABC):
    """Named tensors on disk. A context manager; `get` after closing raises.

    container: "safetensors" or "GGUF".
    """

    container: str

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self.path = path
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata))

    @property
    def parts(self) -> tuple[TensorSource, ...]:
        """One source for every file that the tensors lie in."""
        return (self,)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the tensors lie in."""
        return tuple(part.path for part in self.parts)

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

    def rows(self, key: str, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        """Rows [start, stop) of the first axis, on the CPU. Reads no others where the format allows it."""
        return self.get(key, "cpu", dtype)[start:stop].clone()

    @abstractmethod
    def close(self) -> None:
        """Close the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()


class TensorEntry(NamedTuple):
    """One tensor in the header of a file: its bytes are [begin, begin + length)."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    length: int


class FileSource(TensorSource):
    """One file, whose header was read: the base of the readers."""

    def __init__(
        self, path: Path, file: BinaryIO, metadata: Mapping[str, str], entries: Mapping[str, TensorEntry]
    ) -> None:
        super().__init__(path, metadata)
        self._file, self._entries = file, dict(entries)

    def keys(self) -> list[str]:
        return list(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._entries[key].shape

    def dtype(self, key: str) -> str:
        return self._entries[key].dtype

    def read(self, key: str) -> Tensor:
        """The bytes of a tensor, uint8 in memory of its own. Raises InputError when the file ends before."""
        _, _, begin, length = self._entries[key]
        return self._bytes(key, begin, length)

    def _bytes(self, key: str, begin: int, length: int) -> Tensor:
        raw = torch.empty(length, dtype=torch.uint8)
        view, done = memoryview(raw.numpy()), 0
        self._file.seek(begin)
        while done < length:
            count = self._file.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise InputError(f"{self.path.name}: {key} is cut short; the file is incomplete, download it again")
            done += count
        return raw

    def close(self) -> None:
        self._file.close()


class SourceView(TensorSource):
    """Another source, seen differently: the base of views. Closing it closes that source."""

    def __init__(self, source: TensorSource) -> None:
        super().__init__(source.path, source.metadata)
        self._source, self.container = source, source.container

    @property
    def parts(self) -> tuple[TensorSource, ...]:
        return self._source.parts

    def close(self) -> None:
        self._source.close()


class RenamedSource(SourceView):
    """Some tensors of a source under other names. names: new name -> name in the source."""

    def __init__(self, source: TensorSource, names: Mapping[str, str]) -> None:
        super().__init__(source)
        self._names = dict(names)

    def keys(self) -> list[str]:
        return list(self._names)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._source.shape(self._names[key])

    def dtype(self, key: str) -> str:
        return self._source.dtype(self._names[key])

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        return self._source.get(self._names[key], device, dtype)

    def rows(self, key: str, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._source.rows(self._names[key], start, stop, dtype)


def is_name(key: str) -> bool:
    """False for what no tensor is called: names that cannot be printed on one line, or of absurd length."""
    return 0 < len(key) <= _NAME_LIMIT and key.isprintable()
