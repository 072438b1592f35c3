"""fp8: matrices as fp8 with a scale each, half the size: ComfyUI's fp8_scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ..containers.quantisation import MARKER
from ..containers.tensor_source import FLOATS, TORCH_DTYPES
from ..containers.writing import Piece
from ..layouts.weight_file import WeightFile
from .pieces import dit_pieces, kept_metadata, plain_pieces, write
from .request import Request

FP8, FP8_MAX = "F8_E4M3", 448.0


def to_fp8(request: Request) -> tuple[str, ...]:
    """All matrices of the DiT, also the few outside the blocks: ComfyUI 0.3.75 would cast those without a scale."""
    if request.kind == "qwen2.5-vl":
        qwen = request.file
        _refuse_quantised(qwen)
        pieces = plain_pieces(qwen, {key: key for key in qwen.source.keys() if not key.startswith("lm_head.")})
        pieces = fp8_pieces(pieces, lambda piece: len(piece.shape) == 2 and "embed_tokens" not in piece.name)
        return write(request.target, pieces, kept_metadata(qwen))
    dit = request.dit("fp8")
    _refuse_quantised(dit)
    return write(request.target, fp8_pieces(dit_pieces(dit), lambda piece: len(piece.shape) == 2), kept_metadata(dit))


def _refuse_quantised(file: WeightFile) -> None:
    packed = sorted({file.source.dtype(key) for key in file.source.keys()} - set(FLOATS))
    if packed:
        raise InputError(f"{file.path.name} is quantised already ({', '.join(packed)}); start from the bf16 file")


def fp8_pieces(pieces: list[Piece], chosen: Callable[[Piece], bool]) -> list[Piece]:
    """The chosen matrices as fp8 with a scale beside each, and the marker by which ComfyUI knows such a file.

    w = fp8 * scale, scale = max|w| / 448. The marker has two elements: products in full precision.
    """
    out = [Piece(MARKER, FP8, (2,), lambda: torch.zeros(2, dtype=TORCH_DTYPES[FP8]))]
    for piece in pieces:
        if not chosen(piece):
            out.append(piece)
            continue
        scale = _Scale(piece)
        stem = piece.name.removesuffix(".weight")
        out += [
            Piece(f"{stem}.scale_weight", "F32", (), scale.value),
            Piece(piece.name, FP8, piece.shape, scale.weight),
        ]
    return out


@dataclass(frozen=True)
class _Scale:
    """The two halves of one weight. The scale comes first in the file (fp32 before fp8), so a weight is read twice."""

    piece: Piece

    def value(self) -> Tensor:
        return _scale_of(self.piece.read())

    def weight(self) -> Tensor:
        full = self.piece.read().float()
        return full.div_(_scale_of(full)).clamp_(-FP8_MAX, FP8_MAX).to(TORCH_DTYPES[FP8])


def _scale_of(weight: Tensor) -> Tensor:
    """max|w| / 448 in fp32, 1 for a weight of zeros. No copy of the weight is made."""
    peak = torch.stack(torch.aminmax(weight)).float().abs().max()
    return torch.where(peak > 0, peak / FP8_MAX, torch.ones(()))
