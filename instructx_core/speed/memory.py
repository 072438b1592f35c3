"""What to do when an edit does not fit into memory: the next smaller plan is tried once and said aloud, else an error.

Around the stages of an edit. The plans, in order: the VAE in tiles (tiling.py), each smaller size once; then the
parts that are not at work wait on the CPU (diffusers' model offload; needs an accelerator). The VAE is tiled ahead of
time where its count of bytes says that whole frames will not fit. What was done stays for the pipeline's next edits.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from ..config import VaeConfig
from ..errors import InputError
from .tiling import SIZES, Tiling, VideoShape, plan_tiling

logger = logging.getLogger("instructx")

Result = TypeVar("Result")
Offload = Callable[[], None]

TILE_MODES = ("auto", "on", "off")
# What allocators of torch say in a plain RuntimeError: the CPU's, on Linux and elsewhere, and Apple's.
_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
# What oneDNN says in full when there is none for the code or the scratchpad of a convolution; of what it does not
# support it says more ("... primitive descriptor for ...").
_WHOLE_MESSAGES = ("could not create a primitive", "could not execute a primitive")


def return_freed() -> None:
    """Give what was freed back to the system, where the C library keeps it (glibc); cheap beside a window of an edit.

    Its heap otherwise breaks up between windows of a long edit, which shows as a peak 5 to 10 % above the first one's.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors that torch, its allocators and Python raise when memory ends."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and (
        message in _WHOLE_MESSAGES or any(part in message for part in _MESSAGES)
    )


@dataclass(slots=True)
class MemoryPlan:
    """How one pipeline fits into memory. tile: "auto", "off" or the Tiling in use; notes: what was decided and why."""

    tile: Tiling | str = "auto"
    offloaded: bool = False
    notes: list[str] = field(default_factory=list)
    _frame: tuple[int, int] = (0, 0)  # (H, W) of the last frames the VAE was given
    _in_vae: bool = False

    def set_tile(self, mode: str) -> None:
        """Tiles of the VAE: "auto", "on" or "off". Raises InputError for another mode."""
        if mode not in TILE_MODES:
            raise InputError(f"tile is {mode!r}; use one of {', '.join(TILE_MODES)}")
        self.tile = Tiling() if mode == "on" else mode

    @contextlib.contextmanager
    def vae(
        self, config: VaeConfig, dtype: torch.dtype, shape: VideoShape, device: torch.device
    ) -> Iterator[Tiling | None]:
        """Gives the tiling for frames of this shape; the block is what the VAE does with them."""
        self._frame, self._in_vae = (shape.height, shape.width), True
        tiling = self.tile if isinstance(self.tile, Tiling) else None
        if self.tile == "auto":
            plan = plan_tiling(config, dtype, shape, device)
            if plan is not None:
                tiling = plan.tiling
                self.say(plan.reason)
        yield tiling
        self._in_vae = False  # left as it is by an error: then the VAE was at fault

    def say(self, note: str) -> None:
        """Log a decision; once in the notes."""
        if note not in self.notes:
            logger.warning("%s", note)
            self.notes.append(note)

    def shrink(self, offload: Offload | None) -> str:
        """Switch to the next smaller plan; its name, or "" when there is none left."""
        at_fault, self._in_vae = self._in_vae, False
        if at_fault and self.tile != "off":
            current = self.tile.size if isinstance(self.tile, Tiling) else max(self._frame)
            size = next((size for size in SIZES if size < min(current, max(self._frame))), None)
            if size is not None:
                self.tile = Tiling(size, min(Tiling().overlap, size // 4))
                return self.tile.describe(*self._frame)
        if offload is not None and not self.offloaded:
            self.offloaded = True
            offload()
            return "parts that are not at work wait on the CPU"
        return ""


def within_memory(plan: MemoryPlan, stage: str, run: Callable[[], Result], offload: Offload | None = None) -> Result:
    """run(), and again under each next smaller plan while memory ends. stage: for the message, "sampling".

    offload: sends the parts that are not at work to the CPU; None where that cannot be done.
    Raises InputError when no smaller plan is left; every other error as it comes.
    """
    while True:
        try:
            return run()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Out of the except block: the error held on to every tensor of the failed run.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        smaller = plan.shrink(offload)
        if not smaller:
            raise InputError(
                f"out of memory while {stage} ({reason}) and no smaller plan is left; use a smaller --size or a "
                "shorter clip, or --dtype bfloat16"
            )
        plan.say(f"out of memory while {stage}: tried again with {smaller}")
