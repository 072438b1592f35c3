"""Items -> editor -> outputs.jsonl, resumably: what is there is not made again, what fails does not stop the rest.

Place: items, an Editor (ours, pipelines, command) -> run -> judge. Seeds are the same for every item of a run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...data.record import EditRecord
from ...errors import InputError
from ..items import media_path
from ..outputs import Output, OutputFile
from ..run_folder import RunFolder, output_name

logger = logging.getLogger("instructx")
OnItem = Callable[[int, int], None]
FAILURES = (Exception, SystemExit)  # anything but an interrupt costs one item


@dataclass(frozen=True, slots=True)
class EditTask:
    """One item with its files found. output: what is to be written. mask: white where the edit may be, if that is
    known."""

    item: EditRecord
    source: Path
    reference: Path | None
    output: Path
    seed: int
    mask: Path | None = None


class Editor(Protocol):
    """What edits. settings: all that decides the outputs, in JSON values; outputs of two settings are never mixed."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def edit(self, task: EditTask) -> None:
        """Writes task.output. Raises InputError with the reason where it cannot."""
        ...


def edit_items(
    run: RunFolder, editor: Editor, items: Iterable[EditRecord], seed: int = 0, progress: OnItem | None = None
) -> list[Output]:
    """An output of every item, in their order; those that lie there from an earlier run are kept.

    An item that fails has its reason in its line, and is tried again by the next run.
    """
    folder = run.editor_folder(editor.name, {**editor.settings, "seed": seed})

    def made(todo: Sequence[EditRecord]) -> Iterator[Output]:
        return (edit_item(run, editor, item, folder, seed) for item in todo)

    return keep_outputs(folder, editor.name, list(items), made, progress)


def keep_outputs(
    folder: Path,
    editor: str,
    items: Sequence[EditRecord],
    made: Callable[[Sequence[EditRecord]], Iterable[Output]],
    progress: OnItem | None = None,
) -> list[Output]:
    """What `made` makes of the items that have no output yet, each written as it comes; all of them, in order."""
    file = OutputFile(folder)
    with file.file.claim():
        done = file.start()
        found = {item.id: done[item.id, editor] for item in items if (item.id, editor) in done}
        for output in made([item for item in items if item.id not in found]):
            file.add([output])
            found[output.id] = output
            if progress is not None:
                progress(len(found), len(items))
    return [found[item.id] for item in items]


def edit_item(run: RunFolder, editor: Editor, item: EditRecord, folder: Path, seed: int) -> Output:
    """What becomes of one item."""
    name, start = output_name(item), time.perf_counter()
    try:
        source = media_path(item, "source", run.path)
        assert source is not None, "every record has a source"
        if not source.is_file():
            raise InputError(f"its source {source} is not there; complete the download")
        (folder / name).unlink(missing_ok=True)  # of a run that failed: it would pass for this one's
        reference, mask = (media_path(item, kind, run.path) for kind in ("reference", "mask"))
        editor.edit(EditTask(item, source, reference, folder / name, seed, mask))
        if not (folder / name).is_file():
            raise InputError("the editor wrote no output")
    except FAILURES as error:
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, InputError):
            logger.error("item %s failed", item.id, exc_info=error)
        seconds = round(time.perf_counter() - start, 3)
        return Output(item.id, editor.name, None, seed, seconds, " ".join(reason.split()) or type(error).__name__)
    return Output(item.id, editor.name, name, seed, round(time.perf_counter() - start, 3))
