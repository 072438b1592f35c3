"""Qwen2.5-VL of transformers from our config, and its LoRA through peft (paper 3.2: "0.6B (MLLM LoRA)").

Only the modules and their weights are used; what is fed to them is computed in prompt.py, positions.py and vision.py.
The model has no lm_head: nothing is generated. Keys: `language_model.*` and `visual.*`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from ..config import LoraConfig, MllmConfig


def build_mllm(config: MllmConfig) -> Any:
    """Qwen2_5_VLModel with random weights and SDPA attention (the masks given to it are SDPA's)."""
    vision = config.vision
    text = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "rms_norm_eps": config.rms_norm_eps,
        # the spelling that both 4.57 and 5.x read
        "rope_theta": config.rope_theta,
        "rope_scaling": {"type": "mrope", "mrope_section": list(config.mrope_section)},
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "use_cache": False,
    }
    tower = {
        "depth": vision.depth,
        "hidden_size": vision.hidden_size,
        "intermediate_size": vision.intermediate_size,
        "num_heads": vision.num_heads,
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "spatial_merge_size": vision.spatial_merge_size,
        "window_size": vision.window_size,
        "fullatt_block_indexes": list(vision.full_attention_blocks),
        "tokens_per_second": vision.tokens_per_second,
        "out_hidden_size": config.hidden_size,
    }
    qwen = Qwen2_5_VLConfig(text_config=text, vision_config=tower, attn_implementation="sdpa")
    return Qwen2_5_VLModel(qwen)


def restore_rotary(language_model: Any, config: MllmConfig, device: torch.device) -> None:
    """Puts the rotary frequencies back to fp32 on `device`, in place.

    They are a buffer, so `.to(bfloat16)` rounds them (a phase error of about a radian at position 500), and a model
    built on the meta device has none; transformers lets both pass silently.
    """
    rotary = language_model.rotary_emb
    if rotary.inv_freq.dtype != torch.float32 or rotary.inv_freq.device != device:
        head = config.hidden_size // config.num_heads
        exponent = torch.arange(0, head, 2, dtype=torch.float32, device=device) / head
        rotary.inv_freq = 1.0 / (config.rope_theta**exponent)


def inject_lora(module: nn.Module, lora: LoraConfig) -> None:
    """Puts LoRA layers (adapter "default") on every linear of `module` whose last name is in lora.targets."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import inject_adapter_in_model

    peft_config = PeftLoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets), lora_dropout=0.0, bias="none"
    )
    inject_adapter_in_model(peft_config, module, adapter_name="default")


def merge_lora(module: nn.Module) -> None:
    """Folds every LoRA layer below `module` into its base layer and puts the base layer back."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer.get_base_layer())
