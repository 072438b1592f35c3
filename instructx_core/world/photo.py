"""The finish "photo": things shaded by one light, soft shadows, surface texture, light that falls off, grain.

Place: scene, distance, noise -> photo -> render. A thing bulges from its edge as far as its relief says; its colour is
the named one under the light, never another. All from the distance to its edge: no model of bodies.
Shapes: (F, h, w) of a thing's window in all frames; frames_FHWC float32 0..255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..random_streams import random_stream
from .scene.canvas import Canvas
from .scene.contents import Finish, Thing
from .scene.distance import signed_distance
from .scene.noise import tile

AMBIENT = 0.45  # share of the light that comes from everywhere
DARKEST, BRIGHTEST = 0.6, 1.16  # of a thing's shading
GLOSS = 0.3  # share of white in the brightest spot
LENGTH = 0.55  # of a shadow under a raking light, in radii
GRAIN_SIDE = 512
# How deep a shape is, in radii: from its edge to its ridge.
DEPTHS = {
    "circle": 1.0,
    "square": 0.7,
    "triangle": 0.5,
    "diamond": 0.55,
    "star": 0.42,
    "cross": 0.32,
    "ring": 0.26,
    "heart": 0.6,
}


def _toward_light(finish: Finish) -> tuple[float, float]:
    """Unit vector in the picture (y down) on a grid of 1/256, so that all machines agree."""
    turn = 2.0 * math.pi * finish.angle
    return round(256.0 * math.cos(turn)) / 256.0, -round(256.0 * math.sin(turn)) / 256.0


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A thing in its window: coordinates from its centre, distance to its edge, radius; all in pixels."""

    thing: Thing
    x: np.ndarray  # (F, 1, w)
    y: np.ndarray  # (F, h, 1)
    distance: np.ndarray  # (F, h, w)
    radius: float


def _shadow(radius: float, finish: Finish, canvas: Canvas) -> tuple[float, float]:
    """Length of a thing's shadow and breadth of its soft edge, in pixels."""
    return LENGTH * finish.slope * radius, (0.25 + 0.35 * finish.slope) * min(radius, 11.0 * canvas.unit)


def reach_of_shadow(radius: float, finish: Finish, canvas: Canvas) -> float:
    """How far beyond a thing its shadow may darken anything, in pixels."""
    return 0.0 if finish.kind == "flat" else sum(_shadow(radius, finish, canvas))


def shadow(body: Body, finish: Finish, canvas: Canvas) -> np.ndarray:
    """What the thing leaves of the light on what lies under it, away from the light: (F, h, w, 1)."""
    length, soft = _shadow(body.radius, finish, canvas)
    light_x, light_y = _toward_light(finish)
    distance = signed_distance(body.thing.shape, body.x + length * light_x, body.y + length * light_y, body.radius)
    share = np.clip(0.5 - distance * (1.0 / soft), 0.0, 1.0)
    share = share * share * (3.0 - 2.0 * share)
    return (1.0 - finish.shadow * share)[..., None]


def _slope_of(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outward direction: half differences along x and y."""
    along_x, along_y = np.zeros_like(distance), np.zeros_like(distance)
    along_x[..., 1:-1] = 0.5 * (distance[..., 2:] - distance[..., :-2])
    along_y[..., 1:-1, :] = 0.5 * (distance[..., 2:, :] - distance[..., :-2, :])
    return along_x, along_y


def _texture(body: Body, finish: Finish) -> np.ndarray:
    """The thing's own texture, moving with it: about [-1, 1]."""
    key = finish.seed + 7919 * body.thing.place
    kind = key % 4
    field = tile(kind % 2, 0.8, 16) if kind == 0 else tile(kind % 2, (0.7, 0.95)[kind % 2])
    rows = (np.rint(body.y).astype(np.int64) + key % 509) % len(field)
    columns = (np.rint(body.x).astype(np.int64) + key % 503) % len(field)
    return field[rows, columns]


def shade(fill: np.ndarray, body: Body, finish: Finish) -> np.ndarray:
    """The thing's colour under the light: (F, h, w, 3)."""
    sine = 0.9 * finish.slope
    cosine = math.sqrt(1.0 - sine * sine)
    light_x, light_y = _toward_light(finish)
    inner = np.clip(body.distance * (-1.0 / (DEPTHS[body.thing.shape] * body.radius)), 0.0, 1.0)
    tilt = (1.0 - inner) * finish.relief
    along_x, along_y = _slope_of(body.distance)
    upright = np.sqrt(np.maximum(1.0 - tilt * tilt, 0.0))
    facing = tilt * (along_x * (light_x * sine) + along_y * (light_y * sine)) + upright * cosine
    light = AMBIENT + (1.0 - AMBIENT) / cosine * facing
    if finish.texture:
        light *= 1.0 + finish.texture * _texture(body, finish)
    light = np.clip(light, DARKEST, BRIGHTEST)
    gloss = np.maximum(facing - 0.8, 0.0) * (1.0 / 0.2)
    gloss = GLOSS * finish.relief * (gloss * gloss * gloss)
    # color = fill * light, then a share `gloss` of white over it
    return fill * (light * (1.0 - gloss))[..., None] + (255.0 * gloss)[..., None]


@lru_cache(maxsize=1)
def _grain_tile() -> np.ndarray:
    """Noise of a sensor: standard deviation 1, whole numbers of 1/64."""
    parts = random_stream(74).integers(-128, 129, (4, GRAIN_SIDE, GRAIN_SIDE))
    return (np.rint(parts.sum(axis=0) * (64.0 / 148.4)) / 64.0).astype(np.float32)


@lru_cache(maxsize=64)
def light_of(finish: Finish, canvas: Canvas) -> np.ndarray:
    """How the light falls off over the picture: (H, W, 1)."""
    light_x, light_y = _toward_light(finish)
    x = np.arange(canvas.width, dtype=np.float32)[None, :] * (1.0 / (canvas.width - 1)) - 0.5
    y = np.arange(canvas.height, dtype=np.float32)[:, None] * (1.0 / (canvas.height - 1)) - 0.5
    return (1.0 + finish.falloff * (light_x * x + light_y * y))[..., None]


def expose(frames_FHWC: np.ndarray, finish: Finish, canvas: Canvas) -> np.ndarray:
    """The whole picture under the light and through the sensor, whose grain is new in every frame."""
    frames_FHWC *= light_of(finish, canvas)
    if finish.grain:
        field = _grain_tile()
        for number, frame in enumerate(frames_FHWC):
            key = finish.seed + 104729 * number
            top, left = key % (GRAIN_SIDE - canvas.height + 1), key // 3 % (GRAIN_SIDE - canvas.width + 1)
            frame += (finish.grain * field[top : top + canvas.height, left : left + canvas.width])[..., None]
    return np.clip(frames_FHWC, 0.0, 255.0, out=frames_FHWC)
