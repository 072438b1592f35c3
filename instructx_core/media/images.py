"""Images through Pillow: any common mode, depth, profile and orientation <-> upright sRGB uint8.

Every conversion that is not the identity leaves a note; what cannot be converted is refused with a reason.
Legend: H W pixels, C = 3 (RGB, 0..255, sRGB).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..errors import InputError
from .base import ALPHA_SUFFIXES, Media, Transform, check_frames
from .outputs import atomic_path, output_kind

JPEG_QUALITY = 95
_ORIENTATION = 0x0112  # tag of EXIF


class OpenImage:
    """A picture that is open and not decoded yet. Closed at the end of a `with` block."""

    is_video = False

    def __init__(self, path: Path, image: Image.Image) -> None:
        self.path, self.image = path, image

    def __enter__(self) -> OpenImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.image.close()

    def read(self, transform: Transform | None = None) -> Media:
        """Decode it. Arguments and errors as media.files.read_media."""
        return decode_image(self.path, self.image, transform)


def decode_image(path: Path, image: Image.Image, transform: Transform | None) -> Media:
    """An opened picture as upright sRGB. Arguments and errors as media.files.read_media."""
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a phone's JPEG with a preview behind it
        raise InputError(
            f"{path}: an animation or multi-page file ({image.format}); convert it to MP4 or give one page"
        )
    try:
        turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)  # asked first: a TIFF forgets it when it is loaded
        upright = ImageOps.exif_transpose(image)
        upright.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: the image is damaged ({error}); save it again as PNG or JPEG") from None
    if turned:
        notes.append("turned upright as its EXIF orientation says")
    alpha_HW = _alpha_of(upright)
    rgb = _to_srgb(path, upright, notes)
    frame_HWC = np.array(rgb, dtype=np.uint8)
    size = (frame_HWC.shape[0], frame_HWC.shape[1])
    if transform is not None:
        frame_HWC = transform(frame_HWC)
        alpha_HW = alpha_HW if alpha_HW is None else transform(np.repeat(alpha_HW[..., None], 3, axis=-1))[..., 0]
    return Media(path, frame_HWC[None], size, is_video=False, alpha_HW=alpha_HW, notes=tuple(notes))


def _alpha_of(image: Image.Image) -> np.ndarray | None:
    """uint8 (H, W) of a picture that is not opaque everywhere, else None."""
    if image.mode not in ("RGBA", "LA", "La", "PA", "RGBa") and "transparency" not in image.info:
        return None
    alpha_HW = np.array(image.convert("RGBA").getchannel("A"))
    return None if alpha_HW.min() == 255 else alpha_HW


def _to_srgb(path: Path, image: Image.Image, notes: list[str]) -> Image.Image:
    """Any Pillow mode -> RGB in sRGB. Each conversion that is not the identity leaves a note."""
    mode = image.mode
    if mode.startswith("I;16") or mode == "I":
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise InputError(
                f"{path}: integer pixels in {wide.min()}..{wide.max()}; save it with 8 or 16 bits a channel"
            )
        notes.append("16-bit gray reduced to 8 bits and repeated over R, G, B")
        return Image.fromarray(np.round(wide / 257.0).astype(np.uint8)).convert("RGB")
    if mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "La", "P", "PA", "1", "CMYK", "YCbCr", "RGBa"):
        raise InputError(f"{path}: pixel format {mode} is not supported; save it as 8-bit RGB")
    has_alpha = mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info
    profile = image.info.get("icc_profile")
    if has_alpha:
        image = _over_white(image, notes)
    elif mode in ("L", "1"):
        notes.append("gray repeated over R, G, B")
    elif mode == "P":
        image = image.convert("RGB")
    if profile:
        image = _apply_profile(image, profile, notes)
    if image.mode == "CMYK":
        notes.append("CMYK without a usable profile converted by the plain formula (colours approximate)")
    return image.convert("RGB")


def _over_white(image: Image.Image, notes: list[str]) -> Image.Image:
    rgba = image.convert("RGBA")
    low, _ = rgba.getchannel("A").getextrema()
    if low == 255:
        return rgba.convert("RGB")
    notes.append("transparent: the model sees it over white (it knows no alpha)")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _apply_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """Embedded ICC profile -> sRGB, so that a Display P3 phone photo keeps its colours. Applied before any use."""
    import io

    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower():
            return image
        done = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        notes.append(f"its colour profile cannot be applied and was ignored ({error})")
        return image
    notes.append(f"converted from the colour profile '{name}' to sRGB")
    return image if done is None else done


def write_image(path: str | Path, frame_HWC: np.ndarray, alpha_HW: np.ndarray | None = None) -> None:
    """Write one uint8 RGB picture; the suffix picks the format (JPEG quality 95, no chroma subsampling), atomically.

    alpha_HW: transparency to add, uint8, for .png .webp .tif; the white that read_media put behind is taken out.
    Raises InputError for wrong pixels, an unknown suffix or a folder that is missing or cannot be written to.
    """
    path = Path(path)
    check_frames(np.asarray(frame_HWC)[None])
    if alpha_HW is not None:
        if path.suffix.lower() not in ALPHA_SUFFIXES:
            raise InputError(f"{path}: this format has no transparency; use one of {', '.join(ALPHA_SUFFIXES)}")
        part_HWC = np.maximum(alpha_HW, 1)[..., None] / 255.0
        colour_HWC = np.clip(np.rint(255 - (255.0 - frame_HWC) / part_HWC), 0, 255).astype(np.uint8)
        frame_HWC = np.dstack([np.where(alpha_HW[..., None] > 0, colour_HWC, frame_HWC), alpha_HW])
    if output_kind(path) != "image":
        raise InputError(f"{path}: one picture cannot be written as a video; use .png or .jpg")
    options: dict[str, Any] = {}
    if path.suffix.lower() in (".jpg", ".jpeg"):
        options = {"quality": JPEG_QUALITY, "subsampling": 0}
    elif path.suffix.lower() == ".webp":
        options = {"lossless": True}
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(frame_HWC)).save(temporary, **options)
