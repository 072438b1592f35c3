"""One quantised weight as its file stores it, and the plain numbers that it stands for.

Between quantised.py, which pairs weights with their scales, and who keeps a weight packed (layouts/packed_linear.py).
w = stored * scale, computed in fp32 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .gguf_file import dequantise_blocks
from .quantisation import BLOCK_TYPE


@dataclass(frozen=True, slots=True, eq=False)
class PackedWeight:
    """stored: fp8 or int8 of that shape, or the bytes of GGUF's blocks. scale: one for all or one a row, fp32."""

    stored: Tensor
    kind: str  # "F8_E4M3", "Q4_K"
    shape: tuple[int, ...]
    scale: Tensor | None = None

    @property
    def bytes(self) -> int:
        return self.stored.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def to(self, device: str | torch.device) -> PackedWeight:
        scale = None if self.scale is None else self.scale.to(device)
        return replace(self, stored=self.stored.to(device), scale=scale)

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """On the device of the stored bytes; GGUF's blocks are unpacked by its package, on the CPU."""
        if BLOCK_TYPE.match(self.kind):
            return dequantise_blocks(self.stored.cpu(), self.kind, self.shape, dtype).to(self.stored.device)
        weight = self.stored.to(torch.float32)
        if self.scale is not None:
            weight *= self.scale.reshape(-1, *(1,) * (weight.ndim - 1)) if self.scale.numel() > 1 else self.scale
        return weight.to(dtype).reshape(self.shape)
