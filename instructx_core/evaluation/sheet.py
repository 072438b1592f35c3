"""Pictures for people: rows of source, edit and ground truth with the instruction and whether it worked.

After scoring in the data flow; used by `instructx demo` and by the sheet of worst failures. Pillow only.
Legend: F frames, H W pixels, C = 3 (RGB, 0..255).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import InputError

SCALE = 2
GAP = 6
TEXT = 34  # pixels of two lines under the pictures
HEAD = 18
GREEN, RED, GRAY = (20, 130, 50), (190, 30, 30), (90, 90, 90)
FRAMES_SHOWN = 3  # of a clip: first, middle, last


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One edit. Frames are uint8 (F, H, W, 3); `detail` says more about the score, e.g. an error and its limit."""

    title: str
    source_FHWC: np.ndarray
    edited_FHWC: np.ndarray
    target_FHWC: np.ndarray
    success: bool
    reference_HWC: np.ndarray | None = None
    detail: str = ""


def shown_frames(count: int) -> list[int]:
    """Indices of the frames a sheet shows: the one of an image; first, middle and last of a clip."""
    if count == 1:
        return [0]
    return [round(i * (count - 1) / (FRAMES_SHOWN - 1)) for i in range(FRAMES_SHOWN)]


def _enlarged(frame_HWC: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(frame_HWC.repeat(SCALE, axis=0).repeat(SCALE, axis=1)))


def _font(size: int = 12) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _cell(row: SheetRow) -> Image.Image:
    """One edit as a picture: heads, tiles, two lines of text."""
    height, width = (side * SCALE for side in row.source_FHWC.shape[1:3])
    indices = shown_frames(len(row.source_FHWC))
    groups = [("source", row.source_FHWC[indices]), ("edited", row.edited_FHWC[indices])]
    groups.append(("ground truth", row.target_FHWC[indices]))
    if row.reference_HWC is not None:
        groups.insert(1, ("reference", row.reference_HWC[None]))
    tiles = sum(len(frames) for _, frames in groups)
    cell = Image.new("RGB", (tiles * (width + 2) + (len(groups) - 1) * GAP, HEAD + height + TEXT), "white")
    draw, left = ImageDraw.Draw(cell), 0
    for name, frames in groups:
        draw.text((left, 2), name, fill=GRAY, font=_font())
        for frame in frames:
            cell.paste(_enlarged(frame), (left, HEAD))
            # Many targets are white at the edge; without a line they would run into the page.
            draw.rectangle((left, HEAD, left + width - 1, HEAD + height - 1), outline=(205, 205, 205))
            left += width + 2
        left += GAP
    mark, color = ("OK", GREEN) if row.success else ("FAILED", RED)
    draw.text((0, HEAD + height + 2), mark, fill=color, font=_font(13))
    words = f"{row.title}  {row.detail}".strip()
    lines = textwrap.wrap(words, width=max(20, (cell.width - 56) * 10 // 64))[:2]
    draw.multiline_text((56, HEAD + height + 2), "\n".join(lines), fill="black", font=_font(), spacing=1)
    return cell


def draw_sheet(rows: Sequence[SheetRow], columns: int = 2, title: str = "") -> Image.Image:
    """All rows on one RGB picture, `columns` edits side by side. Raises InputError without rows."""
    if not rows:
        raise InputError("nothing to draw; give at least one row")
    cells = [_cell(row) for row in rows]
    lines = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    widths = [max(line[c].width for line in lines if c < len(line)) for c in range(min(columns, len(cells)))]
    head = 26 if title else 0
    height = head + sum(max(cell.height for cell in line) + GAP for line in lines) + GAP
    sheet = Image.new("RGB", (sum(widths) + 3 * GAP * (len(widths) - 1) + 2 * GAP, height), "white")
    if title:
        ImageDraw.Draw(sheet).text((GAP, 6), title, fill="black", font=_font(15))
    top = head + GAP
    for line in lines:
        left = GAP
        for cell, width in zip(line, widths, strict=False):
            sheet.paste(cell, (left, top))
            left += width + 3 * GAP
        top += max(cell.height for cell in line) + GAP
    return sheet


def side_by_side(row: SheetRow) -> np.ndarray:
    """Source | edited | ground truth of a clip as one clip, uint8 (F, H', W', 3) with even sides, enlarged twice."""
    parts = [row.source_FHWC, row.edited_FHWC, row.target_FHWC]
    gap = np.full((len(row.source_FHWC), row.source_FHWC.shape[1], 2, 3), 255, np.uint8)
    frames = np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=2)
    return frames.repeat(2 * SCALE, axis=1).repeat(2 * SCALE, axis=2)
