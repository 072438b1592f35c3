"""Put an edit back into its untouched source: pixel-exact outside of a mask, feathered inside of it.

After the pipeline in the data flow, when asked for (`--keep-outside`): the edited frames, which have the model's size,
are scaled back to where the fit box was cut out and laid over the full-size source under a mask. The mask is a picture
of the user, or what the edit changed. Feathering goes inwards, so that outside of the mask nothing changes.
Legend: F frames, H W pixels of the source, h w of the edit, C = 3 (RGB, 0..255).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ..errors import InputError
from ..fields import check_fields
from ..geometry import FitBox
from ..media.files import read_picture

AUTO = "auto"
THRESHOLD = 24  # levels of 255: a smaller difference, after a 3x3 mean, is taken for the loss of the VAE
FEATHER = 8  # pixels of the source


@dataclass(frozen=True, slots=True)
class KeepOutside:
    """Outside of what the source stays as it is. mask: a picture, None: found by difference. feather: source pixels."""

    mask: Path | None = None
    feather: int = FEATHER

    def __post_init__(self) -> None:
        check_fields(self)
        if self.feather < 0:
            raise InputError(f"feather is {self.feather} pixels; it must be 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class PasteMask:
    """KeepOutside with its picture read. weight_HW: where the edit may show, 0..255; None: found by difference."""

    keep: KeepOutside
    weight_HW: np.ndarray | None = None


def read_paste_mask(keep: KeepOutside, size: tuple[int, int]) -> PasteMask:
    """Of a mask picture, white is where the edit may show, gray is mixed. size: (H, W) of the source.

    Raises InputError when it cannot be read, is not of the source's size, or allows no pixel.
    """
    if 2 * keep.feather > min(size):  # it rises over twice that, so nothing of the edit would be left
        raise InputError(
            f"feather is {keep.feather} pixels for a source of {size[1]}x{size[0]}; use at most {min(size) // 2}"
        )
    if keep.mask is None:
        return PasteMask(keep)
    picture = read_picture(keep.mask)
    if picture.alpha_HW is not None:
        raise InputError(
            f"{keep.mask}: the mask is transparent in places, which may stand for either side; fill them with black, "
            "or with white where the edit may show"
        )
    mask_HW = np.array(Image.fromarray(picture.frames_FHWC[0]).convert("L"))
    if mask_HW.shape != size:
        raise InputError(
            f"{keep.mask}: the mask is {mask_HW.shape[1]}x{mask_HW.shape[0]}, the source {size[1]}x{size[0]}; give a "
            "mask of the source's size"
        )
    if not mask_HW.any():
        raise InputError(f"{keep.mask}: the mask is black everywhere, so nothing may change; paint white where it may")
    return PasteMask(keep, mask_HW)


def difference_mask(source_FHWC: np.ndarray, edited_FHWC: np.ndarray) -> Iterator[np.ndarray]:
    """For each frame what the edit changed, uint8 (h, w), 0 or 255: on the model's grid, grown by 4 pixels.

    A frame's mask holds what changed in its neighbours too, so that its edge does not flicker.
    """
    changed = [_changed(source, edited) for source, edited in zip(source_FHWC, edited_FHWC, strict=True)]
    for index in range(len(changed)):
        near = np.maximum.reduce(changed[max(index - 1, 0) : index + 2])
        yield np.array(Image.fromarray(near).filter(ImageFilter.MaxFilter(9)))


def _changed(source_HWC: np.ndarray, edited_HWC: np.ndarray) -> np.ndarray:
    difference_HW = np.abs(source_HWC.astype(np.int16) - edited_HWC).max(axis=-1).astype(np.uint8)
    mean_HW = np.array(Image.fromarray(difference_HW).filter(ImageFilter.BoxBlur(1)))
    lit = Image.fromarray(np.where(mean_HW > THRESHOLD, 255, 0).astype(np.uint8))
    return np.array(lit.filter(ImageFilter.MedianFilter(3)))  # single pixels are no edit


def to_source(picture: np.ndarray, box: FitBox, method: Image.Resampling) -> np.ndarray:
    """A picture (h, w[, 3]) of the model's grid on the source's (H, W[, 3]); 0 where the fit cut the source off."""
    top, left, bottom, right = box.source_box
    across, down = box.width / (right - left), box.height / (bottom - top)
    size = (box.source_width, box.source_height)
    # Pillow maps centres of pixels: x_in = across * (x_out + 0.5 - left), then minus 0.5.
    affine = (across, 0.0, -left * across, 0.0, down, -top * down)
    return np.array(Image.fromarray(picture).transform(size, Image.Transform.AFFINE, affine, method))


def feather_mask(mask_HW: np.ndarray, feather: int) -> np.ndarray:
    """Weights 0..255 that rise from the mask's edge inwards over about 2 * feather pixels; 0 wherever the mask is 0.

    The picture's own border is no edge.
    """
    if feather == 0:
        return mask_HW
    padded = Image.fromarray(np.pad(np.where(mask_HW > 0, 255, 0).astype(np.uint8), 2 * feather, mode="edge"))
    soft = padded.filter(ImageFilter.MinFilter(2 * feather + 1)).filter(ImageFilter.BoxBlur(feather))
    inside = np.array(soft)[2 * feather : -2 * feather, 2 * feather : -2 * feather]
    return np.minimum(mask_HW, inside)


def paste_back(
    original_FHWC: np.ndarray, source_FHWC: np.ndarray, edited_FHWC: np.ndarray, box: FitBox, mask: PasteMask
) -> tuple[np.ndarray, str]:
    """(full-size frames uint8 (F, H, W, 3), a note on what was kept).

    original_FHWC: the untouched source. source_FHWC, edited_FHWC: what the model saw and made, (F, h, w, 3).
    Raises InputError for a mask that feathering leaves empty.
    """
    result_FHWC = np.empty_like(original_FHWC)
    changed = 0
    for index, weight_HW in enumerate(_weights(source_FHWC, edited_FHWC, box, mask)):
        result_FHWC[index] = _mixed(original_FHWC[index], edited_FHWC[index], weight_HW, box)
        changed += int((weight_HW > 0).sum())
    kept = 100 * (1 - changed / original_FHWC[..., 0].size)
    kind = "the difference" if mask.keep.mask is None else str(mask.keep.mask)
    return result_FHWC, f"laid over the source at its full size by {kind}: {kept:.1f} % of the pixels are the source's"


def pasted_frames(
    originals: Iterable[np.ndarray], source_FHWC: np.ndarray, edited_FHWC: np.ndarray, box: FitBox, mask: PasteMask
) -> Iterator[np.ndarray]:
    """paste_back as a stream, (H, W, 3) by (H, W, 3): of the full size one frame lies in memory."""
    weights = _weights(source_FHWC, edited_FHWC, box, mask)
    for original_HWC, edited_HWC, weight_HW in zip(originals, edited_FHWC, weights, strict=True):
        yield _mixed(original_HWC, edited_HWC, weight_HW, box)


def _mixed(original_HWC: np.ndarray, edited_hwC: np.ndarray, weight_HW: np.ndarray, box: FitBox) -> np.ndarray:
    large_HWC = to_source(edited_hwC, box, Image.Resampling.BICUBIC)
    share = weight_HW[..., None] / 255.0
    return np.rint(original_HWC * (1 - share) + large_HWC * share).astype(np.uint8)


def _weights(source_FHWC: np.ndarray, edited_FHWC: np.ndarray, box: FitBox, mask: PasteMask) -> Iterator[np.ndarray]:
    """Weights (H, W) in 0..255 of every frame, on the source's grid."""
    feather = mask.keep.feather
    if mask.weight_HW is None:
        for mask_hw in difference_mask(source_FHWC, edited_FHWC):
            yield feather_mask(to_source(mask_hw, box, Image.Resampling.NEAREST), feather)
        return
    area_HW = to_source(np.full((box.height, box.width), 255, np.uint8), box, Image.Resampling.NEAREST)
    weight_HW = feather_mask(np.minimum(mask.weight_HW, area_HW), feather)
    if not weight_HW.any():
        raise InputError(
            f"{mask.keep.mask}: nothing of the mask is left inside of the edited area with a feather of {feather} "
            "pixels; use a larger mask or a smaller --feather"
        )
    yield from [weight_HW] * len(edited_FHWC)
