"""What the DiT is told, encoded: contexts of the instructions, latents of the sources and references.

EditBatch -> encode_instructions (MLLM, queries, connector) and encode_pictures (VAE) -> Conditions. Frames that do not
fit into memory go through the VAE in tiles, as the memory plan says.
Legend: B batch, F pixel frames, T latent frames, R references, C channels, H W pixels, h w cells, L tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..config import InstructXConfig
from ..encoder.context_encoder import ContextEncoder
from ..latents import normalise_latents
from ..pixels import pad_reference, to_signed, to_uint8
from ..speed.memory import MemoryPlan
from ..speed.tiling import VideoShape, encode_tiled
from ..vae import encode_latents
from .batch import EditBatch


@dataclass(frozen=True, slots=True)
class Contexts:
    """positive (B, L, D) of the instructions; negative, for guidance: of the same pictures without an instruction."""

    positive: Tensor
    negative: Tensor | None = None


def encode_instructions(
    encoder: ContextEncoder,
    tokenizer: PreTrainedTokenizerBase,
    batch: EditBatch,
    fps: float,
    device: torch.device,
    unconditional: bool = False,
) -> Contexts:
    """What the encoder makes of sources, instructions and references. unconditional: also without instruction.

    Instructions of unequal length are padded inside the sequence and masked there; every context of a model has one
    length, so the DiT needs no mask. fps: of the clips, in Hz.
    """
    pictures = [[picture.cpu() for picture in each] for each in batch.references] if batch.num_references else None
    clips = list(to_uint8(batch.clips_BFHWC).cpu())
    inputs = encoder.prepare(tokenizer, list(batch.instructions), clips, pictures, fps)
    positive_BLD = encoder(inputs.to(device, encoder.dtype))
    if not unconditional:
        return Contexts(positive_BLD)
    without = encoder.without_instruction(tokenizer, inputs)
    return Contexts(positive_BLD, encoder(without.to(device, encoder.dtype)))


@dataclass(frozen=True, slots=True)
class PictureLatents:
    """source (B, C, T, h, w), references (B, C, R, h, w) or None; normalised, fp32."""

    source: Tensor
    references: Tensor | None = None


def encode_pictures(
    vae: AutoencoderKLWan, config: InstructXConfig, batch: EditBatch, memory: MemoryPlan, device: torch.device
) -> PictureLatents:
    """Latents of the sources, and of the references padded to their size."""
    rounding = config.instruction.pixel_rounding

    def encode(frames_BFHWC: Tensor) -> Tensor:
        with memory.vae(config.vae, vae.dtype, VideoShape(*frames_BFHWC.shape[:4]), device) as tiling:
            video_BCFHW = to_signed(frames_BFHWC, rounding)
            if tiling is None:
                return encode_latents(vae, video_BCFHW.to(device, vae.dtype))
            latent_BCTHW = encode_tiled(vae, video_BCFHW, tiling, device).to(device)
            return normalise_latents(latent_BCTHW, vae.config["latents_mean"], vae.config["latents_std"])

    source_BCTHW = encode(batch.clips_BFHWC)
    if not batch.num_references:
        return PictureLatents(source_BCTHW)
    singles = []
    for pictures in zip(*batch.references, strict=True):  # one frame each: as a clip the VAE compresses them in time
        padded_BHWC = torch.stack([pad_reference(picture, *batch.size) for picture in pictures])
        singles.append(encode(padded_BHWC[:, None]))
    return PictureLatents(source_BCTHW, torch.cat(singles, dim=2))
