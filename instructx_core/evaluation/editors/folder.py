"""Outputs that another program made: a folder of files -> outputs.jsonl. Nothing is copied.

Place: items, a folder -> folder -> judge. A file is an item's by the benchmark's own layout, by our name for it, or by
the item's id with any suffix of a picture or clip; a second one that fits is refused, not chosen from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ...data.record import EditRecord
from ...errors import InputError, some
from ...media.base import IMAGE_SUFFIXES
from ..benchmarks.known import benchmark_named
from ..outputs import Output, OutputFile
from ..run_folder import RunFolder, output_name

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
SUFFIXES = {"image": (*IMAGE_SUFFIXES, ".gif", ".avif"), "video": (*CLIP_SUFFIXES, ".webp")}


def take_folder(run: RunFolder, name: str, folder: Path, items: Iterable[EditRecord]) -> list[Output]:
    """An output of every item, in their order; one without a file has that as its error.

    Raises InputError for a folder without any of them, for an item with two files and for a file of two items.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder of outputs; check the path")
    layout, own = benchmark_named(str(run.benchmark()["name"])).layout, OutputFile(run.path / name)
    found, taken = list[Output](), dict[Path, str]()
    for item in items:
        names = dict.fromkeys([layout(item), output_name(item), *_by_id(item)])
        files = {path.resolve(): path for path in (folder / each for each in names) if path.is_file()}
        if len(files) > 1:
            raise InputError(f"item {item.id}: {some([str(path) for path in files])} all fit; keep one of them")
        if not files:
            found.append(Output(item.id, name, None, error=f"no {layout(item)} in {folder}"))
            continue
        ((place, path),) = files.items()
        if (other := taken.setdefault(place, item.id)) != item.id:
            raise InputError(f"{path}: fits item {other} and item {item.id}; rename it by the ids")
        found.append(Output(item.id, name, _relative(path, own.folder)))
    if not any(output.output for output in found):
        raise InputError(f"{folder}: no file of any item, like {found[0].error or 'none'}; check the path")
    run.editor_folder(name, {"kind": "folder", "folder": str(folder.absolute())})
    with own.file.claim():
        own.start()
        own.add(found)
    return found


def left_over(folder: Path, outputs: Iterable[Output], editor: Path) -> list[str]:
    """Pictures and clips of a folder that are no item's output. editor: what the outputs' paths are relative to."""
    used = {(editor / output.output).resolve() for output in outputs if output.output is not None}
    suffixes = {*SUFFIXES["image"], *SUFFIXES["video"]}
    files = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return [path.relative_to(folder).as_posix() for path in files if path.resolve() not in used]


def _by_id(item: EditRecord) -> list[str]:
    return [item.id + suffix for suffix in SUFFIXES[item.modality]]


def _relative(path: Path, folder: Path) -> str:
    try:
        return os.path.relpath(path.absolute(), folder.absolute())
    except ValueError:  # Windows: on another drive
        return str(path.absolute())
