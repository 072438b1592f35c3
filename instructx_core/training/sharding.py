"""FSDP2 over the modules of an edit stage: a process keeps its rows of each tensor and sees whole ones block by block.

Between base.py, whose modules have no values yet, and the job. Blocks of the DiT and layers of the language model are
gathered one at a time, in bf16 where the run computes in it; what is left (queries, connector, vision tower, the DiT's
embedders and head, in fp32 where trained) is gathered for a whole pass. Masters, gradients and optimiser are fp32 rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from . import distributed
from .engine import Engine
from .parts import Parts


def shard_modules(parts: Parts, engine: Engine, device: torch.device, bf16: bool) -> None:
    """In place; parameters become distributed tensors. One process alone keeps plain ones."""
    _, world = distributed.setup()
    if not engine.sharded or world == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard

    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, (world,))
    options: dict[str, Any] = {"mesh": mesh}
    if engine.offload:
        options["offload_policy"] = CPUOffloadPolicy(pin_memory=device.type == "cuda")
    # Autocast chooses the number format of every operation; gathering in bf16 halves what is sent.
    low = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    inner = options | ({"mp_policy": low} if bf16 else {})
    for block in [*reader_blocks(parts.encoder), *parts.denoiser.blocks]:
        fully_shard(block, **inner)
    keep = {"mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)}
    fully_shard(parts.encoder, **options, **keep)
    fully_shard(parts.denoiser, **options, **keep)


def reader_blocks(encoder: Any) -> list[nn.Module]:
    """What reads the instruction, the parts that are gathered one at a time: of the MLLM, or of UMT5."""
    if encoder.mllm is not None:
        language = encoder.mllm.language_model
        return [language.embed_tokens, *language.layers]
    stack = encoder.text_encoder.model.encoder
    return [stack.embed_tokens, *stack.block]


def recompute_activations(parts: Parts) -> None:
    """Activation checkpointing of both models, block by block; nothing in them is random, so no bit changes."""
    parts.denoiser.enable_gradient_checkpointing()
    if parts.encoder.mllm is not None:  # a text encoder alone is frozen, and keeps nothing
        parts.encoder.enable_gradient_checkpointing()
        parts.encoder.train()
