"""Signed distances of the shapes, in pixels: what everything about a thing's form is computed from.

Place: palette -> distance -> render, photo. Every scalar is a Python float and every array float32: then old and new
numpy round alike, to the last bit.
Shapes: x, y, distance float32 of one shape, pixels from the thing's centre; y points down, as in the picture.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from .palette import SHAPES

STAR_INNER = 0.46  # inner over outer radius
COS36, SIN36 = 0.8090169943749475, 0.5877852522924731


def _star(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Five points, one up: mirror three times into the wedge of one half point, then one half plane."""
    x, y = np.abs(x), -y
    for normal_x, normal_y in ((COS36, -SIN36), (-COS36, -SIN36)):
        dot = np.maximum(normal_x * x + normal_y * y, 0.0)
        x, y = x - (2.0 * normal_x) * dot, y - (2.0 * normal_y) * dot
    x = np.abs(x)
    inner_x, inner_y = STAR_INNER * r * SIN36, STAR_INNER * r * COS36
    edge_x, edge_y = inner_x, inner_y - r  # from the tip (0, r) to the inner corner
    length = math.sqrt(edge_x * edge_x + edge_y * edge_y)
    return (-edge_y / length) * x + (edge_x / length) * (y - r)


def _heart(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Two lobes over a right angle; the unit heart is 1.2 wide and 1.1 high, its tip at the origin."""
    scale = r / 0.6
    x, y = np.abs(x) / scale, 0.55 - y / scale
    lobe = np.sqrt((x - 0.25) ** 2 + (y - 0.75) ** 2) - math.sqrt(2.0) / 4.0
    along = 0.5 * np.maximum(x + y, 0.0)
    flat = np.minimum(x**2 + (y - 1.0) ** 2, (x - along) ** 2 + (y - along) ** 2)
    body = np.where(x > y, np.sqrt(flat), -np.sqrt(flat))
    return np.where(x + y > 1.0, lobe, body) * scale


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance in pixels (negative inside) of a shape at the origin; y points down, as in the picture.

    x and y are float32 arrays, every scalar a Python float: then old and new numpy round alike, to the last bit.
    """
    r = float(radius)
    ax, ay = np.abs(x), np.abs(y)
    if shape == "circle":
        return np.sqrt(x * x + y * y) - r
    if shape == "square":
        return np.maximum(ax, ay) - 0.88 * r
    if shape == "triangle":
        width, height = r, 1.8 * r
        length = math.sqrt(height * height + width * width)
        return np.maximum(y - 0.8 * r, (height / length) * ax - (width / length) * (y + r))
    if shape == "diamond":
        width = 0.76 * r
        length = math.sqrt(r * r + width * width)
        return (r / length) * ax + (width / length) * ay - r * width / length
    if shape == "star":
        return _star(x, y, r)
    if shape == "cross":
        arm, end = 0.32 * r, 0.98 * r
        return np.minimum(np.maximum(ax - end, ay - arm), np.maximum(ax - arm, ay - end))
    if shape == "ring":
        return np.abs(np.sqrt(x * x + y * y) - 0.74 * r) - 0.26 * r
    if shape == "heart":
        return _heart(x, y, r)
    raise ValueError(f"shape {shape!r} is unknown; use one of {', '.join(SHAPES)}")


@cache
def area_of(shape: str) -> float:
    """Area of a shape of radius 1."""
    grid = np.arange(-100, 101, dtype=np.float32)
    return float((signed_distance(shape, grid[None, :], grid[:, None], 80.0) < 0).sum()) / (80.0 * 80.0)


def step(distance: np.ndarray, width: float = 1.0) -> np.ndarray:
    """Antialiased indicator of distance < 0, over an edge of that width in pixels."""
    return np.clip(0.5 - distance if width == 1.0 else 0.5 - distance * (1.0 / width), 0.0, 1.0)
