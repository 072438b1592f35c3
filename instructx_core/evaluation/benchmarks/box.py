"""The box: VIE-Bench's kinds of edit, drawn by the procedural world, with the exact truth; nothing to download.

world -> items -> editor -> outputs -> judge of the truth. 140 clips of 17 frames in the counts of Table 4. Sources and
truths are written as files, as of any benchmark, and a mask, without a codec's loss, of all that the edit may change;
the judge draws the truth again.
Shapes: frames_FHWC uint8.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ... import shapes
from ...data.record import EditRecord, Locator
from ...errors import InputError
from ...media.files import write_image, write_video
from ...media.outputs import make_folder
from .tasks import VIE_COUNTS, VIE_ROWS

FPS = 16
WORLD = {"world": "shapes", "version": 1}  # of the shipped model


def draw_box(folder: Path, counts: Mapping[str, int] = VIE_COUNTS) -> list[EditRecord]:
    """Draws the items into folder/media; what lies there is drawn again, so that a crash leaves no half clip."""
    media = make_folder(folder / "media")
    return [_item(media, task, number) for task, count in counts.items() for number in range(count)]


def _item(media: Path, task: str, number: int) -> EditRecord:
    sample, name = shapes.sample("test", number, "video", task), f"{task}-{number:02}"
    write_video(media / f"{name}.mp4", sample.source_FHWC, FPS)
    write_video(media / f"{name}-truth.mp4", sample.target_FHWC, FPS)
    edited_FHW = ~sample.outside_FHW
    write_video(media / f"{name}-mask.mp4", np.repeat(edited_FHW[..., None], 3, -1) * np.uint8(255), FPS, crf=0)
    reference = None
    if sample.reference_HWC is not None:
        write_image(media / f"{name}-reference.png", sample.reference_HWC)
        reference = Locator(f"media/{name}-reference.png")
    return EditRecord(
        id=name,
        task=task,
        modality="video",
        instruction=sample.instruction,
        source=Locator(f"media/{name}.mp4"),
        target=Locator(f"media/{name}-truth.mp4"),
        mask=Locator(f"media/{name}-mask.mp4"),
        reference=reference,
        meta={**WORLD, "number": number, "group": VIE_ROWS[task]},
    )


def truth_of(item: EditRecord) -> shapes.Sample:
    """The drawn edit of an item. Raises InputError for one that was not drawn by this world."""
    meta: Mapping[str, Any] = item.meta
    if {name: meta.get(name) for name in WORLD} != WORLD or type(meta.get("number")) is not int:
        raise InputError(f"item {item.id}: is not of the drawn world, whose truth is known; give --judge URL")
    return shapes.sample("test", meta["number"], item.modality, item.task)
