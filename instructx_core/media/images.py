"""Images through Pillow: any common mode, depth, profile and orientation <-> upright sRGB uint8.

Every conversion that is not the identity leaves a note; what cannot be converted is refused with a reason.
Legend: H W pixels, C = 3 (RGB, 0..255, sRGB).
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..errors import InputError
from .base import ALPHA_SUFFIXES, Media, Transform, check_pixels
from .channels import off_white, over_white, with_wide_key, without_alpha
from .cicp import UNSPECIFIED, check_sdr, codes_of, declared_profile
from .depth import depth_of
from .outputs import atomic_path, output_kind
from .profile import lab_profile, to_srgb
from .rows import check_row
from .tiff import pages_of

JPEG_QUALITY = 95
_ORIENTATION = 0x0112  # tag of EXIF


class OpenImage:
    """A picture that is open and not decoded yet. Closed at the end of a `with` block."""

    is_video = False

    def __init__(self, path: Path, image: Image.Image, notes: tuple[str, ...] = ()) -> None:
        """notes: what there was to say when it was opened."""
        self.path, self.image, self.notes = path, image, notes

    def __enter__(self) -> OpenImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.image.close()

    def read(self, transform: Transform | None = None) -> Media:
        """Decode it. Arguments and errors as media.files.read_media."""
        media = decode_image(self.path, self.image, transform)
        return dataclasses.replace(media, notes=(*self.notes, *media.notes))


def decode_image(path: Path, image: Image.Image, transform: Transform | None) -> Media:
    """An opened picture as upright sRGB. Arguments and errors as media.files.read_media."""
    notes: list[str] = []
    choose_page(path, image, notes)
    check_row(path, image, notes)
    plain, alpha_HW = srgb_and_alpha(path, image, notes)
    colour_HWC = np.array(plain)
    size = (colour_HWC.shape[0], colour_HWC.shape[1])
    if alpha_HW is None:
        frame_HWC = colour_HWC if transform is None else transform(colour_HWC)
        return Media(path, frame_HWC[None], size, is_video=False, notes=tuple(notes))
    notes.append("transparent: the model sees it over white (it knows no alpha)")
    frame_HWC = np.array(over_white(plain, alpha_HW))
    if transform is not None:
        frame_HWC, colour_HWC = transform(frame_HWC), transform(colour_HWC)
        alpha_HW = transform(np.repeat(alpha_HW[..., None], 3, axis=-1))[..., 0]
    return Media(
        path, frame_HWC[None], size, is_video=False, alpha_HW=alpha_HW, colour_HWC=colour_HWC, notes=tuple(notes)
    )


def srgb_and_alpha(path: Path, image: Image.Image, notes: list[str]) -> tuple[Image.Image, np.ndarray | None]:
    """(upright RGB in sRGB, uint8 (H, W) alpha where not all is opaque) of the page that an opened file is at.

    Raises InputError for HDR, damage and pixels of unknown meaning.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's are for programmers
            codes, depth = codes_of(path, image), depth_of(path, image)
            check_sdr(path, codes)
            turned = image.getexif().get(_ORIENTATION, 1) in range(2, 9)  # first: a TIFF forgets it when it is loaded
            upright = ImageOps.exif_transpose(with_wide_key(path, image, depth))
            upright.load()
            declared = declared_profile(image, codes)
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: the image is damaged ({error}); save it again as PNG or JPEG") from None
    if turned:
        notes.append("turned upright as its EXIF orientation says")
    plain, alpha_HW = without_alpha(path, upright, depth, notes)
    embedded = upright.info.get("icc_profile")
    if plain.mode == "LAB":
        profile = lab_profile()
    elif plain.mode == "CMYK":
        profile = embedded
    elif image.format == "PNG" and codes != UNSPECIFIED:
        profile = declared  # before an embedded one; in AVIF behind it
    else:
        profile = embedded or declared
    if profile:
        plain = to_srgb(plain, profile, notes)
    if plain.mode == "CMYK":
        notes.append("CMYK without a usable profile converted by the plain formula (colours approximate)")
    return plain.convert("RGB"), alpha_HW


def is_animation(image: Image.Image) -> bool:
    """Whether an opened file is to be seen as a clip."""
    return image.format in ("GIF", "WEBP", "PNG", "AVIF") and getattr(image, "n_frames", 1) > 1


def choose_page(path: Path, image: Image.Image, notes: list[str]) -> None:
    """Goes to the one picture of a file. Raises InputError for one that holds several."""
    try:
        count = getattr(image, "n_frames", 1)
        pages = pages_of(image) if image.format == "TIFF" and count > 1 else [0]
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: the image is damaged ({error}); save it again as PNG or JPEG") from None
    if count <= 1:  # a Photoshop file of one flat picture has no layer
        return
    if image.format == "MPO":  # a phone's JPEG with a preview, a gain map or a second eye's picture behind it
        notes.append(f"the first of {count} pictures in the file is used")
        return
    if image.format == "TIFF":
        if len(pages) == 1:
            image.seek(pages[0])
            notes.append("smaller copies and masks in the file are left out")
            return
        raise InputError(f"{path}: holds {len(pages)} pages; give one of them as a file of its own")
    what = "layers (PSD); flatten it" if image.format == "PSD" else f"pictures ({image.format}); give one of them"
    raise InputError(f"{path}: holds {count} {what}")


def write_image(
    path: str | Path,
    frame_HWC: np.ndarray,
    alpha_HW: np.ndarray | None = None,
    original: Media | None = None,
) -> None:
    """Write one uint8 RGB picture; the suffix picks the format (JPEG quality 95, no chroma subsampling), atomically.

    alpha_HW: transparency to add, uint8, for .png .webp .tif; the white that read_media put behind is taken out.
    original: what this is an edit of; where a pixel is its own, its colour below the white is kept exactly.
    Raises InputError for wrong pixels, an unknown suffix or a folder that is missing or cannot be written to.
    """
    path = Path(path)
    check_pixels(np.asarray(frame_HWC)[None])
    if alpha_HW is not None:
        if path.suffix.lower() not in ALPHA_SUFFIXES:
            raise InputError(f"{path}: this format has no transparency; use one of {', '.join(ALPHA_SUFFIXES)}")
        colour_HWC = off_white(frame_HWC, alpha_HW)
        if original is not None and original.colour_HWC is not None:
            same_HW1 = (frame_HWC == original.frames_FHWC[0]).all(axis=-1, keepdims=True)
            colour_HWC = np.where(same_HW1, original.colour_HWC, colour_HWC)
        frame_HWC = np.dstack([colour_HWC, alpha_HW])
    if output_kind(path) != "image":
        raise InputError(f"{path}: one picture cannot be written as a video; use .png or .jpg")
    options: dict[str, Any] = {}
    if path.suffix.lower() in (".jpg", ".jpeg"):
        options = {"quality": JPEG_QUALITY, "subsampling": 0}
    elif path.suffix.lower() == ".webp":
        options = {"lossless": True, "exact": True}  # exact: also colours that nobody sees, below full transparency
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(frame_HWC)).save(temporary, **options)
