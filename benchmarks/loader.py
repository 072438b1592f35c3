"""Reading of training samples from files, decode and fit included: samples a processor second, of one core.

    python benchmarks/loader.py [--samples 16] [--image-size 1024x1024] [--video-size 832x480] [--rounds 3] [--json OUT]

Pairs of moving noise, written first and not timed: JPEG and PNG pictures as files, as members of a tar and as cells of
a parquet, and H.264 clips. Each sample is a source and a target as arrays in the size of their bucket, as the cache of
latents gets them; processor seconds of this process, so that workers on other cores change nothing. "open" is the look
at the heads of all files. The shortest of the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import results
from PIL import Image

from instructx_core.data.mixture import Mixture, MixtureSet
from instructx_core.data.opening import open_mixture
from instructx_core.data.readers.jsonl import write_records
from instructx_core.data.record import EditRecord, Locator
from instructx_core.data.records import Records
from instructx_core.data.sizing import Sizing
from instructx_core.media.files import write_video

CASES = ("jpeg", "png", "jpeg in tar", "jpeg in parquet", "h264")


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of WxH."""
    width, height = map(int, text.split("x"))
    return height, width


def noise(size: tuple[int, int], number: int) -> np.ndarray:
    """A picture with detail that compresses like a photo: noise of an eighth of the size, scaled up."""
    height, width = size
    small = np.random.default_rng(number).integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def write_pictures(folder: Path, suffix: str, args: argparse.Namespace) -> list[tuple[Path, Path]]:
    pairs = []
    for number in range(args.samples):
        pair = (folder / f"{number:06d}.source{suffix}", folder / f"{number:06d}.target{suffix}")
        for place, path in enumerate(pair):
            Image.fromarray(noise(size_of(args.image_size), 2 * number + place)).save(path, quality=90)
        pairs.append(pair)
    return pairs


def write_clips(folder: Path, args: argparse.Namespace) -> list[tuple[Path, Path]]:
    pairs = []
    for number in range(max(1, args.samples // 8)):
        pair = (folder / f"{number}_source.mp4", folder / f"{number}_target.mp4")
        for place, path in enumerate(pair):
            picture_HWC = noise(size_of(args.video_size), 2 * number + place)
            frames_FHWC = np.stack([np.roll(picture_HWC, 4 * frame, axis=1) for frame in range(args.frames)])
            write_video(path, frames_FHWC, Fraction(16))
        pairs.append(pair)
    return pairs


def locators(case: str, folder: Path, args: argparse.Namespace) -> list[tuple[Locator, Locator]]:
    """Source and target of each sample, written in the way of the case."""
    if case == "h264":
        return [(Locator(str(a)), Locator(str(b))) for a, b in write_clips(folder, args)]
    pairs = write_pictures(folder, ".png" if case == "png" else ".jpg", args)
    if case == "jpeg in tar":
        import tarfile

        with tarfile.open(folder / "set.tar", "w") as tar:
            for path in (path for pair in pairs for path in pair):
                tar.add(path, path.name)
        return [(Locator(f"{folder}/set.tar", a.name), Locator(f"{folder}/set.tar", b.name)) for a, b in pairs]
    if case == "jpeg in parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [{"source": a.read_bytes(), "target": b.read_bytes()} for a, b in pairs]
        pq.write_table(pa.Table.from_pylist(rows), folder / "set.parquet", row_group_size=100)
        place = str(folder / "set.parquet")
        return [
            (Locator(place, row=row, column="source"), Locator(place, row=row, column="target"))
            for row in range(len(rows))
        ]
    return [(Locator(str(a)), Locator(str(b))) for a, b in pairs]


def opened(case: str, folder: Path, args: argparse.Namespace) -> Callable[[], Records]:
    modality = "video" if case == "h264" else "image"
    made = [
        EditRecord(f"{number}", "add", modality, "add it", *pair)
        for number, pair in enumerate(locators(case, folder, args))
    ]
    write_records(folder / "records.jsonl", made)
    sizing = Sizing(frames=(args.frames,))
    mixture = Mixture(case, (MixtureSet(folder / "records.jsonl", case),), sizing, validation=0)
    return lambda: open_mixture(mixture)


def read_all_samples(source: Records) -> None:
    for bucket in source.buckets("train"):
        for number in range(source.size("train", bucket)):
            source.edit("train", number, bucket)


def measured(case: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    folder.mkdir()
    open_now = opened(case, folder, args)
    source = open_now()
    read_all_samples(source)  # warm: files are in the system's cache, libraries loaded
    count = sum(source.size("train", bucket) for bucket in source.buckets("train"))
    opening = results.shortest(open_now, args.rounds)
    reading = results.shortest(lambda: read_all_samples(source), args.rounds)
    size, frames = (args.video_size, args.frames) if case == "h264" else (args.image_size, 1)
    return {
        "case": case,
        "size": size,
        "frames": frames,
        "samples": count,
        "samples_a_second": count / reading,
        "opened_a_second": count / max(opening, 1e-9),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--image-size", default="1024x1024")
    parser.add_argument("--video-size", default="832x480")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--rounds", type=int, default=3)
    results.add_options(parser, document=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [measured(case, Path(folder) / str(place), args) for place, case in enumerate(CASES)]
    lines = ["| pairs of | size | frames | samples a second | opened a second |", "| --- | --- | --- | --- | --- |"]
    for row in found:
        speeds = f"{row['samples_a_second']:.2f} | {row['opened_a_second']:.0f}"
        lines.append(f"| {row['case']} | {row['size']} | {row['frames']} | {speeds} |")
    results.report(args, found, "\n".join(lines), "loader")


if __name__ == "__main__":
    main()
