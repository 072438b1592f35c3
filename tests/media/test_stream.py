"""Clips as streams: the same frames, rate and sound as the reader of whole clips; parts joined as they are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.media import stream
from instructx_core.media.files import read_media, write_video
from instructx_core.media.join import join_clips
from instructx_core.media.stream import clip_frames, scan_clip


def moving(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A ramp that wanders, so that no two frames are alike: (F, H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.stack([x * 3 + 5 * i, y * 4, x + y + 7 * i], -1) % 256 for i in range(count)]).astype(np.uint8)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("start", [0, 7, 22])
def test_stream_equals_the_whole_clip(tmp_path: Path, start: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the scan kept the decoded frames or not."""
    path = tmp_path / "clip.mp4"
    write_video(path, moving(23), Fraction(24000, 1001))
    media = read_media(path)
    size = sum(plane.buffer_size for frame in scan_clip(path).kept for plane in frame.planes)
    monkeypatch.setattr(stream, "KEPT_BYTES", size if kept else size - 1)
    scan = scan_clip(path)
    assert len(scan.kept) == (23 if kept else 0)
    assert (scan.frames, scan.fps, scan.size) == (23, media.fps, media.size)
    assert (scan.audio, scan.notes, scan.pixel_aspect) == (media.audio, media.notes, media.pixel_aspect)
    frames = list(clip_frames(scan, start=start))
    assert len(frames) == 23 - start and (np.stack(frames) == media.frames_FHWC[start:]).all()


def test_variable_frame_rate_is_read_as_the_whole_clip(tmp_path: Path) -> None:
    """Frames 0, 2, 4 .. last twice as long as the odd ones: both readers repeat and drop the same frames."""
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        time = 0
        for index, rgb in enumerate(moving(21)):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            time += 120 if index % 2 == 0 else 40
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    scan, media = scan_clip(path), read_media(path)
    assert scan.notes == media.notes and any("variable frame rate" in note for note in scan.notes)
    assert (np.stack(list(clip_frames(scan))) == media.frames_FHWC).all()
    assert (np.stack(list(clip_frames(scan, start=9))) == media.frames_FHWC[9:]).all()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_joined_parts_show_what_the_parts_show(bunny: Path, tmp_path: Path, suffix: str) -> None:
    """Parts of 1, 2, 17 and 30 frames: same pictures in the same order, even frame times, sound cut to the length."""
    lengths, rate = [17, 1, 30, 2], Fraction(30000, 1001)
    frames = moving(sum(lengths))
    parts, seen, start = [], [], 0
    for number, length in enumerate(lengths):
        parts.append(tmp_path / f"{number}.mp4")
        write_video(parts[-1], frames[start : start + length], rate)
        seen.append(read_media(parts[-1]).frames_FHWC)
        start += length
    output = tmp_path / f"all{suffix}"
    notes = join_clips(output, parts, lengths, rate, scan_clip(bunny).audio)
    back = read_media(output)
    assert notes and back.audio is not None
    assert back.fps == rate and (back.frames_FHWC == np.concatenate(seen)).all()
    with av.open(str(output)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
        container.seek(0)
        sound = max(
            float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.dts is not None
        )
    assert np.allclose(np.diff(times), float(1 / rate), atol=0.0011)
    assert sound < 50 / rate, "the sound ends with the clip"


def test_a_part_with_missing_frames_is_refused(tmp_path: Path) -> None:
    part = tmp_path / "part.mp4"
    write_video(part, moving(5), 16)
    output = tmp_path / "all.mp4"
    with pytest.raises(InputError, match="does not hold its 6 frames"):
        join_clips(output, [part], [6], Fraction(16))
    assert not output.exists() and [p.name for p in tmp_path.iterdir()] == ["part.mp4"]


def test_damage_is_found_before_anything_is_edited(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no clip")
    with pytest.raises(InputError, match=r"text\.mp4"):
        scan_clip(tmp_path / "text.mp4")
