"""Frames of a file <-> frames of the model: cut and scaled by one factor, padded to the length that the VAE takes.

Legend: F frames, H W pixels, C = 3 (RGB, 0..255); B batch.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from ..geometry import FitBox, pad_frames
from ..pixels import to_uint8


def apply_box(frame_HWC: np.ndarray, box: FitBox) -> np.ndarray:
    """Cut and scale one uint8 frame as `box` says (Lanczos, antialiased); the frame itself when nothing changes."""
    if box.is_identity:
        return frame_HWC
    top, left, bottom, right = box.source_box
    image = Image.fromarray(np.ascontiguousarray(frame_HWC))
    fitted = image.resize((box.width, box.height), Image.Resampling.LANCZOS, box=(left, top, right, bottom))
    return np.array(fitted, dtype=np.uint8)


def pad_clip(frames_FHWC: np.ndarray, stride: int = 4) -> np.ndarray:
    """Repeat the last frame until the length is stride*n + 1, which the causal VAE needs."""
    missing = pad_frames(len(frames_FHWC), stride) - len(frames_FHWC)
    if missing == 0:
        return frames_FHWC
    return np.concatenate([frames_FHWC, np.repeat(frames_FHWC[-1:], missing, axis=0)])


def to_uint8_frames(frames_BFCHW: Tensor) -> np.ndarray:
    """The pipeline's "pt" output, (1, F, 3, H, W) in [0, 1] -> (F, H, W, 3) uint8, rounded."""
    return to_uint8(frames_BFCHW[0].float()).permute(0, 2, 3, 1).cpu().numpy()
