"""Pictures and clips as the pipeline takes them -> tensors: uint8 or float in [0,1], frames x height x width x RGB.

Beside geometry.py, for whoever has pictures: the pipeline, files, training, nodes. Nothing is resized here except a
reference, which is fitted into the output's canvas on white, centred and never stretched (the rule the public weights
were trained with; the paper is silent).
Legend: F frames, H W pixels, 3 RGB; B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor

from .errors import InputError

ACCEPTED = "give a PIL image, a list of them, or a uint8 / float [0,1] tensor or array (frames, height, width, 3)"


def as_frames(clip: Any) -> Tensor:
    """Any accepted picture or clip -> (F, H, W, 3) uint8, or float32 in [0, 1] when the input was float.

    Transparency is composed over white. Raises InputError for other types, shapes, ranges, or frames of unequal size.
    """
    if isinstance(clip, (list, tuple)):
        if not clip:
            raise InputError(f"the clip is empty; {ACCEPTED}")
        frames = [as_frames(frame) for frame in clip]
        kinds = {(tuple(frame.shape[1:]), frame.dtype) for frame in frames}
        if len(kinds) > 1:
            sizes = sorted({f"{shape[1]}x{shape[0]}" for shape, _ in kinds})
            raise InputError(f"frames differ in size or type ({', '.join(sizes)}); give frames of one size and type")
        return torch.cat(frames)
    if isinstance(clip, Image.Image):
        return _from_pil(clip)
    if isinstance(clip, np.ndarray):
        try:
            clip = torch.from_numpy(np.ascontiguousarray(clip))
        except TypeError:  # of texts, objects, dates
            raise InputError(f"cannot read an array of {clip.dtype} as pixels; {ACCEPTED}") from None
    if not isinstance(clip, Tensor):
        raise InputError(f"cannot read a {type(clip).__name__} as pixels; {ACCEPTED}")
    frames = clip[None] if clip.ndim == 3 else clip
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.numel() == 0:
        raise InputError(f"pixels have shape {tuple(clip.shape)}; {ACCEPTED}")
    if frames.dtype == torch.uint8:
        return frames
    if not frames.is_floating_point():
        raise InputError(f"pixels are {frames.dtype}; {ACCEPTED}")
    frames = frames.float()
    low, high = (float(v) for v in frames.aminmax())
    if not (low >= 0.0 and high <= 1.0):  # also refuses NaN
        raise InputError(f"float pixels span [{low:.3g}, {high:.3g}]; they must lie in [0, 1]: rescale or clamp them")
    return frames


def as_references(reference: Any) -> list[Tensor]:
    """One or several reference pictures -> list of (H, W, 3) uint8; they may differ in size."""
    if reference is None:
        return []
    pictures = reference if isinstance(reference, (list, tuple)) else [reference]
    return [frame for picture in pictures for frame in to_uint8(as_frames(picture))]


def _from_pil(image: Image.Image) -> Tensor:
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(canvas, rgba)
    return torch.from_numpy(np.array(image.convert("RGB")))[None]


def to_uint8(frames_FHWC: Tensor) -> Tensor:
    """uint8 as it is; float [0,1] rounded to the nearest of 256 levels."""
    if frames_FHWC.dtype == torch.uint8:
        return frames_FHWC
    return (frames_FHWC * 255.0).round().to(torch.uint8)


def to_signed(frames_FHWC: Tensor, rounding: str = "none") -> Tensor:
    """(F, H, W, 3) or a batch of it, uint8 or float [0,1] -> (B, 3, F, H, W) float32 in [-1, 1], what the VAE takes.

    rounding "bfloat16" computes in that type, for parity with Kiwi-Edit (config.instruction.pixel_rounding).
    """
    if rounding == "bfloat16":
        signed = (to_uint8(frames_FHWC).bfloat16() * (2 / 255) - 1).float()
    elif frames_FHWC.dtype == torch.uint8:
        signed = frames_FHWC.float() / 127.5 - 1.0
    else:
        signed = frames_FHWC.float() * 2.0 - 1.0
    signed_BFHWC = signed[None] if signed.ndim == 4 else signed
    return rearrange(signed_BFHWC, "b f h w c -> b c f h w").contiguous()


def from_signed(pixels: Tensor) -> Tensor:
    """[-1, 1], of any shape -> uint8, the nearest of 256 levels; what a VAE gives beyond them is black or white."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def pad_reference(picture_HWC: Tensor, height: int, width: int) -> Tensor:
    """(H, W, 3) uint8 -> (height, width, 3) uint8: largest size that fits, bicubic, centred on white, not stretched."""
    image = Image.fromarray(picture_HWC.cpu().numpy())
    padded = ImageOps.pad(image, (width, height), method=Image.Resampling.BICUBIC, color="white")
    return torch.from_numpy(np.array(padded))


def check_clip_sizes(pictures: Sequence[Tensor]) -> None:
    """Raises InputError when a reference has no pixels or an extreme shape that padding would reduce to nothing."""
    for picture in pictures:
        height, width = picture.shape[:2]
        if max(height, width) > 200 * min(height, width):
            raise InputError(f"reference is {width}x{height}; its sides may differ at most by 200 times: crop it")
