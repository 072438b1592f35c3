"""Transparency of a clip: found where FFmpeg's usual decoder leaves it out, and told from a channel that is opaque.

Part of reading a clip, between container.py and video.py. The model knows no transparency and H.264 holds none.
Legend: H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

from ...errors import InputError
from .planes import is_alone, plane_values

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of the two drop it
_HEVC_ALPHA = b"\x4e\x01\xa5"  # a message of H.265 (SEI 165) that another layer holds transparency


def decoder_of(path: Path, stream: Any) -> Any:
    """A decoder of the stream that gives its transparency, if it has any. Raises InputError where none can."""
    context = stream.codec_context
    if context.name == "hevc" and _HEVC_ALPHA in (context.extradata or b""):
        raise _transparent(path, "a layer of H.265")
    # A tag of the same name as the field, which FFmpeg itself writes, takes its place in capitals.
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if tags.get("alpha_mode") != "1" or context.name not in _WITH_ALPHA:
        return context
    name = _WITH_ALPHA[context.name]
    if name not in av.codecs_available:
        raise _transparent(path, f"alpha_mode, which needs {name}")
    return av.CodecContext.create(name, "r")


def has_alpha(frame: Any) -> bool:
    """Whether a decoded frame has the channel."""
    return any(part.is_alpha for part in frame.format.components)


def check_opaque(path: Path, frame: Any) -> None:
    """Raises InputError unless every pixel of a frame that has alpha is opaque."""
    if _alpha(frame).min() < 255:
        raise _transparent(path, frame.format.name)


def _alpha(frame: Any) -> np.ndarray:
    """(H, W) of the channel, 0..255."""
    part = next(part for part in frame.format.components if part.is_alpha)
    if not is_alone(frame, part):
        return frame.reformat(format="rgba").to_ndarray()[..., 3]
    alpha_HW = plane_values(frame, part)
    return alpha_HW if part.bits == 8 else np.round(alpha_HW * (255 / (2**part.bits - 1)))


def _transparent(path: Path, where: str) -> InputError:
    return InputError(f"{path}: the clip has transparency ({where}); export it without alpha")
