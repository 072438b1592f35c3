"""Fit a source clip to the model's grid by an explicit rule, and say what was done; cut the edited clip back.

Used by Source and Reference before the VAE and by Sampler after it. The output has the source's grid: nothing is
scaled, so a pixel of the edit lies where it lay in the source. Rules are the library's (geometry.py, media/pixels.py).
Legend: F frames, H W pixels, 3 RGB; IMAGE is float [0,1] (F, H, W, 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...instructx_core.errors import InputError
from ...instructx_core.geometry import pad_frames
from ...instructx_core.media.pixels import pad_reference

CROP, PAD, TRIM, ERROR = "crop", "pad", "trim", "error"
SIZE_RULES = (CROP, PAD, ERROR)
LENGTH_RULES = (PAD, TRIM, ERROR)


@dataclass(frozen=True)
class Fitted:
    """A source on the model's grid. keep: (frames, height, width) of it that are picture, the rest is padding."""

    frames_FHWC: Tensor
    keep: tuple[int, int, int]
    notes: tuple[str, ...]


def fit_source(frames_FHWC: Tensor, multiple: int, stride: int, size_rule: str, length_rule: str) -> Fitted:
    """IMAGE -> IMAGE whose sides are multiples of `multiple` and whose length is stride*n + 1.

    Raises InputError when a rule is "error" and the source does not fit, or nothing would be left.
    """
    sized_FHWC, size_note = _fit_size(frames_FHWC, multiple, size_rule)
    fitted_FHWC, length_note = _fit_length(sized_FHWC, stride, length_rule)
    height, width = sized_FHWC.shape[1:3] if size_rule != PAD else frames_FHWC.shape[1:3]
    keep = (min(len(frames_FHWC), len(fitted_FHWC)), height, width)
    return Fitted(fitted_FHWC, keep, tuple(note for note in (size_note, length_note) if note))


def _fit_size(frames_FHWC: Tensor, multiple: int, rule: str) -> tuple[Tensor, str]:
    height, width = frames_FHWC.shape[1:3]
    low, high = (tuple(n // multiple * multiple for n in (height + up, width + up)) for up in (0, multiple - 1))
    if low == (height, width):
        return frames_FHWC, ""
    need = f"the model needs multiples of {multiple}"
    if rule == ERROR:
        raise InputError(
            f"the source is {width}x{height}, {need}; resize it, or set resize to crop ({low[1]}x{low[0]}) or pad "
            f"({high[1]}x{high[0]})"
        )
    if rule == CROP:
        if 0 in low:
            raise InputError(f"the source is {width}x{height}, {need}: nothing is left to crop; set resize to pad")
        top, left = (height - low[0]) // 2, (width - low[1]) // 2
        cut_FHWC = frames_FHWC[:, top : top + low[0], left : left + low[1]]
        return cut_FHWC, f"source {width}x{height} cropped to {low[1]}x{low[0]}, centred ({need})"
    rows, columns = (torch.arange(n).clamp(max=size - 1) for n, size in zip(high, (height, width), strict=True))
    padded_FHWC = frames_FHWC[:, rows][:, :, columns]
    return padded_FHWC, f"source {width}x{height} padded to {high[1]}x{high[0]} by its right and lower edge ({need})"


def _fit_length(frames_FHWC: Tensor, stride: int, rule: str) -> tuple[Tensor, str]:
    count = len(frames_FHWC)
    longer = pad_frames(count, stride)
    shorter = (count - 1) // stride * stride + 1
    if longer == count:
        return frames_FHWC, ""
    need = f"the VAE needs {stride}n+1 frames"
    if rule == ERROR:
        raise InputError(
            f"the source has {count} frames, {need}; set length to pad ({longer} frames) or trim ({shorter} frames)"
        )
    if rule == TRIM:
        return frames_FHWC[:shorter], f"source trimmed from {count} to {shorter} frames ({need})"
    padded_FHWC = torch.cat((frames_FHWC, frames_FHWC[-1:].expand(longer - count, -1, -1, -1)))
    return padded_FHWC, f"source padded from {count} to {longer} frames by repeating the last ({need})"


def fit_reference(picture_HWC: Tensor, height: int, width: int) -> Tensor:
    """One reference, uint8 (H, W, 3), as in training: fitted into the canvas on white -> IMAGE of one."""
    return pad_reference(picture_HWC, height, width)[None].float() / 255.0


def cut_back(frames_BFHWC: Tensor, keep: tuple[int, int, int] | None) -> Tensor:
    """Decoded clips (B, F, H, W, 3) -> IMAGE batch without the padding that fit_source added."""
    if keep is not None:
        frames, height, width = keep
        frames_BFHWC = frames_BFHWC[:, :frames, :height, :width]
    return frames_BFHWC.reshape(-1, *frames_BFHWC.shape[2:])
