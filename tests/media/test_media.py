"""Media in and out: colours, tags, fps, audio, rotation, variable rate, refused files, atomic writes."""

from __future__ import annotations

import io
import warnings
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter
import numpy as np
import pytest
from PIL import Image, ImageCms

from instructx_core.errors import InputError
from instructx_core.media.base import Transform
from instructx_core.media.encode import ClipFormat, write_frames
from instructx_core.media.files import read_image, read_media, write_image, write_video

COLORS = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255),
          (255, 0, 255), (12, 34, 56), (200, 120, 40), (128, 128, 128), (250, 5, 130)]  # fmt: skip


def patches(count: int = 5) -> np.ndarray:
    """Twelve 32x32 px solid patches in a 96x128 picture; every frame the same."""
    frame = np.zeros((96, 128, 3), np.uint8)
    for i, color in enumerate(COLORS):
        y, x = divmod(i, 4)
        frame[y * 32 : y * 32 + 32, x * 32 : x * 32 + 32] = color
    return np.repeat(frame[None], count, 0)


def noisy(count: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Smooth frames that differ: frame i has gray level 5 * i + 20."""
    return np.stack([np.full((height, width, 3), 20 + 5 * i, np.uint8) for i in range(count)])


def encode(path: Path, times: list[int], time_base: Fraction, frames: np.ndarray, **tags: int) -> None:
    """A clip with chosen timestamps and tags, written without the code under test."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(1, 1) / time_base, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.time_base = time_base
        for key, value in tags.items():
            setattr(stream.codec_context, key, value)
        for time, image in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_solid_colours_survive_and_tags_are_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"colours{suffix}"
    write_video(path, patches(), Fraction(30000, 1001), crf=1)
    back = read_media(path)
    assert back.color == "bt709 limited"
    assert back.fps == Fraction(30000, 1001)
    assert back.frames_FHWC.shape == (5, 96, 128, 3)
    for i, color in enumerate(COLORS):
        y, x = divmod(i, 4)
        # Inside the patch: chroma is subsampled, so edges mix.
        inside = back.frames_FHWC[:, y * 32 + 6 : y * 32 + 26, x * 32 + 6 : x * 32 + 26].astype(int)
        assert np.abs(inside - np.array(color)).max() <= 2, color
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)
        assert context.pix_fmt == "yuv420p" and context.name == "h264"
        frame = next(container.decode(video=0))
        limited = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[4, 4] for plane in frame.planes]
        assert limited[0] == 16, "black is 16 in limited range"


def test_matrix_of_the_file_is_used(tmp_path: Path) -> None:
    """Pure red as BT.601 must come back as red although we write BT.709 ourselves."""
    from av.video.reformatter import ColorRange, Colorspace

    path = tmp_path / "bt601.mp4"
    red = np.full((64, 64, 3), (255, 0, 0), np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.width = stream.height = 64
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(
                format="yuv420p",
                src_colorspace=Colorspace.ITU601,
                dst_colorspace=Colorspace.ITU601,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    media = read_media(path)
    assert media.color == "bt601 limited"
    assert np.abs(media.frames_FHWC.astype(int) - (255, 0, 0)).max() <= 3


def test_untagged_small_clip_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "untagged.mp4"
    encode(path, list(range(5)), Fraction(1, 10), noisy(5))
    media = read_media(path)
    assert any("not tagged" in note for note in media.notes)


def test_real_clip_with_audio(bunny: Path, tmp_path: Path) -> None:
    small = read_media(bunny, transform=lambda frame: frame[::10, ::10][:64, :64])
    assert small.size == (720, 1280) and small.fps == 25 and small.frames_FHWC.shape == (132, 64, 64, 3)
    assert small.audio is not None and [track.codec for track in small.audio.tracks] == ["aac"]
    path = tmp_path / "cut.mp4"
    notes = write_video(path, small.frames_FHWC[:50], small.fps, audio=small.audio)
    assert notes == ("audio (aac) copied",)
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.frames == 50 and video.average_rate == 25
        assert audio.codec_context.name == "aac" and audio.codec_context.sample_rate == 48000
        assert 1.9 < float(audio.duration * audio.time_base) < 2.1, "cut to the clip's two seconds"
        copied = sum(bytes(packet) != b"" for packet in container.demux(audio))
    with av.open(str(bunny)) as container:
        stream = container.streams.audio[0]
        expected = sum(p.pts is not None and p.pts * p.time_base < 2 for p in container.demux(stream))
    assert copied == expected, "packets are copied one by one"


def test_audio_that_the_container_cannot_hold_is_encoded(tmp_path: Path) -> None:
    source = tmp_path / "flac.mkv"
    with av.open(str(source), "w") as out:
        video = out.add_stream("libx264", rate=10)
        video.width = video.height = 64
        sound = out.add_stream("flac", rate=48000)
        sound.layout = "mono"
        for image in noisy(20):
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        wave = (np.sin(np.arange(96000) * 0.05) * 8000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
        out.mux(video.encode(None))
    media = read_media(source)
    assert media.audio is not None and [track.codec for track in media.audio.tracks] == ["flac"]
    path = tmp_path / "aac.mp4"
    (note,) = write_video(path, media.frames_FHWC, media.fps, audio=media.audio)
    assert "AAC" in note
    with av.open(str(path)) as container:
        decoded = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
        assert abs(decoded.shape[1] - 96000) < 4096 and np.abs(decoded).max() > 0.15


def test_writing_over_the_source_keeps_its_audio(bunny: Path, tmp_path: Path) -> None:
    path = tmp_path / "same.mp4"
    path.write_bytes(bunny.read_bytes())
    media = read_media(path, transform=lambda frame: frame[:64, :64])
    write_video(path, media.frames_FHWC, media.fps, audio=media.audio)
    assert read_media(path).audio is not None
    assert [p.name for p in tmp_path.iterdir()] == ["same.mp4"]


def test_variable_frame_rate_is_made_constant_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "vfr.mp4"
    encode(path, [0, 100, 200, 600, 700, 800], Fraction(1, 1000), noisy(6))
    media = read_media(path)
    assert any("variable frame rate" in note for note in media.notes)
    levels = [round((int(v) - 20) / 5) for v in media.frames_FHWC[:, 0, 0, 0]]
    assert levels == sorted(levels) and levels[0] == 0 and levels[-1] == 5
    assert media.fps is not None and abs(len(levels) / media.fps - 0.9) < 0.2, "the duration is kept"
    assert levels.count(2) > levels.count(1), "the frame that stood longest is repeated"


def test_constant_rate_survives_rounded_timestamps(tmp_path: Path) -> None:
    """Matroska keeps milliseconds: 30000/1001 fps must not be taken for a variable rate."""
    path = tmp_path / "ntsc.mkv"
    write_video(path, noisy(31), Fraction(30000, 1001))
    media = read_media(path)
    assert media.fps == Fraction(30000, 1001) and len(media.frames_FHWC) == 31
    assert not any("variable" in note for note in media.notes)


def test_rotation_is_applied(tmp_path: Path) -> None:
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32, :48] = 255  # the white quarter is at the top left as stored
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.width, stream.height = 96, 64
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a display matrix")
        stream.set_display_rotation(90)
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0))
        angle = stored.rotation % 360
        graph = av.filter.Graph()
        source = graph.add_buffer(template=container.streams.video[0])
        # FFmpeg's players turn by -theta clockwise with this filter; it is our independent judge.
        turn = graph.add("transpose", "cclock" if angle == 90 else "clock")
        sink = graph.add("buffersink")
        source.link_to(turn)
        turn.link_to(sink)
        graph.configure()
        graph.push(stored)
        expected = graph.pull().to_ndarray(format="rgb24")
    media = read_media(path)
    assert media.size == (96, 64)
    assert np.abs(media.frames_FHWC[0].astype(int) - expected).max() < 8
    assert any("turned" in note for note in media.notes)


def test_odd_size_unknown_suffix_and_wrong_pixels_are_refused(tmp_path: Path) -> None:
    good = noisy(2)
    with pytest.raises(InputError, match="even"):
        write_video(tmp_path / "a.mp4", good[:, :63], 10)
    with pytest.raises(InputError, match="suffix"):
        write_video(tmp_path / "a.webm", good, 10)
    with pytest.raises(InputError, match="suffix"):
        write_image(tmp_path / "a.xyz", good[0])
    with pytest.raises(InputError, match="uint8"):
        write_image(tmp_path / "a.png", good[0] / 255.0)
    with pytest.raises(InputError, match="RGB"):
        write_video(tmp_path / "a.mp4", good[..., :2], 10)
    with pytest.raises(InputError, match="fps"):
        write_video(tmp_path / "a.mp4", good, 0)
    with pytest.raises(InputError, match="nothing to write"):
        write_video(tmp_path / "a.mp4", good[:0], 10)
    with pytest.raises(InputError, match="does not exist"):
        write_image(tmp_path / "no" / "a.png", good[0])
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instructx_core.media import encode as media_encode

    path = tmp_path / "old.mp4"
    path.write_bytes(b"precious")

    def broken(*_: object) -> None:
        raise av.error.OSError(28, "No space left on device")

    monkeypatch.setattr(media_encode, "_to_bt709", broken)
    with pytest.raises(InputError, match="cannot be written"):
        write_video(path, noisy(3), 10)
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["old.mp4"]


@pytest.mark.parametrize(("count", "size"), [(3, (16, 32)), (5, (16, 32)), (4, (32, 16))])
def test_streamed_frames_are_counted(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    path = tmp_path / "out.mp4"
    frames = np.zeros((4, 16, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="frame"):
        write_frames(path, iter(frames), count, ClipFormat(size, 8))
    assert not list(tmp_path.iterdir()), "nothing that looks whole is left"
    write_frames(path, iter(frames), 4, ClipFormat((16, 32), 8))
    assert read_media(path).frames_FHWC.shape == (4, 16, 32, 3)


def test_images_of_every_mode(tmp_path: Path, photo: Path, gray_photo: Path) -> None:
    assert read_media(photo).frames_FHWC.shape == (1, 400, 600, 3)
    gray = read_media(gray_photo)
    assert gray.frames_FHWC.shape == (1, 512, 512, 3) and any("gray" in note for note in gray.notes)

    wide = tmp_path / "wide.png"
    Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)).save(wide)
    media = read_media(wide)
    assert (media.frames_FHWC == 100).all() and any("16-bit" in note for note in media.notes)

    clear = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(clear)
    media = read_media(clear)
    assert (media.frames_FHWC == 255).all() and any("white" in note for note in media.notes)

    opaque = tmp_path / "opaque.png"
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(opaque)
    assert read_media(opaque).notes == () and (read_image(opaque) == (255, 0, 0)).all()

    cmyk = tmp_path / "cmyk.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(cmyk)
    assert any("CMYK" in note for note in read_media(cmyk).notes)

    floats = tmp_path / "float.tif"
    Image.fromarray(np.ones((8, 8), np.float32)).save(floats)
    with pytest.raises(InputError, match="float numbers have no fixed black and white"):
        read_media(floats)


def test_exif_orientation_and_colour_profile(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    media = read_media(path)
    assert media.size == (40, 20) and any("EXIF" in note for note in media.notes)

    exif[0x0112] = 9  # no such way
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    assert read_media(path).size == (20, 40) and not read_media(path).notes
    junk = b"\xff\xe1\x00\x20Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xaa" * 14
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8", b"\xff\xd8" + junk, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's, with a path of this machine, on standard error
        assert read_media(path).notes == ("its EXIF data are damaged and were passed over",)

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = tmp_path / "tagged.png"
    Image.new("RGB", (8, 8), (10, 200, 30)).save(tagged, icc_profile=lab)
    assert (read_image(tagged) == (10, 200, 30)).all()

    broken = tmp_path / "broken.png"
    Image.new("RGB", (8, 8), (10, 200, 30)).save(broken, icc_profile=b"nonsense")
    media = read_media(broken)
    assert (media.frames_FHWC == (10, 200, 30)).all() and any("profile" in note for note in media.notes)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tif"])
def test_image_round_trip_is_exact(tmp_path: Path, suffix: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    write_image(path, frame)
    assert (read_image(path) == frame).all()


def test_jpeg_is_close(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_image(path, patches(1)[0])
    assert np.abs(read_image(path).astype(int) - patches(1)[0]).mean() < 3
    assert (path.stat().st_mode & 0o777) != 0o600, "an ordinary file, not a private one"


def _broken_files(folder: Path, bunny: Path) -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
    clip = bunny.read_bytes()
    return {
        "empty.png": b"",
        "text.mp4": b"hello world" * 50,
        "half.png": buffer.getvalue()[:400],
        "half.mp4": clip[: len(clip) // 3],
        "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "photo.heic": b"\0\0\0\x18ftypheic" + b"\0" * 64,
    }


@pytest.mark.parametrize("name", ["empty.png", "text.mp4", "half.png", "half.mp4", "list.m3u8", "photo.heic"])
def test_bad_files_are_one_line_input_errors(tmp_path: Path, bunny: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(_broken_files(tmp_path, bunny)[name])
    with pytest.raises(InputError) as caught:
        read_media(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and ";" in message


def test_missing_folder_and_too_long(tmp_path: Path, bunny: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_media(tmp_path / "none.png")
    with pytest.raises(InputError, match="not a file"):
        read_media(tmp_path)
    with pytest.raises(InputError, match="more than 10 frames"):
        read_media(bunny, max_frames=10)
    with pytest.raises(InputError, match="video"):
        read_image(bunny)


def test_a_cut_off_clip_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "whole.mkv"
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    write_video(path, frames, 10)
    whole = read_media(path)
    assert whole.notes == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"cut off, the file promises 4.0 s .*--partial"):
        read_media(path)
    media = read_media(path, partial=True)
    count = len(media.frames_FHWC)
    assert 5 < count < 40 and any("cut off" in note for note in media.notes)
    assert (media.frames_FHWC == whole.frames_FHWC[:count]).all(), "what is kept is what was there"


def test_damage_in_the_middle_is_not_silent(tmp_path: Path, bunny: Path) -> None:
    """Zeroed bytes in the middle of the data: an error; the frames before it when asked for."""
    data = bytearray(bunny.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60000] = bytes(60000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    corner: Transform = lambda frame: frame[:16, :16]  # noqa: E731 - one expression
    with pytest.raises(InputError, match=r"damaged at frame .*--partial"):
        read_media(path, transform=corner)
    media = read_media(path, transform=corner, partial=True)
    count = len(media.frames_FHWC)
    assert 20 < count < 132 and any(f"damaged at frame {count}" in note for note in media.notes)
    assert (media.frames_FHWC == read_media(bunny, transform=corner).frames_FHWC[:count]).all()
