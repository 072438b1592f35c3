"""Drawn samples -> what training reads instead of pixels: VAE latents, and the vision tower's features of the MLLM's
frames.

Both are frozen in training, so this is done once (cache.py keeps it), on the device of the models. Samples of one call
are of one bucket. For what trains on pixels, these stay uint8.
Legend: N samples, F frames, C channels, T latent frames, H W (pixels or latent cells), S vision tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..encoder.vision import prepare_pictures
from ..vae import encode_latents
from .bucket import Bucket
from .drawn import Drawn

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from ..encoder.model import InstructXEncoder

Encoded = dict[str, Tensor]  # fp16 or uint8, with N in front


def to_pixels(frames_FHWC: np.ndarray) -> Tensor:
    """uint8 (F,H,W,3) -> [-1,1] (3,F,H,W)."""
    return torch.from_numpy(frames_FHWC).permute(3, 0, 1, 2).float() / 127.5 - 1


def clip_latents(vae: AutoencoderKLWan, clips: Sequence[np.ndarray]) -> Tensor:
    """(N,C,T,H,W) fp16."""
    pixels_BCFHW = torch.stack([to_pixels(clip) for clip in clips])
    return encode_latents(vae, pixels_BCFHW.to(vae.device)).half().cpu()


def vision_features(encoder: InstructXEncoder, clips: Sequence[np.ndarray], kind: str) -> Tensor:
    """(N,S,D) fp16; kind: what prepare_pictures takes, "image", "video" or "reference"."""
    pairs = [prepare_pictures(torch.from_numpy(clip), encoder.instructx, kind) for clip in clips]
    patches_BSP = torch.stack([patches for patches, _ in pairs]).to(next(encoder.parameters()).device)
    return encoder.encode_vision(patches_BSP, pairs[0][1]).half().cpu()


def encode_edits(drawn: Sequence[Drawn], bucket: Bucket, vae: AutoencoderKLWan, encoder: InstructXEncoder) -> Encoded:
    """Latents of source, target and reference, features of source and reference."""
    arrays = {name: [each.arrays[name] for each in drawn] for name in drawn[0].arrays}
    tensors = {name: clip_latents(vae, clips) for name, clips in arrays.items()}
    tensors["vision"] = vision_features(encoder, arrays["source"], bucket.modality)
    if bucket.reference:
        tensors["reference_vision"] = vision_features(encoder, arrays["reference"], "reference")
    return tensors


def encode_scenes(drawn: Sequence[Drawn], vae: AutoencoderKLWan) -> Encoded:
    """Latents."""
    return {"target": clip_latents(vae, [each.arrays["target"] for each in drawn])}


def keep_pixels(drawn: Sequence[Drawn]) -> Encoded:
    """The arrays as they are."""
    names = drawn[0].arrays
    return {name: torch.from_numpy(np.stack([each.arrays[name] for each in drawn])) for name in names}
