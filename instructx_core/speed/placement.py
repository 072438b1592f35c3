"""Models that are larger than the card: fp8 storage, and blocks that stream in while the ones before them work.

Once, between loading and the first edit, by diffusers' own hooks. Moving whole parts (offload "model") is the
pipeline's own enable_model_cpu_offload. docs/speed.md has what each costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from diffusers.hooks import apply_group_offloading
from torch import nn

from ..errors import InputError

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

OFFLOAD = ("none", "model", "group")


def check_offload(offload: str, device: torch.device) -> None:
    """Raises InputError for an unknown one, and for what this machine cannot do."""
    if offload not in OFFLOAD:
        raise InputError(f"offload is {offload!r}; use one of {', '.join(OFFLOAD)}")
    if offload == "model" and device.type == "cpu":
        raise InputError("offload 'model' moves parts between a card and the CPU; leave it out on the CPU")


def store_in_fp8(model: WanTransformer3DModel) -> None:
    """Linear layers are stored in float8_e4m3fn and computed in the model's number format."""
    model.enable_layerwise_casting(torch.float8_e4m3fn, model.dtype)


def stream_groups(model: WanTransformer3DModel, others: Sequence[nn.Module], device: torch.device) -> None:
    """Blocks of the DiT come to `device` one after the other, the other modules layer by layer."""
    cpu, stream = torch.device("cpu"), device.type == "cuda"
    apply_group_offloading(model, device, cpu, "block_level", num_blocks_per_group=1, use_stream=stream)
    for module in others:
        apply_group_offloading(module, device, cpu, "leaf_level", use_stream=stream)
