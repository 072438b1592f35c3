"""Contact sheet of the procedural world: one row a task, two image edits and one clip edit each.

Place: sampling -> sheet -> docs/shapes.webp, for people to look at. Needs Pillow, which only this file imports.
Run: python -m instructx_core.shapes.sheet docs/shapes.webp
"""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from .edits import TASKS
from .palette import SIZE
from .sampling import Sample, sample

if TYPE_CHECKING:
    from PIL import Image

SCALE = 2
TILE = SIZE * SCALE
GAP = 6
TEXT = 34  # pixels under a row of tiles
SHOWN_WIDTH = 1500  # pixels, of the file
CLIP_FRAMES = (0, 8, 16)


def _tiles(shown: Sample) -> list[np.ndarray | None]:
    if shown.modality == "video":
        frames: list[np.ndarray | None] = [shown.source_FHWC[frame] for frame in CLIP_FRAMES]
        return [*frames, *(shown.target_FHWC[frame] for frame in CLIP_FRAMES)]
    return [shown.source_FHWC[0], shown.target_FHWC[0], shown.reference_HWC]


def contact_sheet(split: str = "test", first_index: int = 0) -> Image.Image:
    """An RGB picture: a row a task; source | target | reference twice, then three frames of a clip before and after."""
    from PIL import Image, ImageDraw

    step = TILE + GAP
    width, height = 12 * step + 4 * GAP, len(TASKS) * (TILE + TEXT + GAP) + GAP
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for row, task in enumerate(TASKS):
        top, left = GAP + row * (TILE + TEXT + GAP), GAP
        for number, modality in enumerate(("image", "image", "video")):
            shown = sample(split, first_index + number, modality, task)
            tiles = _tiles(shown)
            for column, tile in enumerate(tiles):
                if tile is not None:
                    enlarged = tile.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
                    sheet.paste(Image.fromarray(enlarged), (left + column * step, top))
            words = f"[{task}] {shown.instruction}"
            lines = textwrap.wrap(words, width=(len(tiles) * step) // 7)
            draw.multiline_text((left, top + TILE + 2), "\n".join(lines[:2]), fill=(0, 0, 0), spacing=2)
            left += len(tiles) * step + GAP
    return sheet


def main(path: str) -> None:
    sheet = contact_sheet()
    sheet.thumbnail((SHOWN_WIDTH, sheet.height))
    sheet.save(path, quality=79)  # a palette takes colours from things: a pink triangle must not look brown


if __name__ == "__main__":
    main(sys.argv[1])
