"""Several files that are one model: a list of shards, or the index that names them.

opening.py opens each; here they become one source, and an index is read and checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError, some
from .json_object import json_object
from .tensor_source import TensorSource, is_name

_INDEX_LIMIT = 50_000_000  # bytes


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
        self.container = sources[0].container
        super().__init__(path, {key: value for source in sources for key, value in source.metadata.items()})

    @property
    def parts(self) -> tuple[TensorSource, ...]:
        return tuple(part for source in self._sources for part in source.parts)

    def keys(self) -> list[str]:
        return list(self._of)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._of[key].shape(key)

    def dtype(self, key: str) -> str:
        return self._of[key].dtype(key)

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        return self._of[key].get(key, device, dtype)

    def rows(self, key: str, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._of[key].rows(key, start, stop, dtype)

    def close(self) -> None:
        for source in self._sources:
            source.close()


def read_index(path: Path) -> dict[str, Path]:
    """Tensor -> the shard beside an index that holds it. Raises InputError when a shard is missing or elsewhere."""
    if path.stat().st_size > _INDEX_LIMIT:
        raise InputError(f"{path.name} is too large for an index of shards; give the .safetensors file")
    try:
        places = json_object(path.read_bytes()).get("weight_map")
    except ValueError as error:
        raise InputError(f"{path.name} is damaged or no index of shards ({error}); download it again") from None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise InputError(f"{path.name} has no weight_map; it is no index of shards, give the .safetensors file")
    names = sorted(set(places.values()))
    strange = [name for name in names if not is_name(name) or name in (".", "..") or set("/\\:") & set(name)]
    if strange:
        raise InputError(f"{path.name} points outside its folder ({strange[0][:80]!a}); the shards must lie beside it")
    pickled = [name for name in names if not name.endswith(".safetensors")]
    if pickled:
        raise InputError(f"{path.name} is an index of {pickled[0][:80]}; use the safetensors version of the model")
    absent = [name for name in names if not (path.parent / name).is_file()]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(names)} shards of {path.name} are missing ({some(absent)}); download them too"
        )
    return {key: path.parent / name for key, name in places.items()}
