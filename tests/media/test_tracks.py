"""Which way up and which track: all eight display matrices, EXIF likewise, several films, covers."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.media.files import read_media
from instructx_core.media.stream import scan_clip

# Of each EXIF orientation the matrix (a, b, c, d): x' = a x + c y, y' = b x + d y, y downwards.
WAYS = {1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
        5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0)}  # fmt: skip
LEVELS = {(-1, -1): 20, (1, -1): 90, (-1, 1): 160, (1, 1): 230}  # of each corner (x, y) as it is stored


def corners() -> np.ndarray:
    """(40, 64, 3): each corner has a gray of its own."""
    picture = np.empty((40, 64, 3), np.uint8)
    for (x, y), level in LEVELS.items():
        picture[(y > 0) * 20 :][:20, (x > 0) * 32 :][:, :32] = level
    return picture


def add_film(out: Any, codec: str = "libx264", size: tuple[int, int] = (64, 40), rate: int = 10) -> Any:
    stream = out.add_stream(codec, rate=rate, options={"crf": "1"} if codec == "libx264" else {})
    stream.width, stream.height = size
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return stream


def feed(out: Any, stream: Any, picture: np.ndarray, count: int) -> None:
    for index in range(count):
        frame: Any = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, stream.average_rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def write(path: Path, picture: np.ndarray) -> Path:
    with av.open(str(path), "w") as out:
        feed(out, add_film(out, size=(picture.shape[1], picture.shape[0])), picture, 3)
    return path


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """The MP4 with the numbers in its track header's matrix."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    data[place : place + 36] = struct.pack(">9i", *(round(v * 65536) for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", [".mp4", ".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("exif", WAYS)
def test_all_eight_ways_are_shown_upright(tmp_path: Path, exif: int, kind: str) -> None:
    a, b, c, d = WAYS[exif]
    path = tmp_path / f"way{kind}"
    if kind == ".mp4":
        with_matrix(write(path, corners()), a, b, c, d)
    else:
        tags = Image.Exif()
        tags[0x0112] = exif
        Image.fromarray(corners()).save(path, exif=tags)
    media = read_media(path)
    assert media.size == ((40, 64) if a else (64, 40)) == media.frames_FHWC.shape[1:3]
    for (x, y), level in LEVELS.items():
        across, down = a * x + c * y, b * x + d * y
        seen = media.frames_FHWC[0, -4 if down > 0 else 3, -4 if across > 0 else 3]
        assert np.abs(seen.astype(int) - level).max() <= 3, (x, y)
    said = [note for note in media.notes if "display matrix" in note or "EXIF" in note]
    assert len(said) == (exif != 1)
    assert any("mirrored" in note for note in media.notes) == (kind == ".mp4" and exif in (2, 4, 5, 7))


def test_a_slanted_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"turns it by \d+ degrees or slants it"):
        read_media(with_matrix(write(tmp_path / "a.mp4", corners()), 0.866, 0.5, -0.5, 0.866))
    assert read_media(with_matrix(tmp_path / "a.mp4", 0, 0, 0, 0)).size == (40, 64), "players take zeros for none"


def test_the_default_film_is_edited_and_the_rest_is_said(tmp_path: Path) -> None:
    """A still comes first, as some cameras and editors write it; Matroska says which track is the default."""
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        still, film = add_film(out, "mjpeg", (96, 64), 25), add_film(out)
        still.disposition, film.disposition = Disposition.comment, Disposition.default
        film.metadata["language"] = "eng"
        feed(out, still, np.zeros((64, 96, 3), np.uint8), 1)
        feed(out, film, corners(), 5)
    scan = scan_clip(path)
    assert (scan.size, scan.frames) == ((40, 64), 5)
    note = "track 1 (video h264 64x40, eng) is edited; left out: track 0 (video mjpeg 96x64)"
    assert note in scan.notes


def test_of_two_defaults_which_is_edited_is_said(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as out:
        first, second = add_film(out), add_film(out, size=(32, 32))
        feed(out, first, corners(), 5)
        feed(out, second, corners()[:32, :32], 5)
    (note,) = [note for note in scan_clip(path).notes if "left out" in note]
    assert note == "track 0 (video h264 64x40) is edited; left out: track 1 (video h264 32x32)"


def test_a_cover_picture_is_no_film(tmp_path: Path) -> None:
    """A film's cover is left out with a word; of a song there is nothing to edit."""
    for name, films in (("film.mp4", 1), ("song.mp4", 0)):
        with av.open(str(tmp_path / name), "w") as out:
            cover = add_film(out, "mjpeg", (96, 64), 25)
            cover.disposition = Disposition.attached_pic
            sound: Any = out.add_stream("aac", rate=48000)
            film = add_film(out) if films else None
            feed(out, cover, np.zeros((64, 96, 3), np.uint8), 1)
            for index in range(20):
                frame: Any = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48000, index * 1024
                out.mux(sound.encode(frame))
            if film is not None:
                feed(out, film, corners(), 5)
    scan = scan_clip(tmp_path / "film.mp4")
    assert (scan.size, scan.frames) == ((40, 64), 5)
    assert any("left out: track 2 (cover picture mjpeg 96x64)" in note for note in scan.notes)
    with pytest.raises(InputError, match="has no video stream, only a cover picture"):
        scan_clip(tmp_path / "song.mp4")


def _checksum(data: bytes) -> bytes:
    """CRC-32 of MPEG-2's tables."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return struct.pack(">I", value)


def _programme(path: Path, number: int, side: int) -> list[bytes]:
    """Packets of a broadcast of one programme, without its table of programmes."""
    options = {"mpegts_service_id": str(number), "mpegts_pmt_start_pid": str(0xFF0 + 16 * number)}
    with av.open(str(path), "w", format="mpegts", options={**options, "mpegts_start_pid": str(0x100 * number)}) as out:
        video: Any = out.add_stream("mpeg2video", rate=25)
        video.width = video.height = side
        sound: Any = out.add_stream("mp2", rate=48000)
        for index in range(25):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((side, side, 3), 99, np.uint8), format="rgb24")))
            frame: Any = av.AudioFrame.from_ndarray(np.zeros((1, 3840), np.int16), format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 1920 * index, Fraction(1, 48000)
            out.mux(sound.encode(frame))
        out.mux([*video.encode(None), *sound.encode(None)])
    data = path.read_bytes()
    packets = [data[start : start + 188] for start in range(0, len(data), 188)]
    return [packet for packet in packets if (packet[1] & 31) << 8 | packet[2] not in (0, 17)]


def test_sound_of_another_programme_is_left_out(tmp_path: Path) -> None:
    """A recording of a whole channel of a broadcaster: the other film's sound does not go with this one."""
    one, two = _programme(tmp_path / "1.ts", 1, 64), _programme(tmp_path / "2.ts", 2, 32)
    table = bytes([0, 0xB0, 17, 0, 1, 0xC1, 0, 0]) + struct.pack(">4H", 1, 0xE000 | 0x1000, 2, 0xE000 | 0x1010)
    first = b"\x47\x40\x00\x10\x00" + table + _checksum(table)
    packets = [packet for pair in zip_longest(one, two, fillvalue=b"") for packet in pair]
    (tmp_path / "both.ts").write_bytes(first.ljust(188, b"\xff") + b"".join(packets))
    with av.open(str(tmp_path / "both.ts")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"] * 2
    media = read_media(tmp_path / "both.ts")
    assert media.audio is not None and [(track.name, track.stream) for track in media.audio.tracks] == [
        ("audio (mp2)", 1)
    ]
    assert (
        media.size == (64, 64) and "left out: track 2 (video mpeg2video 32x32), track 3 (audio mp2)" in media.notes[0]
    )
