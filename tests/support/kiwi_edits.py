"""Whole edits on which showlab/Kiwi-Edit and we are compared: pictures and weights of kiwi_case.py, put together.

A textured source is cropped and scaled as the reference's demo does it, then all of its pipeline follows: MLLM, queries
and connectors, latents of source and reference, denoising steps, decoding. scripts/golden_edits.py runs the reference.
Legend: F frames, H W pixels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import kiwi_case as case
from torch import Tensor

from instructx_core.config import InstructXConfig, kiwi_5b
from instructx_core.denoiser import InstructXTransformer3DModel, build_denoiser
from instructx_core.encoder.resize import resize_like_pillow
from instructx_core.formats.layouts.keymaps import dit_to_diffusers, dit_to_original, vae_to_diffusers, vae_to_original
from instructx_core.geometry import fit_size
from instructx_core.vae import build_vae

SIZES = ((144, 208), (240, 426), (288, 352), (112, 176), (720, 1280))
# (kind, height, width, channels of the VAE): the public weights' VAE everywhere; the other VAE at the smallest size
CASES = [(kind, *size, 48) for size in SIZES for kind in case.KINDS]
CASES += [(kind, *SIZES[3], 16) for kind in case.KINDS]
STEPS, SEED, INSTRUCTION = 2, 7, "Make it blue."
MULTIPLE, MAX_PIXELS = 32, 720 * 1280  # of the reference's demo
EMBEDDERS = ("source_embedder.", "reference_embedder.")
STAGES = ("context", "source", "reference", "velocity", "latents", "pixels")


def dit_sizes(channels: int) -> dict[str, Any]:
    return {**case.DIT, "in_dim": channels, "out_dim": channels}


def edit_config(channels: int) -> InstructXConfig:
    """The small model, whole: the encoder of kiwi_case, a DiT of two layers, and the VAE of so many channels."""
    base, size = case.small_config(), dit_sizes(channels)
    denoiser = dataclasses.replace(
        kiwi_5b().denoiser,
        dim=size["dim"],
        ffn_dim=size["ffn_dim"],
        num_layers=size["num_layers"],
        num_heads=size["num_heads"],
        in_channels=channels,
        out_channels=channels,
        freq_dim=size["freq_dim"],
        text_dim=size["text_dim"],
    )
    sampling = dataclasses.replace(kiwi_5b().sampling, shift=case.SHIFT, sigma_min=0.0)
    return dataclasses.replace(
        base, profile="kiwi", denoiser=denoiser, vae=case.vae_config(channels), sampling=sampling
    )


def edit_case(kind: str, height: int, width: int) -> tuple[Tensor, Tensor | None]:
    """uint8: a source of that size, (F, H, W, 3), and a reference (H, W, 3) of it or None."""
    source = case.textured(1 if kind == "image" else 5, height, width, 5)
    return source, case.textured(1, height, width, 6)[0] if kind == "reference" else None


def cropped(frames: Tensor, box: list[int]) -> Tensor:
    """Frames cut to (top, left, height, width), then scaled to the size that fit_size gives the whole, by Pillow."""
    fitted = fit_size(frames.shape[1], frames.shape[2], MULTIPLE, MAX_PIXELS)
    top, left, height, width = box
    cut = frames[:, top : top + height, left : left + width].contiguous()
    return resize_like_pillow(cut, fitted.height, fitted.width)


def small_dit(config: InstructXConfig) -> InstructXTransformer3DModel:
    """Our DiT with the weights of kiwi_case.parameters()."""
    model = build_denoiser(config)
    names = {k if k.startswith(EMBEDDERS) else dit_to_original(k): v.shape for k, v in model.state_dict().items()}
    state = case.parameters({name: tuple(shape) for name, shape in names.items()})
    model.load_state_dict({n if n.startswith(EMBEDDERS) else dit_to_diffusers(n): v for n, v in state.items()})
    return model.eval()


def small_vae(config: InstructXConfig) -> Any:
    """Our VAE with the weights of kiwi_case.parameters()."""
    vae = build_vae(config.vae).eval()
    names = {vae_to_original(key, config.vae): tuple(value.shape) for key, value in vae.state_dict().items()}
    vae.load_state_dict({vae_to_diffusers(n, config.vae): v for n, v in case.parameters(names).items()})
    return vae


def summary(tensor: Tensor) -> list[float]:
    """Numbers that stand for a whole tensor: 48 spread values, its mean, its root mean square, the ends."""
    x = tensor.detach().double()
    return [*case.samples(x, 48), float(x.mean()), float(x.square().mean().sqrt()), float(x.min()), float(x.max())]
