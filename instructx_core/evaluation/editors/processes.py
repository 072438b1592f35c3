"""Items edited by several processes of one machine: what run.py's loop gives, sooner where a model is small.

Beside run.py, whose files and rules these are. Steps of a small model on a CPU are too short for two threads to share;
two processes of one thread edit twice as much. Lines are written by the parent alone, as results come in.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from ...data.record import EditRecord
from ...errors import InputError
from ..outputs import Output
from ..run_folder import RunFolder
from .run import Editor, OnItem, edit_item, keep_outputs

LEAST = 16  # items a process, for which it is worth its start

_editors: list[Editor] = []  # of this process, where it is a worker: one


def edit_in_processes(
    run: RunFolder,
    make: Callable[[], Editor],
    items: Iterable[EditRecord],
    seed: int = 0,
    progress: OnItem | None = None,
    processes: int = 1,
) -> tuple[str, list[Output]]:
    """The editor's name, and what run.py's edit_items gives. make: the editor, called here and in each process.

    Raises InputError when a process was killed; what was made until then is kept.
    """
    editor = make()
    folder = run.editor_folder(editor.name, {**editor.settings, "seed": seed})

    def made(todo: Sequence[EditRecord]) -> Iterator[Output]:
        count = min(processes, len(todo) // LEAST)
        if count < 2:
            yield from (edit_item(run, editor, item, folder, seed) for item in todo)
            return
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads
        with ProcessPoolExecutor(count, context, initializer=_start, initargs=(make,)) as pool:
            futures = [pool.submit(_edit, run.path, item, folder, seed) for item in todo]
            try:
                yield from (future.result() for future in as_completed(futures))
            except BrokenProcessPool as error:
                reason = "a process that edits was killed, as the system does when memory runs out"
                raise InputError(f"{reason}; run the same command again, it goes on with what is missing") from error
            finally:  # after an interrupt too nothing else is begun
                pool.shutdown(cancel_futures=True)

    return editor.name, keep_outputs(folder, editor.name, list(items), made, progress)


def _start(make: Callable[[], Editor]) -> None:
    torch.set_num_threads(1)
    _editors.append(make())


def _edit(run: Path, item: EditRecord, folder: Path, seed: int) -> Output:
    return edit_item(RunFolder(run), _editors[0], item, folder, seed)
