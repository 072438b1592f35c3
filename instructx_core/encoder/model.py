"""InstructXEncoder: the encoder as a diffusers model with LoRA, for the pipeline and for training (paper 3.1, 3.2).

What it is given is built in inputs.py, its forward is in forward.py; here are what diffusers adds (save, load, offload)
and what peft adds (LoRA layers, merging).
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..config import InstructXConfig, LoraConfig
from ..geometry import mllm_grid
from .forward import EncoderForward
from .positions import Grid
from .qwen import inject_lora, merge_lora


class InstructXEncoder(EncoderForward, ModelMixin, ConfigMixin):
    """Qwen2.5-VL, the learnable queries and the connector(s) as a diffusers model; the forward is in forward.py.

    instructx: the InstructXConfig as a dict of plain JSON values (use build_encoder). lora: built with LoRA layers.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"]
    _skip_layerwise_casting_patterns = ("patch_embed", "norm", "ln_q", "queries")

    @register_to_config
    def __init__(self, instructx: dict[str, Any], lora: bool = False) -> None:
        super().__init__()
        self.make_parts(InstructXConfig.from_json(json.dumps(instructx)))
        if lora:
            self.add_lora(self.instructx.lora)

    def grid_of(self, frames: int, height: int, width: int, kind: str) -> Grid:
        """Patch grid of a clip or picture in this model; see geometry.mllm_grid."""
        return mllm_grid(frames, height, width, self.instructx, kind)

    def add_lora(self, lora: LoraConfig) -> None:
        """Adds LoRA layers named "default" to the MLLM; B starts at zero, so the output does not change yet."""
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


def build_encoder(config: InstructXConfig) -> InstructXEncoder:
    """Random encoder of `config`, without LoRA layers. Works under torch.device("meta")."""
    return InstructXEncoder(json.loads(config.to_json()))
