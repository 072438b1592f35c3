"""Animations as clips: the delays of GIF, WebP, PNG and AVIF, transparency, damage; as a reference they are refused."""

from __future__ import annotations

import struct
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import GifImagePlugin, Image

from instructx_core.errors import InputError
from instructx_core.media import stream
from instructx_core.media.files import open_media, read_image, read_media
from instructx_core.media.stream import ClipScan, clip_frames

LEVELS = [20, 80, 140, 200]
OPTIONS: dict[str, dict[str, Any]] = {".webp": {"lossless": True}, ".avif": {"quality": 100}}


def write(path: Path, delays: list[int], mode: str = "RGB", **more: Any) -> Path:
    """Pictures of one gray each; delays: milliseconds of each."""
    pictures = [Image.new("RGB", (32, 32), (level,) * 3).convert(mode) for level in LEVELS[: len(delays)]]
    for picture in pictures if mode == "RGBA" else ():
        picture.putpixel((3, 3), (255, 0, 0, 0))
    more = {"append_images": pictures[1:], "duration": delays, **OPTIONS.get(path.suffix, {}), **more}
    pictures[0].save(path, save_all=True, **more)
    return path


def scan(path: Path, **options: Any) -> ClipScan:
    with open_media(path) as opened:
        assert opened.is_video
        return opened.scan(**options)  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif"])
@pytest.mark.parametrize("delays", [[100, 100, 100, 100], [40, 200, 80, 400]])
def test_each_picture_is_shown_for_its_time(tmp_path: Path, suffix: str, delays: list[int]) -> None:
    media = read_media(write(tmp_path / f"a{suffix}", delays))
    assert media.is_video and media.fps is not None and media.audio is None
    level_F = media.frames_FHWC[:, 16, 16, 0].astype(int)
    picture_F = [int(np.abs(np.array(LEVELS) - level).argmin()) for level in level_F]
    assert np.abs(np.array(LEVELS)[picture_F] - level_F).max() <= 3 and sorted(picture_F) == picture_F
    for number, start in enumerate(accumulate(delays[:-1], initial=0)):
        assert abs(picture_F.index(number) / media.fps - start / 1000) <= 0.5 / media.fps + 0.001
    assert abs(len(picture_F) / media.fps - sum(delays) / 1000) <= 1 / media.fps
    assert media.notes[0] == f"an animation ({suffix[1:].upper()}), played once"


def test_pictures_without_a_time_are_shown_as_in_browsers(tmp_path: Path) -> None:
    media = read_media(write(tmp_path / "a.gif", [0, 10, 0, 10]))
    assert (media.fps, len(media.frames_FHWC)) == (10, 4)
    assert any("4 pictures without a time are shown for 0.1 s" in note for note in media.notes)


def test_the_still_before_a_png_is_none_of_it(tmp_path: Path) -> None:
    media = read_media(write(tmp_path / "a.png", [100, 100, 100, 100], default_image=True))
    assert media.frames_FHWC[:, 0, 0, 0].tolist() == LEVELS[1:]


def test_a_transparent_animation_is_refused_as_a_clip_is(tmp_path: Path) -> None:
    for suffix in (".webp", ".png", ".gif"):
        with pytest.raises(InputError, match="the clip has transparency"):
            read_media(write(tmp_path / f"a{suffix}", [100, 100], "RGBA"))


def test_damage_is_said(tmp_path: Path) -> None:
    """In the last picture's data."""
    rng, path = np.random.default_rng(0), tmp_path / "a.gif"
    pictures = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(InputError, match=r"damaged at frame 2 .*--partial"):
        read_media(path)
    part = scan(path, partial=True)
    assert part.frames == 2 and any("damaged at frame 2" in note for note in part.notes)


def test_a_large_animation_is_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.gif", [100, 100, 300])
    want = np.stack(list(clip_frames(scan(path))))
    monkeypatch.setattr(stream, "KEPT_BYTES", 0)
    large = scan(path)
    assert not large.kept and (np.stack(list(clip_frames(large, start=1))) == want[1:]).all()
    with pytest.raises(InputError, match="has more than 2 frames"):
        scan(path, max_frames=2)
    with pytest.raises(InputError, match="video or an animation; give an image here"):
        read_image(path)


@pytest.mark.parametrize("covered", [True, False])
def test_what_a_gif_clears_is_nothing(tmp_path: Path, covered: bool) -> None:
    """Browsers show the page there, Pillow black. Where each picture covers the one before, nothing is seen of it."""
    frames = [Image.new("P", (48, 32), 1)]
    frames += [Image.new("P", (48, 32), colour) if covered else Image.new("P", (16, 32), colour) for colour in (2, 3)]
    blocks = list[bytes]()
    for number, frame in enumerate(frames):
        frame.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        data = GifImagePlugin.getdata(frame, offset=(0 if covered else 16 * number, 0))
        kind = 9 if number else 8  # to be cleared; the later ones have a transparent colour as well
        blocks += [b"!\xf9\x04", bytes([kind, 10, 0, 0, 0]), *data]
    head = b"GIF89a" + struct.pack("<HH", 48, 32) + b"\x81\x00\x00" + bytes([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    (tmp_path / "a.gif").write_bytes(head + b"".join(blocks) + b";")
    if not covered:
        with pytest.raises(InputError, match="the clip has transparency"):
            read_media(tmp_path / "a.gif")
        return
    media = read_media(tmp_path / "a.gif")
    assert media.frames_FHWC[:, 16, 40].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
