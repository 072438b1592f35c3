"""Finished windows on disk, beside the output: a long edit that was killed goes on at the next window.

    .edited.mp4.windows/  0000.mp4 0001.mp4 ...  finished windows, as they will stand in the result
                          state.safetensors      edited tail, shared context; metadata: what was asked for, what is done

A window counts once the state says so, and the state is replaced whole, so a kill at any point leaves a usable folder.
What was asked for is stored by content (digests of files and weights): work of another edit is never mixed in.
Legend: O frames of overlap, H W pixels, L tokens, D width.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import InputError
from ...media.names import hidden_beside
from ...media.outputs import write_safetensors

if TYPE_CHECKING:
    from ...sampling.encode import Contexts

METADATA_KEY = "instructx_windows"


@dataclass(frozen=True, slots=True, eq=False)
class WindowProgress:
    """What is known after `done` windows. joins: (mean change of the shared frames, drift R, G, B) of each, of 255."""

    done: int = 0
    tail_OHWC: np.ndarray | None = None
    contexts: Contexts | None = None
    joins: tuple[tuple[float, float, float, float], ...] = ()


def windows_folder(output: Path) -> Path:
    """Where the finished windows of an edit lie."""
    return hidden_beside(output, ".windows")


class WindowStore:
    """The folder of one long edit. request: everything that decides the result, by name, as JSON values."""

    def __init__(self, output: Path, request: Mapping[str, Any]) -> None:
        self.folder = windows_folder(output)
        self.request = json.loads(json.dumps(dict(request)))
        self.state = self.folder / "state.safetensors"

    def part(self, index: int) -> Path:
        """The file of one window."""
        return self.folder / f"{index:04d}.mp4"

    def open(self, restart: bool = False) -> WindowProgress:
        """Makes the folder, or reads what an earlier run of the same edit left in it; restart: begin anew.

        Raises InputError when the folder holds another edit, or cannot be read or made.
        """
        if restart:
            self.remove()
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be made ({error.strerror}); choose another output") from None
        if not self.state.exists():
            return WindowProgress()
        try:
            with safe_open(self.state, framework="pt") as file:
                stored = json.loads(file.metadata()[METADATA_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            saved, request = _saved(stored, tensors), stored["request"]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.state}: cannot be read ({error}); delete the folder or restart the edit") from None
        differ = sorted(name for name in {*request, *self.request} if request.get(name) != self.request.get(name))
        if differ:
            raise InputError(
                f"{self.folder} holds {saved.done} finished windows of another edit ({', '.join(differ)} differ); "
                "restart (--restart) to throw them away, or choose another output"
            )
        missing = [index for index in range(saved.done) if not self.part(index).is_file()]
        if missing:
            raise InputError(f"{self.part(missing[0])} is gone; restart (--restart) to edit all windows again")
        return saved

    def save(self, saved: WindowProgress) -> None:
        """Replaces the state, once the parts it counts are written."""
        tensors: dict[str, Tensor] = {}
        if saved.contexts is not None:
            parts = {"context": saved.contexts.positive, "negative": saved.contexts.negative}
            tensors = {name: part.cpu().contiguous() for name, part in parts.items() if part is not None}
        if saved.tail_OHWC is not None:
            tensors["tail"] = torch.from_numpy(saved.tail_OHWC)
        stored = {"request": self.request, "done": saved.done, "joins": saved.joins}
        write_safetensors(self.state, tensors, {METADATA_KEY: json.dumps(stored)})

    def remove(self) -> None:
        """Deletes the folder and everything in it."""
        shutil.rmtree(self.folder, ignore_errors=not self.folder.exists())


def _saved(stored: dict[str, Any], tensors: dict[str, Tensor]) -> WindowProgress:
    return WindowProgress(
        done=int(stored["done"]),
        tail_OHWC=tensors["tail"].numpy() if "tail" in tensors else None,
        contexts=_contexts(tensors["context"], tensors.get("negative")) if "context" in tensors else None,
        joins=tuple((a, r, g, b) for a, r, g, b in stored["joins"]),
    )


def _contexts(positive: Tensor, negative: Tensor | None) -> Contexts:
    from ...sampling.encode import Contexts  # with all of diffusers: not before a model is loaded, nor in ComfyUI

    return Contexts(positive, negative)
