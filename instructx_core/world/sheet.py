"""Contact sheet of the procedural world: natural pictures, then one row a task with two image edits and one clip edit.

Place: sampling, pretraining -> sheet -> docs/world.webp, for people to look at. Needs Pillow, which only this file
imports. Run: python -m instructx_core.world.sheet docs/world.webp
"""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from .edits import TASKS
from .language import Manner
from .pretraining import natural_sample
from .sampling import Sample, sample

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

TILE = 128  # pixels; a picture is enlarged or reduced to fit
WIDTH = 1224  # pixels, of the picture in the docs
GAP = 6
TEXT = 34  # pixels under a row of tiles
COLUMNS = 12
CLIP_FRAMES = (1, 8, 15)
NATURAL_ROWS = 2
SHOWN = (("image", (64, 64), "flat"), ("image", None, "photo"), ("video", None, None))


def _tiles(shown: Sample) -> list[np.ndarray | None]:
    if shown.modality == "video":
        frames: list[np.ndarray | None] = [shown.source_FHWC[frame] for frame in CLIP_FRAMES]
        return [*frames, *(shown.target_FHWC[frame] for frame in CLIP_FRAMES)]
    return [shown.source_FHWC[0], shown.target_FHWC[0], shown.reference_HWC]


def _paste(sheet: Image.Image, picture_HWC: np.ndarray, left: int, top: int) -> None:
    from PIL import Image

    height, width = picture_HWC.shape[:2]
    scale = TILE / max(height, width)
    filter_ = Image.Resampling.NEAREST if scale == int(scale) else Image.Resampling.BICUBIC
    fitted = Image.fromarray(picture_HWC).resize((round(width * scale), round(height * scale)), filter_)
    sheet.paste(fitted, (left + (TILE - fitted.width) // 2, top + (TILE - fitted.height) // 2))


def _natural_rows(sheet: Image.Image, draw: ImageDraw.ImageDraw, split: str, first_index: int) -> int:
    """Draws the rows of natural pictures; gives where the next row starts."""
    top, step = GAP, TILE + GAP
    for row in range(NATURAL_ROWS):
        for column in range(COLUMNS):
            frames, _, _ = natural_sample(split, first_index + row * COLUMNS + column, size=(128, 128))
            _paste(sheet, frames[0], GAP + column * step, top)
        top += step
    draw.text((GAP, top - 2), "natural pictures, for pretraining and as grounds", fill=(0, 0, 0))
    return top + TEXT


def contact_sheet(split: str = "test", first_index: int = 0) -> Image.Image:
    """An RGB picture: natural pictures, then a row a task: source | target | reference twice (flat 64x64, photo finish
    of any size), then three frames of a clip before and after."""
    from PIL import Image, ImageDraw

    step = TILE + GAP
    height = (NATURAL_ROWS + len(TASKS)) * step + (len(TASKS) + 1) * TEXT + 2 * GAP
    sheet = Image.new("RGB", (COLUMNS * step + 4 * GAP, height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    top = _natural_rows(sheet, draw, split, first_index)
    for row, task in enumerate(TASKS):
        left = GAP
        for number, (modality, size, finish) in enumerate(SHOWN):
            shown = sample(
                split, first_index + len(SHOWN) * row + number, modality, task, size, finish=finish, manner=Manner("en")
            )
            tiles = _tiles(shown)
            for column, tile in enumerate(tiles):
                if tile is not None:
                    _paste(sheet, tile, left + column * step, top)
            words = f"[{task}] {shown.instruction}"
            lines = textwrap.wrap(words, width=(len(tiles) * step) // 7)
            draw.multiline_text((left, top + TILE + 2), "\n".join(lines[:2]), fill=(0, 0, 0), spacing=2)
            left += len(tiles) * step + GAP
        top += TILE + TEXT + GAP
    return sheet


def main(path: str) -> None:
    picture = contact_sheet()
    picture.thumbnail((WIDTH, picture.height))
    picture.save(path, quality=60, method=6)


if __name__ == "__main__":
    main(sys.argv[1])
