"""The model's defaults enter in one place: steps, guidance, size, and whether a clip is edited in windows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.config import preset
from instructx_core.editing.look import Look
from instructx_core.editing.request import EditRequest
from instructx_core.editing.settings import Sampling, settle
from instructx_core.editing.windows.options import WindowOptions
from instructx_core.errors import InputError
from instructx_core.media.base import Media
from instructx_core.media.stream import ClipScan

TINY = preset("tiny")


def look(frames: int = 1, **options: Any) -> Look:
    """At an image, or a clip of so many frames at 16 Hz; 640x480."""
    request = EditRequest(source=Path("in"), instruction="x", output=Path("out"), **options)
    source: Media | ClipScan = Media(Path("in"), np.zeros((1, 480, 640, 3), np.uint8), (480, 640), is_video=False)
    if frames > 1:
        source = ClipScan(Path("in"), (480, 640), Fraction(16), range(frames), None, Fraction(1), (), lambda: iter(()))
    return Look(request, source, (), None, 0.0)


def test_defaults_are_the_models() -> None:
    usual = TINY.sampling
    settings = settle(look(), TINY)
    assert settings.sampling == Sampling(usual.num_steps, usual.guidance_scale, 0) and settings.windowing is None
    assert settings.box.height * settings.box.width <= usual.area
    paper = settle(look(), preset("paper_14b"))
    assert paper.box.height * paper.box.width > settings.box.height * settings.box.width


def test_the_rate_is_the_clips_or_what_the_model_takes_a_picture_for() -> None:
    assert settle(look(), preset("kiwi_5b")).fps == 24.0 and settle(look(), TINY).fps == TINY.sampling.fps == 16.0
    assert settle(look(5), preset("kiwi_5b")).fps == 16.0


def test_the_request_comes_first() -> None:
    settings = settle(look(steps=3, guidance=2, seed=5, max_pixels=32 * 32), TINY)
    assert settings.sampling == Sampling(3, 2.0, 5) and isinstance(settings.sampling.guidance, float)
    assert settings.box.height * settings.box.width <= 32 * 32


@pytest.mark.parametrize(
    ("frames", "options", "windows"),
    [
        (17, {}, 0),
        (18, {}, 2),
        (18, {"max_frames": 18}, 0),
        (17, {"windows": WindowOptions()}, 1),
        (17, {"windows": WindowOptions(frames=9)}, 3),
        (17, {"windows": WindowOptions(seconds=0.6)}, 3),
        (1, {"windows": WindowOptions()}, 0),
    ],
)
def test_windows(frames: int, options: dict[str, Any], windows: int) -> None:
    windowing = settle(look(frames, **options), TINY).windowing
    assert (0 if windowing is None else len(windowing.windows)) == windows


def test_too_long_for_one_piece() -> None:
    """Also where the length is bounded after the look, as for a clip that several GPUs share."""
    with pytest.raises(InputError, match="in: has more than 17 frames; cut it to 17 or fewer"):
        settle(look(18, max_frames=17), TINY)
