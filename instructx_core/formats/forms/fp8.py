"""fp8: matrices as fp8 with a scale each, half the size: ComfyUI's fp8_scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ..containers.quantisation import MARKER
from ..containers.tensor_source import FLOATS, TORCH_DTYPES
from ..containers.writing import Pending
from ..layouts.weight_file import WeightFile
from .pending import kept_metadata, pending_dit, pending_plain, write
from .request import Request

FP8, FP8_MAX = "F8_E4M3", 448.0


def to_fp8(request: Request) -> tuple[str, ...]:
    """All matrices of the DiT, also the few outside the blocks: ComfyUI 0.3.75 would cast those without a scale."""
    if request.kind == "qwen2.5-vl":
        qwen = request.file
        _refuse_quantised(qwen)
        pending = pending_plain(qwen, {key: key for key in qwen.source.keys() if not key.startswith("lm_head.")})
        pending = pending_fp8(pending, lambda item: len(item.shape) == 2 and "embed_tokens" not in item.name)
        return write(request.target, pending, kept_metadata(qwen))
    dit = request.dit("fp8")
    _refuse_quantised(dit)
    return write(request.target, pending_fp8(pending_dit(dit), lambda item: len(item.shape) == 2), kept_metadata(dit))


def _refuse_quantised(file: WeightFile) -> None:
    packed = sorted({file.source.dtype(key) for key in file.source.keys()} - set(FLOATS))
    if packed:
        raise InputError(f"{file.path.name} is quantised already ({', '.join(packed)}); start from the bf16 file")


def pending_fp8(pending: list[Pending], chosen: Callable[[Pending], bool]) -> list[Pending]:
    """The chosen matrices as fp8 with a scale beside each, and the marker by which ComfyUI knows such a file.

    w = fp8 * scale, scale = max|w| / 448. The marker has two elements: products in full precision.
    """
    out = [Pending(MARKER, FP8, (2,), lambda: torch.zeros(2, dtype=TORCH_DTYPES[FP8]))]
    for item in pending:
        if not chosen(item):
            out.append(item)
            continue
        scale = _Scale(item)
        stem = item.name.removesuffix(".weight")
        out += [
            Pending(f"{stem}.scale_weight", "F32", (), scale.value),
            Pending(item.name, FP8, item.shape, scale.weight),
        ]
    return out


@dataclass(frozen=True)
class _Scale:
    """The two halves of one weight. The scale comes first in the file (fp32 before fp8), so a weight is read twice."""

    item: Pending

    def value(self) -> Tensor:
        return _scale_of(self.item.read())

    def weight(self) -> Tensor:
        full = self.item.read().float()
        return full.div_(_scale_of(full)).clamp_(-FP8_MAX, FP8_MAX).to(TORCH_DTYPES[FP8])


def _scale_of(weight: Tensor) -> Tensor:
    """max|w| / 448 in fp32, 1 for a weight of zeros. No copy of the weight is made."""
    peak = torch.stack(torch.aminmax(weight)).float().abs().max()
    return torch.where(peak > 0, peak / FP8_MAX, torch.ones(()))
