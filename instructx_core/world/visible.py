"""Whether a rendered scene shows what it says: things not hidden, and told from what lies behind them.

Place: render -> visible -> sampling, which draws again where a rule is broken. Things that come in or go out are held
to the rule on hiding only as far as the canvas shows them.
"""

from __future__ import annotations

import numpy as np

from .render import Layers, Masks, masks_of, render_layers
from .scene.contents import Scene, Thing
from .scene.distance import area_of
from .scene.draw import Redraw
from .scene.palette import COLORS, MIN_CONTRAST

SHOWN_SHARE = 0.6  # of a thing's area that must be seen in every frame
COLOR_MARGIN = 0.02  # by which the thing's mean colour is nearer to its name's than to any other
RIM_SHARE = 0.85  # of the pixels around a thing that must differ from it by MIN_CONTRAST
MOST_TOUCHING = 4  # pixels at which two things of one colour may touch
LEAST_PIXELS = 12  # of a passing thing that count as being there


def shown_share(scene: Scene, masks: Masks, thing: Thing) -> float:
    """The least share of the thing that a frame shows: of its area, or of what is on the canvas while it passes."""
    seen = masks.cover_PFHW[thing.place].sum(axis=(1, 2))
    whole = masks.whole_PF[thing.place]
    if not thing.motion.is_passing:
        return float(seen.min()) / (area_of(thing.shape) * (thing.radius * scene.canvas.unit) ** 2)
    there = whole >= LEAST_PIXELS
    return float((seen[there] / whole[there]).min()) if there.any() else 0.0


def grow(mask_FHW: np.ndarray) -> np.ndarray:
    """Grow a mask by one pixel in all eight directions."""
    rows = mask_FHW.copy()
    rows[:, 1:] |= mask_FHW[:, :-1]
    rows[:, :-1] |= mask_FHW[:, 1:]
    grown = rows.copy()
    grown[:, :, 1:] |= rows[:, :, :-1]
    grown[:, :, :-1] |= rows[:, :, 1:]
    return grown


def _extent(line: np.ndarray) -> slice:
    """Where a line of flags is set, and three pixels more."""
    first, last = int(line.argmax()), len(line) - int(line[::-1].argmax())
    return slice(max(0, first - 3), last + 3)


_NAMED = np.array(list(COLORS.values()), dtype=np.float64)


def reads_as(color_C: np.ndarray) -> tuple[str, float]:
    """The named colour nearest to an RGB 0..255, and how much nearer it is than the next, in [0, 1]."""
    distance = np.abs(_NAMED - color_C).mean(axis=1) / 255.0
    order = np.argsort(distance, kind="stable")
    return list(COLORS)[int(order[0])], float(distance[order[1]] - distance[order[0]])


def is_distinct(layers: Layers, thing: Thing) -> bool:
    """Whether the thing stands out from the pixels around it and reads as its named colour: in the first, the middle
    and the last frame that shows at least half of it."""
    cover = layers.cover_PFHW[thing.place]
    count_F = cover.sum(axis=(1, 2))
    frames = np.flatnonzero((2 * count_F >= count_F.max()) & (count_F > 0))
    if not len(frames):
        return False
    for frame in {int(frames[0]), int(frames[len(frames) // 2]), int(frames[-1])}:
        rows, columns = (_extent(cover[frame].any(axis=axis)) for axis in (1, 0))
        mask, picture = cover[frame, rows, columns], layers.frames_FHWC[frame, rows, columns]
        inside = picture[mask].mean(axis=0)
        name, margin = reads_as(inside)
        if thing.color is not None and (name != thing.color or margin < COLOR_MARGIN):
            return False
        near = grow(mask[None])
        rim = (grow(near) & ~near)[0]
        difference = np.abs(picture[rim] - inside).sum(axis=-1)
        if np.count_nonzero(difference >= 765.0 * MIN_CONTRAST) < RIM_SHARE * len(difference):
            return False
    return True


def touching(scene: Scene, masks: Masks) -> int:
    """Most pixels in a frame at which two things of one colour touch, so that their forms run together."""
    most, named = 0, [thing for thing in scene.things if thing.color is not None]
    for number, thing in enumerate(named):
        twins = [other for other in named[number + 1 :] if other.color == thing.color]
        if twins:
            near = grow(masks.cover_PFHW[thing.place])
            most = max([most, *(int((near & masks.cover_PFHW[each.place]).sum(axis=(1, 2)).max()) for each in twins)])
    return most


def check_seen(scene: Scene, masks: Masks) -> None:
    """Raises Redraw where a thing of the scene is hidden too much, or its form runs together with another's."""
    if any(shown_share(scene, masks, thing) < SHOWN_SHARE for thing in scene.things):
        raise Redraw
    if touching(scene, masks) > MOST_TOUCHING:
        raise Redraw


def check_distinct(scene: Scene, layers: Layers) -> None:
    """Raises Redraw where a thing is hardly told from what lies behind it. Pictures with a look are not judged."""
    if scene.look is None and not all(is_distinct(layers, thing) for thing in scene.things if thing.pattern is None):
        raise Redraw


def render_visible(scene: Scene, times_F: np.ndarray, known_distinct: bool = False) -> Layers:
    """The scene at the given times. Raises Redraw where it does not show its things.

    known_distinct: all of them are known to stand out from what lies behind, from a scene with these and more.
    """
    masks = masks_of(scene, times_F)
    check_seen(scene, masks)
    layers = render_layers(scene, times_F, masks)
    if not known_distinct:
        check_distinct(scene, layers)
    return layers
