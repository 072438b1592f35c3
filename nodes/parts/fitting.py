"""Fit a source clip to the model's grid by an explicit rule, and say what was done; cut the edited clip back.

Used by Source and Reference before the VAE and by Sampler after it. The output has the source's grid: nothing is
scaled, so a pixel of the edit lies where it lay in the source. Rules are the library's (geometry.py, pixels.py).
Legend: F frames, H W pixels, 3 RGB; IMAGE is float [0,1] (F, H, W, 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...instructx_core.errors import InputError
from ...instructx_core.geometry import pad_frames
from ...instructx_core.pixels import pad_reference
from .notes import Note, note
from .settings import wired_choice

CROP, PAD, TRIM, ERROR = "crop", "pad", "trim", "error"
SIZE_RULES = (CROP, PAD, ERROR)
LENGTH_RULES = (PAD, TRIM, ERROR)


@dataclass(frozen=True)
class Placement:
    """Where a source lies on the model's grid: what was cut off before it, what was added behind it.

    source, grid: (frames, height, width) before and after; offset: (top, left) of the part that was kept.
    """

    source: tuple[int, int, int]
    grid: tuple[int, int, int]
    offset: tuple[int, int] = (0, 0)

    @property
    def keep(self) -> tuple[int, int, int]:
        """(frames, height, width) of the grid that are picture, from its first corner; the rest is padding."""
        frames, height, width = (min(pair) for pair in zip(self.source, self.grid, strict=True))
        return frames, height, width


@dataclass(frozen=True)
class FittedSource:
    """A source on the model's grid, and what was done to it in words."""

    frames_FHWC: Tensor
    placement: Placement
    notes: tuple[Note, ...]


def fit_source(frames_FHWC: Tensor, multiple: int, stride: int, size_rule: str, length_rule: str) -> FittedSource:
    """IMAGE -> IMAGE whose sides are multiples of `multiple` and whose length is stride*n + 1.

    Raises InputError when a rule is "error" and the source does not fit, nothing would be left, or a rule is unknown.
    """
    wired_choice("resize", size_rule, SIZE_RULES)
    wired_choice("length", length_rule, LENGTH_RULES)
    sized_FHWC, size_note = _fit_size(frames_FHWC, multiple, size_rule)
    fitted_FHWC, length_note = _fit_length(sized_FHWC, stride, length_rule)
    source, grid = ((len(x), x.shape[1], x.shape[2]) for x in (frames_FHWC, fitted_FHWC))
    offset = (max(0, source[1] - grid[1]) // 2, max(0, source[2] - grid[2]) // 2)
    placement = Placement(source, grid, offset)
    return FittedSource(fitted_FHWC, placement, tuple(each for each in (size_note, length_note) if each))


def fit_mask(mask_FHW: Tensor, placement: Placement) -> Tensor:
    """A mask of the source, of one frame or one a frame -> the mask on the grid, so that it lies on what it lay on.

    A mask of another size is meant for the whole source: it is scaled to it first, as the host does. Padding repeats
    the edge and the last frame. One that has the grid's size already is left alone.
    """
    mask_FHW = mask_FHW.float()  # some nodes make masks of bool, which the host's own scaling does not take
    _, height, width = placement.source
    if tuple(mask_FHW.shape[-2:]) == placement.grid[1:]:
        fitted_FHW = mask_FHW
    else:
        if tuple(mask_FHW.shape[-2:]) != (height, width):
            scaled = interpolate(mask_FHW[:, None], (height, width), mode="bilinear", align_corners=False)
            mask_FHW = scaled[:, 0]
        rows, columns = (
            (torch.arange(size) + start).clamp(max=whole - 1)
            for size, start, whole in zip(placement.grid[1:], placement.offset, (height, width), strict=True)
        )
        fitted_FHW = mask_FHW[:, rows][:, :, columns]
    if len(fitted_FHW) != placement.source[0] or len(fitted_FHW) == 1:
        return fitted_FHW  # one for all frames, or a count that the host spreads over the clip
    return fitted_FHW[torch.arange(placement.grid[0]).clamp(max=len(fitted_FHW) - 1)]


def _fit_size(frames_FHWC: Tensor, multiple: int, rule: str) -> tuple[Tensor, Note | None]:
    height, width = frames_FHWC.shape[1:3]
    low, high = (tuple(n // multiple * multiple for n in (height + up, width + up)) for up in (0, multiple - 1))
    if low == (height, width):
        return frames_FHWC, None
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
        return cut_FHWC, _size_note("cropped", (height, width), low, multiple)
    rows, columns = (torch.arange(n).clamp(max=size - 1) for n, size in zip(high, (height, width), strict=True))
    padded_FHWC = frames_FHWC[:, rows][:, :, columns]
    return padded_FHWC, _size_note("padded", (height, width), high, multiple)


def _size_note(key: str, before: tuple[int, int], after: tuple[int, ...], multiple: int) -> Note:
    (height, width), (new_height, new_width) = before, after
    sides = {"width": width, "height": height, "new_width": new_width, "new_height": new_height}
    return note(key, **sides, multiple=multiple)


def _fit_length(frames_FHWC: Tensor, stride: int, rule: str) -> tuple[Tensor, Note | None]:
    count = len(frames_FHWC)
    longer = pad_frames(count, stride)
    shorter = (count - 1) // stride * stride + 1
    if longer == count:
        return frames_FHWC, None
    need = f"the VAE needs {stride}n+1 frames"
    if rule == ERROR:
        raise InputError(
            f"the source has {count} frames, {need}; set length to pad ({longer} frames) or trim ({shorter} frames)"
        )
    if rule == TRIM:
        return frames_FHWC[:shorter], note("trimmed", frames=count, new_frames=shorter, stride=stride)
    padded_FHWC = torch.cat((frames_FHWC, frames_FHWC[-1:].expand(longer - count, -1, -1, -1)))
    return padded_FHWC, note("lengthened", frames=count, new_frames=longer, stride=stride)


def fit_reference(picture_HWC: Tensor, height: int, width: int) -> Tensor:
    """One reference, uint8 (H, W, 3), as in training: fitted into the canvas on white -> IMAGE of one."""
    return pad_reference(picture_HWC, height, width)[None].float() / 255.0


def cut_back(frames_BFHWC: Tensor, placement: Placement | None) -> Tensor:
    """Clips (B, F, H, W, 3) on the grid -> IMAGE batch without the padding that fit_source added."""
    if placement is not None:
        frames, height, width = placement.keep
        frames_BFHWC = frames_BFHWC[:, :frames, :height, :width]
    return frames_BFHWC.reshape(-1, *frames_BFHWC.shape[2:])
