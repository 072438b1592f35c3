"""One window through the pipeline, as windows.handover.edit_windows asks for it.

Between the hand-over and piece.py: pins the frames that were handed over, shares the first window's context where all
windows follow it, and counts the steps of all windows.
Legend: F frames, H W pixels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .look import Look
from .piece import Piece, edit_piece
from .progress import Progress
from .settings import Settings
from .windows.options import FIRST, Windowing
from .windows.plan import SMOOTH, Window, window_seed

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline
    from ..sampling.encode import Contexts


@dataclass(slots=True)
class WindowEditor:
    """Edits windows one after the other. contexts: of the first window, where all share them; of a resumed edit those
    that it saved."""

    pipe: InstructXPipeline
    look: Look
    settings: Settings
    windowing: Windowing
    progress: Progress
    contexts: Contexts | None = None

    def edit(self, frames_FHWC: np.ndarray, window: Window) -> np.ndarray:
        """uint8 (F, H, W, 3) in and out."""
        request, options = self.look.request, self.windowing.options
        stride = self.pipe.instructx_config.vae.scale_factor_temporal
        pinned = window.pinned(stride) if options.joins == SMOOTH else 0
        piece = Piece(frames_FHWC, self.settings.fps, request.instruction, self.look.references, pinned)
        if options.context == FIRST:
            if self.contexts is None:
                self.contexts = piece.encode(self.pipe, self.settings.sampling.guidance)
            piece = dataclasses.replace(piece, contexts=self.contexts)
        sampling = dataclasses.replace(
            self.settings.sampling, seed=window_seed(self.settings.sampling.seed, window.index)
        )
        total = len(self.windowing.windows)

        def on_step(step: int, steps: int) -> None:
            self.progress.on_step(window.index * steps + step, total * steps)

        return edit_piece(self.pipe, piece, sampling, on_step)
