"""A contact sheet of a mixture, to be looked at: a row a sample, source, target and reference as training sees them.

Behind `instructx data sheet`. Of a clip the first, middle and last frame. Samples are spread evenly over every bucket.
Legend: F frames, H W pixels, C 3 (RGB).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from ..errors import InputError
from ..media.images import write_image
from .bucket import Bucket
from .records import Records

TILE, GAP, TEXT = 160, 6, 16  # pixels


def write_sheet(path: Path, source: Records, rows: int) -> int:
    """How many samples are on it. Raises InputError where there is none, or one of them cannot be read."""
    chosen = list(chosen_samples(source, rows))
    if not chosen:
        raise InputError(f"{source.name} has no sample to show")
    tiles = [_tiles(source, bucket, number) for bucket, number in chosen]
    columns = max(map(len, tiles))
    height = len(tiles) * (TILE + TEXT + GAP) + GAP
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, height), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (pictures, (bucket, number)) in enumerate(zip(tiles, chosen, strict=True)):
        top = GAP + row * (TILE + TEXT + GAP)
        for column, frame_HWC in enumerate(pictures):
            small = max(frame_HWC.shape) < TILE
            way = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
            sheet.paste(
                ImageOps.contain(Image.fromarray(frame_HWC), (TILE, TILE), way), (GAP + column * (TILE + GAP), top)
            )
        record = source.record("train", number, bucket)
        words = f"{bucket} [{record.task}] {record.instruction}".encode("ascii", "replace").decode()
        draw.text((GAP, top + TILE + 2), words[: sheet.width // 6], fill=(0, 0, 0))
    write_image(path, np.asarray(sheet))
    return len(chosen)


def chosen_samples(source: Records, count: int) -> Iterator[tuple[Bucket, int]]:
    """Bucket by bucket, as many of each as there is room for, at even distances."""
    buckets = source.buckets("train")
    for place, bucket in enumerate(buckets):
        share = count * (place + 1) // len(buckets) - count * place // len(buckets)
        size = source.size("train", bucket)
        for number in sorted({size * each // max(1, share) for each in range(share)}):
            yield bucket, number


def _tiles(source: Records, bucket: Bucket, number: int) -> list[np.ndarray]:
    sample = source.edit("train", number, bucket)
    places = sorted({0, bucket.frames // 2, bucket.frames - 1})
    shown = [frames_FHWC[place] for frames_FHWC in (sample.source_FHWC, sample.target_FHWC) for place in places]
    return shown if sample.reference_HWC is None else [*shown, sample.reference_HWC]
