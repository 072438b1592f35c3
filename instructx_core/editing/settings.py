"""Every number of one edit, none of them open: where the model's steps, guidance, size and length enter.

Between the look at the files and the edit: request and what its files hold, and the model's configuration -> settings.
The rest of the model's numbers is the pipeline's (its schedule).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..config import InstructXConfig
from ..errors import InputError
from ..geometry import FitBox, fit_size
from ..media.stream import ClipScan
from .look import Look
from .windows.options import Windowing, WindowOptions, cut_into_windows


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the model is run: steps, guidance scale (1 is off), seed of the noise."""

    steps: int
    guidance: float
    seed: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What an edit is run with. box: what of a frame the model sees. fps: Hz, of the frames that are edited, or what
    the model takes a picture for. windowing: None, in one piece."""

    sampling: Sampling
    box: FitBox
    fps: float
    windowing: Windowing | None


def settle(look: Look, config: InstructXConfig) -> Settings:
    """The request's numbers, and the model's own where it leaves them open. Raises InputError for what does not fit."""
    request, usual = look.request, config.sampling
    steps = usual.num_steps if request.steps is None else request.steps
    guidance = usual.guidance_scale if request.guidance is None else request.guidance
    windowing = _windowing(look, config)
    return Settings(
        sampling=Sampling(steps, float(guidance), request.seed),
        box=fit_size(*look.source.size, config.size_multiple, request.max_pixels or usual.area),
        fps=float(_rate(look, windowing) or usual.fps),
        windowing=windowing,
    )


def _rate(look: Look, windowing: Windowing | None) -> Fraction | None:
    return look.source.fps if windowing is None else windowing.fps


def _windowing(look: Look, config: InstructXConfig) -> Windowing | None:
    """A clip's windows, where it is longer than the model's usual length or its request asks for them."""
    request, clip, longest = look.request, look.source, config.sampling.frames
    if not isinstance(clip, ClipScan):
        return None
    if request.max_frames is not None:
        if clip.frames > request.max_frames:
            raise InputError(
                f"{clip.path}: has more than {request.max_frames} frames; cut it to {request.max_frames} or fewer"
            )
        return None
    if request.windows is None and clip.frames <= longest:
        return None
    return cut_into_windows(clip, request.windows or WindowOptions(), longest, config.vae.scale_factor_temporal)
