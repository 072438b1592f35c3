"""Files in the host's model folders: names for the lists, shards and vision tower, tokenizer, dtype.

The loaders choose with it; encoder_model.py reads what Load Encoder and Load Checkpoint chose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...instructx_core.formats.layouts.folders import FOLDERS, TOKENIZER_FILE
from . import host
from .schema import DTYPES

if TYPE_CHECKING:
    import torch

ENCODERS, ADAPTERS = FOLDERS["text_encoder"], FOLDERS["adapter"]  # of the host's model folders
DENOISERS, VAES = FOLDERS["denoiser"], FOLDERS["vae"]
TINY = "instructx_tiny.safetensors"  # name of the shipped files in each of them
FileDate = tuple[str, int, int]  # path, time of the last change in ns, bytes
QWEN_VOCABULARY = 151665  # least size of a vocabulary that is Qwen2.5's
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.safetensors$")


def safetensors(folder: str) -> list[str]:
    """Names of the .safetensors files in a model folder, sorted."""
    return [name for name in host.model_files(folder) if name.endswith(".safetensors")]


def encoder_choices() -> list[str]:
    """Names for the list: files as they are, the shards of one checkpoint as their folder, no vision tower alone."""
    from ...instructx_core.formats.layouts.llama_cpp import is_projector

    names = {str(Path(name).parent.as_posix()) if _SHARD.search(name) else name for name in safetensors(ENCODERS)}
    names |= {name for name in host.gguf_files(ENCODERS) if not is_projector(name)}
    return sorted(names - {"."})


def encoder_files(path: Path) -> list[Path]:
    """The files of a choice: one, all shards, or a .gguf and the vision tower beside it.

    Raises InputError when a shard is missing, the folder holds none, or several files could be the vision tower.
    """
    from ...instructx_core.errors import InputError
    from ...instructx_core.formats.layouts.llama_cpp import find_projector

    if path.is_file():
        tower = find_projector(path) if path.suffix.lower() == ".gguf" else None
        return [path] if tower is None else [path, tower]
    files = sorted(path.glob("*.safetensors"))
    shards = [file for file in files if _SHARD.search(file.name)]
    if not shards:
        raise InputError(f"{path.name} holds no shards of a safetensors checkpoint; choose the file itself")
    match = _SHARD.search(shards[0].name)
    total = int(match.group(1)) if match else 0
    if len(shards) != total:
        raise InputError(f"{path.name} holds {len(shards)} of {total} shards; download the missing ones")
    return shards


def find_tokenizer(files: list[Path], vocabulary: int, brought: Path | None = None) -> Path:
    """tokenizer.json beside the encoder, at the root of its models folder (the shipped layout), in what the checkpoint
    brings, or the host's own for Qwen's vocabulary.

    vocabulary: size of the encoder's. brought: a file or its folder. Raises InputError when there is none.
    """
    from ...instructx_core.errors import InputError

    folders = [files[0].parent, files[0].parent.parent]
    if brought is not None:
        folders.append(brought if brought.is_dir() else brought.parent)
    for folder in folders:
        if (folder / TOKENIZER_FILE).is_file():
            return folder / TOKENIZER_FILE
    shipped_by_host = host.qwen_tokenizer()
    if shipped_by_host is not None and vocabulary >= QWEN_VOCABULARY:
        return shipped_by_host
    raise InputError(
        f"no {TOKENIZER_FILE} for {files[0].name}; put the one of its checkpoint into the folder {files[0].parent.name}"
    )


def torch_dtype(choice: str, device: torch.device) -> torch.dtype:
    """The dtype of the weights for a choice of the list. Raises InputError for another one: 0.3.75 does not check."""
    import torch

    from ...instructx_core.errors import InputError
    from ...instructx_core.precision import usual_dtype

    if choice not in DTYPES:
        raise InputError(f"dtype is {choice!r}; use {', '.join(DTYPES)}")
    if choice == "auto":
        choice = "bf16" if usual_dtype(device) is torch.bfloat16 and host.prefers_bf16(device) else "fp32"
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[choice]


def file_dates(files: Sequence[Path]) -> list[FileDate]:
    """One for each file. What a node's fingerprint is made of: it changes when a file was replaced."""
    return [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
