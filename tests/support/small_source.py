"""A data source that is no world: two sizes, clips of five frames, finitely many samples, no judge."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from instructx_core.data.bucket import Bucket
from instructx_core.data.samples import EditSample, PictureSample, SceneSample

SIZES = ((64, 96), (96, 64))


class SmallSource:
    """Satisfies data/source.py::PretrainingSource; `count` samples a bucket."""

    name, version = "small", "1"

    def __init__(self, count: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
        self.count, self.sizes = count, sizes

    def buckets(self, split: str) -> tuple[Bucket, ...]:
        images = tuple(Bucket("image", 1, *size) for size in self.sizes)
        return (*images, Bucket("video", 5, *self.sizes[0]), Bucket("video", 5, *self.sizes[0], reference=True))

    def size(self, split: str, bucket: Bucket) -> int:
        return self.count

    def task(self, split: str, number: int, bucket: Bucket) -> str:
        return "free"

    def frames(self, number: int, bucket: Bucket) -> np.ndarray:
        assert number < self.count
        shape = (bucket.frames, bucket.height, bucket.width, 3)
        return np.random.default_rng(number).integers(0, 256, shape, np.uint8)

    def edit(self, split: str, number: int, bucket: Bucket) -> EditSample:
        frames_FHWC = self.frames(number, bucket)
        reference_HWC = frames_FHWC[0] if bucket.reference else None
        return EditSample(frames_FHWC, 255 - frames_FHWC, "invert the colors", "free", reference_HWC)

    def scene(self, split: str, number: int, bucket: Bucket) -> SceneSample:
        return SceneSample(self.frames(number, bucket), "noise", lambda generator: [("what is this?", "noise")])

    def picture(self, split: str, number: int, bucket: Bucket) -> PictureSample:
        return PictureSample(self.frames(number, bucket))

    def texts(self) -> Iterator[str]:
        yield from ("invert the colors", "noise", "what is this?")
