"""Alternatives of the whole picture: as before, other looks, other grounds, another thing's mask, shifted, blurred.

Place: stage, alternatives -> whole -> success.
Shapes: residual_FHWC = prediction - truth, float32, levels of 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .alternatives import FULL, Evidence, Nearness, evidence, name_of
from .areas import box_blur
from .limits import SHIFT, SOFT, SOFT_COLOR, SOFT_RADIUS, VISIBLE, VISIBLE_BLUR, VISIBLE_PICTURE
from .render import drawing, sprites_of
from .scene.contents import PIXEL_STYLES, TONE_LOOKS
from .scene.grounds import ground_image, is_named
from .scene.palette import GROUNDS
from .stage import LUMA, Stage, look_difference, with_look

EIGHT = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
GRID = (slice(None), slice(None, None, 2), slice(None, None, 2))  # a quarter of the pixels tells looks and shifts


def unchanged(
    seen: Evidence, source_FHWC: np.ndarray, target_FHWC: np.ndarray, name: str, mask_FHW: np.ndarray
) -> Nearness | None:
    """A part that the edit changes: as it was. None where that can't be seen, as of a black ground made darker."""
    difference = (source_FHWC.astype(np.float32) - target_FHWC) * mask_FHW[..., None]
    least = max(VISIBLE, VISIBLE_PICTURE**2 * float(mask_FHW.sum(axis=(1, 2)).max()))
    return seen.compare(f"{name} is as before", difference, least * FULL)


def _least(shape: tuple[int, ...]) -> float:
    """Least energy of a frame's difference in the whole picture."""
    return VISIBLE_PICTURE**2 * FULL * shape[1] * shape[2]


def look_alternatives(stage: Stage, coarse: Evidence, target_FHWC: np.ndarray) -> list[Nearness | None]:
    """The picture without its look, or with another."""
    plain, target = stage.plain_FHWC[GRID], target_FHWC[GRID].astype(np.float32)
    found, wanted = [], stage.scene.look or "as it was"
    for look in (None, *TONE_LOOKS, *PIXEL_STYLES):
        if look != stage.scene.look:
            fault = f"the picture is nearer to {look or 'as it was'} than to {wanted}"
            found.append(coarse.compare(fault, with_look(look, plain) - target, _least(target.shape)))
    return found


def mask_alternatives(stage: Stage, seen: Evidence) -> list[Nearness | None]:
    """In a segmentation: another thing's mask."""
    scene, shape = stage.scene, seen.residual.shape[:3]
    if scene.look != "segment":
        return []
    sprites = sprites_of(scene, stage.times_F)
    truth, found = drawing(scene, sprites, shape), []
    for thing in scene.things:
        if thing.place != scene.focus:
            difference = 255.0 * (drawing(replace(scene, focus=thing.place), sprites, shape) - truth)
            gray = np.broadcast_to(difference[..., None], seen.residual.shape)
            found.append(seen.compare(f"the mask shows {name_of(thing)}", gray, VISIBLE * FULL))
    return found


def ground_alternatives(stage: Stage, seen: Evidence) -> list[Nearness | None]:
    """The other named grounds, where the ground has a name; all at once, for only sums over the picture are needed."""
    scene = stage.scene
    if not is_named(scene.ground) or scene.look in ("outline", "segment"):
        return []
    names = [name for name in GROUNDS if name != scene.ground]
    ground_HWC = ground_image(scene.ground, scene.canvas).astype(np.float32)  # type: ignore[arg-type]
    others = np.stack([ground_image(name, scene.canvas) for name in names]).astype(np.float32)
    change = look_difference(scene.look, others - ground_HWC).reshape(len(names), -1)
    keep = stage.ground_keep
    toward_FN, cross_FN = ((each * keep).reshape(len(keep), -1) @ change.T for each in (seen.residual, seen.soft))
    squares = (change * change).reshape(len(names), -1, 3).sum(axis=-1)
    energy_FN = (keep * keep).reshape(len(keep), -1) @ squares.T
    least = _least(seen.residual.shape)
    return [
        seen.weigh(
            f"the ground is nearer to {name} than to {scene.ground}",
            toward_FN[:, n],
            cross_FN[:, n],
            energy_FN[:, n],
            least,
        )
        for n, name in enumerate(names)
    ]


def shift_alternatives(unit: float, coarse: Evidence, target_FHWC: np.ndarray) -> list[Nearness | None]:
    """The whole picture displaced to eight sides."""
    by, found = round(SHIFT * unit), []
    _, height, width, _ = target_FHWC.shape
    target = target_FHWC[GRID].astype(np.float32)
    for x, y in EIGHT:
        rows = np.clip(np.arange(0, height, 2) - y * by, 0, height - 1)
        columns = np.clip(np.arange(0, width, 2) - x * by, 0, width - 1)
        difference = target_FHWC[:, rows][:, :, columns] - target
        found.append(coarse.compare("the picture is displaced", difference, _least(target.shape)))
    return found


def softening(unit: float, target_FHWC: np.ndarray, radius: float) -> np.ndarray:
    """What a blur of that radius in units adds to the truth."""
    target = target_FHWC.astype(np.float32)
    return box_blur(target, max(1, round(radius * unit))) - target


def softness(unit: float, residual_FHWC: np.ndarray, target_FHWC: np.ndarray) -> float:
    """How far the picture is on the way to a blurred one: 0 as sharp as the truth, 1 blurred by SOFT_RADIUS; its
    brightness, or its colours, whose blur is seen less, by less. 0 where such a blur can't be seen."""
    blurred = softening(unit, target_FHWC, SOFT_RADIUS)
    brightness = _way(residual_FHWC @ LUMA, blurred @ LUMA)
    return max(brightness, SOFT / SOFT_COLOR * _way(residual_FHWC, blurred))


def _way(residual: np.ndarray, blurred: np.ndarray) -> float:
    energy = float(np.vdot(blurred, blurred))
    return 0.0 if energy < (255.0 * VISIBLE_BLUR) ** 2 * blurred.size else float(np.vdot(residual, blurred)) / energy


def coarse_of(seen: Evidence) -> Evidence:
    """The same on a quarter of the pixels."""
    return evidence(seen.residual[GRID], seen.soft[GRID])


def worst_of(found: Sequence[Nearness | None]) -> Nearness | None:
    """The alternative that the prediction is nearest to: of those that fail, the best account of it."""
    seen = [each for each in found if each is not None]
    failed = [each for each in seen if not each.ok]
    if failed:
        return max(failed, key=lambda each: each.gain)
    return max(seen, key=lambda each: max(each.share, each.worst), default=None)
