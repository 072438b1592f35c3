"""An image or a short clip, edited in one piece: all of its frames through the model at once.

One of the two ways from settings to report; in_windows.py is the other. The picture is scaled by one factor and cut to
the model's multiple, never stretched, and the report says what was cut. A clip is padded to 4n+1 frames by repeating
its last one and trimmed back; frame rate and audio are kept.
Legend: F frames, H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..geometry import FitBox, pad_frames
from ..media.base import Media
from ..media.files import write_image, write_video
from ..media.stream import ClipScan, whole_clip
from .fit import apply_box
from .look import Look, lost_transparency
from .paste import paste_back
from .piece import Piece, edit_piece
from .progress import Progress
from .report import EditReport, make_report, world_remarks
from .settings import Settings

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline


def edit_whole(pipe: InstructXPipeline, look: Look, settings: Settings, progress: Progress) -> EditReport:
    """Edits what was looked at and writes the output. Raises InputError where that cannot be done."""
    request, config = look.request, pipe.instructx_config
    seconds = {"read": look.seconds}
    with _timed(seconds, "read"):
        original = None if look.mask is None else source_media(look.source)  # laid under the edit: frames are read once
        media = fit_media(original or look.source, settings.box)
    with _timed(seconds, "edit"):
        piece = Piece(media.frames_FHWC, settings.fps, request.instruction, look.references)
        edited_FHWC = edit_piece(pipe, piece, settings.sampling, progress.on_step)
    notes = [*media.notes, *look.reference_notes, *pipe.memory.notes]
    with _timed(seconds, "write"):
        if look.mask is not None and original is not None:
            edited_FHWC, note = paste_back(
                original.frames_FHWC, media.frames_FHWC, edited_FHWC, settings.box, look.mask
            )
            notes.append(note + (", before its compression" if media.is_video else ""))
            media = original
        notes += write_like(request.output, edited_FHWC, media)
    notes += world_remarks(config, look)
    return make_report(look, settings, pad_frames(look.frames, config.vae.scale_factor_temporal), notes, seconds)


def source_media(source: Media | ClipScan) -> Media:
    """All frames of the source at its own size."""
    return source if isinstance(source, Media) else whole_clip(source)


def fit_media(source: Media | ClipScan, box: FitBox) -> Media:
    """All frames of the source as the model sees them."""
    if isinstance(source, ClipScan):
        return whole_clip(source, partial(apply_box, box=box))
    alpha_HW, colour_HWC = source.alpha_HW, source.colour_HWC
    if alpha_HW is not None:
        alpha_HW = apply_box(np.repeat(alpha_HW[..., None], 3, axis=-1), box)[..., 0]
    if colour_HWC is not None:
        colour_HWC = apply_box(colour_HWC, box)
    frames_FHWC = np.stack([apply_box(frame_HWC, box) for frame_HWC in source.frames_FHWC])
    return dataclasses.replace(source, frames_FHWC=frames_FHWC, alpha_HW=alpha_HW, colour_HWC=colour_HWC)


def write_like(output: Path, frames_FHWC: np.ndarray, media: Media) -> tuple[str, ...]:
    """Write frames with the rate, sound and transparency of `media`; notes on sound and transparency."""
    if media.fps is not None:
        return write_video(output, frames_FHWC, media.fps, audio=media.audio, pixel_aspect=media.pixel_aspect)
    lost = lost_transparency(output, media)
    if media.alpha_HW is None or lost:
        write_image(output, frames_FHWC[0])
        return lost
    write_image(output, frames_FHWC[0], media.alpha_HW, media)
    return ("the source's transparency was put back",)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
