"""Films drawn for measuring: a thing that moves over a ground like a photograph, with what makes films hard.

Place: world/ -> drawn_films -> measure.py. Of every film the truth is known: which pixels show the subject, and the
film as it would be without it, through the same camera, noise apart. It is a function of its seed and its troubles.
Shapes: frames_FHWC uint8; mask_FHW bool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..errors import InputError
from ..world.render import render_layers
from ..world.scene.canvas import PLACES, Canvas
from ..world.scene.contents import FLAT, Finish, Motion, Scene, Thing
from ..world.scene.draw import draw_finish
from ..world.scene.grounds import Photographic
from ..world.scene.palette import COLORS, SHAPES
from ..world.scene.photographic import FAMILIES

TROUBLES = ("camera", "noise", "shadow", "occlusion", "compression", "second")
FRAMES, FPS = 48, 16
CANVAS = Canvas(144, 192)  # drawn; a moving camera sees a part of it
VIEW = (112, 160)  # height, width of the film
VISIBLE = 4  # levels by which the subject must change a pixel for it to count as changed
NOISE = 3.0  # levels, standard deviation of each value
CRF = 30  # of H.264, where a film is compressed


@dataclass(frozen=True, slots=True, eq=False)
class DrawnFilm:
    """A film and its truth. without_FHWC: the same film had the subject not been there, before noise and
    compression."""

    frames_FHWC: np.ndarray
    without_FHWC: np.ndarray
    mask_FHW: np.ndarray
    changed_FHW: np.ndarray  # all that the subject changes: its shadow as well
    subject: Thing
    troubles: tuple[str, ...]


def draw_film(seed: int, troubles: tuple[str, ...] = ()) -> DrawnFilm:
    """Raises InputError for a trouble that is none of TROUBLES. Compression is left to whoever writes the film."""
    unknown = sorted(set(troubles) - set(TROUBLES))
    if unknown:
        raise InputError(f"trouble {unknown[0]!r} is none of {', '.join(TROUBLES)}")
    rng = np.random.default_rng([73, seed])
    scene, subject = _scene(rng, troubles)
    times_F = np.linspace(0.0, 1.0, FRAMES)
    layers = render_layers(scene, times_F)
    frames, without = layers.frames_FHWC, render_layers(scene.without(subject.place), times_F).frames_FHWC
    mask = layers.cover_PFHW[subject.place]
    path_F23 = _camera(rng, "camera" in troubles)
    frames, without = _seen(frames, path_F23), _seen(without, path_F23)
    mask = _seen(np.where(mask, 255, 0).astype(np.uint8), path_F23) > 127
    changed = mask | (np.abs(frames.astype(np.int16) - without).max(axis=-1) > VISIBLE)
    if "noise" in troubles:
        noisy = frames + rng.normal(0.0, NOISE, frames.shape).astype(np.float32)
        frames = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return DrawnFilm(frames, without, mask, changed, subject, troubles)


def _scene(rng: np.random.Generator, troubles: tuple[str, ...]) -> tuple[Scene, Thing]:
    """The subject crosses the picture through its middle; other things stand, or one more moves below it."""
    finish: Finish = draw_finish(rng, "photo")
    finish = replace(finish, grain=0.0) if "shadow" in troubles else FLAT
    ground = Photographic(str(rng.choice(FAMILIES)), int(rng.integers(1 << 31)), vivid=bool(rng.random() < 0.3))
    colors = [str(name) for name in rng.permutation(list(COLORS))]
    shapes = [str(name) for name in rng.permutation(SHAPES)]
    center, reach = PLACES.index("center"), float(rng.uniform(22, 27))
    way = 1.0 if rng.random() < 0.5 else -1.0
    subject = Thing(
        shapes[0],
        colors[0],
        center,
        float(rng.uniform(7, 11)),
        offset=(0.0, float(rng.uniform(-4, 4))),
        motion=Motion("drift", dx=way * reach, dy=float(rng.uniform(-4, 4))),
    )
    things = [subject]
    if "occlusion" in troubles:  # nearer than the subject, and in its way
        things.append(Thing(shapes[1], colors[1], PLACES.index("top right"), 7.0, offset=(-6.0, 14.0), depth=1))
    else:
        things.append(Thing(shapes[1], colors[1], PLACES.index("top left"), 6.0, offset=(-4.0, -5.0)))
    if "second" in troubles:
        motion = Motion("sine", dx=10.0, phase=float(rng.random()))
        things.append(Thing(shapes[2], colors[2], PLACES.index("bottom left"), 6.0, offset=(4.0, 6.0), motion=motion))
    return Scene(ground, tuple(sorted(things, key=lambda each: each.place)), canvas=CANVAS, finish=finish), subject


def _camera(rng: np.random.Generator, moves: bool) -> np.ndarray:
    """What the camera sees of the canvas: (F, 2, 3), from pixels of the film to pixels of the canvas."""
    room = np.array([CANVAS.width - VIEW[1], CANVAS.height - VIEW[0]], dtype=np.float64)
    if not moves:
        start = stop = np.rint(room / 2)
    else:
        start, stop = rng.uniform(0.05, 0.95, 2) * room, rng.uniform(0.05, 0.95, 2) * room
    share_F1 = np.linspace(0.0, 1.0, FRAMES)[:, None]
    shift_F2 = start + share_F1 * (stop - start)
    path_F23 = np.zeros((FRAMES, 2, 3))
    path_F23[:, 0, 0] = path_F23[:, 1, 1] = 1.0
    path_F23[:, :, 2] = shift_F2
    return path_F23


def _seen(frames: np.ndarray, path_F23: np.ndarray) -> np.ndarray:
    height, width = VIEW
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [
            cv2.warpAffine(frame, step, (width, height), flags=flags)
            for frame, step in zip(frames, path_F23, strict=True)
        ]
    )
