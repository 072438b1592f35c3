"""Is the prediction nearer to the truth than to what else it could be? The nearest alternatives of one thing.

Place: stage -> alternatives -> success. Each alternative is a scene; a prediction's share is how far it lies on the way
from the truth to that scene's picture, <P - T, A - T> / |A - T|^2: 0 at the truth, 1 at the alternative, half where
both are equally near. Only pixels in which the two differ have a say. Softness and noise hardly move it.
Shapes: residual_FHWC = prediction - truth, float32, levels of 255; R of a thing's window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .limits import NEAR, NEAR_FRAME, PART, SHIFT, SIZE_FACTORS, VISIBLE
from .photo import Body, shade
from .render import lay_ink, sprite_in
from .scene.contents import FLAT, PATTERNS, Pattern, Thing
from .scene.palette import COLORS, SHAPES
from .stage import Level, Stage, look_difference, sprite_on, window_with

SIDES = {"left": (-SHIFT, 0.0), "right": (SHIFT, 0.0), "top": (0.0, -SHIFT), "bottom": (0.0, SHIFT)}
FULL = 3.0 * 255.0**2  # energy of one pixel of full contrast


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near one is to an alternative: 0 as the truth, 1 as the alternative; over all frames, and at worst."""

    fault: str  # what is wrong where it fails
    share: float
    worst: float
    frame: int  # the worst one
    gain: float = (
        0.0  # by how much it is a better account of the prediction than the truth in a frame: |P - T|^2 - |P - A|^2
    )

    @property
    def ok(self) -> bool:
        return self.share <= NEAR and self.worst <= NEAR_FRAME


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """A part of the prediction: its residual, and what mere softness would add to the truth there, (F, h, w, 3).

    A residual is told apart into a part towards the alternative and a part towards a soft truth, by least squares; the
    latter is no one's fault until it is large (softness in whole.py).
    """

    residual: np.ndarray
    soft: np.ndarray
    toward_F: np.ndarray  # <P - T, soft>
    energy_F: np.ndarray  # |soft|^2

    def compare(self, fault: str, difference: np.ndarray, least: float) -> Nearness | None:
        """The alternative that differs from the truth by that: (F, h, w, 3)."""
        toward_F, cross_F = dot(self.residual, difference), dot(self.soft, difference)
        return self.weigh(fault, toward_F, cross_F, dot(difference, difference), least)

    def weigh(
        self, fault: str, toward_F: np.ndarray, cross_F: np.ndarray, energy_F: np.ndarray, least: float
    ) -> Nearness | None:
        """From <P - T, A - T>, <soft, A - T> and |A - T|^2 a frame. None where no frame shows the difference."""
        seen = (energy_F >= least) & (energy_F >= PART * energy_F.max())
        if not seen.any():
            return None
        sums = [float(each[seen].sum()) for each in (toward_F, cross_F, energy_F, self.toward_F, self.energy_F)]
        share = float(_partial(*(np.array([each]) for each in sums))[0])
        share_F = np.where(seen, _partial(toward_F, cross_F, energy_F, self.toward_F, self.energy_F), -np.inf)
        frame = int(share_F.argmax())
        gain = float((2.0 * toward_F - energy_F)[seen].max())
        return Nearness(fault, share, float(share_F[frame]), frame, gain)


def evidence(residual: np.ndarray, soft: np.ndarray) -> Evidence:
    return Evidence(residual, soft, dot(residual, soft), dot(soft, soft))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of products a frame: (F,)."""
    return np.einsum("fhwc,fhwc->f", a, b)


def _partial(
    toward: np.ndarray, cross: np.ndarray, energy: np.ndarray, soft_toward: np.ndarray, soft_energy: np.ndarray
) -> np.ndarray:
    """The share of the alternative beside that of softness, which is held in [0, 1]."""
    energy = np.maximum(energy, 1e-6)
    free = np.maximum(soft_energy * energy - cross * cross, 0.02 * soft_energy * energy + 1e-6)
    softness = np.clip((soft_toward * energy - toward * cross) / free, 0.0, 1.0)
    return (toward - softness * cross) / energy


def name_of(thing: Thing) -> str:
    return f"the {thing.color or 'patterned'} {thing.shape}"


def _moved(thing: Thing, by: tuple[float, float]) -> Thing:
    return replace(thing, offset=(thing.offset[0] + by[0], thing.offset[1] + by[1]))


def _forms(thing: Thing) -> Iterator[tuple[str, Thing | None]]:
    """What the thing could be but for its colour, with what is then said of the prediction."""
    name = name_of(thing)
    yield f"{name} is gone", None
    for shape in SHAPES:
        if shape != thing.shape:
            yield f"{name} looks like a {shape}", replace(thing, shape=shape)
    for side, by in SIDES.items():
        yield f"{name} is too far to the {side}", _moved(thing, by)
    for factor, word in zip(SIZE_FACTORS, ("small", "large"), strict=True):
        yield f"{name} is too {word}", replace(thing, radius=thing.radius * factor)


def _fillings(thing: Thing) -> Iterator[tuple[str, Thing]]:
    """Other patterns of a patterned thing, and the named colours."""
    pattern, name = thing.pattern, name_of(thing)
    if pattern is None:
        return
    for kind in PATTERNS:
        if kind != pattern.kind:
            yield f"{name} has another pattern", replace(thing, pattern=replace(pattern, kind=kind))
    swapped = Pattern(pattern.kind, pattern.second, pattern.first)
    yield f"{name} has its colours the wrong way round", replace(thing, pattern=swapped)
    for rgb in (pattern.first, pattern.second):
        yield f"{name} has lost a colour", replace(thing, pattern=Pattern("halves 0", rgb, rgb))
    for color in COLORS:
        yield f"{name} is {color}", replace(thing, color=color, pattern=None)


def _recolored(stage: Stage, level: Level, seen: Evidence) -> Iterator[Nearness | None]:
    """A named thing in the other named colours: its light times another colour, so no picture has to be made."""
    thing, look = level.thing, stage.scene.look
    weight = sprite_on(stage, level, thing).alpha * level.keep
    if stage.scene.finish.kind == "photo":
        weight = weight * _light(stage, level)
    toward_Fc, cross_Fc = (np.einsum("fhwc,fhwk->fc", each, weight) for each in (seen.residual, seen.soft))
    size_F, color_C = dot(weight, weight), np.array(COLORS[thing.color or ""], dtype=np.float32)
    for color, rgb in COLORS.items():
        if color == thing.color:
            continue
        change = look_difference(look, np.array(rgb, dtype=np.float32) - color_C)
        fault = f"{name_of(thing)} is nearer to {color} than to {thing.color}"
        energy_F = size_F * float(change @ change)
        yield seen.weigh(fault, toward_Fc @ change, cross_Fc @ change, energy_F, _least(stage))


def _light(stage: Stage, level: Level) -> np.ndarray:
    """How much of a thing's own colour its shading shows: (F, h, w, 1)."""
    scene, left, top, right, bottom = stage.scene, *level.box
    centers_F2 = level.thing.centers(stage.times_F, scene.canvas)
    centers_F2 = centers_F2[:1] if (centers_F2 == centers_F2[:1]).all() else centers_F2
    x = np.arange(left, right, dtype=np.float32)[None, None, :] - centers_F2[:, 0, None, None]
    y = np.arange(top, bottom, dtype=np.float32)[None, :, None] - centers_F2[:, 1, None, None]
    distance = sprite_in(level.box, level.thing, scene.canvas, FLAT, centers_F2).distance
    body = Body(level.thing, x, y, distance, level.thing.radius * scene.canvas.unit)
    ends = (shade(np.full(3, value, dtype=np.float32), body, scene.finish)[..., :1] for value in (255.0, 0.0))
    return (next(ends) - next(ends)) * (1.0 / 255.0)


def _least(stage: Stage) -> float:
    return VISIBLE * FULL * stage.scene.canvas.unit**2


def thing_alternatives(
    stage: Stage, level: Level, residual_FHWC: np.ndarray, soft_FHWC: np.ndarray, before: Thing | None
) -> list[Nearness]:
    """Of a thing of the target: gone, other shapes, colours, places and sizes, the thing that it was before. Of one
    that was taken away: still there."""
    seen, look = evidence(residual_FHWC[level.part], soft_FHWC[level.part]), stage.scene.look
    if look in ("outline", "segment"):
        return _ink_alternatives(stage, level, seen)
    truth = window_with(stage, level, level.thing if level.is_there else None)
    options: list[tuple[str, Thing | None]]
    if not level.is_there:
        options = [(f"{name_of(level.thing)} is still there", level.thing)]
    else:
        options = [*_forms(level.thing), *_fillings(level.thing)]
        if before is not None and before != level.thing:
            options.append((f"{name_of(before)} is as before", before))
    found = []
    for fault, thing in options:
        difference = look_difference(look, (window_with(stage, level, thing) - truth) * level.keep)
        found.append(seen.compare(fault, difference, _least(stage)))
    if level.is_there and level.thing.color is not None:
        found.extend(_recolored(stage, level, seen))
    return [each for each in found if each is not None]


def _ink_alternatives(stage: Stage, level: Level, seen: Evidence) -> list[Nearness]:
    """The same in an outline drawing or a mask."""
    scene = stage.scene
    if not level.is_there or (scene.look == "segment" and level.thing.place != scene.focus):
        return []

    def distance(thing: Thing) -> np.ndarray:
        centers_F2 = thing.centers(stage.times_F, scene.canvas)
        return sprite_in(level.box, thing, scene.canvas, FLAT, centers_F2).distance

    others = {each.thing.place: distance(each.thing) for each in stage.levels if each.is_there}

    def ink(variant: Thing | None) -> np.ndarray:
        field = np.zeros(seen.residual.shape[:3], dtype=np.float32)
        for each in stage.levels:
            place, here = each.thing.place, each is level
            if each.is_there and not (here and variant is None):
                form = distance(variant) if here and variant is not None else others[place]
                lay_ink(field, form, scene.canvas.unit, scene.look or "", place == scene.focus)
        return field

    truth, scale = ink(level.thing), -225.0 if scene.look == "outline" else 255.0
    found = []
    for fault, thing in _forms(level.thing):
        difference = scale * (ink(thing) - truth)
        gray = np.broadcast_to(difference[..., None], seen.residual.shape)
        found.append(seen.compare(fault, gray, _least(stage)))
    return [each for each in found if each is not None]
