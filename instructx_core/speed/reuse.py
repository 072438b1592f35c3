"""What the encoder and the VAE made of a source is kept and found again: another seed or strength costs only the steps.

Around pipeline.encode_instruction and pipeline.encode_pictures. A key is the hash of everything the result depends on:
bytes of the frames and references, instruction, frame rate, config, weights, number format, tiles. Kept in memory, the
last few; and in a folder, if one is given, as one small safetensors file a result, readable by later runs.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import InputError
from ..formats.containers.opening import open_source
from ..media.outputs import atomic_path
from ..version import __version__

logger = logging.getLogger("instructx")

Tensors = tuple[Tensor | None, ...]
ENTRIES = 8  # in memory; a context of 512 tokens and a latent of 5 s at 720p are about 10 MB each


def content_key(*parts: Any) -> str:
    """Hash of tensors (shape, dtype, bytes), texts, numbers, None, and lists of them. Equal content, equal key."""
    digest = hashlib.sha256()

    def feed(part: Any) -> None:
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
    """Hash of a module's state: names, shapes and two sums a tensor, which no change leaves equal in practice.

    Kept on the module until a parameter is replaced or written to. Raises InputError while weights are on the disk.
    """
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    now = tuple((id(value), 0 if value.is_inference() else value._version) for value in state.values())
    kept = getattr(module, "_instructx_weights", None)
    if kept is not None and kept[0] == now:
        return kept[1]
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if value.is_meta:
            raise InputError(f"{name} is not in memory (sequential offload); results cannot be reused: disable reuse")
        plain = value.detach().float() if value.dtype.itemsize == 1 or not value.is_floating_point() else value.detach()
        sums = (plain.sum(dtype=torch.float64), torch.linalg.vector_norm(plain, dtype=torch.float64))
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}{sums[0].item():.15e}{sums[1].item():.15e}".encode())
    module._instructx_weights = (now, digest.hexdigest())
    return digest.hexdigest()


class Reuse:
    """Results by key. folder: also kept there; created. hits, misses: counted, for reports and tests."""

    def __init__(self, folder: str | Path | None = None, entries: int = ENTRIES) -> None:
        if entries < 1:
            raise InputError(f"entries is {entries}; keep at least 1 result")
        self.folder = None if folder is None else Path(folder)
        self.entries = entries
        self.hits = self.misses = 0
        self._kept: OrderedDict[str, Tensors] = OrderedDict()
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"{folder}: cannot be made a folder ({error.strerror}); choose another place"
                ) from None

    def get(self, key: str, make: Callable[[], Tensors], device: torch.device | str) -> Tensors:
        """make(), or what it gave for this key before, on `device`."""
        found = self._kept.get(key) or self._read(key)
        if found is None:
            self.misses += 1
            made = make()
            found = tuple(None if value is None else value.detach().cpu() for value in made)
            self._write(key, found)
        else:
            self.hits += 1
            made = tuple(None if value is None else value.to(device) for value in found)
        self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > self.entries:
            self._kept.popitem(last=False)
        return made

    def _read(self, key: str) -> Tensors | None:
        path = None if self.folder is None else self.folder / f"{key}.safetensors"
        if path is None or not path.is_file():
            return None
        try:
            with open_source(path) as source:
                count = int(source.metadata["count"])
                names = set(source.keys())
                return tuple(source.get(str(i)) if str(i) in names else None for i in range(count))
        except (InputError, KeyError, ValueError) as error:
            logger.warning("%s is damaged and made again (%s)", path.name, error)
            return None

    def _write(self, key: str, found: Tensors) -> None:
        if self.folder is None:
            return
        tensors = {str(i): value.contiguous() for i, value in enumerate(found) if value is not None}
        with atomic_path(self.folder / f"{key}.safetensors") as temporary:
            save_file(tensors, str(temporary), metadata={"count": str(len(found))})


def reused(component: str) -> Callable[[Callable[..., Tensors]], Callable[..., Tensors]]:
    """Decorator of a pipeline method that returns tensors which depend on its arguments and on `component` alone."""

    def wrap(method: Callable[..., Tensors]) -> Callable[..., Tensors]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def run(pipe: Any, *args: Any, **kwargs: Any) -> Tensors:
            store: Reuse | None = pipe.reuse
            if store is None:
                return method(pipe, *args, **kwargs)
            bound = signature.bind(pipe, *args, **kwargs)
            bound.apply_defaults()
            module, device = getattr(pipe, component), pipe._execution_device
            key = content_key(
                method.__name__, __version__, pipe.instructx_config.to_json(), weights_key(module), str(module.dtype),
                device.type, repr(pipe.memory.tile) if component == "vae" else "", list(bound.arguments.values())[1:],
            )  # fmt: skip
            return store.get(key, lambda: method(pipe, *args, **kwargs), device)

        return run

    return wrap
