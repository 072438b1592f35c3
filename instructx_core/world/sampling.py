"""Samples by number: sample(split, index, ...) always gives the same edit, on every machine and in every process.

Place: edits, render, language -> sampling -> training data, benchmark. "train" and "val" never contain a held-out
colour-shape combination; "test" does in 30% of its samples. A pure function of its arguments: worker processes may
render any numbers in any order. Pictures and words come from different random streams, so an edit can be said again in
other words or another language.
Shapes: frames_FHWC uint8 (F = 1 or 17); masks FHW bool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from .edits import DRAFTS, TASKS, Draft
from .language import Manner, caption, instruct
from .render import Layers, render_reference
from .scene.canvas import PLACES, SIZE, Canvas, Size
from .scene.contents import Change, Scene, Thing, frame_times
from .scene.draw import Redraw, Setting, choose, draw_finish, draw_photographic, stands_out
from .scene.grounds import Ground, Picture
from .scene.palette import GROUNDS
from .splits import HELD_OUT_SHARE, canvas_for, generator, task_of, tasks_of
from .success import CLEAR_CHANGE, masked_error, pixel_error
from .visible import grow, render_visible

MAX_DRAWS = 400


@dataclass(frozen=True, slots=True, eq=False)
class Object:
    """One thing of a sample, before and after the edit, and the pixels that it shows in each frame."""

    place: int  # its identity: a place holds at most one thing
    source: Thing | None  # None: not there before
    target: Thing | None  # None: removed
    source_FHW: np.ndarray  # bool; visible pixels, all False where it is not there
    target_FHW: np.ndarray  # of the target scene, whatever look is laid over the picture
    is_touched: bool  # the edit changes this very thing


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One edit with exact ground truth. Frames are (F, H, W, 3) uint8, the reference (H, W, 3) uint8."""

    source_FHWC: np.ndarray
    target_FHWC: np.ndarray
    reference_HWC: np.ndarray | None
    instruction: str
    task: str
    modality: str
    split: str
    index: int
    held_out: bool  # the edited thing (or, in whole-picture tasks and reference_add, a thing shown) is a held-out pair
    regions: tuple[tuple[str, np.ndarray], ...]  # what must change, each part on its own; none in a "noop"
    outside_FHW: np.ndarray  # what must not change; may be empty
    caption: str  # the target in words
    source_caption: str
    source_scene: Scene
    target_scene: Scene
    sub_kind: str = ""  # e.g. "grayscale", "darker", "swap shape", "remove + tone", "absent"
    objects: tuple[Object, ...] = ()  # every thing of either scene, by place
    language: str = "en"
    wording: str = ""  # which wording(s) the instruction is made of
    held_out_words: bool = False  # a wording or filler that only "test" shows
    traits: tuple[str, ...] = ()  # how the instruction is typed, see Instruction
    changes: tuple[Change, ...] = ()  # what the instruction asks for; asked_pairs() makes questions of it
    is_ordered: bool = False  # the changes must be said in this order
    numbers: tuple[int, ...] | None = None  # of the frames in the clip as it was drawn; None: all, in order

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return self.source_scene.canvas.size


def _build_regions(draft: Draft, source: Layers, target: Layers) -> tuple[tuple[str, np.ndarray], ...]:
    """The masks of the draft's regions, disjoint: a pixel of two belongs to the first; empty ones are left out."""
    cover_PFHW = source.cover_PFHW | target.cover_PFHW
    any_FHW = cover_PFHW.any(axis=0)
    taken = np.zeros_like(any_FHW)
    regions: list[tuple[str, np.ndarray]] = []
    for name, spec in draft.regions:
        if isinstance(spec, int):
            mask = cover_PFHW[spec]
        elif spec == "objects":
            mask = any_FHW
        elif spec == "ground":
            mask = ~any_FHW
        else:
            mask = target.lines_FHW if spec == "lines" else ~taken
        mask = mask & ~taken
        taken |= mask
        if mask.any():
            regions.append((name, mask))
    return tuple(regions)


def _objects(draft: Draft, source: Layers, target: Layers) -> tuple[Object, ...]:
    touched = {spec for _, spec in draft.regions if isinstance(spec, int)} if draft.target.look != "segment" else set()
    objects = []
    for place in range(len(PLACES)):
        before, after = draft.source.get(place), draft.target.get(place)
        if before is not None or after is not None:
            masks = source.cover_PFHW[place], target.cover_PFHW[place]
            objects.append(Object(place, before, after, *masks, is_touched=place in touched))
    return tuple(objects)


def _is_visible(draft: Draft, idle_FHW: np.ndarray, regions: tuple[tuple[str, np.ndarray], ...]) -> bool:
    """Doing nothing must clearly fail: in one region, or in each where the edit has several parts; a no-op has none."""
    if draft.source == draft.target:
        return True
    clear = [masked_error(idle_FHW, mask)[0] >= CLEAR_CHANGE for _, mask in regions]
    wanted = len(draft.regions) if draft.all_regions_change else 1
    return sum(clear) >= wanted


def _render(draft: Draft, times_F: np.ndarray) -> tuple[Layers, Layers]:
    """Both sides of the draft. Raises Redraw where one does not show its things."""
    source = render_visible(draft.source, times_F)
    # What a thing taken away leaves behind was told before; whatever comes may cover, shade or match the rest.
    is_less = draft.target.ground == draft.source.ground and set(draft.target.things) <= set(draft.source.things)
    if draft.target is draft.source:
        return source, source
    return source, render_visible(draft.target, times_F, known_distinct=is_less)


def reference_size(split: str, index: int, modality: str, size: Size) -> Size:
    """The size of the reference picture of a number that is drawn in that size: the same, or 64x64."""
    return size if generator("reference", split, index, modality).random() < 0.5 else (SIZE, SIZE)


def _reference(thing: Thing, split: str, index: int, modality: str, canvas: Canvas) -> np.ndarray:
    """The reference picture, of the canvas' size or 64x64: the thing in any size and finish, on any ground that it
    stands out from, often white."""
    rng = generator("reference", split, index, modality)
    canvas = canvas if rng.random() < 0.5 else Canvas()  # as reference_size says
    finish = draw_finish(rng)
    kind, radius = rng.random(), float(rng.uniform(9.0, 20.0))
    ground: Ground = "plain white"
    if kind < 0.6:
        ground = draw_photographic(rng, "image") if kind < 0.4 else choose(rng, GROUNDS)
    colors = () if thing.pattern is None else (thing.pattern.first, thing.pattern.second)
    if not stands_out(colors, ground, canvas, "image"):
        ground = "plain white"
    return render_reference(thing, canvas, ground, finish, radius)


def _draw(
    split: str, index: int, task: str, setting: Setting
) -> tuple[Draft, Layers, Layers, tuple[tuple[str, np.ndarray], ...], bool]:
    """The number's first draft that keeps the rules: itself, both sides rendered, its regions, is it held out."""
    rng = generator("edit", split, index, setting.modality, TASKS.index(task))
    held_out = split == "test" and bool(rng.random() < HELD_OUT_SHARE)
    setting, times = replace(setting, held_out=held_out), frame_times(setting.modality)
    for _ in range(MAX_DRAWS):
        try:
            draft = DRAFTS[task](rng, setting)
            source, target = _render(draft, times)
        except Redraw:
            continue
        regions = _build_regions(draft, source, target)
        if _is_visible(draft, pixel_error(source.frames_FHWC, target.frames_FHWC), regions):
            return draft, source, target, regions, held_out
    raise RuntimeError(f"no visible {task} edit in {MAX_DRAWS} draws (split {split}, index {index})")


def sample(
    split: str,
    index: int,
    modality: str = "image",
    task: str | None = None,
    size: Size | None = (SIZE, SIZE),
    *,
    finish: str | None = None,
    picture: np.ndarray | None = None,
    manner: Manner | None = None,
) -> Sample:
    """The edit of that number; depends on the arguments alone.

    split: "train", "val" or "test"; index: >= 0; modality: "image" (1 frame) or "video" (17 frames); task: one of
    TASKS, or None to draw one evenly from those of the split; size: (height, width) in multiples of 16 from 64 on, or
    None for the number's own (splits.bucket); finish: "flat" or "photo", None draws; picture: an array of that size to
    be the ground, e.g. a real photo (of style and tone only functions of pixels are asked then, and without things);
    manner: how it is to be said, e.g. Manner(language="zh"); pictures stay the same.
    Raises InputError on other values.
    """
    allowed = tasks_of(split, modality)
    task = task_of(split, index, modality) if task is None else task
    if task not in allowed:
        raise InputError(f"task {task!r} is not drawn for {split} {modality}; use one of {', '.join(allowed)}")
    if finish not in (None, "flat", "photo"):
        raise InputError(f"finish {finish!r} is unknown; use flat, photo or None")
    ground = None if picture is None else Picture(picture)
    canvas = canvas_for(split, index, modality, size)
    setting = Setting(modality, canvas, finish=finish, picture=ground)  # type: ignore[arg-type]
    draft, source, target, regions, held_out = _draw(split, index, task, setting)
    stream = generator("words", split, index, modality, TASKS.index(task))
    words = instruct(stream, draft.changes, draft.is_ordered, split, modality, manner)
    same = (source.frames_FHWC == target.frames_FHWC).all(axis=-1)
    touched = [grow(mask) for _, mask in regions]
    return Sample(
        source_FHWC=source.frames_FHWC,
        target_FHWC=target.frames_FHWC,
        reference_HWC=None if draft.reference is None else _reference(draft.reference, split, index, modality, canvas),
        instruction=words.text,
        task=task,
        modality=modality,
        split=split,
        index=int(index),
        held_out=held_out,
        regions=regions,
        outside_FHW=same & ~np.logical_or.reduce(touched) if touched else same,
        caption=caption(draft.target),
        source_caption=caption(draft.source),
        source_scene=draft.source,
        target_scene=draft.target,
        sub_kind=draft.sub_kind,
        objects=_objects(draft, source, target),
        language=words.language,
        wording=words.wording,
        held_out_words=words.held_out,
        traits=words.traits,
        changes=draft.changes,
        is_ordered=draft.is_ordered,
    )
