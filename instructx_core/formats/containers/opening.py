"""One way to open what holds tensors: a safetensors or GGUF file, a folder with one, an index, a list of shards.

Which reader a path needs is found out here (tensor_source.py says what a reader offers), and which files of a folder
are one model. Pickles are refused, they can run code.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError, some
from .gguf_file import GgufSource
from .safetensors_file import SafetensorsSource
from .shards import JoinedSource, read_index
from .tensor_source import TensorSource


@dataclass(frozen=True)
class Container:
    """A kind of file with tensors. magic: its first bytes, b"" where it has none. read: the opened file -> source."""

    suffix: str
    magic: bytes
    read: Callable[[Path, io.FileIO], TensorSource]


# In the order in which a folder is searched; a file is of the one whose first bytes it has, else of the first.
CONTAINERS = (
    Container(".safetensors", b"", SafetensorsSource),
    Container(".gguf", b"GGUF", lambda path, file: GgufSource(path, io.BufferedReader(file))),
)
SUFFIXES = tuple(container.suffix for container in CONTAINERS)
PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")


def open_source(path: str | Path) -> TensorSource:
    """The tensors of a .safetensors or .gguf file, of an *.index.json, or of a folder that holds one model.

    Raises InputError when nothing is there, when a folder is ambiguous, and for pickled, damaged or incomplete files.
    """
    path = main_file(Path(path))
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
        return _open_file(path)
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


def _open_file(path: Path) -> TensorSource:
    file = path.open("rb", buffering=0)
    try:
        first = file.read(max(len(container.magic) for container in CONTAINERS))
        file.seek(0)
        marked = (each for each in CONTAINERS if each.magic and first.startswith(each.magic))
        return next(marked, CONTAINERS[0]).read(path, file)
    except BaseException:
        file.close()
        raise


def main_file(path: Path) -> Path:
    """A file itself; of a folder its index, or its only weight file. Raises InputError for none and for several."""
    if not path.is_dir():
        return path
    for pattern in ("*.safetensors.index.json", *(f"*{suffix}" for suffix in SUFFIXES)):
        found = sorted(file for file in path.glob(pattern) if not file.name.startswith("."))
        if len(found) > 1:
            raise InputError(
                f"{path} holds several models ({some([file.name for file in found])}); give one of the files"
            )
        if found:
            return found[0]
    raise InputError(f"{path} holds no {' or '.join(SUFFIXES)} file; give the folder or the file with the weights")


def _open_index(path: Path) -> TensorSource:
    """The shards that an index names, as one source. Raises InputError when one is missing, elsewhere, or disagrees."""
    places = read_index(path)
    source = open_sources(sorted(set(places.values())))
    missing = set(places) - set(source.keys())
    if missing:
        source.close()
        raise InputError(
            f"{path.name} names {len(missing)} tensors that no shard holds ({some(missing)}); download it again"
        )
    source.path = path
    return source
