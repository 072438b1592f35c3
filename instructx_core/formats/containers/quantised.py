"""Quantised files -> plain tensors: a view over a source, with the scale tensors folded in.

Read: plain fp8, ComfyUI's fp8_scaled in its old (`<layer>.scale_weight`, marker `scaled_fp8`) and new spelling
(`<layer>.weight_scale`, `comfy_quant` or `_quantization_metadata`), int8 with one scale a tensor or row, and every
block type of GGUF. w = stored * scale, computed in fp32 and rounded once. What needs a kernel of its own (nvfp4, mxfp8,
rotated int8 and the like) is refused by name: those files run in ComfyUI with its own loaders.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from ...errors import InputError, some
from .packed import PackedWeight
from .quantisation import BLOCK_TYPE, FP8_TYPES, MARKER, SCALES, Numbers, is_marker, is_packed, is_side_tensor, numbers
from .tensor_source import SourceView, TensorSource


def dequantised(source: TensorSource, found: Numbers | None = None) -> TensorSource:
    """`source` with plain tensors, unchanged when it has no others. Closing it closes `source`.

    found: its numbers, where they are known. Raises InputError for a format that the library cannot read, and for
    scales and weights that do not pair up.
    """
    found = found or numbers(source)
    _refuse_foreign(source, found)
    if not any(is_side_tensor(key) or is_packed(source.dtype(key)) for key in source.keys()):
        return source
    return DequantisedSource(source, found.declared)


def _refuse_foreign(source: TensorSource, found: Numbers) -> None:
    """Raises InputError, with the name of the format, for what the library cannot read."""
    name, keys = source.path.name, set(source.keys())
    if found.foreign:
        raise InputError(
            f"{name} is quantised as {', '.join(found.foreign)[:100]}, which the library cannot read; use the bf16, "
            "fp8_scaled or GGUF file, or ComfyUI's own loaders"
        )
    for layer, row in found.declared.items():
        weight = f"{layer}.weight"
        if weight in keys and source.dtype(weight) != row.stored:
            raise InputError(
                f"{name}: {weight} is {source.dtype(weight)}, but is declared as {row.declared}; the file was "
                "converted wrongly, use another one"
            )


class DequantisedSource(SourceView):
    """declared: layers that say that they are quantised. Raises InputError when weights lack their scales."""

    def __init__(self, source: TensorSource, declared: Collection[str]) -> None:
        super().__init__(source)
        self._scales = _pair(source)
        keys = source.keys()
        self._keys = [key for key in keys if not is_side_tensor(key)]
        models = tuple(key.removesuffix(MARKER) for key in keys if is_marker(key))  # a checkpoint may hold several
        needy = (key for key in self._keys if key not in self._scales)
        bare = [key for key in needy if _needs_scale(source, key, models, declared)]
        if bare:
            raise InputError(
                f"{source.path.name} is a scaled file, but {len(bare)} weights have no scale ({some(bare)}); it was "
                "converted wrongly or is incomplete, use another one"
            )

    def keys(self) -> list[str]:
        return list(self._keys)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._source.shape(key)

    def dtype(self, key: str) -> str:
        stored = self._source.dtype(key)
        return "F32" if is_packed(stored) else stored

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        if not is_packed(self._source.dtype(key)):
            return self._source.get(key, device, dtype)
        packed = self.packed(key)
        on_cpu = BLOCK_TYPE.match(packed.kind) is not None
        return (packed if on_cpu else packed.to(device)).unpack(dtype or torch.float32).to(device)

    def packed(self, key: str) -> PackedWeight:
        """A quantised tensor as it is stored, on the CPU."""
        scale = self._scales.get(key)
        return PackedWeight(
            self._source.get(key),
            self._source.dtype(key),
            self.shape(key),
            None if scale is None else self._source.get(scale, dtype=torch.float32),
        )

    def is_packed(self, key: str) -> bool:
        return is_packed(self._source.dtype(key))

    def rows(self, key: str, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        stored = self._source.dtype(key)
        if is_packed(stored):
            return super().rows(key, start, stop, dtype)
        return self._source.rows(key, start, stop, dtype)


def _needs_scale(source: TensorSource, key: str, models: tuple[str, ...], declared: Collection[str]) -> bool:
    """int8 means nothing without a scale; in a model or layer that says it is scaled, neither does an fp8 matrix."""
    name = source.dtype(key)
    matrix = name in FP8_TYPES and key.endswith(".weight") and len(source.shape(key)) == 2
    return name == "I8" or (matrix and (key.startswith(models) or key.removesuffix(".weight") in declared))


def _pair(source: TensorSource) -> dict[str, str]:
    """Weight -> its scale. Raises InputError when a scale has no quantised weight, or is more than one a row."""
    keys, scales = set(source.keys()), {}
    for key in source.keys():
        if not key.endswith(SCALES):
            continue
        weight = f"{key.rpartition('.')[0]}.weight"
        if weight not in keys or not is_packed(source.dtype(weight)) or weight in scales:
            raise InputError(
                f"{source.path.name}: {key} scales no quantised weight; the file was converted wrongly, use another one"
            )
        scale_shape, shape = source.shape(key), source.shape(weight)
        if math.prod(scale_shape) not in (1, *shape[:1]):
            raise InputError(
                f"{source.path.name}: {key} has the shape {scale_shape} for a weight of {shape}; only one scale a "
                "tensor or row can be read, use the fp8_scaled or bf16 file"
            )
        scales[weight] = key
    return scales
