"""What the stages are worth, measured on drawn films: masks and clean clips against the truth, wrong pairs, yield.

Place: drawn_films.py -> measure -> benchmarks/synthesis.py, docs/synthesis.md. Films are written and read as files and
go through the very stages that films of cameras go through. A wrong pair is one that would teach an error: something of
the subject is left, something else is gone, or what was filled in is not what is there.
Shapes: frames_FHWC uint8; mask_FHW bool.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..media.files import read_media, write_video
from .drawn_films import CRF, FPS, draw_film
from .films import Film, cut, film_id
from .pipeline import stages_of
from .setup import Setup
from .stage import run_stages
from .terms.clip import ERASED, MASK, read_clip, read_mask
from .terms.masks import grown

CLEAN_CRF = 16  # of a film without the trouble "compression"
WRONG_LEVEL = 24.0  # of 255, mean over channels: an error that is seen
WRONG_INSIDE = 0.02  # share of the subject's pixels with such an error
WRONG_OUTSIDE = 0.004  # share of all other pixels, apart from a border of the subject
BORDER = 9  # pixels, of the square by which the subject is grown
SETS: dict[str, tuple[str, ...]] = {
    "static": (),
    "noise": ("noise",),
    "shadow": ("shadow",),
    "occlusion": ("occlusion",),
    "compression": ("compression",),
    "second mover": ("second",),
    "moving camera": ("camera",),
    "all but camera": ("noise", "shadow", "compression", "second"),
    "all": ("camera", "noise", "shadow", "compression", "second"),
}


@dataclass(frozen=True, slots=True)
class FilmMeasurement:
    """Of one film. iou, error (levels inside of the subject), is_wrong: None where no erased clip was made.

    passed: the default limits let it through. reason: why not.
    """

    set: str
    seed: int
    passed: bool
    reason: str
    iou: float | None
    error: float | None
    is_wrong: bool | None


def measure_films(work: Path, seeds: Sequence[int], sets: Sequence[str] = tuple(SETS)) -> Iterator[FilmMeasurement]:
    """Draws, writes, runs and judges; what was run before is taken from `work`."""
    for name in sets:
        for seed in seeds:
            yield _measure(work, name, seed)


def _measure(work: Path, name: str, seed: int) -> FilmMeasurement:
    film, path = draw_film(seed, SETS[name]), work / f"{name.replace(' ', '-')}-{seed}.mp4"
    truth = path.with_suffix(".truth.mp4")
    crf = CRF if "compression" in film.troubles else CLEAN_CRF
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, frames_FHWC in ((path, film.frames_FHWC), (truth, film.without_FHWC)):
        if not place.is_file():
            write_video(place, frames_FHWC, FPS, crf=crf)
    span, setup = (0.0, len(film.frames_FHWC) / FPS), Setup()
    folder = cut(Film(path, film_id(path)), span, work / "work", setup.limits)
    candidate = run_stages(folder, stages_of(setup))
    reason = "" if candidate.reject is None else f"{candidate.reject.stage}: {candidate.reject.reason}"
    if "erase" not in candidate.facts:
        return FilmMeasurement(name, seed, False, reason, None, None, None)
    iou, error, is_wrong = judge(film, read_media(truth).frames_FHWC, folder)
    return FilmMeasurement(name, seed, candidate.reject is None, reason, iou, error, is_wrong)


class Truth(Protocol):
    """What a mask is judged by."""

    @property
    def mask_FHW(self) -> np.ndarray: ...

    @property
    def changed_FHW(self) -> np.ndarray: ...


def judge(film: Truth, truth_FHWC: np.ndarray, folder: Path) -> tuple[float, float, bool]:
    """(IoU of the mask, mean error of the fill under the subject in levels, whether the pair is wrong).

    truth_FHWC: the film without its subject through the same codec, which takes colour from every sharp border.
    """
    mask_FHW, erased_FHWC = read_mask(folder, MASK), read_clip(folder, ERASED)
    iou = float((mask_FHW & film.mask_FHW).sum() / (mask_FHW | film.mask_FHW).sum())
    difference_FHW = np.abs(erased_FHWC.astype(np.float32) - truth_FHWC).mean(axis=-1)
    error = float(difference_FHW[film.mask_FHW].mean())
    inside = float((difference_FHW > WRONG_LEVEL)[film.mask_FHW].mean())
    # Outside the clip itself is the truth: what its codec lost is in both sides of the pair.
    changed_FHW = np.abs(erased_FHWC.astype(np.float32) - read_clip(folder)).mean(axis=-1) > WRONG_LEVEL
    outside = float(changed_FHW[~grown(film.changed_FHW, BORDER)].mean())
    return iou, error, inside > WRONG_INSIDE or outside > WRONG_OUTSIDE


def summary(measured: Sequence[FilmMeasurement]) -> list[dict[str, float | int | str]]:
    """A row a set: films, median IoU and error where there is an erased clip, wrong ones before and after filters."""
    rows = []
    for name in dict.fromkeys(each.set for each in measured):
        films = [each for each in measured if each.set == name]
        made = [each for each in films if each.is_wrong is not None]
        passed = [each for each in films if each.passed]
        rows.append(
            {
                "set": name,
                "films": len(films),
                "made": len(made),
                "passed": len(passed),
                "iou": float(np.median([each.iou for each in made])) if made else float("nan"),
                "error": float(np.median([each.error for each in made])) if made else float("nan"),
                "wrong_before": sum(bool(each.is_wrong) for each in made),
                "wrong_after": sum(bool(each.is_wrong) for each in passed),
            }
        )
    return rows


def as_json(measured: Sequence[FilmMeasurement]) -> list[dict[str, object]]:
    return [dataclasses.asdict(each) for each in measured]
