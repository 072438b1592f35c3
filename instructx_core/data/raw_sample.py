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
from typing import TypeVar

import numpy as np

from ..errors import InputError
from ..random_streams import random_stream
from .bucket import Bucket
from .record.rejects import RejectedRecord
from .samples import Regions
from .source import EditPart, PretrainingSource

T = TypeVar("T")
WHOLE_QUESTIONS, DETAIL_QUESTIONS = 4, 2  # questions about the whole that a sample keeps, and others beside each


@dataclass(frozen=True, slots=True, eq=False)
class RawSample:
    """Arrays by name, with the frames in front of each, and texts to choose from: an instruction or a caption alone, a
    question with its answer."""

    arrays: dict[str, np.ndarray]
    texts: tuple[tuple[str, ...], ...] = ()


def draw_edit(source: EditPart, split: str, bucket: Bucket, number: int) -> RawSample:
    """source and target (F,H,W,C), reference (1,H,W,C) where the bucket has one; instructions."""
    sample = source.edit(split, number, bucket)
    arrays = {"source": sample.source_FHWC, "target": sample.target_FHWC}
    if bucket.reference:
        assert sample.reference_HWC is not None
        arrays["reference"] = sample.reference_HWC[None]
    return RawSample(arrays, tuple((text,) for text in (sample.instruction, *sample.wordings)))


def draw_or_reject(
    draw: Callable[..., RawSample], part: EditPart, split: str, bucket: Bucket, number: int
) -> RawSample | RejectedRecord:
    """Of samples that lie in files: a bad one is told, and the others are drawn all the same."""
    try:
        return draw(part, split, bucket, number)
    except InputError as error:
        return RejectedRecord(str(number), str(error), f"{split} {bucket}")


def draw_captioned(source: PretrainingSource, split: str, bucket: Bucket, number: int) -> RawSample:
    """target (F,H,W,C); the caption."""
    sample = source.scene(split, number, bucket)
    return RawSample({"target": sample.frames_FHWC}, ((sample.caption,),))


def draw_picture(source: PretrainingSource, split: str, bucket: Bucket, number: int) -> RawSample:
    """pixels (F,H,W,C) and weight (F,H,W) fp16."""
    sample = source.picture(split, number, bucket)
    weight_FHW = weigh(sample.regions, sample.frames_FHWC.shape[:3])
    return RawSample({"pixels": sample.frames_FHWC, "weight": weight_FHW.astype(np.float16)})


def draw_questions(source: PretrainingSource, split: str, bucket: Bucket, number: int) -> RawSample:
    """frames (F,H,W,C); questions with their answers: of every other number about an edit's instruction."""
    rng = random_stream(number, bucket.height, bucket.width)
    if number % 2:
        edit = source.edit(split, number // 2, bucket)
        frames_FHWC, ask = edit.source_FHWC, edit.questions or (lambda rng: [(edit.instruction, edit.caption)])
    else:
        scene = source.scene(split, number // 2, bucket)
        frames_FHWC, ask = scene.frames_FHWC, scene.questions
    pairs: list[tuple[str, str]] = []
    for _ in range(WHOLE_QUESTIONS):
        whole, *others = ask(rng)
        chosen = rng.permutation(len(others))[:DETAIL_QUESTIONS]
        pairs += [whole, *(others[int(each)] for each in chosen)]
    return RawSample({"frames": frames_FHWC}, tuple(pairs))


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

    def draw(self, draw: Callable[[int], T], numbers: Sequence[int]) -> Iterator[T]:
        """In the order of the numbers."""
        if self.workers == 1:
            return map(draw, numbers)
        if self._processes is None:
            context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and the GPU's state
            self._processes = ProcessPoolExecutor(self.workers, context)
        share = max(1, min(16, len(numbers) // (2 * self.workers)))
        return self._processes.map(draw, numbers, chunksize=share)
