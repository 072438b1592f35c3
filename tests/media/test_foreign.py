"""Pictures that are not what they open as: raw photos by their previews, pages, animations, HDR and unknown formats."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.media.files import read_image, read_media

FULL, SMALL, MASK = 0, 1, 4  # NewSubfileType
RGB, SENSOR = 2, 32803


def tiff(path: Path, *pictures: dict[int, int], below: dict[int, int] | None = None, magic: bytes = b"") -> Path:
    """Pictures of gray 10, 20, 30 ... in a TIFF, each with extra tags by number; below: tags of one under the first."""
    place, chunks, data = 8 + len(magic), [magic], b""
    directories = [*pictures, *([below] if below else [])]
    tables: list[tuple[int, dict[int, int]]] = []
    for number, tags in enumerate(directories):
        side = tags.get(256, 16)
        pixels = np.full((side, side, 3), 10 + 10 * number, np.uint8).tobytes()
        known = {
            254: 0,
            256: side,
            257: side,
            258: 8,
            259: 1,
            262: RGB,
            273: place,
            277: 3,
            278: side,
            279: len(pixels),
        }
        chunks.append(pixels)
        place += len(pixels)
        tables.append((place, {**known, **tags}))
        if below and number == 0:
            tables[0][1][330] = 0
        place += 2 + 12 * len(tables[-1][1]) + 4
        chunks.append(b"")
    for number, (_start, tags) in enumerate(tables):
        if 330 in tags:
            tags[330] = tables[-1][0]
        follows = tables[number + 1][0] if number + 1 < len(pictures) else 0
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        chunks[2 * number + 2] = struct.pack("<H", len(tags)) + entries + struct.pack("<I", follows)
    data = b"".join(chunks)
    path.write_bytes(b"II*\0" + struct.pack("<I", tables[0][0]) + data)
    return path


def small(**more: int) -> dict[int, int]:
    return {254: SMALL, 256: 8} | {int(name[1:]): value for name, value in more.items()}


@pytest.mark.parametrize(
    ("name", "pictures", "below", "magic"),
    [
        ("a.dng", [small(t50706=0x0401)], {262: SENSOR}, b""),
        ("renamed.tif", [small(t50706=0x0401)], {262: SENSOR}, b""),
        ("linear.tif", [small()], {262: 34892}, b""),
        ("a.nef", [small()], {262: SENSOR, 259: 34713}, b""),
        ("hidden.tiff", [small()], {259: 7}, b""),  # a maker's own kind below a preview
        ("a.cr2", [{}, small()], None, b"CR\2\0"),
        ("renamed2.tif", [{}, small()], None, b"CR\2\0"),
        ("a.ERF", [{}], None, b""),
        ("sensor.tif", [{}, {262: SENSOR}], None, b""),
    ],
)
def test_a_raw_photo_is_no_thumbnail(
    tmp_path: Path, name: str, pictures: list[dict[int, int]], below: dict[int, int] | None, magic: bytes
) -> None:
    path = tiff(tmp_path / name, *pictures, below=below, magic=magic)
    assert Image.open(path).size[0] <= 16, "Pillow sees a picture in it"
    for read in (read_media, read_image):
        with pytest.raises(InputError, match=r"raw photo, in which only a small preview could be read; develop it"):
            read(path)


def test_raw_photos_of_other_kinds(tmp_path: Path) -> None:
    preview = tmp_path / "preview.jpg"
    Image.new("RGB", (8, 8)).save(preview)
    for start in (b"FUJIFILMCCD-RAW 0201", b"IIRO\x08\0\0\0", b"IIU\0\x18\0\0\0", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
                  b"II\x1a\0\0\0HEAPCCDR", b"FOVb", b"\0MRM"):  # fmt: skip
        (tmp_path / "photo").write_bytes(start + bytes(64) + preview.read_bytes())
        with pytest.raises(InputError, match="raw photo"):
            read_media(tmp_path / "photo")


def test_pages_and_smaller_copies_of_a_tiff(tmp_path: Path) -> None:
    """One page is read, wherever it lies; of several none is chosen silently."""
    for number, pictures in enumerate(([{}, small()], [small(), {}], [{}, {254: MASK, 262: 1, 277: 1}, small()])):
        media = read_media(tiff(tmp_path / f"{number}.tif", *pictures))
        page = next(i for i, tags in enumerate(pictures) if not tags.get(254))
        assert media.size == (16, 16) and (media.frames_FHWC == 10 + 10 * page).all()
        assert media.notes == ("smaller copies and masks in the file are left out",)
    with pytest.raises(InputError, match="holds 2 pages; give one of them as a file of its own"):
        read_media(tiff(tmp_path / "pages.tif", {}, {}, small()))


def test_the_first_picture_of_a_phones_jpeg(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (9, 9, 9)).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), (99, 99, 99))]
    )
    media = read_media(tmp_path / "a.jpg")
    assert (media.frames_FHWC == 9).all() and media.notes == ("the first of 2 pictures in the file is used",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "progressive"])
def test_pictures_one_after_the_other_are_no_picture(tmp_path: Path, kind: str) -> None:
    """A raw MJPEG is a clip without a clock; a photo with a smaller preview behind it stays a photo, with a word."""
    options: dict[str, Any] = {"progressive": True} if kind == "progressive" else {}
    suffix, parts = ".png" if kind == "PNG" else ".jpg", list[bytes]()
    for number, side in enumerate((32, 32, 16)):
        picture = np.random.default_rng(number).integers(0, 255, (side, side, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / f"a{suffix}", **options)
        parts.append((tmp_path / f"a{suffix}").read_bytes())
    clip, photo, alone = (tmp_path / f"{name}{suffix}" for name in ("clip", "photo", "alone"))
    for fill in (b"", b"\0\0") if kind != "PNG" else (b"",):
        clip.write_bytes(parts[0] + fill + parts[1] + fill + parts[2])
        with pytest.raises(InputError, match=r"one (JPEG|PNG) after the other, a clip without a clock"):
            read_media(clip)
    photo.write_bytes(parts[0] + parts[2])
    assert "another picture, of another size, lies behind it" in read_media(photo).notes[0]
    alone.write_bytes(parts[0] + b"\xff\xd9\xff\xd8\xff trailing bytes")
    assert not read_media(alone).notes


def test_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    for start, reason in (
        (b"v/1\x01\x02\0\0\0", r"HDR picture \(OpenEXR\)"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", r"HDR picture \(Radiance\)"),
        (b"PF\n2 1\n-1.0\n", r"float numbers \(PFM\)"),
        (b"P7\nWIDTH 2\n", "PAM is not supported"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL is not supported"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL is not supported"),
        (b"\0\0\0\x18ftypheix\0\0\0\0mif1heix", "HEIF/HEIC photos are not supported"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF/HEIC photos are not supported"),
    ):
        (tmp_path / "picture").write_bytes(start + bytes(64))
        with pytest.raises(InputError, match=reason):
            read_media(tmp_path / "picture")


def test_an_avif_of_any_brand_is_read(tmp_path: Path) -> None:
    """Some encoders name the family of formats first and AVIF second."""
    Image.new("RGB", (32, 32), (120, 120, 120)).save(tmp_path / "a.avif")
    data = (tmp_path / "a.avif").read_bytes()
    assert data[8:12] == b"avif" and b"avif" in data[16:32]
    (tmp_path / "a.avif").write_bytes(data[:8] + b"mif1" + data[12:])
    assert np.abs(read_media(tmp_path / "a.avif").frames_FHWC.astype(int) - 120).max() <= 3
