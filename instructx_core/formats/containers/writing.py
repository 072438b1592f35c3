"""Writing safetensors files, and folders of them, whole or not at all.

write_weights takes the tensors of a module; write_pending goes tensor by tensor in the memory of one: the header comes
first in the format, so the type and shape of every Pending tensor are known before any is read.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...errors import InputError, some
from .strict import is_finite
from .tensor_source import TORCH_DTYPES

_ALIGN = 8


@dataclass(frozen=True)
class Pending:
    """A tensor to come. kind: its type as the format names it; read: gives the tensor, called once, in order."""

    name: str
    kind: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        return TORCH_DTYPES[self.kind].itemsize * math.prod(self.shape)


def check_new(path: Path) -> None:
    """Raises InputError when something lies at `path` already, or its folder does not exist."""
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} exists; nothing is overwritten, choose another name or remove it first")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; create it first")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that becomes `path` only if the block succeeds. Raises InputError if it exists."""
    check_new(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        check_new(path)
        temporary.chmod(0o644)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_pending(path: Path, pending: Sequence[Pending], metadata: Mapping[str, str]) -> None:
    """One safetensors file, largest alignment first as the format's own writer does it, flushed to the disk.

    Raises InputError when the disk is full.
    """
    ordered = sorted(pending, key=lambda item: -TORCH_DTYPES[item.kind].itemsize)
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    position = 0
    for item in ordered:
        end = position + item.bytes
        header[item.name] = {"dtype": item.kind, "shape": list(item.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN)
    try:
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for item in ordered:
                file.write(_bytes(item))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot take {position / 1e9:.2f} GB ({error.strerror}); free some space"
        ) from None


def _bytes(item: Pending) -> memoryview:
    tensor = item.read().detach().cpu().contiguous()
    if tensor.dtype != TORCH_DTYPES[item.kind] or tuple(tensor.shape) != item.shape:
        raise AssertionError(f"{item.name}: announced {item.kind} {item.shape}, got {tensor.dtype} {tensor.shape}")
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def write_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype) -> None:
    """One file of these tensors in `dtype`, flushed to the disk. Raises InputError on NaN."""
    plain = {}
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise InputError(
                f"{name} holds NaN or infinity; it was not saved: lower the learning rate and resume earlier"
            )
        plain[name] = tensor.detach().to("cpu", dtype).contiguous().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(plain, str(path), metadata={"format": "pt", **metadata})
    path.chmod(0o666 & ~_umask())  # safetensors makes it private
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


@contextmanager
def whole_folder(folder: str | Path, known: tuple[str, ...]) -> Iterator[Path]:
    """A temporary folder that becomes `folder` only if the block succeeds: no partial checkpoint is ever seen there.

    An existing `folder` is replaced when it holds nothing but the `known` entries. Raises InputError otherwise.
    """
    target = Path(folder)
    if target.exists():
        if not target.is_dir():
            raise InputError(f"{target} is a file; give a folder")
        foreign = sorted(entry.name for entry in target.iterdir() if entry.name not in known)
        if foreign:
            raise InputError(f"{target} holds other files ({some(foreign)}); save into a new or empty folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        if target.exists():
            old = temporary.with_suffix(".old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
