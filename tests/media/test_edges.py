"""Odd files, made here with PyAV: 10 bit, HDR, alpha, portrait, strips, tiny pictures, no sound; handled or refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.geometry import fit_size
from instructx_core.media.files import read_media, write_image, write_video
from instructx_core.media.stream import scan_clip

PQ, HLG, BT2020, BT709 = 16, 18, 9, 1


def encode(path: Path, codec: str, pixels: str, frames: np.ndarray, source: str = "rgb24", **tags: int) -> Path:
    """A clip at 10 fps in any codec and pixel format, written without the code under test."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=10, options={"crf": "4"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        for key, value in tags.items():
            setattr(stream.codec_context, key, value)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format=source).reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, 10)
            for key in ("colorspace", "color_primaries", "color_trc"):
                if key in tags and hasattr(frame, key):
                    setattr(frame, key, tags[key])
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def gray(count: int = 5, height: int = 64, width: int = 64) -> np.ndarray:
    return np.stack([np.full((height, width, 3), 40 + 30 * i, np.uint8) for i in range(count)])


def test_ten_bits_are_read_and_noted(tmp_path: Path) -> None:
    media = read_media(encode(tmp_path / "ten.mkv", "libx264", "yuv420p10le", gray()))
    assert any("more than 8 bits" in note for note in media.notes)
    assert np.abs(media.frames_FHWC.astype(int) - gray()).max() <= 3


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"color_trc": PQ, "color_primaries": BT2020, "colorspace": BT2020}, "PQ"),
        ({"color_trc": HLG, "color_primaries": BT2020, "colorspace": BT2020}, "HLG"),
        ({"color_trc": BT709, "color_primaries": BT2020, "colorspace": BT2020}, "BT.2020"),
        ({"color_trc": BT709, "color_primaries": BT2020, "colorspace": BT709}, "BT.2020"),
    ],
)
def test_hdr_and_wide_gamut_are_refused(tmp_path: Path, tags: dict[str, int], word: str) -> None:
    path = encode(tmp_path / "hdr.mkv", "libx264", "yuv420p10le", gray(), **tags)
    for read in (read_media, scan_clip):
        with pytest.raises(InputError, match=r"HDR clip \(") as caught:
            read(path)
        assert "tone mapping is not built in" in str(caught.value)
    assert word in str(caught.value) or "BT.2020" in str(caught.value)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_p3_primaries_become_those_of_bt709(tmp_path: Path, pixels: str) -> None:
    """As screen recorders of Macs write them. The numbers are the published matrix's, under the clip's own curve."""
    colours, frames = [(200, 100, 50), (128, 128, 128), (40, 60, 180)], np.zeros((3, 64, 96, 3), np.uint8)
    for place, rgb in enumerate(colours):
        frames[:, :, place * 32 : place * 32 + 32] = rgb
    path = tmp_path / "p3.mov"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        context = stream.codec_context
        context.colorspace = context.color_trc = context.color_range = 1
        context.color_primaries = 12
        for index, image in enumerate(frames):
            rgb = av.VideoFrame.from_ndarray(image, format="rgb24")
            ranges = {"src_color_range": "JPEG", "dst_color_range": "MPEG"}
            frame: Any = rgb.reformat(format=pixels, src_colorspace="ITU709", dst_colorspace="ITU709", **ranges)
            frame.pts, frame.time_base = index, Fraction(1, 10)
            frame.colorspace = frame.color_trc = frame.color_range = 1
            frame.color_primaries = 12
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    media = read_media(path)
    want = [(216, 93, 36), (128, 128, 128), (34, 61, 188)]
    seen = media.frames_FHWC[:, 32, 16::32].astype(int)
    assert np.abs(seen - want).max() <= 3
    assert "converted from the colours of Display P3 to BT.709's" in media.notes


def test_colours_stay_in_their_place(tmp_path: Path, load_helper: Callable[[str, str], ModuleType]) -> None:
    """Each channel alone is registered with the source: colour is sampled where H.264 says it lies, not beside it."""
    registration = load_helper("instructx_test_registration", "support/registration.py")
    for height, width in ((64, 64), (90, 130)):
        picture = registration.blobs(height, width)
        write_video(tmp_path / "a.mp4", np.stack([picture] * 2), 10, crf=1)
        result = read_media(tmp_path / "a.mp4").frames_FHWC[0]
        for channel in range(3):
            want, have = (np.repeat(image[..., channel, None], 3, axis=-1) for image in (picture, result))
            assert registration.misplacement(want, have) < 0.1


def test_a_clip_with_alpha_is_refused(tmp_path: Path) -> None:
    rgba = np.concatenate([gray(), np.full((5, 64, 64, 1), 100, np.uint8)], axis=-1)
    path = encode(tmp_path / "alpha.mov", "qtrle", "argb", rgba, source="rgba")
    with pytest.raises(InputError, match=r"transparency \(argb\); export it without alpha"):
        read_media(path)


@pytest.mark.parametrize(("height", "width"), [(130, 64), (64, 130), (16, 2048), (2048, 16), (16, 16), (17, 33)])
def test_portrait_strips_and_tiny_pictures(tmp_path: Path, height: int, width: int) -> None:
    """One scale for both axes, a crop of less than one multiple; a strip that would lose a side is refused."""
    box = fit_size(height, width, 16)
    assert box.scaled_height - box.height < 16 and box.scaled_width - box.width < 16 and box.scale <= 1.0
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", pixels)
    media = read_media(tmp_path / "a.png")
    assert media.size == (height, width) and (media.frames_FHWC[0] == pixels).all()
    if max(height, width) > 2000:
        with pytest.raises(InputError, match="both sides must keep at least 16 px"):
            fit_size(height, width, 16, 64 * 64)
    if height % 2 == width % 2 == 0:
        write_video(tmp_path / "a.mp4", np.stack([pixels] * 2), 10)
        assert read_media(tmp_path / "a.mp4").size == (height, width)


def test_too_small_for_one_cell() -> None:
    with pytest.raises(InputError, match="15x40 picture cannot be fitted to a multiple of 16"):
        fit_size(40, 15, 16)


def test_no_sound_is_no_error(tmp_path: Path) -> None:
    write_video(tmp_path / "silent.mp4", gray(), 10)
    media = read_media(tmp_path / "silent.mp4")
    assert media.audio is None
    assert write_video(tmp_path / "again.mp4", media.frames_FHWC, media.fps or 0, audio=media.audio) == ()
    with av.open(str(tmp_path / "again.mp4")) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_of_a_picture_comes_back(tmp_path: Path, mode: str) -> None:
    """Read over white, written with its own alpha: the same picture again wherever it is more than a quarter opaque."""
    rgba = np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    image = Image.fromarray(rgba)
    if mode == "P":
        image = Image.fromarray(rgba[..., :3]).quantize(16)
        image.info["transparency"] = 3
        image.save(tmp_path / "a.png", transparency=3)
    else:
        image.convert(mode).save(tmp_path / "a.png")
    want = np.array(Image.open(tmp_path / "a.png").convert("RGBA")).astype(int)
    media = read_media(tmp_path / "a.png", transform=lambda frame: frame[:16])
    assert media.alpha_HW is not None and (media.alpha_HW == want[:16, :, 3]).all()
    write_image(tmp_path / "b.png", media.frames_FHWC[0], media.alpha_HW)
    have = np.array(Image.open(tmp_path / "b.png")).astype(int)
    assert (have[..., 3] == want[:16, :, 3]).all()
    solid = want[:16, :, 3] > 64
    assert np.abs(have[..., :3] - want[:16, :, :3])[solid].max() <= 3
    with pytest.raises(InputError, match="this format has no transparency"):
        write_image(tmp_path / "b.jpg", media.frames_FHWC[0], media.alpha_HW)
