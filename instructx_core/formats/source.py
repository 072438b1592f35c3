"""One way to read tensors from disk: a safetensors file, a folder of them, an index of shards, or a GGUF file.

A TensorSource is lazy: opening reads headers only, `get` reads one tensor into memory of its own. Nothing is mapped, so
a load needs the memory of its result plus one tensor, and no CPU kernel meets an odd address. Headers are checked in
full before any tensor is read: a damaged or hostile file gives one InputError. Pickles are refused, they can run code.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import InputError
from .report import some

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")
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
_OTHER_BITS = {"U64": 64, "U32": 32, "U16": 16, "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "F6_E2M3": 6}
_OTHER_BITS |= {"F6_E3M2": 6, "F4": 4, "C64": 64}
_NAME_LIMIT = 512
_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
_INDEX_LIMIT = 50_000_000
_CONFIG_LIMIT = 10_000_000


def read_json(file: Path) -> dict[str, Any]:
    """The object in a config.json. Raises InputError when there is none, or it is too large to be a config."""
    where = f"{file.parent.name}/{file.name}"
    try:
        if file.stat().st_size > _CONFIG_LIMIT:
            raise ValueError(f"{file.stat().st_size / 1e6:.0f} MB are no config")
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{where} cannot be read ({error}); download it again") from None
    if not isinstance(told, dict):
        raise InputError(f"{where} holds no JSON object; download it again")
    return told


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


class SafetensorsSource(TensorSource):
    """One safetensors file."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb", buffering=0)
        try:
            header, self._start, self._size = _read_header(path, self._file)
            metadata = header.pop("__metadata__", {})
            if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
                raise _damaged(path, "its metadata are not strings")
            self._entries = {key: _entry(path, key, entry, self._size) for key, entry in header.items()}
            _check_layout(path, self._entries, self._size)
        except BaseException:
            self._file.close()
            raise
        super().__init__(path, metadata)

    def keys(self) -> list[str]:
        return list(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._entries[key][1]

    def dtype(self, key: str) -> str:
        return self._entries[key][0]

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        name, shape, begin, end = self._entries[key]
        stored = TORCH_DTYPES.get(name)
        if stored is None:
            raise InputError(f"{self.path.name}: {key} is {name}, a type that cannot be read; use the bf16 file")
        raw = read_bytes(self._file, self._start + begin, end - begin, f"{self.path.name}: {key}")
        return raw.view(stored).reshape(shape).to(device=device, dtype=dtype)

    def close(self) -> None:
        self._file.close()


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


def open_source(path: str | Path) -> TensorSource:
    """The tensors of a .safetensors or .gguf file, of an *.index.json, or of a folder that holds one model.

    Raises InputError when nothing is there, when a folder is ambiguous, and for pickled, damaged or incomplete files.
    """
    path = Path(path)
    if path.is_dir():
        path = _main_file(path)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise InputError(
            f"{path.name} is a pickle file, which can run code when it is opened; "
            "convert it to .safetensors with the tool of whoever made it"
        )
    if not path.is_file():
        raise InputError(f"no file {path}; check the path")
    if path.suffix.lower() == ".json":
        return _open_index(path)
    try:
        if _starts(path) == b"GGUF":
            from .gguf_file import GgufSource

            return GgufSource(path)
        return SafetensorsSource(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions and the disk") from None


def open_sources(paths: Sequence[str | Path]) -> TensorSource:
    """Several files that make up one model, as one source; see open_source for each."""
    if not paths:
        raise InputError("no file was given; give at least one")
    sources: list[TensorSource] = []
    try:
        for path in paths:
            sources.append(open_source(path))
        return sources[0] if len(sources) == 1 else JoinedSource(Path(paths[0]), sources)
    except BaseException:
        for source in sources:
            source.close()
        raise


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


# --- one file ------------------------------------------------------------------------------------------------------


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path.name} is damaged or not a safetensors file ({why}); download it again")


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _unique(path: Path) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    def check(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = dict(pairs)
        if len(names) < len(pairs):
            twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
            raise _damaged(path, f"{some(twice)} appears twice")
        return names

    return check


def _parse(path: Path, text: bytes) -> dict:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique(path))
    except InputError:
        raise
    except (ValueError, RecursionError):  # not UTF-8, no JSON, a number of thousands of digits
        raise _damaged(path, "its header is no JSON") from None
    if not isinstance(value, dict):
        raise _damaged(path, "its header is no table")
    return value


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


def is_name(key: str) -> bool:
    """False for what no tensor is called: names that cannot be printed on one line, or of absurd length."""
    return 0 < len(key) <= _NAME_LIMIT and key.isprintable()


def _entry(path: Path, key: str, entry: object, size: int) -> tuple[str, tuple[int, ...], int, int]:
    """(type, shape, begin, end) of one tensor, checked against each other and the length of the file."""
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
    return str(name), tuple(shape), begin, end


def _check_layout(path: Path, entries: Mapping[str, tuple[str, tuple[int, ...], int, int]], size: int) -> None:
    """Raises InputError unless the tensors fill the file without gap or overlap, as the format demands."""
    position = 0
    for key, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise _damaged(path, f"{key} starts at {begin}, not {position}")
        position = end
    if position != size:
        raise _damaged(path, f"{size - position} bytes belong to no tensor")


# --- folders and shards --------------------------------------------------------------------------------------------


def _main_file(folder: Path) -> Path:
    """The index, or the only weight file, of a folder. Raises InputError when there is none or a choice."""
    for pattern in ("*.safetensors.index.json", "*.safetensors", "*.gguf"):
        found = sorted(file for file in folder.glob(pattern) if not file.name.startswith("."))
        if len(found) > 1:
            raise InputError(
                f"{folder} holds several models ({some([file.name for file in found])}); give one of the files"
            )
        if found:
            return found[0]
    raise InputError(f"{folder} holds no .safetensors or .gguf file; give the folder or the file with the weights")


def _open_index(path: Path) -> TensorSource:
    """The shards that an index names, beside it. Raises InputError when one is missing, elsewhere, or disagrees."""
    if path.stat().st_size > _INDEX_LIMIT:
        raise InputError(f"{path.name} is too large for an index of shards; give the .safetensors file")
    places = _parse(path, path.read_bytes()).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise InputError(f"{path.name} has no weight_map; it is no index of shards, give the .safetensors file")
    names = sorted(set(places.values()))
    strange = [name for name in names if not is_name(name) or name in (".", "..") or set("/\\:") & set(name)]
    if strange:
        raise InputError(f"{path.name} points outside its folder ({strange[0][:80]!a}); the shards must lie beside it")
    pickled = [name for name in names if not name.endswith(".safetensors")]
    if pickled:
        raise InputError(f"{path.name} is an index of {pickled[0][:80]}; use the safetensors version of the model")
    if any(name.endswith(".json") for name in names):
        raise InputError(f"{path.name} names another index as a shard; download it again")
    absent = [name for name in names if not (path.parent / name).is_file()]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(names)} shards of {path.name} are missing ({some(absent)}); download them too"
        )
    shards = {name: path.parent / name for name in names}
    source = open_sources(list(shards.values()))
    lost = set(places) - set(source.keys())
    if lost:
        source.close()
        raise InputError(f"{path.name} names {len(lost)} tensors that no shard holds ({some(lost)}); download it again")
    source.path = path
    return source
