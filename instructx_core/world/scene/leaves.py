"""Dead leaves: pieces of all sizes that lie over each other, the simplest model with the statistics of photographs.

Place: noise -> leaves -> photographic. Sizes follow r^-3, which makes pictures alike at every scale: edges, occlusion
and a 1/f spectrum. A tile holds for each pixel which piece it belongs to (an index into any palette) and how much light
falls on it, so one tile gives endless pictures: other window, other palette, other focus.
Shapes: piece_NN uint8; light_NN float32 about 1; both toroidal and read-only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from ...random_streams import random_stream

TWIGS = 0.2  # of the leaves: thin lines, as of branches, wires and letters
SIDE = 384  # pixels of a tile; half as large in the picture, which averages 2x2
KINDS = ("leaves", "blocks", "pebbles")
TILES = {"leaves": 4, "blocks": 3, "pebbles": 2}
RADII = {"leaves": (5.0, 118.0), "blocks": (7.0, 118.0), "pebbles": (9.0, 60.0)}
COUNT = {"leaves": 1000, "blocks": 700, "pebbles": 900}


@dataclass(frozen=True, slots=True)
class Leaves:
    """One tile."""

    piece_NN: np.ndarray
    light_NN: np.ndarray


@dataclass(frozen=True, slots=True)
class _Piece:
    radius: float
    aspect: float
    turn: tuple[float, float]  # cosine, sine
    form: str
    slope: tuple[float, float]  # of the light over the piece
    round: float  # how much darker its edge is


def _draw_piece(rng: np.random.Generator, kind: str) -> _Piece:
    least, most = RADII[kind]
    # r^-3 between least and most, by its inverse: 1 / r^2 is even.
    even = float(rng.uniform(1.0 / (most * most), 1.0 / (least * least)))
    radius = float(np.sqrt(1.0 / even))
    p, q = float(rng.integers(-8, 9)), float(rng.integers(1, 9))
    length = float(np.sqrt(p * p + q * q))
    turn = (1.0, 0.0) if kind == "blocks" else (p / length, q / length)
    forms = {"leaves": ("ellipse", "ellipse", "lens", "bar", "triangle"), "blocks": ("bar",), "pebbles": ("ellipse",)}
    form = forms[kind][int(rng.integers(len(forms[kind])))]
    aspect = float(rng.uniform(0.3 if kind != "pebbles" else 0.65, 1.0))
    if kind == "leaves" and rng.random() < TWIGS:
        form, aspect = "bar", float(rng.uniform(0.04, 0.14))
    if kind == "blocks" and rng.random() < 0.5:
        turn = (0.0, 1.0)
    slope = (float(rng.uniform(-0.22, 0.22)), float(rng.uniform(-0.22, 0.22)))
    return _Piece(radius, aspect, turn, form, slope, float(rng.uniform(0.0, 0.35 if kind != "blocks" else 0.05)))


def _reach(piece: _Piece, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Squared distance to the piece's middle, 1 at its edge."""
    if piece.form == "bar":
        return np.maximum(u * u, v * v)
    if piece.form == "lens":  # a leaf: pointed at both ends
        width = np.maximum(1.0 - u * u, 0.02)
        return np.maximum(u * u, (v * v) / (width * width))
    if piece.form == "triangle":
        edge = np.maximum(np.abs(u) + 0.5 * v + 0.5, -v)
        return edge * np.abs(edge)
    return u * u + v * v


def _lay(piece: _Piece, index: int, center: tuple[int, int], leaves: Leaves) -> None:
    """The piece on top of the tile, with the dark seam that it throws on what lies under it."""
    reach = int(piece.radius * (1.2 if piece.form in ("ellipse", "lens") else 1.5)) + 2  # corners stick out
    offsets = np.arange(-reach, reach + 1)
    x, y = offsets.astype(np.float32)[None, :], offsets.astype(np.float32)[:, None]
    cosine, sine = piece.turn
    u = (x * cosine + y * sine) * (1.0 / piece.radius)
    v = (y * cosine - x * sine) * (1.0 / (piece.radius * piece.aspect))
    distance = _reach(piece, u, v)
    places = np.ix_((center[1] + offsets) % SIDE, (center[0] + offsets) % SIDE)
    inside = distance < 1.0
    brightness = 1.0 + piece.slope[0] * u + piece.slope[1] * v - piece.round * distance * distance
    below = leaves.light_NN[places]
    seam = np.clip((distance - 1.0) * 2.5 + 0.72, 0.0, 1.0)
    leaves.light_NN[places] = np.where(inside, brightness, np.minimum(below, below * (0.35 + 0.65 * seam) + 0.02))
    pieces = leaves.piece_NN[places]
    pieces[inside] = index
    leaves.piece_NN[places] = pieces


@cache
def leaves_tile(kind: str, number: int) -> Leaves:
    """The tile of that kind and number."""
    rng = random_stream(72, KINDS.index(kind), number)
    leaves = Leaves(np.zeros((SIDE, SIDE), dtype=np.uint8), np.ones((SIDE, SIDE), dtype=np.float32))
    pieces = [_draw_piece(rng, kind) for _ in range(COUNT[kind])]
    for order, piece in enumerate(pieces):
        _lay(piece, order % 256, (int(rng.integers(SIDE)), int(rng.integers(SIDE))), leaves)
    leaves.piece_NN.setflags(write=False)
    leaves.light_NN.setflags(write=False)
    return leaves
