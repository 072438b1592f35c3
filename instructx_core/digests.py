"""Which weights are these, and which file: one hash of a module's state, one of a model's files, one of any file.

Beside the data flow, for whatever is kept and found again: windows of a long edit, journals of jobs, cached features,
resumed benchmarks. Equal content gives an equal digest on every device, in every process and with any number of
threads; names of files and dates count for nothing.
Legend: H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .errors import InputError

_BLOCK = 1 << 20
_WHOLE = 1 << 30  # bytes up to which a model's file is read whole to identify it
_SUMS = 64  # of the bits of a tensor: each of one stretch of it
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of one value


def file_digest(path: Path) -> str:
    """SHA-256 of a file. Raises InputError when it cannot be read, or is a pipe or a device, which may never end."""
    digest = hashlib.sha256()
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{path}: not a file but a pipe or a device; save it to a file first")
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; check the path") from None
    return digest.hexdigest()


def model_files_digest(files: Sequence[Path], settings: str = "") -> str:
    """Of the files and folders of a model, in their order, and of the settings it runs with.

    By content: every byte of a file up to 1 GiB (every LoRA), size, first and last MiB of a larger one. What is absent
    counts as nothing, since loading says so.
    """
    digest = hashlib.sha256(settings.encode())
    for root in files:
        root = root.parent if root.suffix == ".json" else root  # an index: its shards lie beside it
        for file in [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file()):
            size = file.stat().st_size
            name = "" if file == root else file.relative_to(root).as_posix()
            digest.update(f"{name} {size} {_model_file_digest(file, size)}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _model_file_digest(file: Path, size: int) -> str:
    if size <= _WHOLE:
        return file_digest(file)
    with file.open("rb") as stream:
        digest = hashlib.sha256(stream.read(_BLOCK))
        stream.seek(size - _BLOCK)
        digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def picture_digest(picture_HWC: np.ndarray) -> str:
    """SHA-256 of a picture's pixels and size."""
    return hashlib.sha256(str(picture_HWC.shape).encode() + np.ascontiguousarray(picture_HWC).tobytes()).hexdigest()


def weights_digest(*states: Mapping[str, Tensor]) -> str:
    """Of weights by name, e.g. of `module.state_dict()`: names, number formats, shapes and every bit, in 64 sums.

    A value that changes, or moves far, changes it. The sums are of whole numbers, exact in any order, so it costs one
    read of the weights where they lie. Weights on the meta device count by name, format and shape only.
    """
    digest = hashlib.sha256()
    for state in states:
        for name, weight in sorted(state.items()):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            if not weight.is_meta:
                digest.update(_bit_sums(weight).cpu().numpy().tobytes())
        digest.update(b"\n")
    return digest.hexdigest()


def _bit_sums(weight: Tensor) -> Tensor:
    """int64: sums over 64 equal stretches of the values' bits, then the few values behind them as they are."""
    bits = weight.detach().reshape(-1).view(_BITS[weight.dtype.itemsize])
    length = bits.numel() // _SUMS
    sums = bits[: length * _SUMS].view(_SUMS, length).sum(dim=1, dtype=torch.int64)
    return torch.cat([sums, bits[length * _SUMS :].long()])


def model_digest(settings: str, *modules: nn.Module) -> str:
    """Of the weights of modules, in their order, and of the settings that they run with, e.g. a config's JSON."""
    states = [module.state_dict() for module in modules]
    return hashlib.sha256((settings + weights_digest(*states)).encode()).hexdigest()
