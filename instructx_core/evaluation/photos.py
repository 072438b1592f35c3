"""Real photos for the benchmark: crops of those in scikit-image's wheel, as pictures to edit and as grounds.

Place: photos -> groups. A photo here is a picture of people, animals, things or places through an ordinary camera: ten
of the wheel's files; none is fetched, none is ever trained on. Crop k of a photo is a square of it at a random place,
mirrored or not: a function of (photo, k). Figures over crops are given intervals over photos, not over crops.
Shapes: picture_HWC uint8.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np

from ..errors import InputError
from ..random_streams import random_stream
from ..world import Manner, Sample, sample

_COLOUR = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket")
_GRAY = ("brick", "camera", "coins", "grass", "gravel")
PHOTOS = _COLOUR + _GRAY
SIDE = 128  # pixels
LEAST = 0.6  # of the shorter side of a photo: the smallest crop
KEY = 20_261  # of the random places


def _folder() -> Path:
    """Where the wheel's pictures are; found without importing the package, which is slow."""
    spec = importlib.util.find_spec("skimage")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "data"
    if folder is None or not folder.is_dir():
        raise InputError('the photos are those in scikit-image; install it: pip install "instructx[eval]"')
    return folder


@lru_cache(maxsize=len(PHOTOS))
def _photo(name: str) -> np.ndarray:
    from PIL import Image

    found = [path for ending in (".png", ".jpg") if (path := _folder() / f"{name}{ending}").is_file()]
    if not found:
        raise InputError(f"this scikit-image has no photo {name}; use another version of it")
    with Image.open(found[0]) as picture:
        return np.asarray(picture.convert("RGB"))


def crop(name: str, number: int, side: int = SIDE) -> np.ndarray:
    """That crop of the photo, (side, side, 3) uint8; number 0 is its whole middle."""
    from PIL import Image

    picture = _photo(name)
    height, width = picture.shape[:2]
    shorter = min(height, width)
    rng = random_stream(KEY, PHOTOS.index(name), number)
    size = shorter if number == 0 else int(rng.integers(round(LEAST * shorter), shorter + 1))
    room = height - size, width - size
    top, left = (n // 2 if number == 0 else int(rng.integers(n + 1)) for n in room)
    square = Image.fromarray(np.ascontiguousarray(picture[top : top + size, left : left + size]))
    small = np.array(square.resize((side, side), Image.Resampling.LANCZOS))
    return np.ascontiguousarray(small[:, ::-1]) if number and rng.random() < 0.5 else small


def photo_of(index: int) -> str:
    """The photo of a sample of a PhotoSet, and of a crop in the order that all photos take turns in."""
    return PHOTOS[index % len(PHOTOS)]


@dataclass(frozen=True)
class PhotoSet(Sequence[Sample]):
    """Test samples on photos, by number: photos take turns, then tasks, then crops; every prefix is balanced."""

    tasks: tuple[str, ...]
    count: int
    manner: Manner | None = None

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self.count))]
        if not 0 <= index < self.count:
            raise IndexError(index)
        turn = index // len(PHOTOS)
        picture = crop(photo_of(index), turn // len(self.tasks))
        task = self.tasks[turn % len(self.tasks)]
        return sample("test", index, "image", task, picture.shape[:2], picture=picture, manner=self.manner)
