"""The table of checkpoint layouts, and the questions about a path that it answers. A new layout is one line here."""

from __future__ import annotations

from pathlib import Path

from .checkpoint_layout import CheckpointLayout, OpenModel
from .kiwi_layouts import KIWI_FOLDER, KIWI_TRAINING
from .ours import OURS
from .weight_file import OpenFiles, Paths, WeightFile

# In the order in which they are tried; the last takes every file.
LAYOUTS: tuple[CheckpointLayout, ...] = (KIWI_FOLDER, KIWI_TRAINING, OURS)


def is_checkpoint(kind: str) -> bool:
    """Whether identify says so of a checkpoint, of any layout."""
    return any(layout.kind == kind for layout in LAYOUTS)


def may_hold_dit(kind: str) -> bool:
    """Whether a checkpoint of that kind may have a DiT in it."""
    return is_checkpoint(kind) and kind != OURS.kind


def folder_layout(path: Path) -> CheckpointLayout | None:
    """The layout of a folder that is one checkpoint; None for any other path. Opens nothing."""
    return next((layout for layout in LAYOUTS if layout.is_folder(path)), None)


def layout_of(opened: OpenFiles, path: Path) -> CheckpointLayout:
    """The layout of a checkpoint, a file or folder. Raises InputError when nothing readable is there."""
    return folder_layout(path) or opened.open(path).once(_file_layout)


def _file_layout(file: WeightFile) -> CheckpointLayout:
    return next((layout for layout in LAYOUTS if layout.is_file(file)), OURS)


def checkpoint_files(opened: OpenFiles, path: Path) -> dict[str, Path]:
    """Part of a model (PARTS) -> where it lies, of those that a checkpoint brings; its adapter at least."""
    return layout_of(opened, path).files(opened, path)


def open_dit(opened: OpenFiles, path: Path) -> WeightFile:
    """The DiT by itself: the one inside a checkpoint, or a file or folder of a DiT as it is.

    Raises InputError when a checkpoint holds none of its own.
    """
    return layout_of(opened, path).dit(opened, path)


def open_model(
    opened: OpenFiles,
    adapter: str | Path,
    *,
    text_encoder: Paths | None = None,
    denoiser: str | Path | None = None,
    vae: str | Path | None = None,
) -> OpenModel:
    """Open what is given; a checkpoint also gives the parts that it brings and that are not given."""
    path = Path(adapter)
    layout = layout_of(opened, path)
    brought = layout.files(opened, path)
    text_encoder, denoiser = text_encoder or brought.get("text_encoder"), denoiser or brought.get("denoiser")
    vae = vae or brought.get("vae")
    return OpenModel(
        path=path,
        layout=layout,
        opened=opened,
        text_encoder=None if text_encoder is None else opened.open(text_encoder),
        denoiser=None if denoiser is None else open_dit(opened, Path(denoiser)),
        vae=None if vae is None else opened.open(vae),
    )
