"""Pictures and clips without an edit, by number: what VAE, MLLM and text-to-video pretraining look at.

Place: draw, render, language -> pretraining -> training data. Two sorts: scenes with captions (`scene_sample`), some
with a look laid over them, and natural pictures without any thing (`natural_sample`) for the statistics of photographs.
Shapes: frames_FHWC uint8 (F = 1 or 17).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import InputError
from .edits import scene_for
from .language import caption
from .render import render
from .sampling import MAX_DRAWS
from .scene.canvas import SIZE, Size
from .scene.contents import STYLES, TONE_LOOKS, Scene, frame_times, patterned
from .scene.draw import Redraw, Setting, choose, draw_natural, draw_pattern
from .scene.palette import SHAPES
from .splits import HELD_OUT_SHARE, LOOKS, canvas_for, generator
from .stage import LUMA
from .visible import render_visible

LOOK_SHARE = 0.25  # of scene_sample
# Of natural_sample. Photographs have two thirds of the scenes' chroma and up to twice their finest luma.
GREY_SHARE = 0.25
SHARPENED_SHARE = 0.5
MOST_SHARPENING = 2.0


def _with_look(rng: np.random.Generator, scene: Scene, place: int, look: str, modality: str) -> Scene:
    if look == "style":
        return replace(scene, look=choose(rng, STYLES))
    if look == "tone":
        return replace(scene, look=choose(rng, TONE_LOOKS))
    if look == "segment":
        return replace(scene, look="segment", focus=place)
    new = replace(scene.at(place), shape=choose(rng, SHAPES))
    return scene.with_thing(patterned(new, draw_pattern(rng, scene, modality)))


def scene_sample(
    split: str,
    index: int,
    modality: str = "image",
    looks: tuple[str, ...] = LOOKS,
    size: Size | None = (SIZE, SIZE),
    *,
    finish: str | None = None,
) -> tuple[np.ndarray, str, Scene]:
    """A picture or clip without an edit, for pretraining: frames (F, H, W, 3) uint8, its caption, its scene.

    A quarter of them carry one of `looks` ("style", "tone", "segment", "pattern": a thing filled with a pattern), drawn
    evenly; pass () for none. size and finish as in sample(). No held-out combinations, except in 30% of "test". Raises
    InputError as sample() does.
    """
    rng = generator("scene", split, index, modality)
    unknown = [look for look in looks if look not in LOOKS]
    if unknown:
        raise InputError(f"looks {unknown} are unknown; use some of {', '.join(LOOKS)}")
    held_out = split == "test" and bool(rng.random() < HELD_OUT_SHARE)
    setting = Setting(modality, canvas_for(split, index, modality, size), held_out, finish)  # type: ignore[arg-type]
    for _ in range(MAX_DRAWS):
        scene, thing = scene_for(rng, setting)
        look = choose(rng, looks) if looks and rng.random() < LOOK_SHARE else None
        try:
            scene = scene if look is None else _with_look(rng, scene, thing.place, look, modality)
            return render_visible(scene, frame_times(modality)).frames_FHWC, caption(scene), scene
        except Redraw:
            continue
    raise RuntimeError(f"no scene that shows its things in {MAX_DRAWS} draws (split {split}, index {index})")


def natural_sample(
    split: str, index: int, modality: str = "image", size: Size | None = (SIZE, SIZE)
) -> tuple[np.ndarray, str, Scene]:
    """A natural picture or clip without any thing, for pretraining: frames (F, H, W, 3) uint8, its caption, its scene.

    Its edges, colours and spectrum are like a photograph's (scene/photographic.py), as a camera develops it: less or no
    saturation, a sharpened luma. The caption tells the scene before that. Raises InputError as sample() does.
    """
    rng = generator("natural", split, index, modality)
    scene = draw_natural(rng, Setting(modality, canvas_for(split, index, modality, size)))
    frames_FHWC = render(scene, frame_times(modality))
    saturation = 0.0 if rng.random() < GREY_SHARE else float(rng.uniform(0.3, 1.0))
    sharpening = float(rng.uniform(0.0, MOST_SHARPENING)) if rng.random() < SHARPENED_SHARE else 0.0
    return develop(frames_FHWC, saturation, sharpening), caption(scene), scene


def develop(frames_FHWC: np.ndarray, saturation: float, sharpening: float) -> np.ndarray:
    """`saturation` times the chroma of frames, plus `sharpening` times what a (1 2 1)/4 blur takes from their luma."""
    pixels = frames_FHWC.astype(np.float32)
    luma = (pixels @ LUMA)[..., None]
    blurred = luma
    for axis in (1, 2):
        padded = np.pad(blurred, [(int(i == axis), int(i == axis)) for i in range(4)], mode="edge")
        before, after = (np.take(padded, range(start, start + luma.shape[axis]), axis) for start in (0, 2))
        blurred = (before + 2.0 * blurred + after) / 4.0
    developed = luma + saturation * (pixels - luma) + sharpening * (luma - blurred)
    return np.clip(developed + 0.5, 0, 255).astype(np.uint8)
