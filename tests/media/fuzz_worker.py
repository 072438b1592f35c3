"""Breaks clips, reads and writes them, and says of each what is wrong with the result. Called by test_fuzz.py.

    fuzz_worker.py FOLDER FIRST LAST     clips of these numbers; a line of JSON before each, and one after it

A number is one clip and one break, always the same. What a clip holds is found by a decoder of its own, here.
Times in seconds, from the first picture.
"""

from __future__ import annotations

import json
import random
import sys
import traceback
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "media")]

from fuzz_breaks import BREAKS  # noqa: E402
from sounds import write_clip  # noqa: E402

from instructx_core.errors import InputError  # noqa: E402
from instructx_core.media.files import read_media, write_video  # noqa: E402

CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "a.webm": ("libopus", {"layouts": ("mono",)}),
    "b.mkv": ("mp2", {"rate": 16000, "pictures_at": 0.4}),
    "c.mp4": ("aac", {"rate": 16000, "layouts": ("mono",)}),
    "d.mov": ("pcm_s16le", {"rate": 8000}),
    "e.ts": ("ac3", {"rate": 32000}),
    "f.avi": ("pcm_s16le", {"rate": 8000}),
    "g.flv": ("libmp3lame", {"rate": 22050, "layouts": ("mono",)}),
    "h.asf": ("wmav2", {"rate": 22050, "layouts": ("mono",)}),
    "i.mkv": ("flac", {"rate": 8000, "layouts": ("mono", "mono")}),
    "j.mkv": ("eac3", {"rate": 32000, "layouts": ("mono",), "sound_at": 0.25}),
    "k.mov": ("alac", {"rate": 8000, "layouts": ("mono",)}),
}
SUFFIXES = (".mp4", ".mov", ".mkv")
SYNC = 0.02


def white(path: Path) -> tuple[float, list[float]]:
    """(time of the first picture, times of white ones), as far as it can be decoded."""
    shown: list[tuple[float, bool]] = []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(container.streams.best("video")):
                if frame.time is not None:
                    shown.append((frame.time, frame.to_ndarray(format="gray").mean() > 128))
        except av.error.FFmpegError:
            pass
    first = shown[0][0] if shown else 0.0
    starts = [time - first for (time, on), (_, before) in zip(shown[1:], shown, strict=False) if on and not before]
    return first, starts


def loud(path: Path, first: float) -> list[tuple[list[float], int]]:
    """For each sound that has a decoder: every 10 ms that are loud, and how many packets cannot be decoded."""
    with av.open(str(path)) as container:
        numbers = [stream.index for stream in container.streams.audio if stream.codec_context is not None]
    return [_loud(path, number, first) for number in numbers]


def _loud(path: Path, number: int, first: float) -> tuple[list[float], int]:
    times, bad = list[float](), 0
    with av.open(str(path)) as container:
        packets = container.demux(container.streams[number])
        while True:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else None
            except av.error.EOFError:
                frames = None
            except av.error.FFmpegError:
                bad += 1
                continue
            if frames is None:
                return times, bad
            times += [time - first for frame in frames for time in _peaks(frame)]


def _peaks(frame: Any) -> list[float]:
    """Times of the 10 ms that are loud."""
    size, samples = len(frame.layout.channels), frame.to_ndarray()
    line = np.abs(samples.reshape(-1, size).T if samples.shape[0] == 1 else samples).max(0).astype(float)
    scale = {"u8": 128, "s16": 32768, "s32": 2**31, "flt": 1.0}[frame.format.name.removesuffix("p")]
    block = max(1, frame.sample_rate // 100)
    places = [place for place in range(0, len(line), block) if line[place : place + block].max() > 0.2 * scale]
    return [frame.time + place / frame.sample_rate for place in places if frame.time is not None]


def unlike(want: list[float], have: list[float], end: float, sync: float) -> str:
    """Beginnings in the source that are not in the result up to its end, and the other way round; "" for none."""
    missing = [time for time in _begins(want) if SYNC < time < end - 0.05 and not _near(time, have, sync)]
    added = [time for time in _begins(have) if time < end - 0.05 and not _near(time, want, sync)]
    return "; ".join(f"{word} at {times}" for word, times in (("lost", missing), ("new", added)) if times)


def _begins(times: list[float]) -> list[float]:
    return [time for time, before in zip(times, [-1.0, *times], strict=False) if time - before > 0.06]


def _near(time: float, times: list[float], sync: float) -> bool:
    return any(abs(time - other) <= sync for other in times)


def judged(path: Path, output: Path, partial: bool) -> tuple[str, str]:
    """(refused or written; what is wrong with reading and writing a clip, "" for nothing)."""
    try:
        media = read_media(path, max_frames=5000, partial=partial)
    except InputError as error:
        return "refused", "" if str(path) in str(error) and "\n" not in str(error) else f"message: {error}"
    rate = float(media.fps or 1)
    notes = [*media.notes, *write_video(output, media.frames_FHWC, rate, audio=media.audio, preset="ultrafast")]
    (first, want_white), (start, have_white), end = white(path), white(output), len(media.frames_FHWC) / rate
    problems = [f"white {unlike(want_white, have_white, end, SYNC + 0.5 / rate)}"]
    want, have = loud(path, first), loud(output, start)
    left_out = sum(" left out: " in note and note.startswith("audio") for note in notes)
    if len(have) + left_out != len(want):
        problems.append(f"{len(have)} sounds of {len(want)}")
    for number, ((one, bad), (other, worse)) in enumerate(zip(want, have, strict=False)):
        if not left_out:
            problems.append(f"sound {number} {unlike(one, other, end, SYNC)}")
            problems.append("bad packets are not told" if bad and "cannot be decoded" not in str(notes) else "")
        problems.append(f"{worse} bad packets in the result" if worse else "")
    problems = [text for text in problems if text and not text.endswith(" ")]
    return "written", f"{problems} {notes}" if problems else ""


def main(folder: Path, numbers: range) -> None:
    av.logging.set_level(None)
    kinds = [(clip, name) for name in BREAKS for clip in CLIPS]
    for number in numbers:
        chance = random.Random(number)
        clip, name = kinds[number % len(kinds)]
        codec, options = CLIPS[clip]
        source = folder / clip
        if not source.exists():
            write_clip(source, codec, **options)
        path, output = folder / f"{number}_{name}{source.suffix}", folder / f"{number}_out{chance.choice(SUFFIXES)}"
        print(json.dumps([path.name]), flush=True)
        BREAKS[name](source, path, chance)
        try:
            outcome, problem = judged(path, output, partial=chance.random() < 0.5)
        except Exception:  # noqa: BLE001 - what is to be found out
            outcome, problem = "raised", traceback.format_exc()
        print(json.dumps([path.name, outcome, problem]), flush=True)
        if not problem:
            path.unlink()
            output.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))
