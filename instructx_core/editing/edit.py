"""One call from file to file: read, fit, edit, write; and a report of everything that was done on the way.

Around clip.py in the data flow: media -> [geometry, padding] -> pipeline -> [trim] -> media. Nothing is stretched:
the picture is scaled by one factor and cut to the model's multiple, and the report says what was cut. A clip is padded
to 4n+1 frames by repeating its last one and trimmed back; frame rate and audio are kept.
Legend: F frames, H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoder.instruction import check_instruction
from ..errors import InputError
from ..geometry import FitBox, fit_size, pad_frames
from ..media.base import ALPHA_SUFFIXES, Media
from ..media.files import read_image, read_media, write_image, write_video
from ..media.outputs import claim_output, output_kind
from ..media.stream import ClipScan, scan_clip
from .one import EditReport, Progress, apply_box, remarks, run_clip
from .paste import KeepOutside, paste_back

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline
    from .windows.job import OnWindow, WindowOptions


def claims_output(edit: Callable[..., EditReport]) -> Callable[..., EditReport]:
    """No second job may work on the output of one that runs (media.outputs), from its beginning on."""

    @functools.wraps(edit)
    def claimed(*arguments: Any, output: str | Path, **options: Any) -> EditReport:
        with claim_output(output):
            return edit(*arguments, output=output, **options)

    return claimed


@claims_output
def edit_file(
    pipe: InstructXPipeline,
    source: str | Path,
    instruction: str,
    references: Sequence[str | Path] = (),
    *,
    output: str | Path,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    max_pixels: int | None = None,
    max_frames: int | None = None,
    partial: bool = False,
    keep_outside: KeepOutside | None = None,
    windows: WindowOptions | None = None,
    progress: Progress | None = None,
    on_window: OnWindow | None = None,
) -> EditReport:
    """Edit an image or a clip on disk. The output's suffix must fit the source's kind; it is written atomically.

    steps, guidance: default to the model's. max_pixels: area of a frame the model works at, default by model (the
    result has that size). A clip longer than the model's usual length (SamplingConfig.frames) is edited in windows, and
    so is every clip when `windows` is given; max_frames: in one piece, a longer clip is refused. progress(done, total)
    is called after each step, on_window after each window.
    partial: of a damaged or cut off clip, edit what can be read. keep_outside: lay the edit over the source at its full
    size, exact outside of a mask (media/paste.py).
    Raises InputError for anything wrong with input, output path or the model's numbers; then nothing is written.
    """
    config = pipe.instructx_config
    check_request(instruction, seed, steps, max_pixels)
    look = read_media(source, first_only=True)
    check_kind(look, output_kind(output), Path(output))
    if keep_outside is not None:
        keep_outside.check(look)
    if scan := _needs_windows(look, config.sampling.frames, max_frames, windows, partial):
        from .windows.job import edit_clip

        return edit_clip(
            pipe, scan, instruction, references, output=output, options=windows, steps=steps, guidance=guidance,
            seed=seed, max_pixels=max_pixels, keep_outside=keep_outside, progress=progress, on_window=on_window,
        )  # fmt: skip
    seconds: dict[str, float] = {}
    box = fit_size(*look.size, config.size_multiple, config.sampling.area if max_pixels is None else max_pixels)
    with _timed(seconds, "read"):
        media = read_media(source, lambda frame_HWC: apply_box(frame_HWC, box), max_frames, partial=partial)
        pictures = [read_image(path) for path in references]
    with _timed(seconds, "edit"):
        frames_FHWC, steps, guidance = run_clip(pipe, media, instruction, pictures, steps, guidance, seed, progress)
    notes = [*media.notes, *pipe.memory.notes]
    with _timed(seconds, "write"):
        notes += _write(Path(output), media, frames_FHWC, box, keep_outside, partial)
    notes += remarks(config, media.size, len(frames_FHWC))
    return EditReport(
        source=Path(source), output=Path(output), instruction=instruction, references=len(pictures),
        modality="video" if media.is_video else "image", source_size=media.size, box=box,
        frames_in=len(frames_FHWC), frames_padded=pad_frames(len(frames_FHWC), config.vae.scale_factor_temporal),
        fps=media.fps, steps=steps, guidance_scale=guidance, seed=seed, notes=tuple(notes), seconds=seconds,
        restored=keep_outside is not None,
    )  # fmt: skip


def _write(
    output: Path, media: Media, frames_FHWC: np.ndarray, box: FitBox, keep_outside: KeepOutside | None, partial: bool
) -> list[str]:
    """Write the edited frames of `media`, alone or over its source; notes on transparency and sound."""
    notes: list[str] = []
    if keep_outside is not None:
        original = read_media(media.path, partial=partial)
        frames_FHWC, note = paste_back(original.frames_FHWC, media.frames_FHWC, frames_FHWC, box, keep_outside)
        notes.append(note + (", before its compression" if media.is_video else ""))
        media = original
    if media.is_video:
        fps = media.fps or 25
        return notes + list(write_video(output, frames_FHWC, fps, audio=media.audio, pixel_aspect=media.pixel_aspect))
    if media.alpha_HW is None:
        write_image(output, frames_FHWC[0])
    elif output.suffix.lower() in ALPHA_SUFFIXES:
        write_image(output, frames_FHWC[0], media.alpha_HW)
        notes.append("the source's transparency was put back")
    else:
        write_image(output, frames_FHWC[0])
        notes.append(f"the source's transparency is lost: {output.suffix} has none, write a .png to keep it")
    return notes


def _needs_windows(
    look: Media,
    usual_frames: int,
    max_frames: int | None,
    windows: WindowOptions | None,
    partial: bool,
) -> ClipScan | None:
    """The scanned clip where it is to be edited in windows, else None. Raises InputError for contradicting options."""
    if windows is not None and max_frames is not None:
        raise InputError("windows and max_frames are both given; max_frames edits in one piece: give one of them")
    if not look.is_video or max_frames is not None:
        return None
    scan = scan_clip(look.path, partial)
    if windows is None and scan.frames <= usual_frames:
        return None
    return scan


def check_request(instruction: str, seed: int, steps: int | None, max_pixels: int | None) -> None:
    """Raises InputError for an instruction that is none (check_instruction) or a number out of its range."""
    check_instruction(instruction)
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; it must lie between 0 and 2^63 - 1")
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}; use at least 1")
    if max_pixels is not None and max_pixels < 1:
        raise InputError(f"the size is {max_pixels} pixels; it must be positive")


def check_kind(media: Media, kind: str, output: Path) -> None:
    """Raises InputError when an image would become a video or the other way round."""
    if media.is_video and kind == "image":
        raise InputError(f"{output}: the source is a video and the output an image; use .mp4, .mov or .mkv")
    if not media.is_video and kind == "video":
        raise InputError(f"{output}: the source is an image and the output a video; use .png or .jpg")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
