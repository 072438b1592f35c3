"""Pictures that cannot come out right here, each with its true reason: raw photos, HEIF, HDR, kinds that Pillow lacks.

First part of opening a file, before and after Pillow is asked; what a file is decides, its name only for raw photos.
"""

from __future__ import annotations

from pathlib import Path

from PIL import features

from ..errors import InputError
from .tiff import directories, is_raw, pixel_description

_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
_RAW_NAMES = frozenset(
    ".dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .pef .orf .rw2 .raf .raw .3fr .fff .iiq .erf .kdc .dcr .mef .mos "
    ".srw .x3f .mrw .rwl".split()
)
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_RAW = "a camera's raw photo, in which only a small preview could be read; develop it and save it as JPEG, PNG or TIFF"
_OTHERS = {
    b"\xff\x0a": "JPEG XL is not supported; save the picture as PNG or JPEG",
    b"\0\0\0\x0cJXL ": "JPEG XL is not supported; save the picture as PNG or JPEG",
    b"v/1\x01": "an HDR picture (OpenEXR); convert it to SDR first, tone mapping is not built in",
    b"PF\n": "a picture of float numbers (PFM), which have no fixed black and white; save it as PNG",
    b"P7\n": "PAM is not supported; save the picture as PNG",
    b"#?": "an HDR picture (Radiance); convert it to SDR first, tone mapping is not built in",
}


def is_tiff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def refuse_before(path: Path) -> None:
    """Raises InputError for a photo that Pillow or FFmpeg would open as something else than it is."""
    with path.open("rb") as file:
        head = file.read(64)
    brands = _brands(head)
    if b"avif" in brands or b"avis" in brands:
        if not features.check("avif"):
            raise InputError(f"{path}: AVIF needs Pillow 11.3 or newer; update it, or save the picture as PNG or JPEG")
    elif brands and brands[0] in _HEIF:
        raise InputError(f"{path}: HEIF/HEIC photos are not supported; export the photo as JPEG or PNG")
    raw = head.startswith(_RAW_STARTS) or head[6:14] == b"HEAPCCDR" or b"crx " in brands
    if is_tiff(head):
        raw = head[8:10] == b"CR" or path.suffix.lower() in _RAW_NAMES or is_raw(directories(path))
    if raw:
        raise InputError(f"{path}: {_RAW}")


def _brands(head: bytes) -> list[bytes]:
    """What an MP4-like file says it is: the kind it is first, then those that it is as well."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]


def refuse_after(path: Path) -> None:
    """Raises InputError for a picture that Pillow does not know."""
    with path.open("rb") as file:
        head = file.read(16)
    for start, reason in _OTHERS.items():
        if head.startswith(start):
            raise InputError(f"{path}: {reason}")
    if is_tiff(head) and (found := directories(path)):
        raise InputError(
            f"{path}: a TIFF of a kind that is not supported ({pixel_description(found)}); save it as 8-bit RGB"
        )
