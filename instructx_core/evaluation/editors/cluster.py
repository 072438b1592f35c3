"""Items edited over the machines of a Ray cluster: what run.py's loop gives, made by several workers.

Beside run.py, whose files and rules these are. Lines are written by the driver alone, as results come in, so whoever
dies, what has come in is kept and the next run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...cluster import Work, ask_worker, spread
from ...data.record import EditRecord, from_json
from ..outputs import Output
from ..run_folder import RunFolder
from .run import Editor, OnItem, edit_item, keep_outputs


def edit_on_ray(
    run: RunFolder,
    make: Callable[[], Editor],
    items: Iterable[EditRecord],
    seed: int = 0,
    progress: OnItem | None = None,
    workers: int | None = None,
) -> tuple[str, list[Output]]:
    """The editor's name, and what run.py's edit_items gives. make: the editor, called on each worker."""
    name, settings = ask_worker(partial(_described, make))
    folder = run.editor_folder(name, {**settings, "seed": seed})

    def made(todo: Sequence[EditRecord]) -> Iterator[Output]:
        work = partial(_editing, make, run.path, folder, seed)
        yield from (Output(**values) for values in spread([item.as_json() for item in todo], work, workers))

    return name, keep_outputs(folder, name, list(items), made, progress)


def _described(make: Callable[[], Editor]) -> tuple[str, dict[str, Any]]:
    editor = make()
    return editor.name, dict(editor.settings)


def _editing(make: Callable[[], Editor], run: Path, folder: Path, seed: int) -> Work:
    editor = make()
    return lambda values: edit_item(RunFolder(run), editor, from_json(values), folder, seed).as_json()
