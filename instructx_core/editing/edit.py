"""One edit from file to file, and a report of everything that was done on the way.

    EditRequest -> look (no model) -> settings (the model's defaults) -> one piece, or windows -> EditReport

`edit_file` is the whole way in one call. Whoever loads a model in between, as the command line and a list of jobs do,
looks first and then calls `edit`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..media.outputs import claim_output
from .in_windows import edit_in_windows
from .look import Look, look_at
from .one import edit_whole
from .progress import SILENT, OnStepDone, OnWindow, Progress
from .report import EditReport
from .request import EditOptions, EditRequest
from .settings import settle

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..pipeline import InstructXPipeline


def edit_file(
    pipe: InstructXPipeline,
    source: str | Path,
    instruction: str,
    references: Sequence[str | Path] = (),
    *,
    output: str | Path,
    progress: OnStepDone | None = None,
    on_window: OnWindow | None = None,
    **options: Unpack[EditOptions],
) -> EditReport:
    """Edit an image or a clip on disk. The output's suffix must fit the source's kind; it is written atomically.

    options: all fields of EditRequest that are not named here, steps and keep_outside for example.
    progress(done, total) is called after each step, on_window(result, total) after each window.
    Raises InputError for anything wrong with input, output path or the model's numbers; then nothing is written.
    """
    request = EditRequest(
        source=_path("source", source),
        instruction=instruction,
        output=_path("output", output),
        references=_paths(references),
        **options,
    )
    callbacks = {"on_step": progress, "on_window": on_window}
    calls = Progress(**{name: call for name, call in callbacks.items() if call is not None})
    return edit(pipe, look_at(request), calls)


def _path(name: str, value: object) -> Path:
    if not isinstance(value, str | Path):
        raise InputError(f"{name} is {value!r}, a {type(value).__name__}; give the path of a file")
    return Path(value)


def _paths(references: object) -> tuple[Path, ...]:
    if not isinstance(references, Iterable) or isinstance(references, str | bytes):
        raise InputError(f"references is {references!r}, a {type(references).__name__}; give a list of paths")
    return tuple(_path("a reference", each) for each in references)


def edit(pipe: InstructXPipeline, look: Look, progress: Progress = SILENT) -> EditReport:
    """Edit what was looked at. No other process may work on the same output meanwhile.

    A clip of more frames than the model was made for (config.sampling.frames) is edited in windows, and so is every
    clip whose request asks for them. Raises InputError as edit_file.
    """
    settings = settle(look, pipe.instructx_config)
    pipe.memory.notes.clear()  # of an earlier edit; a report tells of its own
    with claim_output(look.request.output) as notes:
        if settings.windowing is None:
            report = edit_whole(pipe, look, settings, progress)
        else:
            report = edit_in_windows(pipe, look, settings, settings.windowing, progress)
    return dataclasses.replace(report, notes=report.notes + notes)
