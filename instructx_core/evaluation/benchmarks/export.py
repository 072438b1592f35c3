"""Outputs of an editor -> the layout that a benchmark's own scripts take, so that they judge the same files.

Place: outputs -> export -> the authors' scripts. A picture of another kind than the scripts ask for is written anew
without loss; a clip is copied as it is. Items without an output are named.
"""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...media.files import read_media, write_image
from ...media.outputs import atomic_path, make_folder
from ..items import media_path
from ..outputs import OUTPUTS, read_outputs
from ..run_folder import RunFolder
from .gedit import gedit_source_layout
from .known import benchmark_named
from .openve import openve_row


@dataclass(frozen=True, slots=True)
class ExportedOutputs:
    """written: files; missing: ids of items without an output."""

    written: int
    missing: tuple[str, ...]


def export_outputs(run: RunFolder, editor: str, folder: Path) -> ExportedOutputs:
    """Writes FOLDER/EDITOR in the layout of the run's benchmark. Raises InputError for an editor without outputs."""
    name = str(run.benchmark()["name"])
    layout, out = benchmark_named(name).layout, make_folder(folder / editor)
    outputs = read_outputs(run.path / editor / OUTPUTS)
    missing, rows, written = list[str](), list[dict[str, str]](), 0
    for item in run.items():
        output = outputs.get((item.id, editor))
        source = None if output is None else output.path(run.path / editor)
        if source is None or not source.is_file():
            missing.append(item.id)
            continue
        place = _below(out, layout(item))
        _copy(source, place)
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
    if source.suffix.lower() == place.suffix.lower():
        with atomic_path(place) as temporary:
            shutil.copyfile(source, temporary)
        return
    media = read_media(source)
    if media.is_video:
        raise InputError(f"{source}: the benchmark's scripts take {place.suffix}; make the outputs of that kind")
    write_image(place, media.frames_FHWC[0])


def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
