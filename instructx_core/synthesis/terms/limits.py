"""Every threshold of the pipeline in one place, with what it is for; `--limits FILE.json` overrides them.

Place: read by films.py and stages/. What a threshold costs in yield and saves in wrong pairs is measured on drawn films
(measure.py, docs/synthesis.md) and shown for a run's own films by its report.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ...errors import InputError


@dataclass(frozen=True, slots=True)
class Limits:
    """Lengths in seconds, shares in [0, 1], levels of 255, sizes in pixels."""

    shortest: float = 2.0
    longest: float = 10.0
    least_side: int = 96  # of the film's shorter side
    area: int = 832 * 480  # clips are scaled down to this, never up
    fastest: float = 30.0  # frames a second; of faster films every second, third ... frame is taken
    change: float = 1.5  # levels, mean difference of the first frame and the one that differs most from it
    sharpness: float = 12.0  # variance of the Laplacian, of the median frame at 256 pixels
    darkness: float = 20.0  # mean level below which a frame is black
    black: float = 0.1  # share of black frames
    text: float = 0.012  # share of the picture under letters that stand still
    plate_area: float = 4.0  # what the camera sees, in frames
    agreement: float = 0.5  # of tracked points on one motion of the camera
    present: float = 0.8  # share of frames that show the subject
    smallest: float = 0.004  # area of the subject, share of the frame, mean
    largest: float = 0.4
    jump: float = 2.0  # of the area from one frame to the next, as a factor
    lone: float = 0.9  # share of frames in which the subject is one piece
    stands: float = 0.5  # pixels a frame that a background may move and count as standing
    stray: float = 0.05  # share of the subject's pixels outside of its main piece, mean over frames
    hole: float = 0.01  # share of the erased pixels that were never seen uncovered
    drift: float = 4.0  # levels, mean difference of plate and clip around the subject
    misfit: float = 0.012  # share of pixels around the subject in which they differ visibly
    outside: float = 34.0  # dB, of what lies outside of the edit, after encoding
    found: float = 0.5  # how sure the grounder may be that the erased clip still shows the subject
    remainder: float = 0.02  # share of the subject that still moves in the erased clip
    seam: float = 1.6  # contrast across the border of the erased region, against that of the ground, as a factor
    visible: float = 18.0  # levels, mean difference of source and target inside the edit
    flicker: float = 6.0  # levels, from frame to frame in the erased region, above that of the ground
    posed: float = 0.4  # how sure the points of a body must be, in the mean, for a pose-driven swap
    astray: float = 0.06  # of the body's points in the driven clip from those in the film, share of the body's height
    start: float = 12.0  # levels, mean difference of the edited first frame and that of the driven clip
    redrawn: float = 18.0  # dB, of the ground of a driven clip, all of which is drawn anew
    judged: float = 7.0  # of 10, the lowest of a judge's scores of a pair
    alike: int = 6  # bits of 64 by which the hashes of two clips may differ and count as the same


def read_limits(path: Path | None) -> Limits:
    """The defaults, overridden by a JSON file of the same names. Raises InputError for what it has not or cannot be."""
    if path is None:
        return Limits()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read as limits ({error}); give JSON like {{"longest": 5}}') from None
    if not isinstance(values, dict):
        raise InputError(f'{path}: holds {type(values).__name__}, not an object; give JSON like {{"longest": 5}}')
    kinds = {each.name: each.default for each in fields(Limits)}
    for name, value in values.items():
        if name not in kinds:
            raise InputError(f"{path}: there is no limit {name!r}; there are {', '.join(kinds)}")
        whole = isinstance(kinds[name], int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value >= 0:
            raise InputError(f"{path}: {name} = {value!r}; it must be a {'whole ' if whole else ''}number from 0 on")
    limits = replace(Limits(), **values)
    if limits.shortest > limits.longest:
        raise InputError(f"{path}: shortest = {limits.shortest:g} is above longest = {limits.longest:g}; swap them")
    return limits
