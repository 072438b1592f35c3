"""InstructXEncoder: the encoder as a diffusers model with LoRA, for the pipeline and for training (paper 3.1, 3.2).

What it is given is built in inputs.py, its forward is in forward.py; here are what diffusers adds (save, load, offload)
and what peft adds (LoRA layers, merging).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import ModelMixin as ModelMixin  # DiffusionPipeline.from_pretrained looks here
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..config import InstructXConfig, LoraConfig
from .context_encoder import ContextEncoder
from .forward import EncoderForward
from .inputs import EncoderInputs, drop_instruction, inputs_of_pictures, prepare_inputs
from .pictures import Pictures
from .qwen import inject_lora, merge_lora


class InstructXEncoder(EncoderForward, ContextEncoder):
    """Qwen2.5-VL, the learnable queries and the connector(s) as a diffusers model; the forward is in forward.py.

    instructx: the InstructXConfig as a dict of plain JSON values (use build_encoder). lora: built with LoRA layers.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"]
    _skip_layerwise_casting_patterns = ("patch_embed", "norm", "ln_q", "queries")

    @register_to_config
    def __init__(self, instructx: dict[str, Any], lora: bool = False) -> None:
        super().__init__()
        self.text_encoder = None
        self.make_parts(InstructXConfig.from_json(json.dumps(instructx)))
        if lora:
            self.add_lora(self.instructx.lora)

    def prepare(
        self,
        tokenizer: Any,
        instructions: Sequence[str],
        frames: Sequence[Tensor],
        references: Sequence[Sequence[Tensor]] | None = None,
        fps: float | None = None,
    ) -> EncoderInputs:
        return prepare_inputs(tokenizer, self.instructx, instructions, frames, references, fps)

    def prepare_texts(self, tokenizer: Any, instructions: Sequence[str], pictures: Pictures) -> EncoderInputs:
        return inputs_of_pictures(tokenizer, self.instructx, instructions, pictures, allow_empty=True)

    def without_instruction(self, tokenizer: Any, inputs: EncoderInputs) -> EncoderInputs:
        return drop_instruction(tokenizer, self.instructx, inputs)

    def context_mask(self, inputs: EncoderInputs) -> Tensor:
        """All rows are queries (or a reference's tokens): each says something."""
        tokens = 0
        if self.reference_connector is not None and inputs.reference_grid:
            merge = self.instructx.mllm.vision.spatial_merge_size**2
            tokens = sum(t * h * w // merge for t, h, w in inputs.reference_grid)
        rows = tokens + self.instructx.context_length(inputs.modality)
        return torch.ones(len(inputs.input_ids_BL), rows, dtype=torch.bool, device=inputs.input_ids_BL.device)

    def add_lora(self, lora: LoraConfig) -> None:
        """Adds LoRA layers named "default" to the MLLM; B starts at zero, so the output does not change yet.

        Rank 0 adds none.
        """
        if not lora.rank:
            return
        inject_lora(self.mllm if lora.scope == "mllm" else self.mllm.language_model, lora)
        self.register_to_config(lora=True)

    def merge_lora(self) -> None:
        """Folds the LoRA layers into the weights and removes them."""
        merge_lora(self.mllm)
        self.register_to_config(lora=False)

    def lora_state_dict(self) -> dict[str, Tensor]:
        """LoRA tensors by their full name in this module, without the adapter name (`...q_proj.lora_A.weight`)."""
        return {
            name.replace(".default.", "."): value.detach()
            for name, value in self.named_parameters()
            if ".lora_" in name
        }

    def enable_gradient_checkpointing(self, *args: Any, **kwargs: Any) -> None:
        """Recompute activations of both halves of the MLLM in the backward pass."""
        self.mllm.gradient_checkpointing_enable(*args, **kwargs)

    def disable_gradient_checkpointing(self) -> None:
        self.mllm.gradient_checkpointing_disable()
