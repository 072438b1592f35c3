"""Outputs of an editor -> the layout that a benchmark's own scripts take, so that they judge the same files.

Place: outputs -> export -> the authors' scripts. A picture that the scripts could see otherwise than judges here do
(another suffix, transparent, turned, of 16 bits or another profile) is written anew without loss, as it was seen here;
a clip is copied as it is. Items without an output, or with one that is no picture, are named.
"""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...media.base import IMAGE_SUFFIXES
from ...media.files import read_media, write_image
from ...media.outputs import atomic_path, make_folder
from ..items import media_path
from ..outputs import OUTPUTS, read_outputs
from ..run_folder import RunFolder
from .gedit import gedit_source_layout
from .known import benchmark_named
from .openve import openve_row


class NoPicture(InputError):
    """An output that cannot be read."""


@dataclass(frozen=True, slots=True)
class ExportedOutputs:
    """written: files; missing: ids of items without an output that can be read."""

    written: int
    missing: tuple[str, ...]


def export_outputs(run: RunFolder, editor: str, folder: Path) -> ExportedOutputs:
    """Writes FOLDER/EDITOR in the layout of the run's benchmark.

    Raises InputError for an editor without outputs, for a name that leads out of the folder or is two items'.
    """
    name = str(run.benchmark()["name"])
    if editor not in run.editors():
        raise InputError(f"{run.path}: no outputs of {editor}; it has those of {', '.join(run.editors()) or 'nobody'}")
    layout, out = benchmark_named(name).layout, make_folder(folder / editor)
    outputs = read_outputs(run.path / editor / OUTPUTS)
    missing, rows, written, places = list[str](), list[dict[str, str]](), 0, dict[Path, str]()
    for item in run.items():
        output = outputs.get((item.id, editor))
        source = None if output is None else output.path(run.path / editor)
        if source is None or not source.is_file():
            missing.append(item.id)
            continue
        place = _below(out, layout(item))
        if (other := places.setdefault(place, item.id)) != item.id:
            raise InputError(f"{place}: would be the output of {other} and of {item.id}; rename one of the items")
        try:
            _copy(source, place)
        except NoPicture:
            missing.append(item.id)
            continue
        written += 1
        if name == "gedit":
            original = media_path(item, "source", run.path)
            assert original is not None, "every record has a source"
            _copy(original, _below(out, gedit_source_layout(item)))
            written += 1
        if name == "openve":
            rows.append(openve_row(item, str(place.absolute())))
    if rows:
        _write_rows(out / "new_result.csv", rows)
        written += 1
    return ExportedOutputs(written, tuple(missing))


def _below(out: Path, layout: str) -> Path:
    """Raises InputError for a name that leads out of the folder: it comes out of a file that was downloaded."""
    place = out / layout
    if not place.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{layout!r}: an output cannot lie outside of {out}; check the benchmark's files")
    make_folder(place.parent)
    return place


def _copy(source: Path, place: Path) -> None:
    same = source.suffix.lower() == place.suffix.lower()
    if same and place.suffix.lower() not in IMAGE_SUFFIXES:
        _copy_bytes(source, place)
        return
    try:
        media = read_media(source)
    except InputError as error:
        raise NoPicture(str(error)) from None
    if media.is_video:
        raise InputError(f"{source}: the benchmark's scripts take {place.suffix}; make the outputs of that kind")
    if same and not media.notes:
        _copy_bytes(source, place)
    else:
        write_image(place, media.frames_FHWC[0])


def _copy_bytes(source: Path, place: Path) -> None:
    with atomic_path(place) as temporary:
        shutil.copyfile(source, temporary)


def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
