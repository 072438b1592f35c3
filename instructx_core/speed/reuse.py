"""What the encoder and the VAE made of a source is kept and found again: another seed or strength costs only the steps.

In the pipeline, around the encoding functions of sampling/encode.py. A key is the hash of everything the result
depends on: bytes of the frames and references, instruction, frame rate, config, weights, number format, tiles. Kept in
memory, the last few; and in a folder, if one is given, as one small safetensors file a result, readable by later runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..digests import weights_digest
from ..errors import InputError
from ..media.outputs import make_folder, write_safetensors

logger = logging.getLogger("instructx")

Result = TypeVar("Result")
Content: TypeAlias = "Tensor | str | int | float | Sequence[Content] | None"
ENTRIES = 8  # in memory; a context of 512 tokens and a latent of 5 s at 720p are about 10 MB each


def content_key(*parts: Content) -> str:
    """Hash of tensors (shape, dtype, bytes), texts, numbers, None, and lists of them. Equal content, equal key."""
    digest = hashlib.sha256()

    def feed(part: Content) -> None:
        if isinstance(part, Tensor):
            digest.update(f"T{tuple(part.shape)}{part.dtype};".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        elif isinstance(part, list | tuple):
            digest.update(f"L{len(part)};".encode())
            for item in part:
                feed(item)
        elif part is None or isinstance(part, str | int | float):
            text = repr(part)
            digest.update(f"{type(part).__name__}{len(text)}:{text};".encode())
        else:
            raise TypeError(f"{type(part).__name__} has no content key")

    feed(list(parts))
    return digest.hexdigest()


def weights_key(module: nn.Module) -> str:
    """Digest of a module's weights and buffers. Kept on the module until one of them is replaced or written to.

    Raises InputError while weights are on the disk.
    """
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    now = tuple((id(value), 0 if value.is_inference() else value._version) for value in state.values())
    kept = getattr(module, "_instructx_weights", None)
    if kept is not None and kept[0] == now:
        return kept[1]
    absent = next((name for name, value in state.items() if value.is_meta), None)
    if absent is not None:
        raise InputError(f"{absent} is not in memory (sequential offload); results cannot be reused: disable reuse")
    digest = weights_digest(state)
    module._instructx_weights = (now, digest)
    return digest


def _tensors(made: object) -> dict[str, Tensor]:
    """The fields of a result that are not None, on the CPU."""
    named = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}  # type: ignore[arg-type]
    return {name: value.detach().cpu() for name, value in named.items() if value is not None}


class Reuse:
    """Results by key: dataclasses of tensors, kept by the names of their fields; a field may be None by default.

    folder: also kept there; created. hits, misses: counted, for reports and tests.
    """

    def __init__(self, folder: str | Path | None = None, entries: int = ENTRIES) -> None:
        if entries < 1:
            raise InputError(f"entries is {entries}; keep at least 1 result")
        self.folder = None if folder is None else make_folder(folder)
        self.entries = entries
        self.hits = self.misses = 0
        self._kept: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def get(self, key: str, kind: type[Result], make: Callable[[], Result], device: torch.device | str) -> Result:
        """make(), or the `kind` that it gave for this key before, on `device`."""
        found = self._kept.get(key) or self._read(key, kind)
        if found is None:
            self.misses += 1
            made = make()
            found = _tensors(made)
            self._write(key, found)
        else:
            self.hits += 1
            made = kind(**{name: value.to(device) for name, value in found.items()})
        self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > self.entries:
            self._kept.popitem(last=False)
        return made

    def _read(self, key: str, kind: type[Result]) -> dict[str, Tensor] | None:
        path = None if self.folder is None else self.folder / f"{key}.safetensors"
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}
            kind(**found)  # a file with other names than the fields' is no result of this kind
            return found
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            logger.warning("%s is damaged and made again (%s)", path.name, error)
            return None

    def _write(self, key: str, found: dict[str, Tensor]) -> None:
        if self.folder is None:
            return
        tensors = {name: value.contiguous() for name, value in found.items()}
        write_safetensors(self.folder / f"{key}.safetensors", tensors)
