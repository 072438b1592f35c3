"""What is drawn, in numbers: things seen and told apart, masks under overlap, sizes, coming in and going out."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.world import BUCKETS, COLORS, Sample, bucket, render, sample, task_of
from instructx_core.world.render import render_layers
from instructx_core.world.scene.canvas import Canvas
from instructx_core.world.scene.contents import FRAMES, Finish, Motion, Scene, Thing, frame_times
from instructx_core.world.scene.distance import area_of
from instructx_core.world.scene.draw import Setting, draw_scene
from instructx_core.world.splits import tasks_of
from instructx_core.world.success import CLEAR_CHANGE, masked_error, pixel_error
from instructx_core.world.visible import MOST_TOUCHING, SHOWN_SHARE, grow, reads_as

IMAGES, CLIPS = 2000, 120
PHOTO = Finish("photo", 5, 0.3, 0.6, 0.2, 0.5, 2.0, 0.8, 0.1)


def facts_of(shown: Sample) -> dict:
    """What the statistics are made of; the pictures themselves are let go."""
    shares, twins, wrong = [], 0, []
    unit = shown.source_scene.canvas.unit
    for scene, frames, name in (
        (shown.source_scene, shown.source_FHWC, "source_FHW"),
        (shown.target_scene, shown.target_FHWC, "target_FHW"),
    ):
        masks = {each.place: getattr(each, name) for each in shown.objects if getattr(each, name[:6]) is not None}
        for thing in scene.things:
            mask = masks[thing.place]
            if not thing.motion.is_passing:
                area = area_of(thing.shape) * (thing.radius * unit) ** 2
                shares.append(mask.sum(axis=(1, 2)).min() / area)
            if scene.look is None and thing.color is not None and not thing.motion.is_passing:
                wrong += [thing.color] if reads_as(frames[0][mask[0]].mean(axis=0))[0] != thing.color else []
            for other in scene.things:
                if other.place > thing.place and other.color == thing.color is not None:
                    twins = max(twins, int((grow(mask) & masks[other.place]).sum(axis=(1, 2)).max()))
    idle_FHW = pixel_error(shown.source_FHWC, shown.target_FHWC)
    overlap = {thing.place: thing for thing in shown.source_scene.things}
    return {
        "size": shown.size,
        "task": shown.task,
        "kind": shown.sub_kind,
        "finish": shown.source_scene.finish.kind,
        "named": isinstance(shown.source_scene.ground, str),
        "shares": shares,
        "twins": twins,
        "wrong": wrong,
        "sizes": [thing.size for thing in overlap.values()],
        "passing": [thing.motion.is_passing for thing in shown.source_scene.things],
        "edited passing": [o.source.motion.is_passing for o in shown.objects if o.is_touched and o.source is not None],
        "change": max((masked_error(idle_FHW, mask)[0] for _, mask in shown.regions), default=None),
        "idle": float(idle_FHW.max()),
    }


@cache
def facts(modality: str) -> tuple[dict, ...]:
    count = IMAGES if modality == "image" else CLIPS
    return tuple(facts_of(sample("train", index, modality, size=None)) for index in range(count))


@pytest.mark.parametrize("modality", ["image", "video"])
def test_every_thing_is_seen_and_told(modality: str) -> None:
    for each in facts(modality):
        assert min(each["shares"], default=1.0) >= SHOWN_SHARE, each
        assert each["twins"] <= MOST_TOUCHING and not each["wrong"], each
    assert np.mean([min(each["shares"], default=1.0) < 0.95 for each in facts(modality)]) > 0.08  # some overlap


@pytest.mark.parametrize("modality", ["image", "video"])
def test_every_edit_is_visible_and_a_noop_is_none(modality: str) -> None:
    for each in facts(modality):
        if each["task"] == "noop":
            assert each["idle"] == 0.0 and each["change"] is None
        else:
            assert each["change"] >= CLEAR_CHANGE


def test_what_is_drawn_is_varied() -> None:
    images = facts("image")
    assert {each["size"] for each in images} == set(BUCKETS["image"])
    assert 0.4 < np.mean([each["finish"] == "photo" for each in images]) < 0.6
    assert 0.45 < np.mean([each["named"] for each in images]) < 0.75
    sizes = [size for each in images for size in each["sizes"]]
    assert min(sizes.count(size) for size in ("small", "large")) > 0.1 * len(sizes)
    assert {each["task"] for each in images} == set(tasks_of("train", "image"))
    kinds = {each["kind"] for each in images}
    assert {"grayscale", "invert", "outline", "darker", "warmer", "swap shape", "swap both"} <= kinds
    assert {"leave", "absent", "already", "remove + tone", "add + background", "color + local"} <= kinds


def test_things_come_in_and_go_out_in_the_middle_of_clips() -> None:
    clips = facts("video")
    assert {each["size"] for each in clips} == set(BUCKETS["video"])
    assert 0.15 < np.mean([passing for each in clips for passing in each["passing"]]) < 0.35
    assert np.mean([any(each["edited passing"]) for each in clips]) > 0.05


def test_a_passing_thing_is_missing_from_a_part_of_the_clip() -> None:
    times, rng, seen = frame_times("video"), np.random.default_rng(2), 0
    for _ in range(40):
        scene, _ = draw_scene(rng, Setting("video", Canvas(64, 96)))
        layers = render_layers(scene, times)
        for thing in scene.things:
            there = layers.whole_PF[thing.place] > 0
            if thing.motion.is_passing:
                seen += 1
                assert 5 <= there.sum() <= 16 and not (there[0] and there[-1])
                assert np.abs(np.diff(there.astype(int))).sum() <= 2  # comes in once, goes out once
                steps = np.abs(np.diff(thing.centers(times, scene.canvas), axis=0)).max(axis=1)
                assert steps.max() < 16.0
            else:
                assert there.all()
    assert seen > 15


@pytest.mark.parametrize("finish", [Finish(), PHOTO])
def test_masks_are_right_under_overlap(finish: Finish) -> None:
    """The nearer thing keeps its whole form, the other loses just what is hidden; colours agree with the masks."""
    back = Thing("square", "blue", 0, 12.0, (4.0, 4.0), depth=0)
    front = Thing("circle", "yellow", 4, 10.0, (-6.0, -6.0), depth=1)
    times = frame_times("image")
    both = render_layers(Scene("plain gray", (back, front), finish=finish), times)
    alone = {}
    for thing in (back, front):
        alone[thing.place] = render_layers(Scene("plain gray", (thing,), finish=finish), times).cover_PFHW[thing.place]
    assert np.array_equal(both.cover_PFHW[4], alone[4])
    assert np.array_equal(both.cover_PFHW[0], alone[0] & ~alone[4]) and (alone[0] & alone[4]).sum() > 30
    for thing in (back, front):
        pixels = both.frames_FHWC[both.cover_PFHW[thing.place]]
        assert reads_as(pixels.mean(axis=0))[0] == thing.color
    swapped = render_layers(Scene("plain gray", (replace(back, depth=2), front), finish=finish), times)
    assert np.array_equal(swapped.cover_PFHW[0], alone[0])


def test_segmentation_and_outline_show_what_is_seen() -> None:
    things = (Thing("square", "blue", 0, 12.0, (4.0, 4.0)), Thing("circle", "yellow", 4, 10.0, (-6.0, -6.0), depth=1))
    scene, times = Scene("brown dots", things, look="segment", focus=0, finish=PHOTO), frame_times("image")
    layers = render_layers(scene, times)
    white = layers.frames_FHWC[..., 0] > 127
    assert np.array_equal(grow(white) & layers.cover_PFHW[0], layers.cover_PFHW[0]) and not white[0, 26, 26]
    assert not (white & ~grow(layers.cover_PFHW[0])).any() and white.sum() > 150
    drawing = render(replace(scene, look="outline", focus=None), times)
    assert np.array_equal(drawing, render(Scene("plain navy", things, look="outline"), times))
    assert (drawing[0, 26, 26] == 255).all()  # the square's corner is behind the circle


def test_a_scene_looks_alike_at_every_size() -> None:
    motion = Motion("drift", 4.0, 0.0, enter=0.25)
    things = (Thing("star", "red", 0, 11.0), Thing("ring", "cyan", 3, 15.0, (-1.0, 0.0), motion, depth=1))
    times = frame_times("video")
    for ground in ("green dots", "gray checkerboard", "blue stripes", "rose gradient"):
        small = render(Scene(ground, things), times).astype(np.float32)
        large = render(Scene(ground, things, canvas=Canvas(128, 128)), times).astype(np.float32)
        averaged = large.reshape(17, 64, 2, 64, 2, 3).mean(axis=(2, 4))
        assert np.abs(averaged - small).mean() < 3.0


def test_bucket_and_task_are_known_without_rendering() -> None:
    for index in range(12):
        shown = sample("val", index, "image", size=None)
        assert shown.size == bucket("val", index, "image") and shown.task == task_of("val", index, "image")
        assert shown.source_FHWC.shape == (FRAMES["image"], *shown.size, 3)
        asked = sample("val", index, "image", size=(80, 112))
        assert asked.size == (80, 112) and asked.target_FHWC.shape == (1, 80, 112, 3)
        assert asked.reference_HWC is None or asked.reference_HWC.shape[:2] in ((80, 112), (64, 64))


def test_a_reference_shows_its_thing() -> None:
    """On any ground and at both sizes, both colours of the pattern are there."""
    sizes = set()
    for index in range(60):
        shown = sample("train", index, "image", "reference_add", (96, 96))
        assert shown.reference_HWC is not None
        sizes.add(shown.reference_HWC.shape)
        thing = next(each.target for each in shown.objects if each.is_touched)
        assert thing is not None and thing.pattern is not None and thing.color is None
        for color in (thing.pattern.first, thing.pattern.second):
            near = np.abs(shown.reference_HWC.astype(float) - color).mean(axis=-1) < 60
            assert near.mean() > 0.004, index
    assert sizes == {(96, 96, 3), (64, 64, 3)}


@pytest.mark.parametrize("size", [(64, 72), (48, 64), (64,), (64, 2048), "big"])
def test_wrong_sizes_are_named(size: object) -> None:
    with pytest.raises(InputError):
        sample("train", 0, size=size)  # type: ignore[arg-type]


def test_another_process_in_another_order_draws_the_same() -> None:
    code = (
        "import hashlib; from instructx_core.world import sample\n"
        "for m, i in (('video', 3), ('image', 9), ('image', 2)):\n"
        "    s = sample('train', i, m, size=None)\n"
        "    b = s.source_FHWC.tobytes() + s.target_FHWC.tobytes() + s.instruction.encode()\n"
        "    print(hashlib.sha256(b).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    for (modality, index), digest in zip((("image", 2), ("image", 9), ("video", 3)), there[::-1], strict=True):
        shown = sample("train", index, modality, size=None)
        pixels = shown.source_FHWC.tobytes() + shown.target_FHWC.tobytes()
        assert hashlib.sha256(pixels + shown.instruction.encode()).hexdigest() == digest


def test_the_eight_colors_read_as_themselves() -> None:
    for name, rgb in COLORS.items():
        assert reads_as(np.array(rgb))[0] == name and reads_as(np.array(rgb))[1] > 0.12
