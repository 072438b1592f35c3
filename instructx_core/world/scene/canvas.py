"""Sizes of pictures: the canvas that a scene is drawn on, its places, and the buckets that training draws from.

Place: canvas -> scene -> render. Every length of a thing is in units; a unit is 1/64 of the shorter side in pixels, so
a scene looks alike at every size, and a 64x64 canvas has units of one pixel. Sides are multiples of 16, at least 64.
A pixel's centre is its index; x runs right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InputError

Size = tuple[int, int]  # height, width in pixels
WORLD_VERSION = 2  # of what is drawn: samples of another version are of another world
SIZE = 64  # pixels, of the sample's default canvas: SIZE x SIZE
STEP = 16  # pixels; sides are multiples of it
LARGEST = 512  # pixels

PLACES = ("top left", "top right", "bottom left", "bottom right", "center")
CORNERS, CENTER = (0, 1, 2, 3), 4  # indices into PLACES
PLACE_SHARES = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75), (0.5, 0.5))  # x, y as shares of the sides

BUCKETS: dict[str, tuple[Size, ...]] = {
    "image": (
        (64, 64),
        (80, 64),
        (64, 80),
        (96, 64),
        (64, 96),
        (96, 96),
        (128, 80),
        (80, 128),
        (128, 128),
    ),
    "video": ((64, 64), (96, 64), (64, 96), (96, 96)),
}


@dataclass(frozen=True, slots=True)
class Canvas:
    """Height and width in pixels. Raises InputError for sides that are no multiples of 16 from 64 on."""

    height: int = SIZE
    width: int = SIZE

    def __post_init__(self) -> None:
        for name, side in (("height", self.height), ("width", self.width)):
            if side % STEP or not SIZE <= side <= LARGEST:
                raise InputError(f"{name} {side} of a scene must be a multiple of {STEP} in {SIZE}..{LARGEST} pixels")

    @property
    def size(self) -> Size:
        return self.height, self.width

    @property
    def unit(self) -> float:
        """Pixels a unit; a multiple of 1/4."""
        return min(self.height, self.width) / SIZE

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height in units; the shorter one is 64."""
        return self.width / self.unit, self.height / self.unit

    def center(self, place: int) -> tuple[float, float]:
        """Centre of a place in pixels, (x, y)."""
        share_x, share_y = PLACE_SHARES[place]
        return share_x * self.width, share_y * self.height


def canvas_of(size: Size) -> Canvas:
    """The canvas of a (height, width). Raises InputError for what is no such pair."""
    try:
        height, width = (int(side) for side in size)
    except (TypeError, ValueError):
        raise InputError(f"size {size!r} must be (height, width) in pixels") from None
    return Canvas(height, width)
