"""The same measures on clips of the world `shapes`, which the shipped model edits: InstructX as back end beside others.

Place: shapes/ -> measure_own -> benchmarks/synthesis.py. Things move little there, so what lies behind them is never
seen uncovered, which the classic back end needs. Of every thing the truth is known; a pair is judged by that of the
thing that its mask shows, and is wrong as well where its words name another.
Shapes: frames_FHWC uint8; mask_FHW bool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..media.files import read_media, write_video
from ..shapes.palette import PLACES
from ..shapes.render import render_layers
from ..shapes.sampling import sample
from ..shapes.scene import Scene, frame_times
from .cast import CLASSIC, SELF, make_casting
from .films import Film, cut, film_id
from .measure import CLEAN_CRF, FilmMeasurement, judge
from .pipeline import stages_of
from .setup import Setup
from .stage import run_stages
from .terms.clip import MASK, read_mask
from .terms.limits import Limits
from .terms.masks import overlap

FPS = 8
LIMITS = Limits(least_side=64, smallest=0.01)  # clips of 17 frames, 64x64
THINGS = tuple(f"shape at the {place}" for place in PLACES)
CASTS = {"classic": (CLASSIC, ()), "self": (SELF, ()), "self, classic eraser": (SELF, ("eraser=classic",))}
SPLIT = "val"


@dataclass(frozen=True, slots=True, eq=False)
class ThingTruth:
    """One thing of a clip: its pixels, and where it is."""

    mask_FHW: np.ndarray
    changed_FHW: np.ndarray
    place: int


def shapes_setup(cast: str) -> Setup:
    backend, roles = CASTS[cast]
    return Setup(LIMITS, make_casting(backend, roles, {}, things=THINGS, noun="shape"))


def shapes_clip(index: int) -> tuple[np.ndarray, Scene]:
    """A clip without an edit, and what it shows."""
    drawn = sample(SPLIT, index, "video", "remove")
    return drawn.source_FHWC, drawn.source_scene


def measure_shapes(
    work: Path, indices: Sequence[int], casts: Sequence[str] = tuple(CASTS)
) -> Iterator[FilmMeasurement]:
    """Draws, writes, runs and judges every clip with every cast; what was run before is taken from `work`."""
    for cast in casts:
        for index in indices:
            yield _measure(work / cast.replace(", ", "-").replace(" ", "-"), cast, index)


def _measure(work: Path, cast: str, index: int) -> FilmMeasurement:
    frames_FHWC, scene = shapes_clip(index)
    path, setup = work / f"shapes-{index}.mp4", shapes_setup(cast)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        write_video(path, frames_FHWC, FPS, crf=CLEAN_CRF)
    folder = cut(Film(path, film_id(path)), (0.0, len(frames_FHWC) / FPS), work / "work", setup.limits)
    candidate = run_stages(folder, stages_of(setup))
    reason = "" if candidate.reject is None else f"{candidate.reject.stage}: {candidate.reject.reason}"
    name = f"shapes, {cast}"
    if "erase" not in candidate.facts:
        return FilmMeasurement(name, index, False, reason, None, None, None)
    truth = _shown(scene, read_mask(folder, MASK))
    without = work / f"shapes-{index}-{truth.place}.truth.mp4"
    if not without.is_file():
        write_video(without, _rendered(scene.without(truth.place))[0], FPS, crf=CLEAN_CRF)
    iou, error, is_wrong = judge(truth, read_media(without).frames_FHWC, folder)
    phrase = candidate.fact("subject", "phrase")
    names_another = bool(phrase) and not phrase.endswith(PLACES[truth.place])
    return FilmMeasurement(name, index, candidate.reject is None, reason, iou, error, is_wrong or names_another)


def _rendered(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    layers = render_layers(scene, frame_times("video"))
    return layers.frames_FHWC, layers.cover_PFHW


def _shown(scene: Scene, mask_FHW: np.ndarray) -> ThingTruth:
    """The thing that a mask shows best."""
    _, cover_PFHW = _rendered(scene)
    place = max((thing.place for thing in scene.things), key=lambda each: overlap(cover_PFHW[each], mask_FHW))
    return ThingTruth(cover_PFHW[place], cover_PFHW[place], place)
