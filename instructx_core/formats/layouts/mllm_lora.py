"""LoRA of the MLLM in an adapter: the layers that it changes, and what they add. encoder.py folds it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config import InstructXConfig
from ...errors import InputError
from .qwen_names import mllm_from_original


@dataclass(frozen=True)
class LoraLayer:
    """down (rank, in) and up (out, rank) of one linear; what they add is scale * up @ down."""

    stem: str
    down: Tensor
    up: Tensor
    scale: float

    def merged_into(self, weight: Tensor) -> Tensor:
        """weight + scale * up @ down in fp32. Raises InputError when the shapes do not fit the weight."""
        down, up = (half.to(weight.device, torch.float32) for half in (self.down, self.up))
        if (up.shape[0], down.shape[1]) != tuple(weight.shape) or down.shape[0] != up.shape[1]:
            raise InputError(
                f"LoRA of {self.stem} is {tuple(up.shape)} x {tuple(down.shape)}; the layer is {tuple(weight.shape)}: "
                "use the adapter of this model"
            )
        return weight.float().addmm_(up, down, alpha=self.scale)


def lora_layers(adapter: Mapping[str, Tensor], config: InstructXConfig) -> dict[str, LoraLayer]:
    """Weight in Qwen2_5_VLModel -> its LoRA. Any rank, also one that differs by layer, and any set of layers.

    The scale is the config's alpha / rank; a layer with an alpha of its own in the file has that over its own rank.
    Raises InputError when a tensor lacks its partner or is no matrix.
    """
    layers = {}
    for stem in sorted({key.rpartition(".lora_")[0] for key in adapter if ".lora_" in key}):
        halves = []
        for half in ("A", "B"):
            tensor = adapter.get(f"{stem}.lora_{half}.weight")
            if tensor is None:
                raise InputError(f"{stem}.lora_{half}.weight is missing; use the whole adapter file")
            if tensor.ndim != 2:
                raise InputError(f"{stem}.lora_{half}.weight is {tuple(tensor.shape)}, no matrix; use another adapter")
            halves.append(tensor)
        alpha = adapter.get(f"{stem}.alpha")
        stored = None if alpha is None else float(alpha.float()) / max(halves[0].shape[0], 1)
        scale = config.lora.alpha / config.lora.rank if stored is None else stored
        layers[f"{mllm_from_original(stem)}.weight"] = LoraLayer(stem, halves[0], halves[1], scale)
    return layers
