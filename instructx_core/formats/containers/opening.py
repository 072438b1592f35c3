"""One way to read tensors from disk: a safetensors file, a folder of them, an index of shards, or a GGUF file.

Which reader a path needs is found out here (tensor_source.py says what a reader offers), and which files of a folder
are one model. Pickles are refused, they can run code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..telling.report import some
from .gguf_file import GgufSource
from .safetensors_file import SafetensorsSource, parse_json
from .tensor_source import JoinedSource, TensorSource, is_name

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")
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


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


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
    places = parse_json(path, path.read_bytes()).get("weight_map")
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
