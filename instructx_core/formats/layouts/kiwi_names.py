"""Names in Kiwi-Edit's training files and folders -> those of an adapter of ours, and of the DiT that it may hold."""

from __future__ import annotations

import re

from ...errors import InputError
from ..containers.strict import name_all
from ..containers.tensor_source import RenamedSource, TensorSource
from .qwen_names import mllm_from_original, mllm_to_original

# Pattern in a file without "pipe." -> our name.
_NAMES = (
    (r"(?:mllm\.)?(image|video)_queries(?:\.q)?", r"queries.\1"),
    (r"(?:mllm\.)?ref_queries(?:\.q)?", "queries.reference"),
    (r"(?:mllm\.)?connec?tor\.(.+)", r"connector.\1"),
    (r"(?:mllm\.)?ref_connec?tor\.(.+)", r"reference_connector.\1"),
    (r"(?:vae_condition|source_embedder)\.(?:patch_embedding\.)?(\w+)", r"source_embedder.\1"),
    (r"(?:ref_vae_condition|ref_embedder)\.(?:patch_embedding\.)?(\w+)", r"reference_embedder.\1"),
)
_LORA = re.compile(r"(?:mllm\.)?(?:model\.)?(model\..+)\.(lora_[AB])(?:\.\w+)?\.weight")
_DIT = re.compile(r"(?:dit\.)?((?:blocks|head|patch_embedding|text_embedding|time_embedding|time_projection)\..+)")


def adapter_name(key: str) -> str | None:
    """Name in a training file or folder -> name in an adapter of ours; None for a tensor of the DiT.

    Raises InputError for an unknown one.
    """
    bare = key.removeprefix("pipe.")
    for pattern, name in _NAMES:
        match = re.fullmatch(pattern, bare)
        if match:
            return match.expand(name)
    lora = _LORA.fullmatch(bare)
    if lora and not bare.startswith("dit."):
        return f"{mllm_to_original(mllm_from_original(lora[1]) or lora[1])}.{lora[2]}.weight"
    if _DIT.fullmatch(bare):
        return None
    raise InputError(f"unknown tensor name {key!r}; it belongs to no known Kiwi-Edit layout")


def wan_name(key: str) -> str | None:
    """Name in a training file -> original Wan name (LoRA halves included); None for a tensor beside the DiT."""
    match = _DIT.fullmatch(key.removeprefix("pipe."))
    return match[1] if match else None


def is_training_file(source: TensorSource) -> bool:
    """Whether these are names of a Kiwi-Edit training file."""
    return any(re.fullmatch(r"(pipe\.)?mllm\.(image|video|ref)_queries\.q", key) for key in source.keys())


def dit_part(source: TensorSource, lora: bool = False) -> TensorSource:
    """The DiT inside a training file, original Wan names: its weights, or (lora) the LoRA halves of it."""
    names = name_all(source, source.keys(), wan_name)
    return RenamedSource(source, {name: key for name, key in names.items() if (".lora_" in name) is lora})
