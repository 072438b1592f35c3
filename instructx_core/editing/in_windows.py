"""A long edit from file to file, window by window: decode, edit, write; memory does not grow with the clip's length.

One of the two ways from settings to report; one.py is the other. feed -> windows.handover -> window_editor -> piece ->
windows.state -> media.join. The result has exactly the frames of the source, its rate and its sound. Killed at any
point, the same call goes on at the next window and ends with the same file, byte for byte.
Legend: F frames, H W pixels, O frames of overlap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..media.encode import ClipFormat, write_frames
from ..media.join import join_clips
from ..speed.memory import return_freed
from .feed import Feed
from .identity import identity
from .look import Look
from .progress import Progress
from .report import EditReport, make_report, world_remarks
from .settings import Settings
from .window_editor import WindowEditor
from .windows.between import Thinning, added_frames
from .windows.handover import FADE, edit_windows
from .windows.options import Windowing
from .windows.plan import SMOOTH
from .windows.state import WindowProgress, WindowStore

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline

logger = logging.getLogger("instructx")

LAID_OVER = "laid over the source at its full size, window by window, before its compression"


def edit_in_windows(
    pipe: InstructXPipeline, look: Look, settings: Settings, windowing: Windowing, progress: Progress
) -> EditReport:
    """Edits the clip that was looked at in windows and writes the output.

    Finished windows are kept in a folder beside the output until the whole result is written. Raises InputError where
    that folder holds another edit, or the edit cannot be done.
    """
    started, clip, windows = time.perf_counter(), windowing.clip, windowing.windows
    store = WindowStore(look.request.output, identity(pipe, look, settings, windowing))
    saved = store.open(windowing.options.restart)
    notes = [*clip.notes, *look.reference_notes]
    notes.append(
        f"edited in {len(windows)} windows of {windowing.size} frames, {windowing.options.overlap} handed over at each "
        "join"
    )
    if len(windowing.numbers) < clip.frames:
        notes.append(
            f"{len(windowing.numbers)} of {clip.frames} frames edited, {float(windowing.fps):g} a second; the others "
            "keep their picture and take over what was changed in the two around them"
        )
    if look.mask is not None:
        notes.append(LAID_OVER)
    if saved.done:
        notes.append(f"windows 1 to {saved.done} were finished before and kept")
    if saved.done < len(windows):
        editor = WindowEditor(pipe, look, settings, windowing, progress, saved.contexts)
        thinning = Thinning(windowing.numbers, windows[saved.done])
        saved = _run_windows(editor, Feed(clip, look.mask, settings.box, thinning), store, saved)
    edited = time.perf_counter()
    parts = [store.part(window.index) for window in windows]
    lengths = [added_frames(windowing.numbers, window) for window in windows]
    notes += join_clips(look.request.output, parts, lengths, clip.fps, clip.audio)
    notes += [*about_joins(saved.joins, windowing.options.match_colour), *pipe.memory.notes]
    notes += world_remarks(pipe.instructx_config, look)
    store.remove()
    seconds = {"read": look.seconds, "edit": edited - started, "write": time.perf_counter() - edited}
    return make_report(look, settings, clip.frames, notes, seconds)


def _run_windows(editor: WindowEditor, feed: Feed, store: WindowStore, saved: WindowProgress) -> WindowProgress:
    """The windows that are not done yet; each is written and saved before the next one begins."""
    options, windows = editor.windowing.options, editor.windowing.windows
    results = edit_windows(
        feed.fitted_frames(),
        windows,
        editor.edit,
        match_colour=options.match_colour,
        fade=FADE if options.joins == SMOOTH else 0,
        done=saved.done,
        tail_OHWC=saved.tail_OHWC,
    )
    form = ClipFormat(feed.written_size, feed.clip.fps, pixel_aspect=feed.clip.pixel_aspect)
    for result in results:
        index, before = result.window.index, saved.tail_OHWC
        new_FHWC = feed.thinning.fill(result, None if before is None else before[-1])
        write_frames(store.part(index), feed.result_frames(new_FHWC), len(new_FHWC), form)
        joins = (*saved.joins, (result.join, *result.drift))
        saved = WindowProgress(index + 1, result.tail_OHWC, editor.contexts, joins)
        store.save(saved)
        return_freed()
        logger.info("window %d of %d done, join %.2f of 255", index + 1, len(windows), result.join)
        editor.progress.on_window(result, len(windows))
    return saved


def about_joins(joins: Sequence[tuple[float, ...]], corrected: bool) -> list[str]:
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
