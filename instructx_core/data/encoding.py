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

from ..config import InstructXConfig
from ..encoder.vision import prepare_batch, seen_frames
from ..pixels import pad_reference, to_signed
from ..vae import encode_latents
from .bucket import Bucket
from .raw_sample import RawSample

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from ..encoder.context_encoder import ContextEncoder

PoolTensors = dict[str, Tensor]  # fp16 or uint8, with N in front


def clip_latents(vae: AutoencoderKLWan, clips: Sequence[np.ndarray]) -> Tensor:
    """(N,C,T,H,W) fp16."""
    clips_BFHWC = torch.from_numpy(np.stack(clips)).to(vae.device)
    return encode_latents(vae, to_signed(clips_BFHWC)).half().cpu()


def vision_features(encoder: ContextEncoder, clips: Sequence[np.ndarray], kind: str) -> Tensor:
    """(N,S,D) fp16; kind: what prepare_batch takes, "image", "video" or "reference"."""
    patches_BSP, grid = prepare_batch(torch.from_numpy(np.stack(clips)), encoder.instructx, kind)
    return encoder.encode_vision(patches_BSP.to(encoder.device), grid).half().cpu()


def is_tower_trained(config: InstructXConfig) -> bool:
    """Whether LoRA layers sit in the vision tower: its features change in training, so frames are kept instead."""
    return config.lora.scope == "mllm" and config.lora.rank > 0


def what_it_sees(encoder: ContextEncoder, clips: Sequence[np.ndarray], kind: str) -> Tensor:
    """The tower's features; or, where that is trained, the frames that go into it (N,F,H,W,3) uint8."""
    if is_tower_trained(encoder.instructx):
        return seen_frames(torch.from_numpy(np.stack(clips)), encoder.instructx, kind)
    return vision_features(encoder, clips, kind)


def encode_edits(
    drawn: Sequence[RawSample], bucket: Bucket, vae: AutoencoderKLWan, encoder: ContextEncoder | None
) -> PoolTensors:
    """Latents of source, target and reference; of source and reference also what the MLLM makes of them."""
    arrays = {name: [each.arrays[name] for each in drawn] for name in drawn[0].arrays}
    tensors = {name: clip_latents(vae, arrays[name]) for name in ("source", "target")}
    if bucket.reference:
        tensors["reference"] = clip_latents(vae, [pad_to_bucket(clip, bucket) for clip in arrays["reference"]])
    if encoder is not None:
        tensors["vision"] = what_it_sees(encoder, arrays["source"], bucket.modality)
        if bucket.reference:
            tensors["reference_vision"] = what_it_sees(encoder, arrays["reference"], "reference")
    return tensors


def pad_to_bucket(reference_1HWC: np.ndarray, bucket: Bucket) -> np.ndarray:
    """The DiT's reference has the size of the source, as sampling/encode.py makes it; the MLLM's has its own."""
    if reference_1HWC.shape[1:3] == (bucket.height, bucket.width):
        return reference_1HWC
    return pad_reference(torch.from_numpy(reference_1HWC[0]), bucket.height, bucket.width)[None].numpy()


def encode_scenes(drawn: Sequence[RawSample], vae: AutoencoderKLWan) -> PoolTensors:
    """Latents."""
    return {"target": clip_latents(vae, [each.arrays["target"] for each in drawn])}


def keep_pixels(drawn: Sequence[RawSample]) -> PoolTensors:
    """The arrays as they are."""
    names = drawn[0].arrays
    return {name: torch.from_numpy(np.stack([each.arrays[name] for each in drawn])) for name in names}
