"""A long edit from file to file, window by window: decode, edit, write; memory does not grow with the clip's length.

Around edit.run_clip in the data flow: media.stream -> handover -> run_clip -> state -> stream.join_clips. The
result has exactly the frames of the source, its rate and its sound. Killed at any point, the same call goes on at the
next window and ends with the same file, byte for byte.
Legend: F frames, H W pixels, O frames of overlap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...digests import file_digest, picture_digest
from ...errors import InputError
from ...geometry import FitBox, fit_size
from ...media.base import Media
from ...media.encode import write_frames
from ...media.files import read_image
from ...media.stream import ClipScan, clip_frames, join_clips
from ...speed.memory import return_freed
from ...version import __version__
from ..one import EditReport, Progress, apply_box, pad_clip, remarks, run_clip
from ..paste import KeepOutside, pasted_frames
from .handover import FADE, WindowResult, edit_windows
from .plan import JOINS, SMOOTH, Window, check_window, plan_windows, window_frames, window_seed
from .state import Saved, Windows, edit_digest

if TYPE_CHECKING:
    from ...pipeline import InstructXPipeline

logger = logging.getLogger("instructx")

OnWindow = Callable[[WindowResult, int], None]  # (what a window gave, windows in all)
CONTEXTS = ("window", "first")
LAID_OVER = "laid over the source at its full size, window by window, before its compression"


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a long clip is edited.

    frames: length of a window, 4n+1; or seconds; neither: 5 seconds, at most the model's length. overlap: frames handed
    over from one to the next. context: "window", the MLLM sees each window's frames, or "first", it sees those of the
    first window and all windows follow what it said there. match_colour: correct colour drift (handover.Colour).
    joins: "smooth", the frame handed over is not edited again, and the step that shows in the frame behind it, which
    both windows edit, fades out; or "plain", as in the paper.
    restart: throw away finished windows of an earlier run.
    """

    frames: int | None = None
    seconds: float | None = None
    overlap: int = 1
    context: str = "window"
    match_colour: bool = False
    joins: str = SMOOTH
    restart: bool = field(default=False, repr=False)  # no part of what the result is

    def size(self, scan: ClipScan, pipe: InstructXPipeline) -> int:
        """Frames of a window. Raises InputError for options that do not fit the clip or each other."""
        if self.context not in CONTEXTS:
            raise InputError(f"context is {self.context!r}; use one of {', '.join(CONTEXTS)}")
        if self.joins not in JOINS:
            raise InputError(f"joins is {self.joins!r}; use one of {', '.join(JOINS)}")
        if self.frames is not None and self.seconds is not None:
            raise InputError(f"a window of {self.frames} frames and {self.seconds:g} s; give one of the two")
        config = pipe.instructx_config
        stride = config.vae.scale_factor_temporal
        if self.seconds is not None:
            size = window_frames(scan.fps, max(scan.frames, stride + 1), self.seconds, stride)
        else:
            size = self.frames or window_frames(scan.fps, config.sampling.frames, stride=stride)
        check_window(size, self.overlap, stride)
        return size


def edit_clip(
    pipe: InstructXPipeline,
    scan: ClipScan,
    instruction: str,
    references: Sequence[str | Path] = (),
    *,
    output: str | Path,
    options: WindowOptions | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    max_pixels: int | None = None,
    keep_outside: KeepOutside | None = None,
    progress: Progress | None = None,
    on_window: OnWindow | None = None,
) -> EditReport:
    """Edit a scanned clip (media.stream.scan_clip) of any length in windows; edit.edit_file calls this for long ones.

    Arguments and errors as edit_file. progress(done, total) counts the steps of all windows, on_window is called after
    each. Finished windows are kept in a folder beside the output until the whole result is written.
    """
    started = time.perf_counter()
    options = options or WindowOptions()
    config, sampling = pipe.instructx_config, pipe.instructx_config.sampling
    steps = sampling.num_steps if steps is None else steps
    guidance = float(sampling.guidance_scale if guidance is None else guidance)
    size = options.size(scan, pipe)
    windows = plan_windows(scan.frames, size, options.overlap, config.vae.scale_factor_temporal, options.joins)
    box = fit_size(*scan.size, config.size_multiple, sampling.area if max_pixels is None else max_pixels)
    pictures = [read_image(path) for path in references]
    request = {
        "version": __version__, "model": edit_digest(pipe), "source": file_digest(scan.path), "frames": scan.frames,
        "references": [picture_digest(picture) for picture in pictures], "instruction": instruction, "steps": steps,
        "guidance": guidance, "seed": seed, "size": [box.height, box.width], "window": size,
        "overlap": options.overlap, "context": options.context, "match_colour": options.match_colour,
        "joins": options.joins, "keep_outside": _keeping(keep_outside),
    }  # fmt: skip
    job = _Job(pipe, scan, instruction, pictures, steps, guidance, seed, options, len(windows), progress)
    store = Windows(Path(output), request)
    saved = store.open(options.restart)
    done = f"edited in {len(windows)} windows of {size} frames, {options.overlap} handed over at each join"
    notes = [*scan.notes, done, *([] if keep_outside is None else [LAID_OVER])]
    if saved.done:
        notes.append(f"windows 1 to {saved.done} were finished before and kept")
    saved = _run_windows(job, store, saved, windows, box, keep_outside, on_window)
    edited = time.perf_counter()
    parts = [store.part(window.index) for window in windows]
    notes += join_clips(output, parts, [window.stop - window.first_new for window in windows], scan.fps, scan.audio)
    notes += [*_about_joins(saved.joins, options.match_colour), *pipe.memory.notes]
    notes += remarks(config, scan.size, scan.frames)
    store.remove()
    seconds = {"edit": edited - started, "write": time.perf_counter() - edited}
    return EditReport(
        source=scan.path, output=Path(output), instruction=instruction, references=len(pictures), modality="video",
        source_size=scan.size, box=box, frames_in=scan.frames, frames_padded=scan.frames, fps=scan.fps, steps=steps,
        guidance_scale=guidance, seed=seed, notes=tuple(notes), seconds=seconds, restored=keep_outside is not None,
    )  # fmt: skip


def _keeping(keep: KeepOutside | None) -> list[Any] | None:
    """What keep_outside does to the result, by content."""
    if keep is None:
        return None
    return [None if keep.mask is None else picture_digest(read_image(keep.mask)), keep.feather]


def _run_windows(
    job: _Job, store: Windows, saved: Saved, windows: Sequence[Window], box: FitBox, keep: KeepOutside | None,
    on_window: OnWindow | None,
) -> Saved:  # fmt: skip
    """The windows that are not done yet; each is written and saved before the next one begins."""
    if saved.done == len(windows):
        return saved
    job.contexts, options = saved.contexts, job.options
    scan, done = job.scan, saved.done
    sources: list[np.ndarray] = []  # what the model is shown of the window at hand, where it is compared later
    originals = iter(()) if keep is None else clip_frames(scan, None, windows[done].first_new)

    def fitted() -> Iterator[np.ndarray]:
        for frame_HWC in clip_frames(scan, None, windows[done].first_source):
            fitted_HWC = apply_box(frame_HWC, box)
            if keep is not None:
                sources.append(fitted_HWC)
            yield fitted_HWC

    results = edit_windows(
        fitted(), windows, job.edit, match_colour=options.match_colour, fade=FADE if options.joins == SMOOTH else 0,
        done=done, tail_OHWC=saved.tail_OHWC,
    )  # fmt: skip
    for result in results:
        index, frames, size = result.window.index, result.new_FHWC, (box.height, box.width)
        count = len(frames)
        if keep is not None:
            source_FHWC, size = np.stack(sources[-count:]), scan.size
            sources.clear()
            frames = pasted_frames(islice(originals, count), source_FHWC, result.new_FHWC, box, keep)
        write_frames(store.part(index), frames, count, size, scan.fps, pixel_aspect=scan.pixel_aspect)
        saved = Saved(index + 1, result.tail_OHWC, job.contexts, (*saved.joins, (result.join, *result.drift)))
        store.save(saved)
        return_freed()
        logger.info("window %d of %d done, join %.2f of 255", index + 1, len(windows), result.join)
        if on_window is not None:
            on_window(result, len(windows))
    return saved


@dataclass(slots=True)
class _Job:
    """Edits one window through the pipeline; keeps the first window's context where all share it."""

    pipe: InstructXPipeline
    scan: ClipScan
    instruction: str
    pictures: list[np.ndarray]
    steps: int
    guidance: float
    seed: int
    options: WindowOptions
    windows: int
    progress: Progress | None
    contexts: Any = None

    def edit(self, frames_FHWC: np.ndarray, window: Window) -> np.ndarray:
        """uint8 (F, H, W, 3) in and out."""
        stride = self.pipe.instructx_config.vae.scale_factor_temporal
        if self.options.context == "first" and self.contexts is None:
            padded_FHWC = pad_clip(frames_FHWC, stride)
            contexts = self.pipe.encode_instruction(
                torch.from_numpy(padded_FHWC), self.instruction, [torch.from_numpy(p.copy()) for p in self.pictures],
                float(self.scan.fps), unconditional=self.guidance != 1.0,
            )  # fmt: skip
            # A view multiplies in another order than the copy that a resumed edit reads, which shows in the last bit.
            self.contexts = tuple(None if part is None else part.contiguous() for part in contexts)
        media = Media(self.scan.path, frames_FHWC, self.scan.size, is_video=True, fps=self.scan.fps)
        made_FHWC, _, _ = run_clip(
            self.pipe, media, self.instruction, self.pictures, self.steps, self.guidance,
            window_seed(self.seed, window.index), self._report(window), self.contexts,
            window.pinned(stride) if self.options.joins == SMOOTH else 0,
        )  # fmt: skip
        return made_FHWC

    def _report(self, window: Window) -> Progress | None:
        if self.progress is None:
            return None
        tell = self.progress
        return lambda step, steps: tell(window.index * steps + step, self.windows * steps)


def _about_joins(joins: Sequence[tuple[float, ...]], corrected: bool) -> list[str]:
    """One sentence on how well the windows fit together."""
    if len(joins) < 2:
        return []
    values = np.array(joins[1:])
    worst = values[np.abs(values[:, 1:]).max(1).argmax(), 1:]
    drift = ", ".join(f"{value:+.1f}" for value in worst)
    line = (
        f"joins: windows differ by {values[:, 0].mean():.1f} of 255 where they meet, colour by up to {drift} (R, G, B)"
    )
    return [line + (", corrected" if corrected else "")]
