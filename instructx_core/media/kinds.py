"""What a file is that is neither a picture nor a clip that can be read here, and what its owner can do about it.

Asked by files.py, beside foreign.py, which tells pictures that would come out wrong: about paths and files that are
something else, and pictures that Pillow knows and cannot draw.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from pathlib import Path
from typing import Any

from ..errors import InputError

_HEAD = 4096  # bytes of a file that are looked at

_PROJECT = "a project of an image program (Photoshop, GIMP, ...); export the picture as PNG"
_ARCHIVE = "an archive; unpack it and give the picture or clip in it"
_SOUND = "sound without pictures; give the picture or clip that is to be edited"
_LIST = "a playlist, which only names clips; give the clip itself"
_POINTER = "only the pointer to a file that lies elsewhere; get the file itself"

# How files begin -> what they are.
_KINDS: list[tuple[bytes, str]] = [
    (rb"\s*(<(\?xml|!--|!DOCTYPE svg).*?)?<svg[\s>:]", "a drawing (SVG); export it as PNG in the size you need"),
    (rb".{0,1000}?%PDF-", "a document (PDF); export the page or the picture in it as PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a drawing (PostScript); export it as PNG"),
    (rb"(?i:\s*<(!doctype html|html|head|body)[\s>])", "a web page; download the picture or clip that it shows"),
    (rb"#EXTM3U|\[playlist\]|(?i:\s*<asx)|\s*(<\?xml.*?)?<(MPD|playlist)[\s>]", _LIST),
    (rb"version https://git-lfs|/annex/objects/", _POINTER),
    (rb"8BPS|gimp xcf|BLENDER|CSFCHUNK|\x00\xffKA", _PROJECT),
    (
        rb"SDPX|XPDS|\x80\x2a\x5f\xd7",
        "DPX or Cineon, film frames in log or linear light; export them as PNG in sRGB, or as a clip",
    ),
    (
        rb"....RED[12]|BIKi|KB2|\.RMF|[FCZ]WS[\x01-\x40]|nut/multimedia",
        "a clip that is not read here; export it as MP4",
    ),
    (rb"PK(\x03\x04|\x05\x06)|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", _ARCHIVE),
    (rb"ID3|\xff[\xe2\xe3\xf1-\xf3\xf9-\xfd]|fLaC|(RIFF|RF64)....WAVE|FORM....AIF[FC]", _SOUND),
    (rb"MThd|#!AMR|caff|wvpk|DSD |MAC ", _SOUND),
    (
        rb"(\r?\n)?--[^\r\n]{1,70}\r?\n(?i:content-)",
        "pictures of a network camera as a web page has them; record them as a clip: ffmpeg -f mpjpeg -i FILE clip.mkv",
    ),
    (rb"\x93NUMPY", "an array of NumPy; save it as PNG"),
    (rb"\x00{64,}\Z", "nothing but zeros where it begins, from an unfinished download or a damaged disk; get it again"),
]

# Formats that Pillow knows and cannot draw by itself, or not whole.
_UNDRAWN = {
    "EPS": "a drawing (PostScript); export it as PNG",
    "WMF": "a drawing of Windows (WMF, EMF); export it as PNG",
    "MPEG": "a bare MPEG stream without a clock; put it into a file, ffmpeg -i FILE -c copy clip.ts",
    "HDF5": "measured data (HDF5); export the picture as PNG",
    "GRIB": "measured data (GRIB); export the picture as PNG",
    "BUFR": "measured data (BUFR); export the picture as PNG",
}


def check_file(path: Path) -> None:
    """Raises InputError for a path behind which no file lies that can be read."""
    try:
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path}: {_missing(path, error)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(
            f"{path}: not a file but a folder; give one file of it, --jobs for many, or make its frames into a clip: "
            "ffmpeg -framerate 24 -i %04d.png clip.mkv"
        )
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: not a file but a pipe or a device; save it to a file first")
    if found.st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); give an image or video file")


def _missing(path: Path, error: OSError) -> str:
    if re.search(r"(^|/)[a-z][a-z0-9+]+:/", str(path)):  # behind the folder of a list, too
        return "an address, not a file; download it first"
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return f"a link to {os.readlink(path)}, which is not there; get that file first"
        return "no such file; check the path"
    return f"cannot be opened ({error.strerror}); check the path and who may read it"


def refuse_undrawn(path: Path, image: Any) -> None:
    """Raises InputError for an opened picture of a kind that Pillow cannot draw. EPS would start another program."""
    kind = _UNDRAWN.get(image.format)
    if kind is not None:
        image.close()
        raise InputError(f"{path}: is {kind}")


def refuse_known(path: Path) -> None:
    """Raises InputError for a file of a kind that is known not to be readable here, with what to do."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    plain = head.removeprefix(b"\xef\xbb\xbf")
    for start, kind in _KINDS:
        if re.match(start, plain, re.DOTALL):
            raise InputError(f"{path}: is {kind}")
    if path.suffix.lower() in (".yuv", ".rgb", ".raw"):
        raise InputError(
            f"{path}: is bare pixels, or of a kind that is not known; give bare pixels a header: "
            "ffmpeg -f rawvideo -video_size WxH -framerate 24 -i FILE -c:v ffv1 clip.mkv"
        )
    text = _text(head)
    if text is not None:
        raise InputError(f"{path}: is text ({text[:40]!r} ...), no picture and no clip; check what was saved there")


def _text(head: bytes) -> str | None:
    """What a file says that is nothing but text."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # its end may be cut within a letter
    except UnicodeDecodeError:
        return None
    return " ".join(text.split()) if all(letter.isprintable() or letter.isspace() for letter in text) else None
