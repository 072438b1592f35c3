"""What a run of Long Video keeps until it is done: windows on disk, under the key of the edit, in the output folder.

The output folder outlives the host, its temp folder does not. Nothing here holds a model or a wire, so that an edit
that nobody goes on with costs disk only, and that for two weeks.

    output/InstructX_unfinished/KEY.mp4             what is finished, to look at: written when the artist cancels
                                .KEY.mp4.windows/   the library's editing/windows/state.py
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...instructx_core.digests import picture_digest
from ...instructx_core.editing.windows.state import WindowProgress, WindowStore
from ...instructx_core.errors import InputError
from .clip_files import Source, join_parts, write_part
from .graph_key import graph_key
from .host import file_state
from .media import read_references

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ...instructx_core.editing.windows import WindowResult

logger = logging.getLogger("instructx")

FOLDER = "InstructX_unfinished"
DAYS = 14  # after which an edit that nobody went on with is removed
SHORT = 16  # characters of the key in names


@dataclass(eq=False)
class UnfinishedEdit:
    """The windows of one edit. saved: how many there are, and the edited tail that the next one starts from."""

    store: WindowStore
    clip_so_far: Path
    saved: WindowProgress = field(default_factory=WindowProgress)
    note: str = ""  # why those of an earlier run cannot be used

    @property
    def joins(self) -> list[float]:
        """Mean change of the shared frames where windows meet, of 255."""
        return [join[0] for join in self.saved.joins]

    def parts(self, count: int) -> list[Path]:
        return [self.store.part(index) for index in range(count)]

    def add(self, result: WindowResult, frames_FHWC: np.ndarray, clip: Source) -> None:
        """One more finished window, on disk before the next one begins. frames_FHWC: all that it adds to the clip."""
        index = result.window.index
        write_part(self.store.part(index), frames_FHWC, clip)
        joins = (*self.saved.joins, (result.join, *result.drift))
        self.saved = WindowProgress(index + 1, result.tail_OHWC, None, joins)
        self.store.save(self.saved)

    def keep(self, lengths: list[int], clip: Source) -> Path:
        """The finished windows as one clip beside their folder; that of an earlier cancel is replaced."""
        join_parts(self.clip_so_far, self.parts(self.saved.done), lengths[: self.saved.done], clip)
        return self.clip_so_far

    def remove(self) -> None:
        """Everything that was kept, once the edit is done."""
        self.store.remove()
        self.clip_so_far.unlink(missing_ok=True)
        if not any(self.clip_so_far.parent.iterdir()):
            self.clip_so_far.parent.rmdir()


def edit_key(hidden: Any, clip: Source, references: dict[str, Tensor | None]) -> str:
    """Of this edit, from the graph and the pixels that go into it. Outside of a graph it is a new one each time."""
    prompt, node = getattr(hidden, "prompt", None), str(getattr(hidden, "unique_id", ""))
    if not prompt or node not in prompt:
        return uuid.uuid4().hex
    pictures = [picture_digest(picture_HWC.numpy()) for picture_HWC in read_references(references)]
    return graph_key(prompt, node, file_state, clip.digest, *pictures)


def open_unfinished(output_folder: Path, key: str) -> UnfinishedEdit:
    """What an earlier run of the edit left, or a new folder. Old leftovers of other edits are removed."""
    folder = output_folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    clip = folder / f"{key[:SHORT]}.mp4"
    store = WindowStore(clip, {"key": key})
    _remove_old(folder, store.folder)
    work = UnfinishedEdit(store, clip)
    try:
        work.saved = store.open()
    except InputError as error:
        work.saved = store.open(restart=True)
        work.note = str(error)
    return work


def _remove_old(folder: Path, kept: Path) -> None:
    for path in folder.iterdir():
        if path != kept and time.time() - path.stat().st_mtime > DAYS * 86400:
            logger.info("InstructX: %s is older than %d days and unfinished: removed", path.name, DAYS)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
