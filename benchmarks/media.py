"""Reading and writing of clips with sound, without a model: processor seconds of this process, of the library alone.

    python benchmarks/media.py [--seconds 20] [--size 640x360] [--rounds 3] [--json OUT.json]

Clips of moving noise with a tone, by sound and output. "read" is the look at the file (pictures and sound decoded
once), "write" the sound into the output, with pictures of 16x16; "both" is a whole edit without its model, at the
clip's own size. The shortest of the rounds. Needs nothing but `instructx_core.media`, so that the same file measures
older versions.
"""

from __future__ import annotations

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import results

from instructx_core.media.encode import ClipFormat, write_frames
from instructx_core.media.stream import clip_frames, scan_clip

RATE, SAMPLES = 25, 48000
PARTS = ("read", "write", "both")
CASES = {  # source, codec of its sound, output
    "no sound": ("a.mp4", "", ".mp4"),
    "AAC copied": ("b.mp4", "aac", ".mp4"),
    "AC-3 copied": ("c.mkv", "ac3", ".mkv"),
    "FLAC to AAC": ("d.mkv", "flac", ".mp4"),
    "Opus to AAC": ("e.mkv", "libopus", ".mp4"),
}


def write_source(path: Path, codec: str, seconds: int, size: tuple[int, int]) -> None:
    """A clip made with PyAV alone."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width + 64, 3), np.uint8)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "30"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound: Any = out.add_stream(codec, rate=SAMPLES) if codec else None
        for number in range(seconds * RATE):
            picture = np.ascontiguousarray(noise[:, number % 64 : number % 64 + width])
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if sound is not None and number % RATE == 0:
                tone = np.sin(np.arange(SAMPLES * 2) * 0.03) * 8000
                frame: Any = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], format="s16", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = SAMPLES, number // RATE * SAMPLES, Fraction(1, SAMPLES)
                out.mux(sound.encode(frame))
        for stream in (video, sound):
            if stream is not None:
                out.mux(stream.encode(None))


def measured(folder: Path, name: str, args: argparse.Namespace) -> dict[str, Any]:
    source, codec, suffix = CASES[name]
    width, height = map(int, args.size.split("x"))
    write_source(folder / source, codec, args.seconds, (width, height))
    scan = scan_clip(folder / source)
    picture = np.full((16, 16, 3), 128, np.uint8)  # the smallest, so that the sound can be seen
    form = ClipFormat((16, 16), scan.fps, audio=scan.audio, preset="ultrafast")

    def both() -> None:
        clip = scan_clip(folder / source)
        whole = ClipFormat(clip.size, clip.fps, audio=clip.audio, preset="ultrafast")
        write_frames(folder / f"both{suffix}", clip_frames(clip), clip.frames, whole)

    return {
        "case": name,
        "both": results.shortest(both, args.rounds),
        "read": results.shortest(lambda: scan_clip(folder / source), args.rounds),
        "write": results.shortest(
            lambda: write_frames(folder / f"out{suffix}", [picture] * scan.frames, scan.frames, form), args.rounds
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--rounds", type=int, default=3)
    results.add_options(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [measured(Path(folder), name, args) for name in CASES]
    heads = "".join(f"{f'{part}, s':>9}" for part in PARTS)
    lines = [f"{'sound':<14}{heads}   ({args.seconds} s of {args.size}, processor seconds)"]
    lines += [f"{row['case']:<14}" + "".join(f"{row[part]:>9.3f}" for part in PARTS) for row in found]
    results.report(args, found, "\n".join(lines))


if __name__ == "__main__":
    main()
