"""What a picture says of its colours without an ICC profile: H.273 codes, gamma of a PNG, Adobe RGB of Exif.

Below images.py. HDR is refused, as in clips; other primaries and curves become a profile. Codes as in clip/colour.py.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageCms

from ..errors import InputError
from . import avif
from .clip.known import HDR_TRANSFER
from .profile import SRGB_CURVE, make_profile

_D65 = (0.3127, 0.3290)
# Codes of primaries -> name, x and y of red, green, blue, white. 1 (BT.709) and 2 (unspecified) are sRGB's own.
_PRIMARIES = {
    4: ("BT.470 M", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316)),
    5: ("BT.601, 625 lines", (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65)),
    6: ("BT.601, 525 lines", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)),
    7: ("SMPTE 240M", (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)),
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65)),
    11: ("DCI-P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65)),
}
_SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65)
_ADOBE = ("Adobe RGB", (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65))
# BT.709's curve is that of cameras; screens show it as they show sRGB, and clips are read so.
_CURVES = {**dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE), 4: (2.2,), 5: (2.8,), 8: (1.0,)}
_GAMMA_OF_SRGB = 0.45455


class Codes(NamedTuple):
    """Numbers of ITU-T H.273, where 2 is unspecified."""

    primaries: int
    transfer: int


UNSPECIFIED = Codes(2, 2)


def codes_of(path: Path, image: Image.Image) -> Codes:
    """What a PNG or AVIF says in codes."""
    if image.format == "PNG":
        data = _png_chunk(path, b"cICP")
        return Codes(data[0], data[1]) if data else UNSPECIFIED
    if image.format == "AVIF":
        header = avif.read_header(path)
        return Codes(header.primaries, header.transfer)
    return UNSPECIFIED


def check_sdr(path: Path, codes: Codes) -> None:
    """Raises InputError for HDR, and for a curve that is not known here."""
    if codes.transfer in HDR_TRANSFER:
        kind = HDR_TRANSFER[codes.transfer]
        raise InputError(f"{path}: HDR picture ({kind}); convert it to SDR first, tone mapping is not built in")
    if codes.transfer not in _CURVES:
        raise InputError(f"{path}: its colours have transfer curve {codes.transfer} of H.273; convert it to sRGB first")


def declared_profile(image: Image.Image, codes: Codes) -> ImageCms.ImageCmsProfile | None:
    """What a picture says of its colours beside an ICC profile; None where that is sRGB or nothing."""
    name, primaries = _PRIMARIES.get(codes.primaries, ("sRGB", _SRGB))
    curve = _CURVES[codes.transfer]
    if codes == UNSPECIFIED and image.format == "PNG" and "srgb" not in image.info:
        primaries = image.info.get("chromaticity", ())
        primaries = (*primaries[2:], *primaries[:2]) if primaries else _SRGB  # PNG has white first
        gamma = image.info.get("gamma", _GAMMA_OF_SRGB)
        if not 0.1 < gamma < 2.5 or (abs(gamma - _GAMMA_OF_SRGB) < 0.01 and _near(primaries, _SRGB)):
            return None
        name, curve = f"PNG gamma {gamma:.3f}", (1 / gamma,)
    elif codes == UNSPECIFIED and _is_adobe(image):
        (name, primaries), curve = _ADOBE, (563 / 256,)
    elif (primaries, curve) == (_SRGB, SRGB_CURVE):
        return None
    return make_profile(name, primaries, curve)


def _near(some: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return all(abs(a - b) < 0.005 for a, b in zip(some, others, strict=True))


def _is_adobe(image: Image.Image) -> bool:
    """Cameras write Adobe RGB without a profile, only as a letter of Exif's interoperability."""
    return image.getexif().get_ifd(0xA005).get(1) == "R03"


def _png_chunk(path: Path, wanted: bytes) -> bytes:
    """A chunk before the pixels, or nothing."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == wanted:
                return file.read(length)
            if name == b"IDAT":
                break
            file.seek(length + 4, 1)
    return b""
