"""Samples by number: sample(split, index) always gives the same edit, on every machine.

Place: edits, render -> sampling -> training data, benchmark. Splits have disjoint seeds. "train" and "val" never
contain a held-out colour-shape combination; "test" does in 30% of its samples. Style and segmentation are never drawn
for training clips: their transfer from images to video is tested zero-shot (paper Fig. 6).
Shapes: frames_FHWC uint8 (F = 1 or 17, H = W = 64); masks FHW bool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..random_streams import random_stream
from .edits import DRAFTS, TASKS, Draft, scene_for
from .palette import SHAPES
from .render import Layers, render, render_layers, render_reference
from .scene import MODALITIES, STYLES, TONE_LOOKS, Redraw, Scene, choose, draw_pattern, frame_times, patterned
from .success import CLEAR_CHANGE, masked_error, pixel_error
from .wordings import caption

SPLITS = ("train", "val", "test")
HELD_OUT_SHARE = 0.3  # of the samples of "test"
NEVER_ON_TRAINING_VIDEO = ("style", "segment")
LOOKS = ("style", "tone", "segment", "pattern")
# Never trained on as clips: the transfer from images is tested zero-shot (paper Fig. 6).
ZERO_SHOT_LOOKS = ("style", "segment")
LOOK_SHARE = 0.25  # of scene_sample
MAX_DRAWS = 200
_STREAMS = {"edit": 0, "task": 1, "scene": 2}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One edit with exact ground truth. Frames are (F, 64, 64, 3) uint8, the reference (64, 64, 3) uint8."""

    source_FHWC: np.ndarray
    target_FHWC: np.ndarray
    reference_HWC: np.ndarray | None
    instruction: str
    task: str
    modality: str
    split: str
    index: int
    held_out: bool  # the edited thing (or, in whole-picture tasks and reference_add, a thing shown) is a held-out pair
    regions: tuple[tuple[str, np.ndarray], ...]  # what must change, each part checked on its own
    outside_FHW: np.ndarray  # what must not change; may be empty
    caption: str  # the target in words
    source_caption: str
    source_scene: Scene
    target_scene: Scene


def image_tasks(split: str) -> tuple[str, ...]:
    """Tasks drawn for images of a split."""
    _check_split(split)
    return TASKS


def video_tasks(split: str) -> tuple[str, ...]:
    """Tasks drawn for clips of a split: style and segmentation only in "test"."""
    _check_split(split)
    return TASKS if split == "test" else tuple(task for task in TASKS if task not in NEVER_ON_TRAINING_VIDEO)


def tasks_of(split: str, modality: str) -> tuple[str, ...]:
    """Tasks drawn for a split and a modality."""
    _check_modality(modality)
    return image_tasks(split) if modality == "image" else video_tasks(split)


def looks_of(modality: str) -> tuple[str, ...]:
    """Looks that training scenes of a modality may carry (`scene_sample`)."""
    _check_modality(modality)
    return LOOKS if modality == "image" else tuple(look for look in LOOKS if look not in ZERO_SHOT_LOOKS)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")


def _check_modality(modality: str) -> None:
    if modality not in MODALITIES:
        raise InputError(f"modality {modality!r} is unknown; use one of {', '.join(MODALITIES)}")


def _generator(stream: str, split: str, index: int, modality: str, task: int = 0) -> np.random.Generator:
    if isinstance(index, bool) or int(index) != index or index < 0:
        raise InputError(f"index {index!r} must be an integer >= 0")
    key = (_STREAMS[stream], SPLITS.index(split), MODALITIES.index(modality), task, int(index))
    return random_stream(*key)


def dilate(mask_FHW: np.ndarray) -> np.ndarray:
    """Grow a mask by one pixel in all eight directions."""
    rows = mask_FHW.copy()
    rows[:, 1:] |= mask_FHW[:, :-1]
    rows[:, :-1] |= mask_FHW[:, 1:]
    grown = rows.copy()
    grown[:, :, 1:] |= rows[:, :, :-1]
    grown[:, :, :-1] |= rows[:, :, 1:]
    return grown


def _build_regions(draft: Draft, source: Layers, target: Layers) -> tuple[tuple[str, np.ndarray], ...]:
    cover_PFHW = source.cover_PFHW | target.cover_PFHW
    any_FHW = cover_PFHW.any(axis=0)
    masks: list[np.ndarray] = []
    for _, spec in draft.regions:
        if isinstance(spec, int):
            masks.append(cover_PFHW[spec])
        elif spec == "objects":
            masks.append(any_FHW)
        elif spec == "ground":
            masks.append(~any_FHW)
        elif spec == "lines":
            masks.append(target.lines_FHW)
        else:
            masks.append(~np.logical_or.reduce(masks))
    return tuple((name, mask) for (name, _), mask in zip(draft.regions, masks, strict=True))


def _is_visible(draft: Draft, idle_FHW: np.ndarray, regions: tuple[tuple[str, np.ndarray], ...]) -> bool:
    """Doing nothing must clearly fail: in one region, or in each where the edit has several parts."""
    clear = [masked_error(idle_FHW, mask)[0] >= CLEAR_CHANGE for _, mask in regions]
    return all(clear) if draft.all_regions_change else any(clear)


def sample(split: str, index: int, modality: str = "image", task: str | None = None) -> Sample:
    """The edit of that number; depends on the arguments alone.

    split: "train", "val" or "test"; index: >= 0; modality: "image" (1 frame) or "video" (17 frames); task: one of
    TASKS, or None to draw one evenly from those of the split. Raises InputError on other values.
    """
    _check_split(split)
    allowed = tasks_of(split, modality)
    if task is None:
        task = choose(_generator("task", split, index, modality), allowed)
    elif task not in allowed:
        raise InputError(f"task {task!r} is not drawn for {split} {modality}; use one of {', '.join(allowed)}")
    rng = _generator("edit", split, index, modality, TASKS.index(task))
    held_out = split == "test" and bool(rng.random() < HELD_OUT_SHARE)
    times = frame_times(modality)
    for _ in range(MAX_DRAWS):
        try:
            draft = DRAFTS[task](rng, modality, held_out)
        except Redraw:
            continue
        source, target = render_layers(draft.source, times), render_layers(draft.target, times)
        regions = _build_regions(draft, source, target)
        if _is_visible(draft, pixel_error(source.frames_FHWC, target.frames_FHWC), regions):
            break
    else:
        raise RuntimeError(f"no visible {task} edit in {MAX_DRAWS} draws (split {split}, index {index})")
    touched = dilate(np.logical_or.reduce([mask for _, mask in regions]))
    outside = ~touched & (source.frames_FHWC == target.frames_FHWC).all(axis=-1)
    return Sample(
        source_FHWC=source.frames_FHWC,
        target_FHWC=target.frames_FHWC,
        reference_HWC=None if draft.reference is None else render_reference(draft.reference),
        instruction=draft.instruction,
        task=task,
        modality=modality,
        split=split,
        index=int(index),
        held_out=held_out,
        regions=regions,
        outside_FHW=outside,
        caption=caption(draft.target),
        source_caption=caption(draft.source),
        source_scene=draft.source,
        target_scene=draft.target,
    )


def scene_sample(
    split: str, index: int, modality: str = "image", looks: tuple[str, ...] = LOOKS
) -> tuple[np.ndarray, str, Scene]:
    """A picture or clip without an edit, for pretraining: frames (F, 64, 64, 3) uint8, its caption, its scene.

    A quarter of them carry one of `looks` ("style", "tone", "segment", "pattern": a thing filled with a pattern), drawn
    evenly; pass () for none. No held-out combinations, except in 30% of "test". Raises InputError as sample() does.
    """
    _check_split(split)
    _check_modality(modality)
    unknown = [look for look in looks if look not in LOOKS]
    if unknown:
        raise InputError(f"looks {unknown} are unknown; use some of {', '.join(LOOKS)}")
    rng = _generator("scene", split, index, modality)
    held_out = split == "test" and bool(rng.random() < HELD_OUT_SHARE)
    scene, thing = scene_for(rng, modality, held_out)
    if looks and rng.random() < LOOK_SHARE:
        look = choose(rng, looks)
        if look == "style":
            scene = replace(scene, look=choose(rng, STYLES))
        elif look == "tone":
            scene = replace(scene, look=choose(rng, TONE_LOOKS))
        elif look == "segment":
            scene = replace(scene, look="segment", focus=thing.place)
        else:
            new = replace(thing, shape=choose(rng, SHAPES))
            scene = scene.with_thing(patterned(new, draw_pattern(rng, scene.ground)))
    return render(scene, frame_times(modality)), caption(scene), scene
