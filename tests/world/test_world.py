"""The procedural world draws what it promises: colours that stand out, shapes in their places, words for one thing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.world import (
    COLORS,
    GROUNDS,
    HELD_OUT,
    MODALITIES,
    SHAPES,
    caption,
    frame_times,
    render,
    scene_sample,
)
from instructx_core.world.render import apply_pixel_look, render_layers, render_reference
from instructx_core.world.scene.canvas import Canvas
from instructx_core.world.scene.contents import PATTERNS, Pattern, Scene, Thing, patterned
from instructx_core.world.scene.distance import signed_distance
from instructx_core.world.scene.draw import Setting, draw_scene
from instructx_core.world.scene.grounds import ground_colors, ground_image
from instructx_core.world.scene.palette import MIN_CONTRAST, color_distance


def test_every_color_stands_out_from_every_ground_and_from_the_others() -> None:
    for ground in GROUNDS:
        for name, rgb in COLORS.items():
            assert color_distance(ground_colors(ground), rgb).min() >= MIN_CONTRAST, (ground, name)
    names = list(COLORS)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            assert color_distance(COLORS[name], COLORS[other]) >= 0.13, (name, other)


def test_held_out_pairs_leave_each_word_trained() -> None:
    assert len(HELD_OUT) == 6
    assert len({color for color, _ in HELD_OUT}) == len({shape for _, shape in HELD_OUT}) == 6


def test_grounds_differ_and_cannot_be_changed() -> None:
    images = {ground_image(ground).tobytes() for ground in GROUNDS}
    assert len(images) == len(GROUNDS)
    with pytest.raises(ValueError):
        ground_image("plain navy")[0, 0, 0] = 1
    with pytest.raises(InputError, match="plain pink"):
        ground_image("plain pink")


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_large_and_differ(shape: str) -> None:
    times = frame_times("image")
    cover = render_layers(Scene("plain gray", (Thing(shape, "red", 0, 9.0),)), times).cover_PFHW[0]
    assert 80 < cover.sum() < 330
    for other in SHAPES:
        if other != shape:
            another = render_layers(Scene("plain gray", (Thing(other, "red", 0, 9.0),)), times).cover_PFHW[0]
            assert (cover ^ another).sum() > 40, (shape, other)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (80, 128), (128, 128)])
def test_things_stay_around_their_places(modality: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    canvas = Canvas(*size)
    moved = 0
    for _ in range(60):
        scene, _ = draw_scene(rng, Setting(modality, canvas))
        assert len(scene.combinations) == len(scene.things) == len({thing.place for thing in scene.things})
        for thing in scene.things:
            staying = replace(thing, motion=replace(thing.motion, enter=None, leave=None))
            centers = staying.centers(frame_times(modality), canvas)
            low = (0.8 if thing.size == "large" else 1.0) * thing.radius * canvas.unit
            assert (centers >= low).all() and (centers <= np.array([size[1], size[0]]) - low).all()
            step = np.abs(np.diff(centers, axis=0)).max(initial=0.0)
            assert step < 3.0 * max(size) / 64  # smooth
            middle = np.abs(centers.mean(axis=0) - canvas.center(thing.place)) / (size[1], size[0])
            assert middle.max() < 0.16, thing
            moved += np.ptp(centers, axis=0).max() > 1.0
    assert (moved > 0) == (modality == "video")


def test_reference_thing_is_the_same_pixels_moved() -> None:
    """By exactly 16 pixels; only the antialiased rim, which mixes with the ground, may differ."""
    y, x = np.mgrid[-16:16, -16:16].astype(np.float32)
    for number, kind in enumerate(PATTERNS):
        for place, (left, top) in enumerate(((0, 0), (32, 0), (0, 32), (32, 32), (16, 16))):
            thing = Thing(SHAPES[number], "red", place, 11.0)
            thing = patterned(thing, Pattern(kind, (230, 20, 20), (20, 60, 200)))
            picture = render(Scene("plain black", (thing,)), frame_times("image"))[0]
            reference, part = render_reference(thing)[16:48, 16:48], picture[top : top + 32, left : left + 32]
            inside = signed_distance(thing.shape, x, y, 11.0) <= -0.5
            assert inside.sum() > 100 and np.array_equal(part[inside], reference[inside])
            assert {(230, 20, 20), (20, 60, 200)} <= {tuple(rgb) for rgb in reference[inside].tolist()}


def test_tones_and_styles_are_exact_formulas() -> None:
    pixel = np.array([[[[100, 200, 50]]]], dtype=np.uint8)
    assert apply_pixel_look("darker", pixel).ravel().tolist() == [55, 110, 28]
    assert apply_pixel_look("brighter", pixel).ravel().tolist() == [170, 225, 142]
    assert apply_pixel_look("warmer", pixel).ravel().tolist() == [170, 200, 28]
    assert apply_pixel_look("cooler", pixel).ravel().tolist() == [55, 200, 142]
    assert apply_pixel_look("invert", pixel).ravel().tolist() == [155, 55, 205]
    assert apply_pixel_look("grayscale", pixel).ravel().tolist() == [153, 153, 153]


def test_captions_tell_scenes_apart_and_are_ascii() -> None:
    things = (Thing("circle", "red", 0, 10.0), Thing("star", "blue", 3, 10.0))
    words = "a red circle at the top left and a blue star at the bottom right on green stripes"
    assert caption(Scene("green stripes", things)) == words
    assert caption(Scene("green stripes", things, look="invert")) == f"inverted colors: {words}"
    assert caption(Scene("gray gradient", ())) == "nothing on a gray gradient"
    assert (
        caption(Scene("plain navy", things, look="segment", focus=3))
        == "mask: a white star at the bottom right on black"
    )


@pytest.mark.parametrize("modality", MODALITIES)
def test_pretraining_scenes(modality: str) -> None:
    looks = []
    for index in range(120):
        frames, words, scene = scene_sample("train", index, modality)
        assert frames.dtype == np.uint8 and frames.shape == (len(frame_times(modality)), 64, 64, 3)
        assert words.isascii() and not scene.combinations & HELD_OUT
        looks.append(scene.look or ("pattern" if any(thing.pattern for thing in scene.things) else "none"))
        again = scene_sample("train", index, modality)
        assert np.array_equal(frames, again[0]) and words == again[1]
        plain = scene_sample("train", index, modality, looks=())
        assert plain[2].look is None
    assert 0.15 < 1.0 - looks.count("none") / len(looks) < 0.36
    assert {"segment", "pattern"} < set(looks)
    with pytest.raises(InputError, match="sepia"):
        scene_sample("train", 0, modality, looks=("sepia",))


def test_importing_the_world_needs_numpy_only() -> None:
    code = "import sys, instructx_core.world; print(sorted({'torch', 'PIL', 'transformers'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
