"""A look at the files of a request, without a model: source, references and mask are opened and decoded once.

Between the request and its settings. What is wrong with a file is said here, before a model is loaded, which takes
minutes; what was decoded is handed on. A picture is decoded, a clip scanned: its length and its damage are known.
Legend: H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..media.base import ALPHA_SUFFIXES, Media
from ..media.files import open_media, read_picture
from ..media.images import OpenImage
from ..media.outputs import check_writable, output_kind
from ..media.sound.plan import plan_sound
from ..media.stream import ClipScan
from .paste import PasteMask, read_paste_mask
from .request import EditRequest


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A request and what its files hold. mask: where the edit is laid over its source. seconds: how long it took.
    sound: what becomes of a clip's sound. source_digest: of the source's file, where whoever looked knows it.
    reference_notes: what was converted in the references."""

    request: EditRequest
    source: Media | ClipScan
    references: tuple[np.ndarray, ...]
    mask: PasteMask | None
    seconds: float
    source_digest: str | None = None
    sound: tuple[str, ...] = ()
    reference_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is known of the result before a model runs."""
        lost = lost_transparency(self.request.output, self.source)
        return (*self.source.notes, *self.sound, *lost, *self.reference_notes)

    @property
    def modality(self) -> str:
        """ "image" or "video"."""
        return "video" if isinstance(self.source, ClipScan) else "image"

    @property
    def frames(self) -> int:
        """Of the result, as of the source."""
        return self.source.frames if isinstance(self.source, ClipScan) else 1


def look_at(request: EditRequest, source_digest: str | None = None) -> Look:
    """Opens and checks every file of a request. Raises InputError for anything wrong with one, or with the output."""
    start = time.perf_counter()
    source = _look_at_source(request)
    mask = None
    if request.keep_outside is not None:
        if isinstance(source, ClipScan):
            _check_even(request.source, source.size)
        mask = read_paste_mask(request.keep_outside, source.size)
    references = [read_picture(path) for path in request.references]
    return Look(
        request,
        source,
        tuple(each.frames_FHWC[0] for each in references),
        mask,
        time.perf_counter() - start,
        source_digest,
        sound=_look_at_sound(request, source),
        reference_notes=tuple(f"reference {each.path.name}: {note}" for each in references for note in each.notes),
    )


def lost_transparency(output: Path, source: Media | ClipScan) -> tuple[str, ...]:
    """That of a picture whose output has none."""
    if isinstance(source, ClipScan) or source.alpha_HW is None or output.suffix.lower() in ALPHA_SUFFIXES:
        return ()
    return (f"the source's transparency is lost: {output.suffix} has none, write a .png to keep it",)


def _look_at_source(request: EditRequest) -> Media | ClipScan:
    with open_media(request.source) as opened:
        _check_kind(opened.is_video, request.output)
        check_writable(request.output)
        if isinstance(opened, OpenImage):
            return opened.read()
        return opened.scan(request.partial, request.max_frames)


def _look_at_sound(request: EditRequest, source: Media | ClipScan) -> tuple[str, ...]:
    """What becomes of the sound. Raises InputError where the request needs all of it and some is lost."""
    if source.audio is None:
        return ()
    plans, left_out = plan_sound(source.audio, request.output.suffix.lower())
    lost = [*source.audio.lost, *left_out]
    if lost and request.need_sound:
        raise InputError(f"{request.source}: {lost[0]}; leave --need-sound out to edit it all the same")
    return (*(plan.note for plan in plans), *left_out)


def _check_kind(is_video: bool, output: Path) -> None:
    """Raises InputError when an image would become a video or the other way round."""
    kind = output_kind(output)
    if is_video and kind == "image":
        raise InputError(f"{output}: the source is a video and the output an image; use .mp4, .mov or .mkv")
    if not is_video and kind == "video":
        raise InputError(f"{output}: the source is an image and the output a video; use .png or .jpg")


def _check_even(path: Path, size: tuple[int, int]) -> None:
    height, width = size
    if height % 2 or width % 2:
        raise InputError(
            f"{path}: {width}x{height} cannot be written at its own size, H.264 needs even sides; leave "
            "--keep-outside out or crop the clip by one pixel"
        )
