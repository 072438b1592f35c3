"""One run of Long Video: window after window as the pack's nodes do it, kept on disk; what Cancel left is resumed.

Between the node and the host's sampler: frames of the clip -> conditioning, latents, sampling -> a file a window. The
plan of the windows, the hand-over and the joins are the library's (editing/windows, paper A.5).
Legend: F frames, H W pixels, 3 RGB; frames are uint8, IMAGE is float [0,1] (F, H, W, 3).
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...instructx_core.editing.windows import FADE, SMOOTH, Window, WindowResult, edit_windows, window_seed
from ...instructx_core.editing.windows.between import Thinning, added_frames
from ...instructx_core.editing.windows.options import FIRST, WindowOptions
from .clip_files import Source
from .host import progress_bar
from .host_model import window_callback
from .media import from_image, to_image
from .sampling import sample_edit
from .settings import SamplerInputs, SamplingSettings
from .unfinished import UnfinishedEdit

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

logger = logging.getLogger("instructx")
PREVIEW = 512  # pixels, longest side of the preview of a finished window


@dataclass(frozen=True, eq=False)
class Steps:
    """What the pack's nodes do, and a window goes through.

    conditioning(frames, drop_instruction) -> CONDITIONING. prepare(frames, positive, negative) -> SamplerInputs.
    """

    conditioning: Callable[[Tensor, bool], Any]
    prepare: Callable[[Tensor, Any, Any], SamplerInputs]


@dataclass(frozen=True, eq=False)
class ConditioningPair:
    """CONDITIONING with and without the instruction. negative: None without guidance."""

    positive: Any
    negative: Any | None


@dataclass(eq=False)
class WindowRun:
    """One run of the node: everything that a window needs."""

    steps: Steps
    vae: Any
    clip: Source
    windows: tuple[Window, ...]
    sampling: SamplingSettings
    options: WindowOptions
    work: UnfinishedEdit
    numbers: tuple[int, ...]  # of the frames that are edited
    bar: Any = None
    shared: ConditioningPair | None = None  # conditioning of the first window, where all follow it

    @property
    def lengths(self) -> list[int]:
        """Frames of the clip that each window adds."""
        return [added_frames(self.numbers, window) for window in self.windows]

    def run(self) -> None:
        """The windows that are not finished yet; each is on disk before the next one begins."""
        done, steps, count = self.work.saved.done, self.sampling.steps, len(self.windows)
        self.bar = progress_bar(count * steps)
        if done == count:
            return
        thinning = Thinning(self.numbers, self.windows[done])
        results = edit_windows(
            thinning.thin(self.clip.read(thinning.start)),
            self.windows,
            self.edit,
            match_colour=self.options.match_colour,
            fade=FADE if self.options.joins == SMOOTH else 0,
            done=done,
            tail_OHWC=self.work.saved.tail_OHWC,
        )
        for result in results:
            before = self.work.saved.tail_OHWC
            frames_FHWC = thinning.fill(result, None if before is None else before[-1])
            self.work.add(result, frames_FHWC, self.clip)
            number = result.window.index + 1
            self.bar.update_absolute(number * steps, count * steps, picture(result))
            logger.info("InstructX: window %d of %d done, join %.1f of 255", number, count, result.join)

    def edit(self, given_FHWC: np.ndarray, window: Window) -> np.ndarray:
        """One window, uint8 in and out."""
        frames_FHWC = to_image(given_FHWC)
        pair = self.conditioning(frames_FHWC)
        edit = self.steps.prepare(frames_FHWC, pair.positive, pair.negative)
        if self.options.joins == SMOOTH:
            kept = window.pinned(int(self.vae.temporal_compression_decode() or 1))
            edit = dataclasses.replace(edit, latent=pinned(edit.latent, kept))
        seeded = dataclasses.replace(self.sampling, seed=window_seed(self.sampling.seed, window.index))
        steps = self.sampling.steps
        callback = window_callback(edit.model, self.bar, window.index * steps, len(self.windows) * steps)
        image, _ = sample_edit(edit, self.vae, seeded, callback)
        return from_image(image, "the edit").numpy()

    def conditioning(self, frames_FHWC: Tensor) -> ConditioningPair:
        """For these frames, or those of the first window where all share them."""
        if self.options.context != FIRST:
            return self._conditioning(frames_FHWC)
        if self.shared is None:
            if self.work.saved.done:  # the run goes on behind the first window
                first = Thinning(self.numbers, self.windows[0]).thin(self.clip.read(0))
                frames_FHWC = to_image(np.stack(list(islice(first, self.windows[0].frames))))
            self.shared = self._conditioning(frames_FHWC)
        return self.shared

    def _conditioning(self, frames_FHWC: Tensor) -> ConditioningPair:
        guided = self.sampling.cfg != 1.0
        positive = self.steps.conditioning(frames_FHWC, False)
        return ConditioningPair(positive, self.steps.conditioning(frames_FHWC, True) if guided else None)


def pinned(latent: dict[str, Any], count: int) -> dict[str, Any]:
    """A LATENT whose first `count` frames the host's sampler keeps as they are, by its noise mask."""
    if not count:
        return latent
    mask_BCTHW = torch.ones_like(latent["samples"][:1, :1])
    mask_BCTHW[:, :, :count] = 0.0
    return {**latent, "noise_mask": mask_BCTHW}


def picture(result: WindowResult) -> tuple[str, Any, int]:
    """The last frame of a finished window as the host's preview."""
    from PIL import Image

    return "JPEG", Image.fromarray(result.new_FHWC[-1]), PREVIEW
