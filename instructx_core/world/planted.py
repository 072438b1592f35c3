"""Planted errors: pictures that are wrong in one known way, to see that the measure finds each.

Place: sampling, success -> planted -> tests, docs. An error is a function of a sample and a random stream that gives a
prediction, or None where the sample can't have it (no untouched thing, not a hybrid, no clip). All are renders
of wrong scenes or exact operations on the truth; `python -m instructx_core.world.planted 600 400` prints the table.
Shapes: frames_FHWC uint8.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from .benchmark import benchmark_samples, kind_of
from .edits import TASKS
from .limits import SHIFT
from .render import render
from .sampling import Sample
from .scene.canvas import PLACES
from .scene.contents import NEW_RADII, PIXEL_STYLES, SIZES, TONE_LOOKS, Scene, Thing, frame_times
from .scene.draw import choose, move_inside
from .scene.grounds import is_named
from .scene.palette import COLORS, GROUNDS, SHAPES
from .success import pixel_error, score

Plant = Callable[[Sample, np.random.Generator], "np.ndarray | None"]
LEAST_SEEN = 0.002  # mean error over the picture's worst frame that makes an error one: less can't be seen
BLURS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # units, standard deviation
NOISES = (4.0, 8.0, 16.0, 24.0, 32.0, 48.0)  # levels of 255, standard deviation


def _render(sample: Sample, scene: Scene) -> np.ndarray:
    return render(scene, frame_times(sample.modality))


def _shown(sample: Sample, touched: bool) -> list[Thing]:
    """Things of the target that the edit touches, or not, and whose look can be seen."""
    focus = sample.target_scene.focus
    return [
        each.target
        for each in sample.objects
        if each.target is not None
        and each.is_touched == touched
        and (sample.target_scene.look != "segment" or each.place == focus)
    ]


def _one(sample: Sample, rng: np.random.Generator, touched: bool) -> Thing | None:
    things = _shown(sample, touched)
    if touched and sample.target_scene.look == "segment":
        things = [sample.target_scene.at(sample.target_scene.focus)]  # type: ignore[arg-type]
    return choose(rng, things) if things else None


def _with(sample: Sample, old: Thing, new: Thing | None) -> np.ndarray:
    scene = sample.target_scene
    return _render(sample, scene.without(old.place) if new is None else scene.with_thing(new))


def _reshaped(rng: np.random.Generator, thing: Thing) -> Thing:
    return replace(thing, shape=choose(rng, [shape for shape in SHAPES if shape != thing.shape]))


def _recolored(rng: np.random.Generator, thing: Thing) -> Thing:
    return replace(thing, color=choose(rng, [color for color in COLORS if color != thing.color]), pattern=None)


def _resized(rng: np.random.Generator, thing: Thing, scene: Scene) -> Thing:
    size = choose(rng, [size for size in SIZES if size != thing.size])
    return move_inside(replace(thing, radius=NEW_RADII[size]), scene.canvas)


def _has_color(sample: Sample) -> bool:
    return sample.target_scene.look not in ("grayscale", "outline", "segment")


def untouched_gone(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    thing = _one(sample, rng, False)
    return None if thing is None else _with(sample, thing, None)


def untouched_recolored(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    thing = _one(sample, rng, False)
    return None if thing is None or not _has_color(sample) else _with(sample, thing, _recolored(rng, thing))


def untouched_reshaped(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    thing = _one(sample, rng, False)
    return None if thing is None else _with(sample, thing, _reshaped(rng, thing))


def edited_shape(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    thing = _one(sample, rng, True)
    return None if thing is None else _with(sample, thing, _reshaped(rng, thing))


def edited_color(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    thing = _one(sample, rng, True)
    return None if thing is None or not _has_color(sample) else _with(sample, thing, _recolored(rng, thing))


def edited_size(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    thing = _one(sample, rng, True)
    return None if thing is None else _with(sample, thing, _resized(rng, thing, sample.target_scene))


def edited_place(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    """The thing stands at an empty place."""
    thing, scene = _one(sample, rng, True), sample.target_scene
    if thing is None or not scene.empty_places:
        return None
    place = choose(rng, [place for place in range(len(PLACES)) if place in scene.empty_places])
    moved = move_inside(replace(thing, place=place), scene.canvas)
    focus = place if scene.focus == thing.place else scene.focus
    return _render(sample, replace(scene.without(thing.place).with_thing(moved), focus=focus))


def nothing_done(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    return None if sample.task == "noop" else sample.source_FHWC


def half_done(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    """Only the first or only the second change of a hybrid."""
    if sample.task != "hybrid":
        return None
    source, target, first = sample.source_scene, sample.target_scene, bool(rng.random() < 0.5)
    if sample.sub_kind.endswith("tone"):
        return _render(sample, replace(target, look=None) if first else replace(source, look=target.look))
    if sample.sub_kind.endswith("background"):
        return _render(
            sample, replace(target, ground=source.ground) if first else replace(source, ground=target.ground)
        )
    change = sample.changes[0 if first else 1]
    if change.thing is None:  # added
        return _render(sample, source.with_thing(change.new))  # type: ignore[arg-type]
    if change.new is None:
        return _render(sample, source.without(change.thing.place))
    return _render(sample, source.with_thing(change.new))


def shift_picture(sample: Sample, rng: np.random.Generator) -> np.ndarray:
    _, height, width, _ = sample.target_FHWC.shape
    by = round(SHIFT * sample.target_scene.canvas.unit)
    x, y = choose(rng, [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)])
    rows = np.clip(np.arange(height) - y * by, 0, height - 1)
    columns = np.clip(np.arange(width) - x * by, 0, width - 1)
    return sample.target_FHWC[:, rows][:, :, columns]


def other_ground(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    scene = sample.target_scene
    if scene.look in ("outline", "segment"):
        return None
    return _render(sample, replace(scene, ground=choose(rng, [name for name in GROUNDS if name != scene.ground])))


def other_texture(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    """Another texture in the same tones."""
    scene = sample.target_scene
    if scene.look in ("outline", "segment") or not is_named(scene.ground) or scene.ground.startswith("plain"):  # type: ignore[union-attr]
        return None
    tone = scene.ground.split(" ")[0]  # type: ignore[union-attr]
    others = [name for name in GROUNDS if name.startswith(tone + " ") and name != scene.ground]
    return _render(sample, replace(scene, ground=choose(rng, others)))


def other_look(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    """Another tone or style than asked for; one where none was."""
    scene = sample.target_scene
    if scene.look == "segment":
        return None
    looks = TONE_LOOKS if scene.look in TONE_LOOKS else (*PIXEL_STYLES, *TONE_LOOKS)
    return _render(sample, replace(scene, look=choose(rng, [look for look in looks if look != scene.look])))


def half_look(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    """The tone or style on the things alone, or on all but them."""
    look, things = sample.target_scene.look, [each.target_FHW for each in sample.objects if each.target is not None]
    if look not in (*TONE_LOOKS, *PIXEL_STYLES) or not things or sample.task == "noop":
        return None
    plain, inside = _render(sample, replace(sample.target_scene, look=None)), np.logical_or.reduce(things)
    chosen = inside if rng.random() < 0.5 else ~inside
    return np.where(chosen[..., None], sample.target_FHWC, plain)


def other_mask(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    scene = sample.target_scene
    others = [thing.place for thing in scene.things if thing.place != scene.focus]
    if scene.look != "segment" or not others:
        return None
    return _render(sample, replace(scene, focus=choose(rng, others)))


def extra_thing(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    """A small thing that nobody asked for."""
    scene = sample.target_scene
    if not scene.clear_places or scene.look == "segment":
        return None
    thing = Thing(choose(rng, SHAPES), choose(rng, list(COLORS)), choose(rng, scene.clear_places), NEW_RADII["small"])
    return _render(sample, scene.with_thing(move_inside(replace(thing, depth=scene.front), scene.canvas)))


def _frames(sample: Sample, wrong: np.ndarray | None, chosen: Callable[[int], np.ndarray]) -> np.ndarray | None:
    """The target with those of the frames wrong in which the error shows."""
    if wrong is None or sample.modality == "image":
        return None
    error_F = pixel_error(wrong, sample.target_FHWC).mean(axis=(1, 2))
    seen = np.flatnonzero(error_F >= max(LEAST_SEEN, 0.5 * float(error_F.max())))
    if not len(seen):
        return None
    frames, index = sample.target_FHWC.copy(), seen[chosen(len(seen))]
    frames[index] = wrong[index]
    return frames


def one_frame_idle(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    return _frames(sample, nothing_done(sample, rng), lambda count: rng.integers(count, size=1))


def one_frame_gone(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    return _frames(sample, untouched_gone(sample, rng), lambda count: rng.integers(count, size=1))


def half_gone(sample: Sample, rng: np.random.Generator) -> np.ndarray | None:
    return _frames(sample, untouched_gone(sample, rng), lambda count: np.arange(count // 2, count))


PLANTED: dict[str, Plant] = {
    "untouched object deleted": untouched_gone,
    "untouched object recoloured": untouched_recolored,
    "untouched object reshaped": untouched_reshaped,
    "edited object in another shape": edited_shape,
    "edited object in another colour": edited_color,
    "edited object in another place": edited_place,
    "edited object of another size": edited_size,
    "nothing done": nothing_done,
    "half of a hybrid": half_done,
    "everything shifted by 4 units": shift_picture,
    "another ground": other_ground,
    "another texture in the same tones": other_texture,
    "another tone or style": other_look,
    "a tone or style on the things alone, or the rest": half_look,
    "another object's mask": other_mask,
    "a small object more": extra_thing,
    "one frame as before": one_frame_idle,
    "one frame without an object": one_frame_gone,
    "an object gone from half of the frames": half_gone,
}


def gaussian(frames_FHWC: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, sigma in pixels, the border repeated: float64."""
    reach = int(np.ceil(3.0 * sigma))
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weight /= weight.sum()
    frames = frames_FHWC.astype(np.float64)
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (reach, reach)
        padded, size = np.pad(frames, pad, mode="edge"), frames.shape[axis]
        taps = [np.take(padded, np.arange(k, k + size), axis=axis) for k in range(len(weight))]
        frames = np.tensordot(weight, np.stack(taps), axes=1)
    return frames


def _bytes(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def blur_target(sample: Sample, sigma: float) -> np.ndarray:
    """The target out of focus by that many units."""
    return _bytes(gaussian(sample.target_FHWC, sigma * sample.target_scene.canvas.unit))


def noisy(sample: Sample, rng: np.random.Generator, level: float) -> np.ndarray:
    """The target with noise of that many levels of 255 in every channel."""
    return _bytes(sample.target_FHWC + rng.normal(0.0, level, sample.target_FHWC.shape))


@dataclass(slots=True)
class Row:
    """One planted error: how many samples had it, how many of them passed, what the verdicts said first."""

    count: int = 0
    passed: int = 0
    unseen: int = 0  # the wrong picture equals the target, as far as can be seen: not counted
    words: Counter[str] = field(default_factory=Counter)
    slipped: list[str] = field(default_factory=list)
    kinds: dict[str, list[int]] = field(default_factory=dict)  # of task and sub-kind: count, passed

    def add(self, sample: Sample, prediction_FHWC: np.ndarray) -> None:
        verdict = score(sample, prediction_FHWC)
        self.count += 1
        self.passed += verdict.success
        kind = self.kinds.setdefault(kind_of(verdict) or verdict.task, [0, 0])
        kind[0], kind[1] = kind[0] + 1, kind[1] + verdict.success
        if verdict.success:
            self.slipped.append(f"{sample.modality} {sample.index} {sample.task} {sample.sub_kind}")
        else:
            self.words[verdict.reasons[0]] += 1


def is_seen(prediction_FHWC: np.ndarray, target_FHWC: np.ndarray) -> bool:
    """Whether the wrong picture differs visibly from the target."""
    return float(pixel_error(prediction_FHWC, target_FHWC).mean(axis=(1, 2)).max()) >= LEAST_SEEN


def table_of(samples: Iterable[Sample], degrees: int = 1) -> dict[str, Row]:
    """Every planted error on every sample that can have it; blur and noise on every degrees-th sample of a task."""
    rows: dict[str, Row] = {}
    for number, sample in enumerate(samples):
        rng = np.random.default_rng((sample.index, sample.modality == "video"))
        rows.setdefault("ground truth", Row()).add(sample, sample.target_FHWC)
        for name, plant in PLANTED.items():
            prediction, row = plant(sample, rng), rows.setdefault(name, Row())
            if prediction is None:
                continue
            if is_seen(prediction, sample.target_FHWC):
                row.add(sample, prediction)
            else:
                row.unseen += 1
        if number // len(TASKS) % degrees:
            continue
        for sigma in BLURS:
            rows.setdefault(f"blurred by {sigma} units", Row()).add(sample, blur_target(sample, sigma))
        for level in NOISES:
            rows.setdefault(f"noise of {level:.0f} levels", Row()).add(sample, noisy(sample, rng, level))
    return rows


def text_of(rows: dict[str, Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| planted | n | passed | % | not to be seen | passed by kind | said first, e.g. |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        words = "; ".join(word for word, _ in row.words.most_common(2))
        share = 100.0 * row.passed / max(row.count, 1)
        kinds = ", ".join(f"{kind} {passed}/{count}" for kind, (count, passed) in row.kinds.items() if passed)
        kinds = "all" if row.passed == row.count else kinds
        lines.append(f"| {name} | {row.count} | {row.passed} | {share:.1f} | {row.unseen} | {kinds} | {words} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for modality, argument in zip(("image", "video"), sys.argv[1:], strict=False):
        samples = benchmark_samples(modality, int(argument), None)
        sys.stdout.write(f"{modality}\n{text_of(table_of(samples, 4))}\n\n")
