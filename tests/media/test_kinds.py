"""Files that are no picture and no clip are named, with what to do; those that can be read are read."""

from __future__ import annotations

import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.media.encode import ClipFormat, write_frames
from instructx_core.media.files import open_media, read_media
from instructx_core.media.outputs import not_written

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'

HEADS = {
    "plain.svg": (SVG, "a drawing (SVG); export it as PNG"),
    "xml.svg": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- made by hand -->\n' + SVG, "a drawing (SVG)"),
    "comment.svg": (b"\n<!-- made by hand -->\n" + SVG, "a drawing (SVG)"),
    "doctype.svg": (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd">' + SVG, "a drawing (SVG)"),
    "a.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a document (PDF); export the page"),
    "a.ai": (b"junk" * 20 + b"%PDF-1.5\n" + bytes(50), "a document (PDF)"),
    "a.ps": (b"%!PS-Adobe-3.0\n%%Pages: 1\n", "a drawing (PostScript); export it as PNG"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "a drawing (PostScript)"),
    "a.emf": (struct.pack("<10I", 1, 108, 0, 0, 9, 9, 0, 0, 300, 300) + b" EMF" + bytes(80), "a drawing of Windows"),
    "a.psb": (b"8BPS\x00\x02" + bytes(60), "a project of an image program (Photoshop"),
    "cut.psd": (b"8BPS\x00\x01", "a project of an image program"),
    "a.xcf": (b"gimp xcf v011\x00", "a project of an image program"),
    "a.dpx": (b"SDPX\x00\x00\x08\x00V2.0", "DPX or Cineon"),
    "a.mp3": (b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(500), "sound without pictures"),
    "bare.mp3": (b"\xff\xfb\x90\x64" + bytes(413) + b"\xff\xfb\x90\x64", "sound without pictures"),
    "a.aac": (b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(50), "sound without pictures"),
    "a.wav": (b"RIFF\x24\x00\x00\x00WAVEfmt ", "sound without pictures"),
    "a.flac": (b"fLaC\x00\x00\x00\x22", "sound without pictures"),
    "a.aiff": (b"FORM\x00\x00\x00\x2eAIFFCOMM", "sound without pictures"),
    "a.r3d": (b"\x00\x00\x01\x00RED2\x00\x00", "a clip that is not read here; export it as MP4"),
    "a.swf": (b"CWS\x0a\x10\x20\x00\x00\x78\x9c", "a clip that is not read here"),
    "a.rar": (b"Rar!\x1a\x07\x01\x00", "an archive; unpack it"),
    "a.svgz": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "an archive"),
    "a.tar": (b"in.png" + bytes(251) + b"ustar\x0000", "an archive"),
    "a.m3u8": (b"#EXTM3U\n#EXTINF:4,\nfile:///etc/passwd\n", "a playlist, which only names clips"),
    "a.mpd": (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', "a playlist"),
    "page.jpg": (b"\r\n<!DOCTYPE html>\n<html><head><title>Sign in</title>", "a web page; download the picture"),
    "lfs.mp4": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "only the pointer to a file"),
    "error.png": (b'{"error": "access denied"}', 'is text (\'{"error": "access denied"}\' ...)'),
    "japanese.txt": ("\u7de8\u96c6\u3057\u3066 ".encode() * 500, "is text ('\u7de8\u96c6\u3057\u3066 "),
    "camera.mjpg": (b"--frame\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff\xe0", "pictures of a network camera"),
    "a.npy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "an array of NumPy"),
    "unfinished.mp4": (bytes(9000), "nothing but zeros where it begins"),
    "a.yuv": (bytes(range(256)) * 9, "is bare pixels"),
    "a.bin": (b"\x9b\x8f" + bytes(range(200, 256)) * 9, "cannot be read as an image or a video (Invalid data found"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str) -> None:
    content, words = HEADS[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_media(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and words in message and "is damaged" not in message


def test_kinds_as_their_programs_write_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in.png", b"picture")
    np.save(tmp_path / "b.npy", np.zeros((4, 4)))
    Image.new("RGB", (8, 8)).save(tmp_path / "c.pdf")
    Image.new("RGB", (8, 8)).save(tmp_path / "d.eps")
    (tmp_path / "e.psd").write_bytes(psd(layers=2))
    _encode(tmp_path / "f.m2v", "mpeg2video", "mpeg2video")
    with av.open(str(tmp_path / "g.mp3"), "w") as out:
        stream: Any = out.add_stream("mp3", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    words = [
        "archive",
        "NumPy",
        "document",
        "PostScript",
        "2 layers .PSD.",
        "bare MPEG stream",
        "sound without",
    ]
    for path, word in zip(sorted(tmp_path.iterdir()), words, strict=True):
        with pytest.raises(InputError, match=word):
            read_media(path)


def psd(layers: int) -> bytes:
    """Photoshop's format, 4x4 RGB: header, no palette, no resources, empty layers, the flat picture."""
    one = struct.pack(">4iH", 0, 0, 0, 0, 0) + b"8BIMnorm" + bytes([255, 0, 0, 0]) + struct.pack(">I", 12) + bytes(12)
    section = struct.pack(">h", layers) + one * layers if layers else b""
    section = struct.pack(">I", len(section)) + section
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 4, 4, 8, 3) + bytes(8)
    return head + struct.pack(">I", len(section)) + section + b"\x00\x00" + bytes([10] * 16 + [20] * 16 + [30] * 16)


def test_a_tape_of_a_camera_is_read(tmp_path: Path) -> None:
    """Raw DV, which has no other name than what it begins with."""
    with av.open(str(tmp_path / "a.dv"), "w", format="dv") as out:
        video: Any = out.add_stream("dvvideo", rate=25)
        video.width, video.height, video.pix_fmt = 720, 576, "yuv420p"
        sound: Any = out.add_stream("pcm_s16le", rate=48000, layout="stereo")
        for number in range(5):
            picture = np.full((576, 720, 3), 40 * number, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            tone = np.full((1, 3840), 8000 if number == 3 else 0, np.int16)
            frame: Any = av.AudioFrame.from_ndarray(tone, format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 1920 * number, Fraction(1, 48000)
            out.mux(sound.encode(frame))
    media = read_media(tmp_path / "a.dv")
    assert media.fps == 25 and media.frames_FHWC.mean((1, 2, 3)) == pytest.approx([0, 40, 80, 120, 160], abs=2)
    assert media.audio is not None and media.audio.tracks[0].codec == "pcm_s16le" and not media.audio.lost
    assert any(note.startswith("pixels are not square") for note in media.notes)


def test_a_broken_drawing_is_one_sentence(tmp_path: Path) -> None:
    """Pillow divides by the size that such a file gives: zero."""
    (tmp_path / "a.emf").write_bytes(b"\x01\x00\x00\x00" + bytes(36) + b" EMF" + bytes(80))
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_media(tmp_path / "a.emf")


def test_what_can_be_drawn_is_drawn(tmp_path: Path) -> None:
    """A Photoshop file without layers; a picture whose name says another kind."""
    (tmp_path / "flat.psd").write_bytes(psd(layers=0))
    assert (read_media(tmp_path / "flat.psd").frames_FHWC == (10, 20, 30)).all()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.svg")
    assert (read_media(tmp_path / "a.svg").frames_FHWC == (255, 0, 0)).all()


def _encode(path: Path, kind: str, codec: str, options: dict[str, str] | None = None) -> np.ndarray:
    gray_N = np.arange(6, dtype=np.uint8) * 40
    with av.open(str(path), "w", format=kind, options=options or {}) as out:
        stream: Any = out.add_stream(codec, rate=Fraction(24000, 1001))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index, gray in enumerate(gray_N):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), gray, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1001, 24000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return gray_N


@pytest.mark.parametrize("partial", [False, True])
def test_a_protected_clip_is_not_damaged(tmp_path: Path, partial: bool) -> None:
    """Encrypted as films of shops are; with the key in nobody's hands its pictures are noise."""
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
           "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}  # fmt: skip
    _encode(tmp_path / "a.mp4", "mp4", "libx264", key)
    if not hasattr(av.Packet, "iter_sidedata"):
        pytest.skip("this PyAV does not tell")
    with pytest.raises(InputError, match=r"is protected \(encrypted, as rented films are\)"):
        read_media(tmp_path / "a.mp4", partial=partial)


def test_y4m_is_read(tmp_path: Path) -> None:
    gray_N = _encode(tmp_path / "a.y4m", "yuv4mpegpipe", "rawvideo")
    media = read_media(tmp_path / "a.y4m")
    assert media.fps == Fraction(24000, 1001) and media.audio is None
    assert np.abs(media.frames_FHWC.mean((1, 2, 3)) - gray_N).max() <= 1


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "gone.png").symlink_to("old.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
    cases: dict[str, Callable[[], Path]] = {
        "no such file; check the path": lambda: tmp_path / "none.png",
        "an address, not a file; download it first": lambda: Path("https://example.org/a.png"),
        "not a file but a folder; give one file of it": lambda: tmp_path / "folder",
        "the file is empty": lambda: tmp_path / "empty.png",
        "a link to old.png, which is not there": lambda: tmp_path / "gone.png",
        "cannot be opened (Too many levels of symbolic links)": lambda: tmp_path / "loop.png",
        "cannot be opened (Not a directory)": lambda: tmp_path / "empty.png" / "a.png",
        "cannot be opened (File name too long)": lambda: tmp_path / ("a" * 300),
        "a pipe or a device": lambda: tmp_path / ("pipe.mp4" if hasattr(os, "mkfifo") else "folder"),
    }
    for words, path in cases.items():
        with pytest.raises(InputError) as caught:
            open_media(path())
        assert words in str(caught.value), caught.value


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
def test_only_a_full_disk_is_called_full(tmp_path: Path) -> None:
    import resource

    noise_FHWC = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    form = ClipFormat((64, 64), 10, crf=0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"File too large\); free some space first"):
            write_frames(tmp_path / "a.mkv", noise_FHWC, 30, form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(av.error.FFmpegError) as refused, av.open(str(tmp_path / "b.mp4"), "w") as out:
        out.mux(_backwards(out))
    message = str(not_written(tmp_path / "b.mp4", refused.value))
    assert "the encoder or the container refused its content" in message and "space" not in message
    with pytest.raises(OSError) as absent:
        (tmp_path / "none" / "c.mp4").touch()
    assert "choose another place" in str(not_written(tmp_path / "none" / "c.mp4", absent.value))


def _backwards(out: Any) -> list[Any]:
    """Two packets whose times go back, which MP4 refuses."""
    stream = out.add_stream("mpeg4", rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24").reformat(format="yuv420p")
    frame.pts = 0
    packets = [*stream.encode(frame), *stream.encode(None)]
    (packet,) = packets
    packet.pts = packet.dts = 9
    out.mux(packet)
    packet.pts = packet.dts = 1
    return packets


def test_one_good_job_among_all_of_them(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file ends a list, whatever it is."""
    from instructx_core.cli import main

    lines = []
    for number, (name, (content, _)) in enumerate(HEADS.items()):
        (tmp_path / name).write_bytes(content)
        lines.append({"input": name, "instruction": "x", "output": f"out{number}.png"})
    Image.new("RGB", (32, 32)).save(tmp_path / "good.png")
    lines.append({"input": "good.png", "instruction": "make it blue", "output": "good_out.png"})
    (tmp_path / "jobs.json").write_text(json.dumps(lines))
    options = ["--model", str(random_checkpoint), "--device", "cpu", "--steps", "1", "--size", "32x32"]
    assert main(["edit", "--jobs", str(tmp_path / "jobs.json"), *options]) == 1
    text = capsys.readouterr().out
    assert f"{len(lines)} jobs: 1 done, 0 skipped, {len(lines) - 1} failed" in text and "Error" not in text
