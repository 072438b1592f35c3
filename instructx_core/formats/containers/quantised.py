"""Quantised files -> plain tensors: a TensorSource over another one, with the scale tensors folded in.

Read: plain fp8, ComfyUI's fp8_scaled in its old (`<layer>.scale_weight`, marker `scaled_fp8`) and new spelling
(`<layer>.weight_scale`, `comfy_quant` or `_quantization_metadata`), int8 with one scale a tensor or row, and every
block type of GGUF. w = stored * scale, computed in fp32 and rounded once. What needs a kernel of its own (nvfp4, mxfp8,
rotated int8 and the like) is refused by name: those files run in ComfyUI with its own loaders.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError
from ..telling.report import some
from .gguf_file import BLOCK_TYPE, dequantise_blocks
from .tensor_source import TensorSource

_MARKER = "scaled_fp8"
FP8_TYPES = ("F8_E4M3", "F8_E5M2")
_JSON_LIMIT = 4096  # bytes that describe a layer
_SCALES = (".scale_weight", ".weight_scale")
_SIDE = (*_SCALES, ".scale_input", ".input_scale", ".comfy_quant")
_FORMATS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int8_tensorwise": "I8"}
# What a file without a declaration gives itself away by.
_FOREIGN = {
    ".weight_scale_2": "nvfp4",
    ".pre_quant_scale": "nvfp4 with smoothing",
    ".weight_s_rel": "asym_w4a8_int8",
    ".weight_scale_inv": "block-wise fp8",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".qweight": "AWQ, GPTQ or SVDQuant",
}


def dequantised(source: TensorSource) -> TensorSource:
    """`source` with plain tensors, unchanged when it has no others. Closing it closes `source`.

    Raises InputError for a format that the library cannot read, and for scales and weights that do not pair up.
    """
    declared = _declarations(source)
    _refuse_foreign(source, declared)
    keys = source.keys()
    if not any(_is_side(key) or _is_packed(source.dtype(key)) for key in keys):
        return source
    return _Dequantised(source, set(declared))


def number_format(source: TensorSource) -> str:
    """What the file is stored in, for a report: "BF16", "fp8_scaled (F8_E4M3)", "GGUF (Q4_K, F32)"."""
    scaled = any(_is_side(key) for key in source.keys())
    counts: dict[str, int] = {}
    for key in source.keys():
        if not _is_side(key):
            counts[source.dtype(key)] = counts.get(source.dtype(key), 0) + 1
    types = sorted(counts, key=lambda name: -counts[name])
    if any(BLOCK_TYPE.match(name) for name in types):
        return f"GGUF ({', '.join(types)})"
    packed = [name for name in types if _is_packed(name)]
    if packed:
        return (
            f"{'fp8_scaled' if scaled and packed[0] in FP8_TYPES else 'quantised' if scaled else 'fp8'} ({packed[0]})"
        )
    return ", ".join(types)


class _Dequantised(TensorSource):
    def __init__(self, source: TensorSource, declared: set[str]) -> None:
        super().__init__(source.path, source.metadata)
        self._source = source
        self._scales = _pair(source)
        keys = source.keys()
        self._keys = [key for key in keys if not _is_side(key)]
        models = tuple(key.removesuffix(_MARKER) for key in keys if _is_marker(key))  # a checkpoint may hold several
        needy = (key for key in self._keys if key not in self._scales)
        bare = [key for key in needy if _needs_scale(source, key, models, declared)]
        if bare:
            raise InputError(
                f"{source.path.name} is a scaled file, but {len(bare)} weights have no scale ({some(bare)}); it was "
                "converted wrongly or is incomplete, use another one"
            )

    @property
    def files(self) -> tuple[Path, ...]:
        return self._source.files

    def keys(self) -> list[str]:
        return list(self._keys)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._source.shape(key)

    def dtype(self, key: str) -> str:
        stored = self._source.dtype(key)
        return "F32" if _is_packed(stored) else stored

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        stored = self._source.dtype(key)
        if BLOCK_TYPE.match(stored):
            raw = self._source.get(key)
            return dequantise_blocks(raw, stored, self.shape(key), dtype or torch.float32).to(device)
        if not _is_packed(stored):
            return self._source.get(key, device, dtype)
        weight = self._source.get(key, device).to(torch.float32)
        if key in self._scales:
            weight *= self._scale(key, weight)
        return weight.to(dtype or torch.float32)

    def _scale(self, key: str, weight: Tensor) -> Tensor:
        """The scale of a weight, fp32: one for the tensor, or one a row. Raises InputError on anything else."""
        name = self._scales[key]
        scale = self._source.get(name, weight.device, torch.float32)
        if scale.numel() not in (1, len(weight)):
            raise InputError(
                f"{self.path.name}: {name} has the shape {tuple(scale.shape)} for a weight of {tuple(weight.shape)}; "
                "only one scale a tensor or row can be read, use the fp8_scaled or bf16 file"
            )
        return scale.reshape(-1, *(1,) * (weight.ndim - 1)) if scale.numel() > 1 else scale.reshape(())

    def close(self) -> None:
        self._source.close()


def _is_side(key: str) -> bool:
    return key.endswith(_SIDE) or _is_marker(key)


def _is_marker(key: str) -> bool:
    return key.rpartition(".")[2] == _MARKER


def _is_packed(name: str) -> bool:
    return name in FP8_TYPES or name == "I8" or BLOCK_TYPE.match(name) is not None


def _needs_scale(source: TensorSource, key: str, models: tuple[str, ...], declared: set[str]) -> bool:
    """int8 means nothing without a scale; in a model or layer that says it is scaled, neither does an fp8 matrix."""
    name = source.dtype(key)
    matrix = name in FP8_TYPES and key.endswith(".weight") and len(source.shape(key)) == 2
    return name == "I8" or (matrix and (key.startswith(models) or key.removesuffix(".weight") in declared))


def _pair(source: TensorSource) -> dict[str, str]:
    """Weight -> its scale. Raises InputError when a scale has no weight, or the weight is not quantised."""
    keys, scales = set(source.keys()), {}
    for key in source.keys():
        if not key.endswith(_SCALES):
            continue
        weight = f"{key.rpartition('.')[0]}.weight"
        if weight not in keys or not _is_packed(source.dtype(weight)) or weight in scales:
            raise InputError(
                f"{source.path.name}: {key} scales no quantised weight; the file was converted wrongly, use another one"
            )
        scales[weight] = key
    return scales


def _refuse_foreign(source: TensorSource, declared: dict[str, dict]) -> None:
    """Raises InputError, with the name of the format, for what the library cannot read."""
    name, keys = source.path.name, set(source.keys())
    foreign = {str(conf.get("format")) for conf in declared.values()} - set(_FORMATS)
    if any(_rotated(conf) for conf in declared.values()):
        foreign.add("int8 with rotation (convrot)")
    if not foreign:
        foreign = {kind for ending, kind in _FOREIGN.items() if any(key.endswith(ending) for key in keys)}
        foreign |= {"mxfp8" for key in keys if source.dtype(key) == "F8_E8M0"}
    if foreign:
        raise InputError(
            f"{name} is quantised as {', '.join(sorted(foreign))[:100]}, which the library cannot read; use the bf16, "
            "fp8_scaled or GGUF file, or ComfyUI's own loaders"
        )
    for layer, conf in declared.items():
        weight = f"{layer}.weight"
        if weight in keys and source.dtype(weight) != _FORMATS[conf["format"]]:
            raise InputError(
                f"{name}: {weight} is {source.dtype(weight)}, but is declared as {conf['format']}; the file was "
                "converted wrongly, use another one"
            )


def _rotated(conf: dict) -> bool:
    params = conf.get("params")
    return bool(conf.get("convrot") or (isinstance(params, dict) and params.get("convrot")))


def _declarations(source: TensorSource) -> dict[str, dict]:
    """Layer -> {"format": ..., ...}, from the metadata or from the `comfy_quant` tensors, JSON in bytes."""
    texts = {
        key.removesuffix(".comfy_quant"): bytes(source.get(key).flatten().tolist())
        for key in source.keys()
        if key.endswith(".comfy_quant") and source.dtype(key) == "U8" and math.prod(source.shape(key)) <= _JSON_LIMIT
    }
    try:
        found = {layer: json.loads(text) for layer, text in texts.items()}
        whole = json.loads(source.metadata.get("_quantization_metadata", '{"layers": {}}'))
        found = {**whole["layers"], **found}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{source.path.name} describes its quantisation unreadably; use another file") from None
    if not all(isinstance(conf, dict) for conf in found.values()):
        raise InputError(f"{source.path.name} describes its quantisation unreadably; use another file")
    return found
