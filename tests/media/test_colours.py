"""What pictures say of their colours: profiles by what they do, H.273 codes, gamma, Adobe RGB, Lab; HDR is refused."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from instructx_core.errors import InputError
from instructx_core.media.files import read_media
from instructx_core.media.profile import SRGB_CURVE, make_profile

COLOURS = np.array([[(200, 100, 50), (128, 128, 128), (20, 200, 90), (40, 60, 180)]], np.uint8)
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
# Linear light of one space -> of sRGB, as published (CSS Color 4).
P3_TO_SRGB = np.array([[1.2249402, -0.2249402, 0], [-0.0420570, 1.0420570, 0], [-0.0196376, -0.0786361, 1.0982736]])
BT2020_TO_SRGB = np.array(
    [[1.6604910, -0.5876411, -0.0728499], [-0.1245505, 1.1328999, -0.0083494], [-0.0181508, -0.1005789, 1.1187297]]
)
ADOBE_TO_SRGB = np.array([[1.3983557, -0.3983557, 0], [0, 1, 0], [0, -0.0429290, 1.0429290]])


def light(values: np.ndarray) -> np.ndarray:
    part = values / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def levels(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def converted(matrix: np.ndarray, gamma: float | None = None) -> np.ndarray:
    """COLOURS of another space as sRGB shows them."""
    linear = light(COLOURS.astype(float)) if gamma is None else (COLOURS / 255) ** gamma
    return levels(linear @ matrix.T)


def with_chunk(path: Path, name: bytes, data: bytes) -> Path:
    """The PNG of COLOURS with a chunk behind its header."""
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "PNG")
    head, rest = buffer.getvalue()[:33], buffer.getvalue()[33:]
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(head + chunk + rest)
    return path


def with_codes(path: Path, codes: bytes) -> Path:
    """The AVIF of large patches of COLOURS, with these codes in its container."""
    Image.fromarray(np.repeat(np.repeat(COLOURS, 32, 0), 32, 1)).save(path, quality=100, subsampling="4:4:4")
    data = bytearray(path.read_bytes())
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = codes
    path.write_bytes(data)
    return path


def seen(path: Path, wide: int = 1) -> np.ndarray:
    return read_media(path).frames_FHWC[0][wide // 2 :: wide, wide // 2 :: wide].astype(float)


@pytest.mark.parametrize(
    ("name", "primaries", "curve", "want"),
    [
        ("sRGB of my screen", P3, SRGB_CURVE, converted(P3_TO_SRGB)),
        ("sRGB linear", SRGB, (1.0,), converted(np.eye(3), 1.0)),
        ("sRGB, gamma 2.2", SRGB, (2.2,), converted(np.eye(3), 2.2)),
    ],
)
def test_a_profile_is_what_it_does_not_its_name(
    tmp_path: Path, name: str, primaries: tuple[float, ...], curve: tuple[float, ...], want: np.ndarray
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(COLOURS).save(path, icc_profile=make_profile(name, primaries, curve).tobytes())
    assert np.abs(seen(path) - want).max() <= 2
    assert read_media(path).notes == (f"converted from the colour profile '{name}' to sRGB",)


def test_srgb_by_any_name_changes_nothing(tmp_path: Path) -> None:
    for profile in (
        make_profile("Camera 7", SRGB, SRGB_CURVE),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
    ):
        Image.fromarray(COLOURS).save(tmp_path / "a.png", icc_profile=profile.tobytes())
        media = read_media(tmp_path / "a.png")
        assert (media.frames_FHWC[0] == COLOURS).all() and media.notes == ()


def test_a_profile_is_applied_below_transparency_and_to_gray(tmp_path: Path) -> None:
    """Colours are converted before they are seen over white; gray of an RGB profile takes its curve."""
    rgba = np.concatenate([COLOURS, np.full((1, 4, 1), 128, np.uint8)], -1)
    Image.fromarray(rgba).save(tmp_path / "a.png", icc_profile=make_profile("P3", P3, SRGB_CURVE).tobytes())
    media = read_media(tmp_path / "a.png")
    assert media.colour_HWC is not None and np.abs(media.colour_HWC - converted(P3_TO_SRGB)).max() <= 2
    assert np.abs(seen(tmp_path / "a.png") - (255 * 127 + converted(P3_TO_SRGB) * 128) / 255).max() <= 2
    linear = make_profile("linear", SRGB, (1.0,)).tobytes()
    for mode in ("L", "LA", "I;16", "P", "1"):
        if mode == "P":
            image = Image.new("P", (4, 4), 0)
            image.putpalette([55, 55, 55])
        else:
            image = Image.new(mode, (4, 4), {"LA": (55, 200), "I;16": 55 * 257, "1": 1}.get(mode, 55))
        image.save(tmp_path / "b.png", icc_profile=linear)
        media = read_media(tmp_path / "b.png")
        have = media.frames_FHWC if media.colour_HWC is None else media.colour_HWC
        assert np.abs(have.astype(int) - (255 if mode == "1" else 128)).max() <= 1, mode


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_pictures_are_refused_with_the_reason(tmp_path: Path, transfer: int, name: str) -> None:
    reason = rf"HDR picture \({name}\); convert it to SDR first, tone mapping is not built in"
    with pytest.raises(InputError, match=reason):
        read_media(with_chunk(tmp_path / "a.png", b"cICP", bytes((9, transfer, 0, 1))))
    with pytest.raises(InputError, match=reason):
        read_media(with_codes(tmp_path / "a.avif", bytes((0, 9, 0, transfer))))
    with pytest.raises(InputError, match=r"transfer curve 10 of H\.273"):
        read_media(with_chunk(tmp_path / "a.png", b"cICP", bytes((1, 10, 0, 1))))


@pytest.mark.parametrize(
    ("codes", "want"),
    [
        ((12, 13), converted(P3_TO_SRGB)),
        ((9, 13), converted(BT2020_TO_SRGB)),
        ((1, 13), COLOURS),
        ((1, 1), COLOURS),  # a camera's curve, shown as players do
        ((2, 2), COLOURS),
        ((1, 8), converted(np.eye(3), 1.0)),
    ],
)
def test_colours_in_codes_are_read_right(tmp_path: Path, codes: tuple[int, int], want: np.ndarray) -> None:
    png = with_chunk(tmp_path / "a.png", b"cICP", bytes((*codes, 0, 1)))
    assert np.abs(seen(png) - want).max() <= 2
    avif = with_codes(tmp_path / "a.avif", bytes((0, codes[0], 0, codes[1])))
    assert np.abs(seen(avif, 32) - want).max() <= 6
    for path in (png, avif):
        assert any("converted from" in note for note in read_media(path).notes) == (want is not COLOURS)


def test_gamma_of_a_png(tmp_path: Path) -> None:
    linear = with_chunk(tmp_path / "a.png", b"gAMA", struct.pack(">I", 100000))
    assert np.abs(seen(linear) - converted(np.eye(3), 1.0)).max() <= 2
    for usual in (45455, 45000):
        path = with_chunk(tmp_path / "b.png", b"gAMA", struct.pack(">I", usual))
        assert (seen(path) == COLOURS).all() and read_media(path).notes == ()


def test_adobe_rgb_of_a_camera(tmp_path: Path) -> None:
    """Cameras write no profile, only R03 among the interoperability tags."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    patches = np.repeat(np.repeat(COLOURS, 32, 0), 32, 1)
    Image.fromarray(patches).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    assert np.abs(seen(tmp_path / "a.jpg", 32) - converted(ADOBE_TO_SRGB, 563 / 256)).max() <= 5
    assert any("Adobe RGB" in note for note in read_media(tmp_path / "a.jpg").notes)


def test_lab_of_a_tiff(tmp_path: Path) -> None:
    """CIE L*a*b* under D50, of red, white, black and mid gray."""
    lab = np.array([[(138, 81, 70), (255, 0, 0), (0, 0, 0), (137, 0, 0)]], np.uint8)
    want = np.array([[(255, 0, 0), (255, 255, 255), (0, 0, 0), (128, 128, 128)]])
    Image.fromarray(lab, "LAB").save(tmp_path / "a.tif")
    assert np.abs(seen(tmp_path / "a.tif") - want).max() <= 6


@pytest.mark.parametrize("kind", ["Adobe's mark", "no mark", "YCCK"])
def test_a_jpeg_of_four_inks(tmp_path: Path, kind: str) -> None:
    """Inks are stored inverted, with Adobe's mark and without it, as Chromium and ImageMagick read all three."""
    inks, path = np.array([200, 40, 20, 10]), tmp_path / "a.jpg"
    stored = inks
    if kind == "YCCK":  # Y, Cb, Cr of what the first three leave of white, and black
        luma = Image.new("RGB", (1, 1), tuple(inks[:3].tolist())).convert("YCbCr").getpixel((0, 0))
        stored = 255 - np.array([*np.atleast_1d(luma).tolist(), 255 - inks[3]])
    Image.new("CMYK", (32, 32), tuple(stored.tolist())).save(path, quality=98, subsampling=0)
    data = bytearray(path.read_bytes())
    mark = data.index(b"\xff\xee")
    if kind == "YCCK":
        data[mark + 15] = 2
    elif kind == "no mark":
        del data[mark : mark + 2 + int.from_bytes(data[mark + 2 : mark + 4], "big")]
    path.write_bytes(data)
    media = read_media(path)
    assert np.abs(media.frames_FHWC.astype(int) - (53, 207, 226)).max() <= 2
    assert "CMYK without a usable profile" in media.notes[0]


@pytest.mark.parametrize("pixels", ["gray", "gray10le", "gray16le"])
@pytest.mark.parametrize("value_range", [0, 1, 2])
def test_a_gray_clip_has_the_range_that_it_says(tmp_path: Path, pixels: str, value_range: int) -> None:
    """As H.265 and AV1 without colours say it; FFmpeg's converter takes all gray for full range, untagged too."""
    codec = {"gray": "ffv1", "gray10le": "libx265", "gray16le": "ffv1"}[pixels]
    shift = {"gray": 0, "gray10le": 2, "gray16le": 8}[pixels]
    if codec == "libx265" and not value_range:
        return  # it always says
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream: Any = out.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        stream.codec_context.color_range = value_range
        frame: Any = av.VideoFrame(64, 64, pixels)
        kind = "<u2" if shift else "u1"
        row = np.repeat([16, 235], 32).astype(int) << shift
        row_bytes = np.pad(row, (0, frame.planes[0].line_size // np.dtype(kind).itemsize - 64)).astype(kind).tobytes()
        frame.planes[0].update(row_bytes * 64)
        frame.color_range, frame.pts, frame.time_base = value_range, 0, Fraction(1, 10)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    media = read_media(tmp_path / "a.mkv")
    black, white = (0, 255) if value_range == 1 else (16, 235)
    found = media.frames_FHWC[0]
    assert np.abs(found[:, :30].astype(int) - black).max() <= 1 and np.abs(found[:, 34:].astype(int) - white).max() <= 1
    assert media.color == {0: "gray full (assumed)", 1: "gray limited", 2: "gray full"}[value_range]
