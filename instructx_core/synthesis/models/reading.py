"""Weights of players from folders on this machine: read once a process, and named by what is in them.

Place: a folder -> reading -> the players of this room. Nothing is fetched: `local_files_only`, always.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ...digests import model_files_digest
from ...precision import usual_dtype
from ..terms.roles import Unplayable


@lru_cache(maxsize=16)
def read_part(kind: str, folder: str, device: str = "") -> Any:
    """A class of transformers by its name, from a folder. Raises Unplayable for a folder of something else."""
    import transformers

    made = getattr(transformers, kind, None)
    if made is None:
        raise Unplayable(f"this transformers {transformers.__version__} has no {kind}; update it")
    try:
        part = made.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise Unplayable(f"{folder}: is no {kind} that this transformers reads ({reason})") from None
    if not isinstance(part, torch.nn.Module):
        return part
    place = device or "cpu"
    part = part.to(place).eval()  # in the format of its file, which transformers keeps, but on a CPU
    return part.float() if usual_dtype(place) is torch.float32 else part


@lru_cache(maxsize=4)
def read_pipeline(kind: str, folder: str, device: str = "") -> Any:
    """A pipeline of diffusers by its name, from a folder. Raises Unplayable for a folder of something else."""
    import diffusers

    made = getattr(diffusers, kind, None)
    if made is None:
        raise Unplayable(f"this diffusers {diffusers.__version__} has no {kind}; update it")
    dtype = usual_dtype(device or "cpu")
    try:
        pipe = made.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise Unplayable(f"{folder}: is no {kind} that this diffusers reads ({reason})") from None
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device or "cpu")


@lru_cache(maxsize=16)
def weights_name(folder: str) -> str:
    """The folder's name and a digest of its files, for a record's provenance."""
    return f"{Path(folder).name} {model_files_digest([Path(folder)])[:12]}"
