"""Frames in the size in which the MLLM sees them; between the choice of frames and patchify (encoder/vision.py).

As the public code of this design does it, to the level: Pillow's bicubic, and where Kiwi-Edit sizes a clip's frames a
second time (geometry.py::mllm_frame_sizes), torchvision's after it. Pillow's own arithmetic (8 bits, one axis at a
time, which first depends on its release) is not repeated here: Pillow does it.
Legend: F frames, H W pixels, C = 3.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..config import InstructXConfig
from ..geometry import mllm_frame_sizes


def resize_for_mllm(frames_FHWC: Tensor, config: InstructXConfig, kind: str) -> Tensor:
    """uint8 frames (F, H, W, 3) of any device -> uint8 on the CPU, in the size of the kind of picture.

    kind: "image", "video" or "reference". Raises InputError for a size that the rule refuses.
    """
    first, *second = mllm_frame_sizes(frames_FHWC.shape[1], frames_FHWC.shape[2], config, kind)
    frames_FHWC = resize_like_pillow(frames_FHWC.cpu(), *first)
    return resize_like_torchvision(frames_FHWC, *second[0]) if second else frames_FHWC


def resize_like_pillow(frames_FHWC: Tensor, height: int, width: int) -> Tensor:
    """`Image.resize` of each uint8 frame, its default filter: bicubic, with antialiasing where it shrinks."""
    if tuple(frames_FHWC.shape[1:3]) == (height, width):
        return frames_FHWC
    pictures = (Image.fromarray(frame_HWC) for frame_HWC in frames_FHWC.numpy())
    return torch.from_numpy(
        np.stack([picture.resize((width, height), Image.Resampling.BICUBIC) for picture in pictures])
    )


def resize_like_torchvision(frames_FHWC: Tensor, height: int, width: int) -> Tensor:
    """`torchvision.transforms.functional.resize` of uint8 frames, bicubic with antialias: float32, rounded once."""
    if tuple(frames_FHWC.shape[1:3]) == (height, width):
        return frames_FHWC
    x_FCHW = rearrange(frames_FHWC, "f h w c -> f c h w").float()
    x_FCHW = F.interpolate(x_FCHW, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return rearrange(x_FCHW.clamp(0, 255).round(), "f c h w -> f h w c").to(torch.uint8)
