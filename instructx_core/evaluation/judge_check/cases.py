"""Planted edits as an evaluation of their own, an editor a plant, so that any judge is run on them as on any outputs.

Place: shapes, or records with a target -> planted -> cases -> judge/run.py -> check. Pictures are PNG, so exact; clips
H.264 at crf 4. Drawn sources are samples of the world that the box is drawn of, so that its judge of the truth can be
checked like any other. Of every right edit there are two more items: the instruction in more words, and the two
pictures swapped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import shapes
from ...data.record import EditRecord, Locator
from ...errors import InputError
from ...media.files import read_media, write_image, write_video
from ...media.outputs import make_folder
from ..benchmarks.box import WORLD
from ..items import media_path
from ..outputs import Output, OutputFile
from ..run_folder import RunFolder
from .check import LONGER, SWAPPED
from .planted import Pair, planted_edits

FPS, CRF = 16, 4
DRAWN_TASKS = ("add", "reference_swap", "remove", "color", "reference_add", "swap")
FIRST = 500_000  # numbers of drawn sources start far from those of the benchmarks
PADDING = (
    "Please look at the whole picture first and take your time. Then do the following, carefully, and nothing else "
    "beside it, as you would do it for a good friend: "
)
RIGHT = "right"


@dataclass(frozen=True, slots=True, eq=False)
class KnownEdit:
    """A source with its right edit, as an item whose media are written already."""

    item: EditRecord
    pair: Pair
    fps: float


def drawn_edits(folder: Path, count: int) -> Iterator[KnownEdit]:
    """That many, pictures and clips in turn, tasks in turn. Raises InputError for fewer than one."""
    if count < 1:
        raise InputError(f"{count} sources; use at least 1")
    make_folder(folder / "media")
    for number in range(count):
        task = DRAWN_TASKS[number // 2 % len(DRAWN_TASKS)]
        modality = "image" if number % 2 == 0 else "video"
        sample, name = shapes.sample("test", FIRST + number, modality, task), f"drawn-{number:03d}-{task}"
        reference = None
        if sample.reference_HWC is not None:
            write_image(folder / "media" / f"{name}-reference.png", sample.reference_HWC)
            reference = Locator(f"media/{name}-reference.png")
        source = Locator(_written(folder / "media", name, sample.source_FHWC, FPS).relative_to(folder).as_posix())
        meta = {**WORLD, "number": FIRST + number}
        item = EditRecord(name, task, modality, sample.instruction, source, reference=reference, meta=meta)
        mask_FHW = np.logical_or.reduce([mask for _, mask in sample.regions])
        yield KnownEdit(item, Pair(sample.source_FHWC, sample.target_FHWC, mask_FHW, number), FPS)


def real_edits(folder: Path, items: Sequence[EditRecord], place: Path) -> Iterator[KnownEdit]:
    """Of records with a target, and a mask where that is known. place: the folder that their paths are relative to.

    Raises InputError for a record without a target, and for media of different sizes.
    """
    make_folder(folder / "media")
    for number, item in enumerate(items):
        paths = {name: media_path(item, name, place) for name in ("source", "target", "mask", "reference")}
        source_path, target_path, mask_path, reference = paths.values()
        if source_path is None or target_path is None:
            raise InputError(f"item {item.id}: has no target; planted edits are made of a right one")
        source, target = read_media(source_path), read_media(target_path)
        shape = source.frames_FHWC.shape
        mask_FHW = None if mask_path is None else read_media(mask_path).frames_FHWC.mean(axis=-1) > 127.5
        if target.frames_FHWC.shape != shape or (mask_FHW is not None and mask_FHW.shape[1:] != shape[1:3]):
            raise InputError(f"item {item.id}: source, target and mask differ in size; make them alike")
        if mask_FHW is not None and len(mask_FHW) not in (1, shape[0]):
            raise InputError(f"item {item.id}: its mask has {len(mask_FHW)} frames, its source {shape[0]}")
        fps = float(source.fps or FPS)
        written = _written(folder / "media", f"real-{number:03d}", source.frames_FHWC, fps)
        shown = dataclasses.replace(
            item,
            source=Locator(written.relative_to(folder).as_posix()),
            target=None,
            mask=None,
            reference=None if reference is None else Locator(str(reference.resolve())),
        )
        yield KnownEdit(shown, Pair(source.frames_FHWC, target.frames_FHWC, mask_FHW, number), fps)


def plant_edits(run: RunFolder, benchmark: dict[str, Any], known: Iterable[KnownEdit]) -> dict[str, list[EditRecord]]:
    """Writes items and outputs; plant -> the items that it has outputs of.

    Raises InputError as RunFolder does, where the folder holds other sources.
    """
    run.prepare(benchmark)
    items, of_plant = list[EditRecord](), dict[str, list[EditRecord]]()
    outputs: dict[str, list[Output]] = {}
    for edit in known:
        item = edit.item
        items.append(item)
        for plant, frames_FHWC in planted_edits(edit.pair, item.reference is not None):
            place = make_folder(run.path / plant)
            file = _written(place, f"{len(items):05d}", frames_FHWC, edit.fps)
            outputs.setdefault(plant, []).append(Output(item.id, plant, file.name))
            of_plant.setdefault(plant, []).append(item)
            if plant == RIGHT:
                extra = _told_otherwise(item, Path(plant) / file.name)
                source = Path("..") / item.source.path
                outputs[plant] += [Output(extra[0].id, plant, file.name), Output(extra[1].id, plant, source.as_posix())]
                of_plant[plant] += extra
                items += extra
    run.write(items)
    for plant, lines in outputs.items():
        file = OutputFile(run.path / plant)
        done = file.start()
        file.add(line for line in lines if (line.id, plant) not in done)
    return of_plant


def _told_otherwise(item: EditRecord, right: Path) -> list[EditRecord]:
    """The same in more words; the right edit as the source, to be shown with the source as the output."""
    longer = dataclasses.replace(item, id=f"{item.id}+{LONGER}", instruction=PADDING + item.instruction)
    return [longer, dataclasses.replace(item, id=f"{item.id}+{SWAPPED}", source=Locator(right.as_posix()))]


def source_and_plant(item: str, editor: str) -> tuple[str, str]:
    """Of a score: which source, and which plant, "longer" and "swapped" among them."""
    for name in (LONGER, SWAPPED):
        if item.endswith(f"+{name}"):
            return item.removesuffix(f"+{name}"), name
    return item, editor


def _written(folder: Path, name: str, frames_FHWC: np.ndarray, fps: float) -> Path:
    if len(frames_FHWC) == 1:
        path = folder / f"{name}.png"
        write_image(path, frames_FHWC[0])
    else:
        path = folder / f"{name}.mp4"
        write_video(path, frames_FHWC, fps, crf=CRF)
    return path
