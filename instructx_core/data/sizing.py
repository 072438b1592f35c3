"""Which bucket a picture or clip belongs to: its size among a ladder of sizes, its length among lengths of 4n + 1.

Between probing.py, which says what a file is, and bucket.py. Nothing is enlarged; what is cut off at the sides to reach
a bucket's shape is bounded. Clips are taken at one rate, from their start.
Legend: H W pixels; fps in Hz.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from ..errors import InputError
from ..geometry import fill_size

SHAPES = (1.0, 4 / 3, 3 / 2, 16 / 9, 2.0, 8 / 3)  # long side / short side
NEAR = 0.02  # of the picture: sizes that cut off about as little
Size = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class Sizing:
    """Rules of a mixture. *_pixels: largest area of a bucket. multiple: of both sides, the model's. fps: of clips.

    frames: lengths of clips at that rate. max_cut: share of a picture that may be cut off.
    """

    image_pixels: int = 1024 * 1024
    video_pixels: int = 480 * 832
    reference_pixels: int = 512 * 512
    multiple: int = 16
    fps: int = 16
    frames: tuple[int, ...] = (17, 33, 49, 81)
    max_cut: float = 0.25

    def __post_init__(self) -> None:
        for name in ("image_pixels", "video_pixels", "reference_pixels"):
            if getattr(self, name) < self.multiple**2:
                raise InputError(f"{name} is {getattr(self, name)}; a bucket has at least {self.multiple} x itself")
        if self.multiple < 1 or self.fps < 1 or not 0 <= self.max_cut < 1:
            raise InputError("multiple and fps are at least 1, max_cut lies in [0, 1); change the mixture")
        if not self.frames or any(count < 1 or count % 4 != 1 for count in self.frames):
            raise InputError(f"frames is {list(self.frames)}; give lengths of 4n + 1, e.g. [17, 33, 49, 81]")

    def size(self, height: int, width: int, pixels: int) -> Size:
        """The largest size of the ladder of those that cut off least. Raises InputError where none fits."""
        return _nearest(height, width, pixels, self.multiple, self.max_cut)

    def length(self, frames: int, fps: Fraction) -> int:
        """The longest of `frames` that a clip has at this rate. Raises InputError for one that is too short."""
        count = len(frame_indices(frames, fps, self.fps))
        fitting = [each for each in self.frames if each <= count]
        if not fitting:
            raise InputError(
                f"{count} frames at {self.fps} fps; the shortest bucket has {min(self.frames)}: add a shorter length "
                "to frames, or leave the clip out"
            )
        return max(fitting)


@lru_cache(maxsize=4096)
def _nearest(height: int, width: int, pixels: int, multiple: int, max_cut: float) -> Size:
    """Behind Sizing.size; the pictures of a set have few sizes."""
    fitting = [
        (cut_share(height, width, size), size)
        for size in ladder(pixels, multiple)
        if size[0] <= height and size[1] <= width
    ]
    if not fitting:
        raise InputError(f"{width}x{height} pixels; both sides must have at least {multiple}")
    least = min(cut for cut, _ in fitting)
    if least > max_cut:
        raise InputError(
            f"{width}x{height} pixels: no bucket of this shape, {least:.0%} would be cut off; crop it, or raise "
            f"max_cut ({max_cut:g})"
        )
    return max((size for cut, size in fitting if cut <= least + NEAR), key=lambda size: size[0] * size[1])


def cut_share(height: int, width: int, size: Size) -> float:
    """Share of a picture that is cut off to reach the shape of `size`."""
    scale = fill_size(height, width, *size).scale
    return max(0.0, 1 - (size[0] / scale) * (size[1] / scale) / (height * width))


@lru_cache(maxsize=64)
def ladder(pixels: int, multiple: int) -> tuple[Size, ...]:
    """Sizes of every shape, lying and standing, of at most `pixels`, each step with about 0.7 of the area above."""
    found: set[Size] = set()
    for step in range(2 * math.ceil(math.log2(pixels / multiple**2)) + 1):
        area = pixels * 2 ** (-step / 2)
        for shape in SHAPES:
            short = math.sqrt(area / shape) / multiple
            short = multiple * int(short + (0.5 if shape > 1 else 1e-9))
            long = int(area / short / multiple + 1e-9) * multiple if shape > 1 and short else short
            if short and 0.85 < long / short / shape < 1.15:  # small sides cannot have every shape
                found |= {(short, long), (long, short)}
    return tuple(sorted(found, reverse=True))


def frame_indices(frames: int, fps: Fraction, rate: int) -> list[int]:
    """Numbers of the frames of a clip that are shown at `rate`; every frame of one that is not faster."""
    if fps <= rate:
        return list(range(frames))
    step = fps / rate
    count = math.floor((frames - 1) / step) + 1
    return [math.floor(number * step + Fraction(1, 2)) for number in range(count)]
