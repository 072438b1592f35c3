"""Small random models for the tests of the core: the real classes at a size that runs in milliseconds."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from instructx_core.config import InstructXConfig, tiny


def small_config(**denoiser: Any) -> InstructXConfig:
    """The `tiny` preset with two DiT layers, a two-layer MLLM and the paper's tied embedders.

    Keyword arguments change the denoiser.
    """
    base = tiny()
    tied = {"source_embedder": "tied", "reference_embedder": "tied"}
    vision = dataclasses.replace(base.mllm.vision, depth=2, full_attention_blocks=(1,))
    return dataclasses.replace(
        base,
        mllm=dataclasses.replace(base.mllm, num_layers=2, vision=vision),
        denoiser=dataclasses.replace(base.denoiser, num_layers=2, text_dim=64, **tied | denoiser),
        instruction=dataclasses.replace(base.instruction, num_image_queries=4, num_video_queries=8),
        vae=dataclasses.replace(base.vae, base_dim=4),
        sampling=dataclasses.replace(base.sampling, num_steps=3),
    )


def own_config(**denoiser: Any) -> InstructXConfig:
    """`small_config` with kiwi's switches of the denoiser."""
    return small_config(source_embedder="own", source_scale="sigma", reference_embedder="own", **denoiser)


@functools.cache
def tokenizer() -> Any:
    """A byte-level tokenizer with the special tokens, no merges."""
    from transformers import PreTrainedTokenizerFast

    from instructx_core.encoder.tokenizer import train_tokenizer

    return PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(["make the circle blue"], 300))


def randomise(module: torch.nn.Module, seed: int = 0, scale: float = 0.02) -> torch.nn.Module:
    """Fill zero-initialised parameters (connector, own embedders, LoRA B) so that no path is silently off."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module.eval()


def own_memory(module: torch.nn.Module) -> torch.nn.Module:
    """Copy memory-mapped CPU parameters (after diffusers' from_pretrained) to memory of their own, in place.

    Mapped tensors start at odd addresses: CPU kernels are slower there and round differently in the last bit.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.device.type == "cpu" and parameter.data_ptr() % 64:
                parameter.data = parameter.data.clone()
    return module


def pipeline(config: InstructXConfig | None = None, seed: int = 0) -> Any:
    """A complete random pipeline on the CPU, fp32."""
    from instructx_core.denoiser import build_denoiser
    from instructx_core.encoder.designs import build_encoder
    from instructx_core.pipeline import InstructXPipeline
    from instructx_core.sampling.schedule import build_scheduler
    from instructx_core.vae import build_vae

    config = config or small_config()
    torch.manual_seed(seed)
    pipe = InstructXPipeline(
        vae=randomise(build_vae(config.vae)),
        transformer=randomise(build_denoiser(config)),
        encoder=randomise(build_encoder(config)),
        tokenizer=tokenizer(),
        scheduler=build_scheduler(config),
        instructx=config,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def clip(frames: int = 5, height: int = 32, width: int = 48, seed: int = 0) -> Tensor:
    """Random uint8 frames (F, H, W, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, height, width, 3), generator=generator, dtype=torch.uint8)


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
