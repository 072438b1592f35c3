"""One sample of a source as arrays and a text: what crosses from the processes that draw to the one that encodes.

Between a source (source.py) and encoding.py. No torch here: a worker process starts in a second. `Renderer` draws in
the same process or in several; which one drew a sample changes no bit of it.
Legend: F frames, H W pixels, C 3 (RGB).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .bucket import Bucket
from .samples import Regions
from .source import EditSource, PretrainingSource


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Arrays by name, with the frames in front of each, and what is said."""

    arrays: dict[str, np.ndarray]
    text: str = ""


def draw_edit(source: EditSource, split: str, bucket: Bucket, number: int) -> Drawn:
    """source and target (F,H,W,C), reference (1,H,W,C) where the bucket has one; the instruction."""
    sample = source.edit(split, number, bucket)
    arrays = {"source": sample.source_FHWC, "target": sample.target_FHWC}
    if bucket.reference:
        assert sample.reference_HWC is not None
        arrays["reference"] = sample.reference_HWC[None]
    return Drawn(arrays, sample.instruction)


def draw_scene(source: PretrainingSource, split: str, bucket: Bucket, number: int) -> Drawn:
    """target (F,H,W,C); the caption."""
    sample = source.scene(split, number, bucket)
    return Drawn({"target": sample.frames_FHWC}, sample.caption)


def draw_picture(source: PretrainingSource, split: str, bucket: Bucket, number: int) -> Drawn:
    """pixels (F,H,W,C) and weight (F,H,W) fp16."""
    sample = source.picture(split, number, bucket)
    weight_FHW = weigh(sample.regions, sample.frames_FHWC.shape[:3])
    return Drawn({"pixels": sample.frames_FHWC, "weight": weight_FHW.astype(np.float16)})


def weigh(regions: Regions, shape: tuple[int, ...]) -> np.ndarray:
    """Weights (F,H,W) with mean 1: half for the picture, half for its regions, each as much as another.

    The success of an edit is judged region by region, and a region may be 3 % of the picture.
    """
    even = np.ones(shape, np.float32)
    if not regions:
        return even
    parts = [mask * np.float32(mask.size / max(1, mask.sum())) for _, mask in regions]
    return 0.5 * even + 0.5 * np.mean(parts, 0)


class Renderer:
    """Draws samples one after another (workers 1), or in that many processes, which start at the first call."""

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise InputError(f"workers is {workers}; use at least 1")
        self.workers = workers
        self._processes: ProcessPoolExecutor | None = None

    def draw(self, draw: Callable[[int], Drawn], numbers: Sequence[int]) -> Iterator[Drawn]:
        """In the order of the numbers."""
        if self.workers == 1:
            return map(draw, numbers)
        if self._processes is None:
            context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and the GPU's state
            self._processes = ProcessPoolExecutor(self.workers, context)
        share = max(1, min(16, len(numbers) // (2 * self.workers)))
        return self._processes.map(draw, numbers, chunksize=share)
