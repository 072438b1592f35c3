"""Times of a clip's pictures: mixed rates, equal and missing stamps, a held picture, a missing end, streams without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.media.clip.timing import NO_RATES, FrameTime, constant_rate
from instructx_core.media.stream import ClipScan, scan_clip

MS = Fraction(1, 1000)


def write(path: Path, times: Sequence[int], base: Fraction = MS, last: int = 0, bframes: int = 0, **how: Any) -> Path:
    """A clip whose frame i is a gray of its own among 46, shown at times[i]; the last one for `last`."""
    with av.open(str(path), "w", format=how.get("format")) as out:
        options = {"crf": "20", "bf": str(bframes), **how.get("options", {})}
        stream: Any = out.add_stream(how.get("codec", "libx264"), rate=how.get("rate", 30), options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = base
        packets = []
        for index, time in enumerate(times):
            frame: Any = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), 20 + index * 5 % 230, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = time, base
            packets += stream.encode(frame)
        packets += stream.encode(None)
        steps = dict(zip(times, [*np.diff(times).tolist(), last], strict=True)) if last else {}
        for packet in packets:
            if packet.pts in steps:
                packet.duration = steps[packet.pts]
            out.mux(packet)
    return path


def first_shown(scan: ClipScan) -> dict[int, float]:
    """Number of each picture that is shown -> when, in seconds."""
    shown: dict[int, float] = {}
    for place, number in enumerate(scan.picked):
        shown.setdefault(number, float(place / scan.fps))
    return shown


def steps(*parts: tuple[int, int]) -> list[int]:
    """(step, how often), ... -> times."""
    return list(accumulate([step for step, count in parts for _ in range(count)], initial=0))


@pytest.mark.parametrize(
    ("times", "base", "rate"),
    [
        (steps((5, 24 * 2), (4, 30 * 3)), Fraction(1, 120), Fraction(30)),  # film, then TV
        (steps((4, 30), (2, 60 * 2)), Fraction(1, 120), Fraction(60)),
        (steps((1001, 40), (2002, 20), (1001, 40)), Fraction(1, 30000), Fraction(30000, 1001)),  # frames left out
        (steps((100, 5), (400, 1), (100, 6)), MS, Fraction(10)),  # a pause
        (steps((33, 10), (34, 5), (33, 12), (67, 20), (33, 30)), MS, None),
        (steps(*[(100 + 37 * (i * i % 11), 1) for i in range(40)]), MS, None),  # a screen recorder's
    ],
)
def test_every_picture_keeps_its_time(tmp_path: Path, times: list[int], base: Fraction, rate: Fraction | None) -> None:
    """Within half a frame of the constant rate, and the whole clip its length within one."""
    scan = scan_clip(write(tmp_path / "mixed.mkv" if base == MS else tmp_path / "mixed.mp4", times, base))
    assert rate in (None, scan.fps)
    want = [float((time - times[0]) * base) for time in times]
    shown = first_shown(scan)
    assert len(shown) >= 0.98 * len(times)
    assert max(abs(shown[number] - want[number]) for number in shown) <= 0.5 / scan.fps + 0.001
    assert abs(scan.frames / scan.fps - want[-1] - 1 / scan.fps) <= 1.5 / scan.fps
    assert any("variable frame rate made constant" in note for note in scan.notes)


def test_ffmpegs_own_filter_shows_the_same_pictures(tmp_path: Path) -> None:
    """`fps` with round=near, an independent judge of which picture is shown when."""
    path = write(tmp_path / "mixed.mp4", steps((5, 12), (4, 15), (9, 3), (4, 8)), Fraction(1, 120))
    scan = scan_clip(path)
    with av.open(str(path)) as clip:
        frames = list(clip.decode(video=0))
        graph = av.filter.Graph()
        source = graph.add_buffer(template=clip.streams.video[0])
        rate, sink = graph.add("fps", f"fps={scan.fps}:round=near"), graph.add("buffersink")
        source.link_to(rate)
        rate.link_to(sink)
        graph.configure()
        levels = [int(frame.to_ndarray(format="gray").mean().round()) for frame in frames]
        for frame in frames:
            graph.push(frame)
        graph.push(None)
        judged = []
        while True:
            try:
                judged.append(int(graph.pull().to_ndarray(format="gray").mean().round()))
            except (av.error.BlockingIOError, av.error.EOFError):
                break
    assert len(set(levels)) == len(levels)
    have = [levels[number] for number in scan.picked]
    assert have[: len(judged) - 1] == judged[:-1] and abs(len(have) - len(judged)) <= 1


def test_frames_without_a_time_of_their_own_keep_the_length(tmp_path: Path) -> None:
    """One equal time stamp in a minute of video must not make up a rate for the rest."""
    times = [0, 33, 66, 100, 600, 600, 633, 666, 700, 1200, 1233, 1266, 1300, 1333, 1366, 1400]
    path = write(tmp_path / "spread.mkv", [*range(0, 1600, 100)])
    with av.open(str(path)) as source, av.open(str(tmp_path / "equal.mkv"), "w") as out:
        target = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.pts = packet.dts = times[packet.pts // 100]
                packet.stream = target
                out.mux(packet)
    scan = scan_clip(tmp_path / "equal.mkv")
    assert abs(scan.frames / scan.fps - 1.433) < 0.06
    assert any("1 of 16 frames have no time of their own" in note for note in scan.notes)
    shown = first_shown(scan)
    assert all(abs(shown[number] - times[number] / 1000) <= 0.5 / scan.fps for number in shown if number != 5)


def test_h264_in_avi_keeps_its_rate(tmp_path: Path) -> None:
    """AVI has no time stamps, and frames that refer to later ones come out of order."""
    path = write(tmp_path / "wavy.avi", range(60), Fraction(1, 30), bframes=2)
    scan = scan_clip(path)
    assert scan.fps == 30 and abs(scan.frames - 60) <= 1 and sorted(set(scan.picked)) == list(range(60))


def test_a_rate_that_no_file_can_have_is_thinned_out(tmp_path: Path) -> None:
    """Of a high-speed camera; what is written takes less than 1000 fps, which must not come out after the edit."""
    scan = scan_clip(write(tmp_path / "fast.mp4", range(60), Fraction(1, 4000), rate=4000))
    assert scan.fps == 999 and abs(scan.frames / scan.fps - 60 / 4000) < 0.002
    assert any("variable frame rate made constant at 999.000 fps" in note for note in scan.notes)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_picture_that_is_held_at_the_end_is_held(tmp_path: Path, suffix: str) -> None:
    scan = scan_clip(write(tmp_path / f"held{suffix}", steps((100, 5)), last=3000))
    assert scan.fps == 10 and list(scan.picked) == [0, 1, 2, 3, 4] + [5] * 30
    assert "the last picture is held for 3.00 s, as the file says" in scan.notes


def test_a_missing_end_is_said_however_short(tmp_path: Path) -> None:
    """Less than half a second: edited with a word. More: refused."""
    path = write(tmp_path / "whole.mkv", range(0, 3000, 25), options={"g": "1"})
    scan = scan_clip(path)
    assert scan.frames == 120 and not any("cut off" in note for note in scan.notes)
    with av.open(str(path)) as clip:
        places = [packet.pos for packet in clip.demux(video=0) if packet.pts is not None]
    data = path.read_bytes()
    path.write_bytes(data[: places[116]])
    assert re.search(
        r"the last 0\.1\d s of its 3\.0\d s hold no picture: it may be cut off", str(scan_clip(path).notes)
    )
    path.write_bytes(data[: places[90]])
    with pytest.raises(InputError, match=r"cut off, the file promises 3\.0 s but 2\.[23] s"):
        scan_clip(path)


def test_raw_streams_have_the_rate_that_is_in_them_or_a_word(tmp_path: Path) -> None:
    path = write(tmp_path / "raw.h264", range(30), Fraction(1, 50), rate=50, format="h264")
    scan = scan_clip(path)
    assert scan.fps == 50 and scan.frames == 30 and not any("frame rate" in note for note in scan.notes)
    options = {"x265-params": "vui-timing-info=0:log-level=none"}
    path = write(
        tmp_path / "raw.h265", range(9), Fraction(1, 50), rate=50, format="hevc", codec="libx265", options=options
    )
    assert any("gives no frame rate; 25 fps assumed" in note for note in scan_clip(path).notes)


@pytest.mark.parametrize(("jump", "word"), [(-5000, r"-4\.9 s at frame 10"), (8_000_000, r"\+8000\.1 s at frame 10")])
def test_a_clock_that_jumps_is_refused(tmp_path: Path, jump: int, word: str) -> None:
    """As of two recordings that were put one after the other; hours of a held picture are no clip."""
    path = write(tmp_path / "one.mkv", range(10_000, 12_000, 100), options={"g": "1"})
    with av.open(str(path)) as source, av.open(str(tmp_path / "two.mkv"), "w") as out:
        target = out.add_stream_from_template(source.streams.video[0])
        count = 0
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.pts += jump * (count >= 10)
                packet.dts = count if jump < 0 else packet.pts
                packet.stream, count = target, count + 1
                out.mux_one(packet)
    with pytest.raises(InputError, match=f"clock jumps by {word}"):
        scan_clip(tmp_path / "two.mkv")


@pytest.mark.parametrize(("step", "jitter"), [(0.25, 0.055), (0.5, 0.12), (0.1, 0.024)])
def test_jitter_at_a_low_rate_is_said(step: float, jitter: float) -> None:
    """A quarter of a frame is nothing at 24 fps and an eighth of a second at 2: a note, and a usual rate."""
    notes: list[str] = []
    shown = [FrameTime(k * step + jitter * (k % 2), step) for k in range(20)]
    timing = constant_rate(Path("x.mkv"), shown, NO_RATES, notes)
    assert notes, f"{timing.fps} fps without a word"
    quiet: list[str] = []
    even = constant_rate(Path("x.mkv"), [FrameTime(k * step, step) for k in range(20)], NO_RATES, quiet)
    assert even.fps == round(1 / step) and not quiet
