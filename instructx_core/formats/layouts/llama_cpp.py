"""Qwen2.5-VL as llama.cpp stores it: two GGUF files, the language model and its "mmproj", the vision tower.

A source with the names of the model hub over both, so that encoder.py reads them as any other file. Inverts
llama.cpp's convert_hf_to_gguf.py (Qwen2VLVisionModel), which takes q, k and v of the tower and both frames of its patch
embedding apart; names as in the package gguf (tensor_mapping.py).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError, some
from ..containers.opening import open_source
from ..containers.quantised import dequantised
from ..containers.shards import JoinedSource
from ..containers.tensor_source import SourceView, TensorSource

PROJECTOR = "mmproj"  # in the name of the second file, by llama.cpp's habit
_TEXT = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOWER = {
    "v.patch_embd": "visual.patch_embed.proj",
    "v.post_ln": "visual.merger.ln_q",
    "mm.0": "visual.merger.mlp.0",
    "mm.2": "visual.merger.mlp.2",
}
_BLOCK = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attn_qkv": "attn.qkv",
    "attn_out": "attn.proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAME = re.compile(r"(?:(blk|v\.blk)\.(\d+)\.)?(.+)\.(weight|bias)")
_PART = re.compile(r"(v\.blk\.\d+)\.attn_([qkv])\.(weight|bias)")
_SECOND_FRAME = "v.patch_embd.weight.1"
_QUANTISATION = re.compile(r"[-_.](?:I?Q\d\w*|TQ\d\w*|BF16|F16|F32|UD)(?=[-_.]|$)", re.IGNORECASE)


def is_llama_cpp(source: TensorSource) -> bool:
    """Whether the names are llama.cpp's: of a language model, or of a vision tower alone."""
    return any(key in ("token_embd.weight", "v.patch_embd.weight") for key in source.keys())


def is_projector_alone(source: TensorSource) -> bool:
    """Whether the file is the vision tower without its language model."""
    return "v.patch_embd.weight" in source.keys() and "token_embd.weight" not in source.keys()


def hub_name(key: str) -> str | None:
    """llama.cpp's name -> the hub's (model.*, visual.*); None for what has no counterpart of its own."""
    match = _NAME.fullmatch(key)
    if match is None:
        return None
    stack, number, stem, ending = match.groups()
    if stack is None:
        known = _TEXT.get(stem) or _TOWER.get(stem)
    else:
        inner = (_LAYER if stack == "blk" else _BLOCK).get(stem)
        known = inner and f"{'model.layers' if stack == 'blk' else 'visual.blocks'}.{number}.{inner}"
    return known and f"{known}.{ending}"


class LlamaCppSource(SourceView):
    """The hub's names over a source with llama.cpp's. What was taken apart is put together when it is read."""

    def __init__(self, source: TensorSource) -> None:
        super().__init__(source)
        self._plain = dequantised(source)
        self._parts: dict[str, tuple[str, ...]] = {}  # the hub's name -> one key of the file, or the parts in order
        keys = set(source.keys())
        for key in source.keys():
            split = _PART.fullmatch(key)
            if key == _SECOND_FRAME:
                continue
            if split is not None:
                stem, _, ending = split.groups()
                name, parts = f"{stem}.attn_qkv.{ending}", tuple(f"{stem}.attn_{p}.{ending}" for p in "qkv")
            elif key == "v.patch_embd.weight" and _SECOND_FRAME in keys:
                name, parts = key, (key, _SECOND_FRAME)
            else:
                name, parts = key, (key,)
            missing = [part for part in parts if part not in keys]
            if missing:
                raise InputError(f"{source.path.name} lacks {some(missing)}; download it again")
            self._parts[hub_name(name) or name] = parts

    def keys(self) -> list[str]:
        return list(self._parts)

    def shape(self, key: str) -> tuple[int, ...]:
        shapes = [self._source.shape(part) for part in self._parts[key]]
        if len(shapes) == 1:
            return shapes[0]
        if key.endswith("patch_embed.proj.weight"):
            return (*shapes[0][:2], len(shapes), *shapes[0][2:])
        return (sum(rows for shape in shapes for rows in shape[:1]), *shapes[0][1:])

    def dtype(self, key: str) -> str:
        first, *rest = self._parts[key]
        return self._plain.dtype(first) if rest else self._source.dtype(first)

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        first, *rest = self._parts[key]
        if not rest:
            return self._source.get(first, device, dtype)
        parts = [self._plain.get(part, device, dtype) for part in (first, *rest)]
        try:
            return torch.stack(parts, 2) if key.endswith("patch_embed.proj.weight") else torch.cat(parts)
        except (RuntimeError, IndexError) as error:
            raise InputError(f"{self.path.name}: the parts of {key} do not fit together ({error})") from None


def with_hub_names(source: TensorSource) -> TensorSource:
    """`source` itself, or for llama.cpp's names the hub's; of a language model alone, with the tower beside it.

    Raises InputError when several files beside could be the tower.
    """
    if not is_llama_cpp(source) or is_projector_alone(source):
        return source
    if "v.patch_embd.weight" not in source.keys():
        tower = find_projector(source.path)
        if tower is not None:
            return _joined(source, open_source(tower))
    return LlamaCppSource(source)


def _joined(text: TensorSource, tower: TensorSource) -> LlamaCppSource:
    """Language model and tower as one. Closes the tower when they do not fit; the language model is its owner's."""
    try:
        return LlamaCppSource(JoinedSource(text.path, [text, tower]))
    except BaseException:
        tower.close()
        raise


def find_projector(path: Path) -> Path | None:
    """The mmproj file beside a language model: the only one, or the only one that carries its name.

    Raises InputError when there are several to choose from.
    """
    found = sorted(file for file in path.parent.glob("*.gguf") if is_projector(file.name))
    if len(found) > 1:
        model_name = _QUANTISATION.sub("", path.stem).lower()
        found = [file for file in found if model_name in file.stem.lower()] or found
    if len(found) > 1:
        raise InputError(
            f"{path.name}: several files beside it could be its vision tower ({some([file.name for file in found])}); "
            "leave one of them in the folder"
        )
    return found[0] if found else None


def is_projector(name: str) -> bool:
    """Whether a file is called a vision tower of llama.cpp."""
    return PROJECTOR in name.lower() and name.lower().endswith(".gguf")
