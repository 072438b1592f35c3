"""The paper's model at small widths, the public files that it starts from, and recipes of a few steps.

Real names, layouts and number formats, random weights: heads of 128 and text_dim 4096, which native loaders take.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from instructx_core.config import InstructXConfig, LoraConfig, MllmConfig, VaeConfig, VisionConfig, paper_14b
from instructx_core.denoiser import build_denoiser
from instructx_core.encoder.qwen import build_mllm
from instructx_core.encoder.tokenizer import train_tokenizer
from instructx_core.formats.layouts.keymaps import dit_to_original, vae_to_original
from instructx_core.formats.layouts.qwen_names import mllm_to_original
from instructx_core.training.recipes.edit import EditRecipe
from instructx_core.training.recipes.paper import stage1, stage2, stage3
from instructx_core.vae import build_vae

PIXELS = 56 * 56


def small_paper(**denoiser: Any) -> InstructXConfig:
    """paper_14b with other numbers in the fields of width and depth, and in no other."""
    base = paper_14b()
    vision = VisionConfig(depth=2, hidden_size=128, intermediate_size=96, full_attention_blocks=(1,))
    sizes = {"dim": 128, "ffn_dim": 96, "num_layers": 2, "num_heads": 1}
    return dataclasses.replace(
        base,
        mllm=MllmConfig(
            vocab_size=400,
            hidden_size=256,
            intermediate_size=160,
            num_layers=2,
            num_heads=2,
            num_kv_heads=1,
            vision=vision,
        ),
        lora=LoraConfig(rank=4, alpha=4),
        instruction=dataclasses.replace(
            base.instruction,
            system_prompt="Describe the edit.",
            num_image_queries=4,
            num_video_queries=8,
            min_pixels=PIXELS,
            max_pixels=PIXELS,
            max_image_pixels=PIXELS,
            max_reference_pixels=PIXELS,
        ),
        denoiser=dataclasses.replace(base.denoiser, **sizes | denoiser),
        vae=VaeConfig(base_dim=8),
        sampling=dataclasses.replace(base.sampling, num_steps=2),
    )


def random_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """Small random weights in bf16; norms near one."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        near_one = parameter.ndim == 1 and name.endswith("weight")
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        value = 1 + 0.1 * noise if near_one or "gamma" in name else noise * 0.5 * fan**-0.5
        state[name] = value.bfloat16()
    return state


def write_base(folder: Path, published: bool = False) -> dict[str, Path]:
    """The public files of small_paper, part by part: one file each in ComfyUI's folders, or `published` as by their
    makers (diffusers folders in shards, Qwen's folder)."""
    config = small_paper()
    dit, vae, qwen = build_denoiser(config), build_vae(config.vae), build_mllm(config.mllm)
    states = {
        "denoiser": {n if published else dit_to_original(n): v for n, v in random_state(dit).items()},
        "vae": {n if published else vae_to_original(n, config.vae): v for n, v in random_state(vae).items()},
        "text_encoder": {mllm_to_original(n): v for n, v in random_state(qwen).items()},
    }
    folders = {"denoiser": "diffusion_models", "vae": "vae", "text_encoder": "text_encoders"}
    if published:
        folders = {"denoiser": "transformer", "vae": "vae", "text_encoder": "qwen"}
    tokenizer = folder / (folders["text_encoder"] if published else "") / "tokenizer.json"
    for part, state in states.items():
        place = folder / folders[part]
        place.mkdir(parents=True, exist_ok=True)
        write_shards(place, state) if published else save_file(state, place / "wan_or_qwen_bf16.safetensors")
    train_tokenizer(["make the circle blue", "invert the colors"], 400).save(str(tokenizer))
    return {part: folder / name for part, name in folders.items()} | {"tokenizer": tokenizer}


def write_shards(folder: Path, state: dict[str, Tensor]) -> None:
    """Two shards and the index that names them."""
    names = sorted(state)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


SHORT: dict[str, Any] = {
    "data": "small",
    "precision": "fp32",
    "learning_rate": 1e-4,
    "warmup_steps": 2,
    "image_batch": 4,
    "video_batch": 4,
    "micro_image_batch": 2,
    "micro_video_batch": 1,
    "image_validation": 2,
    "video_validation": 1,
    "image_reference_validation": 1,
    "video_reference_validation": 1,
    "save_every": 2,
    "validate_every": 0,
    "sample_every": 0,
}


def short_stages(**overrides: Any) -> dict[str, EditRecipe]:
    """The paper's three recipes with few steps and small batches."""
    pools = {"image_pool": 8, "video_pool": 4, "image_reference_pool": 4, "video_reference_pool": 4}
    later = SHORT | pools | {"ema_decay": 0.9, "num_steps": 3} | overrides
    return {
        "stage1": dataclasses.replace(stage1(), **SHORT | {"image_pool": 8, "num_steps": 3} | overrides),
        "stage2": dataclasses.replace(stage2(), **later),
        "stage3": dataclasses.replace(stage3(), **later),
    }
