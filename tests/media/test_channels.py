"""Pictures of every depth and mode: what is transparent, what is reduced, what has no black and white."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from instructx_core.editing.one import write_like
from instructx_core.errors import InputError
from instructx_core.media.files import read_media

RNG = np.random.default_rng(0)
GRAY, RGB, GRAY_ALPHA, RGBA = 0, 2, 4, 6  # colour types of PNG
CHANNELS = {GRAY: 1, RGB: 3, GRAY_ALPHA: 2, RGBA: 4}


def png(path: Path, pixels_HWC: np.ndarray, bits: int, kind: int, **chunks: bytes) -> Path:
    """A PNG of any depth. chunks: what comes before the pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels_HWC.shape[:2]
    rows = b""
    for row in pixels_HWC.reshape(height, -1):
        if bits == 16:
            packed = row.astype(">u2").tobytes()
        elif bits == 8:
            packed = row.astype(np.uint8).tobytes()
        else:
            packed = np.packbits((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).tobytes()
        rows += b"\0" + packed
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *((name.encode(), data) for name, data in chunks.items())]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def tiff(path: Path, size: tuple[int, int], data: bytes, **tags: int) -> Path:
    """An uncompressed TIFF of one strip; tags by their numbers as t258=16."""
    height, width = size
    entries = {256: width, 257: height, 259: 1, 277: 1, 278: height, 279: len(data)}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    entries[273] = 8 + 2 + 12 * (len(entries) + 1) + 4
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + data)
    return path


@pytest.mark.parametrize(
    ("bits", "kind"), [(1, GRAY), (2, GRAY), (4, GRAY), (8, GRAY), (16, GRAY), (8, RGB), (16, RGB)]
)
def test_the_one_transparent_colour_of_a_png(tmp_path: Path, bits: int, kind: int) -> None:
    """Exactly its pixels are transparent, at any depth; near colours, of which 16 bits have many, are not."""
    pixels = RNG.integers(0, 2**bits, (24, 20, CHANNELS[kind]))
    key = pixels[5, 5]
    pixels[0, :7] = key
    pixels[0, 7] = key ^ 1  # differs in the last bit only
    path = png(tmp_path / "key.png", pixels, bits, kind, tRNS=key.astype(">u2").tobytes())
    media = read_media(path)
    assert media.alpha_HW is not None
    assert ((media.alpha_HW == 0) == (pixels == key).all(-1)).all() and set(np.unique(media.alpha_HW)) == {0, 255}
    assert any("transparent" in note for note in media.notes)
    want = pixels * 255 / (2**bits - 1)
    seen = np.abs(media.frames_FHWC[0].astype(float) - want)[media.alpha_HW == 255]
    assert seen.max() <= 1.0
    assert any("16" in note and "reduced to 8" in note for note in media.notes) == (bits == 16)


@pytest.mark.parametrize("kind", CHANNELS)
def test_sixteen_bits_of_a_png_are_reduced_with_a_word(tmp_path: Path, kind: int) -> None:
    pixels = RNG.integers(0, 65536, (24, 20, CHANNELS[kind]))
    media = read_media(png(tmp_path / "deep.png", pixels, 16, kind))
    want = pixels / 257
    colour_HWC = media.frames_FHWC[0] if media.colour_HWC is None else media.colour_HWC
    colours = want[..., : 1 if kind in (GRAY, GRAY_ALPHA) else 3]
    assert np.abs(colour_HWC - colours).max() <= 1
    if kind in (GRAY_ALPHA, RGBA):
        assert media.alpha_HW is not None and np.abs(media.alpha_HW - want[..., -1]).max() <= 1
    assert any("16" in note and "reduced to 8" in note for note in media.notes)


def test_other_deep_kinds_are_noted_as_well(tmp_path: Path) -> None:
    wide = RNG.integers(0, 65536, (16, 16, 3), dtype=np.uint16)
    (tmp_path / "wide.ppm").write_bytes(b"P6\n16 16\n65535\n" + wide.astype(">u2").tobytes())
    data = wide.astype("<u2").tobytes()
    tiff(tmp_path / "wide.tif", (16, 16), data, t258=16, t262=2, t277=3)
    for name in ("wide.ppm", "wide.tif"):
        media = read_media(tmp_path / name)
        assert "16 bits a channel reduced to 8" in media.notes
        assert np.abs(media.frames_FHWC[0] - wide / 257).max() <= 1
    with av.open(str(tmp_path / "ten.avif"), "w", format="avif") as out:
        stream = out.add_stream("libsvtav1", rate=1, options={"crf": "5", "svtav1-params": "avif=1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p10le"
        gray = np.full((64, 64, 3), 130, np.uint8)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24").reformat(format="yuv420p10le")))
        out.mux(stream.encode(None))
    media = read_media(tmp_path / "ten.avif")
    assert "10 bits a channel reduced to 8" in media.notes and np.abs(media.frames_FHWC[0].astype(int) - 130).max() < 4
    Image.new("I;16", (8, 8), 130 * 257).save(tmp_path / "deep.jp2")
    media = read_media(tmp_path / "deep.jp2")
    assert (media.frames_FHWC == 130).all() and any("16-bit gray reduced" in note for note in media.notes)


def test_gray_of_twelve_bits_and_of_white_that_is_zero(tmp_path: Path) -> None:
    """TIFF: 12 bits are no dark 16 bits, and photometric 0 is a negative."""
    levels = np.array([[0, 4095, 2048, 1000]])
    packed = int("".join(f"{level:012b}" for level in levels[0]), 2).to_bytes(6, "big")
    media = read_media(tiff(tmp_path / "twelve.tif", (1, 4), packed, t258=12, t262=1))
    assert media.frames_FHWC[0, 0, :, 0].tolist() == [0, 255, 128, 62]
    assert any("12-bit gray reduced" in note for note in media.notes)
    for bits in (8, 16):
        values = np.array([[0, 2**bits - 1, (2**bits - 1) // 5]], f"<u{bits // 8}")
        media = read_media(tiff(tmp_path / "white.tif", (1, 3), values.tobytes(), t258=bits, t262=0))
        assert media.frames_FHWC[0, 0, :, 0].tolist() == [255, 0, 204]


def test_numbers_without_black_and_white_are_refused(tmp_path: Path) -> None:
    data = bytes(16 * 16 * 4 * 3)
    for name, reason, tags in (
        ("signed8", "signed numbers", {"t258": 8, "t262": 1, "t339": 2}),
        ("signed16", "signed numbers", {"t258": 16, "t262": 1, "t339": 2}),
        ("float", "float numbers", {"t258": 32, "t262": 1, "t339": 3}),
        ("floats", r"kind that is not supported \(32-bit float RGB", {"t258": 32, "t262": 2, "t277": 3, "t339": 3}),
        ("lab16", r"kind that is not supported \(16-bit integer Lab", {"t258": 16, "t262": 8, "t277": 3}),
    ):
        with pytest.raises(InputError, match=reason):
            read_media(tiff(tmp_path / f"{name}.tif", (16, 16), data, **tags))


def test_one_bit_palette_and_print_colours(tmp_path: Path) -> None:
    """Read as they look; the sibling kinds of those above."""
    bits = RNG.integers(0, 2, (16, 16))
    for name in ("one.png", "one.tif"):
        Image.fromarray(bits.astype(bool)).save(tmp_path / name)
        assert (read_media(tmp_path / name).frames_FHWC[0] == bits[..., None] * 255).all()
    index, table = RNG.integers(0, 8, (16, 16), dtype=np.uint8), RNG.integers(0, 256, (8, 3), dtype=np.uint8)
    levels = np.arange(0, 256, 36, dtype=np.uint8)
    image = Image.fromarray(index, "P")
    image.putpalette(table.tobytes())
    image.save(tmp_path / "palette.png", transparency=levels.tobytes())
    media = read_media(tmp_path / "palette.png")
    assert media.alpha_HW is not None and (media.alpha_HW == levels[index]).all()
    assert (media.colour_HWC == table[index]).all()
    part = levels[index][..., None] / 255
    assert np.abs(media.frames_FHWC[0] - (table[index] * part + 255 * (1 - part))).max() <= 1
    cmyk = Image.fromarray(np.full((8, 8, 4), (0, 255, 255, 0), np.uint8), "CMYK")
    cmyk.save(tmp_path / "print.tif")
    media = read_media(tmp_path / "print.tif")
    assert (media.frames_FHWC == (255, 0, 0)).all() and any("CMYK" in note for note in media.notes)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "16-bit gray and key", "16-bit RGBA"])
def test_what_is_kept_outside_keeps_its_colour_below_transparency(tmp_path: Path, kind: str, suffix: str) -> None:
    """Colour and transparency of every pixel that is not edited, however little of it is seen: bit for bit."""
    rgba, path = RNG.integers(0, 256, (24, 20, 4), dtype=np.uint8), tmp_path / "in.png"
    rgba[:4, :, 3] = 0
    if kind == "RGBA":
        Image.fromarray(rgba).save(path)
    elif kind == "LA":
        Image.fromarray(rgba[..., 2:], "LA").save(path)
        rgba[..., :3] = rgba[..., 2:3]
    elif kind == "palette":
        image = Image.fromarray(rgba[..., 0] % 8, "P")
        image.putpalette(rgba[0, :8, :3].tobytes())
        image.save(path, transparency=bytes(range(0, 256, 36)))
        rgba = np.array(Image.open(path).convert("RGBA"))
    elif kind == "16-bit RGBA":
        png(path, rgba.astype(int) * 257, 16, RGBA)
    else:
        deep = rgba[..., :1].astype(int) * 257
        png(path, deep, 16, GRAY, tRNS=deep[3, 3].astype(">u2").tobytes())
        rgba[..., :3] = rgba[..., :1]
        rgba[..., 3] = np.where(rgba[..., 0] == rgba[3, 3, 0], 0, 255)
    media = read_media(path)
    edited_HWC = media.frames_FHWC[0].copy()
    edited_HWC[10:14, 5:9] = (255, 0, 0)
    output = tmp_path / f"out{suffix}"
    assert write_like(output, edited_HWC[None], media) == ("the source's transparency was put back",)
    result = np.array(Image.open(output).convert("RGBA"))
    changed = (edited_HWC != media.frames_FHWC[0]).any(-1)
    assert changed.any() and (result[~changed] == rgba[~changed]).all()
    assert (result[..., 3] == rgba[..., 3]).all()
