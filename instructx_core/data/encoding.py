"""Samples -> what training reads instead of pixels: VAE latents, and the vision tower's features of the MLLM's frames.

Both are frozen in training, so this is done once (cache.py keeps it). Samples of one call are of one bucket.
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
from .samples import EditSample, SceneSample

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from ..encoder.model import InstructXEncoder

Encoded = tuple[dict[str, Tensor], list[str]]  # fp16 tensors with N in front, and a text for each


def to_pixels(frames_FHWC: np.ndarray) -> Tensor:
    """uint8 (F,H,W,3) -> [-1,1] (3,F,H,W)."""
    return torch.from_numpy(frames_FHWC).permute(3, 0, 1, 2).float() / 127.5 - 1


def clip_latents(vae: AutoencoderKLWan, clips: Sequence[np.ndarray]) -> Tensor:
    """(N,C,T,H,W) fp16."""
    return encode_latents(vae, torch.stack([to_pixels(clip) for clip in clips])).half()


def vision_features(encoder: InstructXEncoder, clips: Sequence[np.ndarray], kind: str) -> Tensor:
    """(N,S,D) fp16; kind: what prepare_pictures takes, "image", "video" or "reference"."""
    pairs = [prepare_pictures(torch.from_numpy(clip), encoder.instructx, kind) for clip in clips]
    return encoder.encode_vision(torch.stack([patches for patches, _ in pairs]), pairs[0][1]).half()


def encode_edits(
    samples: Sequence[EditSample], bucket: Bucket, vae: AutoencoderKLWan, encoder: InstructXEncoder
) -> Encoded:
    """Latents of source, target and reference, features of source and reference, and the instructions."""
    sources = [sample.source_FHWC for sample in samples]
    tensors = {
        "source": clip_latents(vae, sources),
        "target": clip_latents(vae, [sample.target_FHWC for sample in samples]),
        "vision": vision_features(encoder, sources, bucket.modality),
    }
    if bucket.reference:
        references = [sample.reference_HWC[None] for sample in samples if sample.reference_HWC is not None]
        tensors["reference"] = clip_latents(vae, references)
        tensors["reference_vision"] = vision_features(encoder, references, "reference")
    return tensors, [sample.instruction for sample in samples]


def encode_scenes(samples: Sequence[SceneSample], vae: AutoencoderKLWan) -> Encoded:
    """Latents and captions."""
    return {"target": clip_latents(vae, [sample.frames_FHWC for sample in samples])}, [s.caption for s in samples]
