"""Photographic grounds, the photo finish and pictures as ground: like photographs, in numbers."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data, transform

from instructx_core.errors import InputError
from instructx_core.evaluation.photos import PHOTOS as ALL_PHOTOS
from instructx_core.evaluation.photos import crop
from instructx_core.world import natural_sample, render, sample
from instructx_core.world.pretraining import develop
from instructx_core.world.scene.canvas import Canvas
from instructx_core.world.scene.contents import Finish, Scene, Thing, frame_times
from instructx_core.world.scene.grounds import Photographic, Picture, ground_frames
from instructx_core.world.scene.photographic import FAMILIES
from instructx_core.world.stage import LUMA
from instructx_core.world.visible import reads_as

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")


def photo(name: str, side: int = 128) -> np.ndarray:
    """The middle square of a photo, (side, side, 3) uint8."""
    picture = getattr(data, name)()[..., :3]
    height, width = picture.shape[:2]
    cut = min(height, width)
    top, left = (height - cut) // 2, (width - cut) // 2
    square = transform.resize(picture[top : top + cut, left : left + cut], (side, side), anti_aliasing=True)
    return np.rint(square * 255).astype(np.uint8)


def spectrum_slope(picture: np.ndarray) -> float:
    """Slope of log power over log frequency, rings averaged."""
    gray, side = picture.astype(float).mean(axis=-1), len(picture)
    taper = np.hanning(side)[:, None] * np.hanning(side)[None, :]
    power = np.abs(np.fft.fft2((gray - gray.mean()) * taper)) ** 2
    frequency = np.fft.fftfreq(side) * side
    radius = np.rint(np.hypot(frequency[:, None], frequency[None, :]))
    rings = np.arange(3, side // 2 - 2)
    return float(np.polyfit(np.log(rings), np.log([power[radius == ring].mean() for ring in rings]), 1)[0])


def saturation(picture: np.ndarray) -> float:
    high, low = picture.max(axis=-1).astype(float), picture.min(axis=-1)
    return float(((high - low) / np.maximum(high, 1)).mean())


def peakedness(picture: np.ndarray) -> float:
    """Fourth moment of the gradients over the squared second: 3 for noise, far more where flat parts meet at edges."""
    steps = np.diff(picture.astype(float).mean(axis=-1), axis=1)
    return float((steps**4).mean() / (steps**2).mean() ** 2)


def test_natural_pictures_have_the_statistics_of_photos() -> None:
    drawn = [natural_sample("train", index, size=(128, 128))[0][0] for index in range(80)]
    drawn = [picture for picture in drawn if saturation(picture) > 0]  # as the photos are; some are grey
    assert 50 < len(drawn) < 70
    real = [photo(name) for name in PHOTOS]
    for measure, tolerance in ((spectrum_slope, 0.6), (saturation, 0.25)):
        assert abs(np.median([measure(p) for p in drawn]) - np.median([measure(p) for p in real])) < tolerance
    assert np.median([peakedness(picture) for picture in drawn]) > 6.0
    contrast = [picture.astype(float).mean(axis=-1).std() for picture in drawn]
    assert 25 < np.median(contrast) < 55
    assert 85 < np.mean([picture.mean() for picture in drawn]) < 135


def fine_share(pictures: list[np.ndarray]) -> tuple[float, float]:
    """Of all pictures: the energy of the luma's finest differences and of the chroma's, each over the luma's."""
    luma = [picture.astype(np.float32) @ LUMA for picture in pictures]
    chroma = [picture - each[..., None] for picture, each in zip(pictures, luma, strict=True)]
    fine = [np.diff(np.diff(each, axis=0), axis=1) for each in luma]
    whole = np.mean([each.var() for each in luma])
    return float(np.mean([each.var() for each in fine]) / whole), float(
        np.mean([each.var() for each in chroma]) / whole
    )


def test_natural_pictures_are_as_sharp_and_as_grey_as_photos() -> None:
    drawn = [natural_sample("train", index, size=(128, 128))[0][0] for index in range(80)]
    real = [crop(name, 0) for name in ALL_PHOTOS]
    for of_drawn, of_real in zip(fine_share(drawn), fine_share(real), strict=True):
        assert of_real / 1.5 < of_drawn < 1.5 * of_real


def test_developing() -> None:
    frames = np.random.default_rng(0).integers(60, 200, (2, 8, 8, 3)).astype(np.uint8)
    assert np.array_equal(develop(frames, 1.0, 0.0), frames)
    grey = develop(frames, 0.0, 0.0)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert develop(frames, 1.0, 1.0).std() > frames.std()
    assert np.array_equal(develop(frames[:1], 0.5, 1.0), develop(frames, 0.5, 1.0)[:1])


@pytest.mark.parametrize("family", FAMILIES)
def test_families_vary_and_repeat(family: str) -> None:
    canvas, now = Canvas(64, 96), np.zeros(1)
    pictures = [ground_frames(Photographic(family, seed), canvas, now) for seed in range(6)]
    assert len({picture.tobytes() for picture in pictures}) == 6
    assert all(picture.shape == (1, 64, 96, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert np.mean([picture.std() for picture in pictures]) > 8.0
    assert not pictures[0].flags.writeable
    large = ground_frames(Photographic(family, 0), Canvas(256, 320), now)
    assert large.shape == (1, 256, 320, 3)


def test_the_camera_pans_smoothly() -> None:
    times = frame_times("video")
    frames = ground_frames(Photographic("pebbles", 8, pan=(8.0, -3.0)), Canvas(), times).astype(float)
    assert frames.shape == (17, 64, 64, 3)
    assert np.abs(frames[16, 3:, :-8] - frames[0, :-3, 8:]).mean() < 0.5  # moved by 8 and -3 pixels
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert steps.max() < 4.0 * np.median(steps) and steps.min() > 0
    still = ground_frames(Photographic("pebbles", 8), Canvas(), times)
    assert len(still) == 1


def test_the_photo_finish_lights_a_thing_and_keeps_its_color() -> None:
    finish, times = Finish("photo", 3, 0.25, 0.7, 0.0, 0.5, 0.0, 1.0, 0.0), frame_times("image")
    thing = Thing("circle", "red", 4, 12.0)
    picture = render(Scene("plain gray", (thing,), finish=finish), times)[0].astype(float)
    flat = render(Scene("plain gray", (thing,)), times)[0].astype(float)
    assert picture[24, 32].sum() > picture[41, 32].sum() + 60  # the light comes from above
    assert picture[47, 32].mean() < 128 - 25 and flat[47, 32].mean() == 128  # its shadow lies below
    assert (picture[2] == 128).all()
    assert reads_as(picture[24:41, 24:41].reshape(-1, 3).mean(axis=0))[0] == "red"


def test_grain_is_new_in_every_frame_and_the_same_on_both_sides() -> None:
    finish = Finish("photo", 11, grain=4.0)
    scene, times = Scene("plain gray", (Thing("star", "blue", 0, 10.0),), finish=finish), frame_times("video")
    source, target = render(scene, times), render(scene.without(0), times)
    corner = source[:, 40:, 40:].astype(float)
    assert 2.5 < corner[0].std() < 5.5 and np.abs(corner[1] - corner[0]).mean() > 2.0
    assert np.array_equal(source[:, 40:, 40:], target[:, 40:, 40:])


@pytest.mark.parametrize("name", PHOTOS)
def test_any_picture_may_be_the_ground(name: str) -> None:
    picture = photo(name)
    for number, task in enumerate(("add", "remove", "color", "swap")):
        shown = sample("test", number, "image", task, (128, 128), finish="flat", picture=picture)
        bare = ~np.logical_or.reduce([each.source_FHW for each in shown.objects] or [np.zeros((1, 128, 128), bool)])
        same = (shown.source_FHWC == picture).all(axis=-1)
        assert (same | ~bare).mean() > 0.97  # all but the antialiased rims
        assert shown.outside_FHW.mean() > 0.5
    for task, looks in (("tone", {"darker", "brighter", "warmer", "cooler"}), ("style", {"invert", "grayscale"})):
        shown = sample("test", 5, "image", task, (128, 128), picture=picture)
        assert not shown.objects and np.array_equal(shown.source_FHWC[0], picture) and shown.sub_kind in looks
        assert [name for name, _ in shown.regions] == ["ground"]


def test_a_film_may_be_the_ground_of_a_clip() -> None:
    film = np.stack([np.roll(photo("coffee", 64), step, axis=1) for step in range(17)])
    shown = sample("test", 0, "video", "color", finish="flat", picture=film)
    bare = ~np.logical_or.reduce([each.source_FHW for each in shown.objects])
    assert (shown.source_FHWC == film).all(axis=-1)[bare].mean() > 0.97


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (80, 64, 3), (17, 64, 64, 3)])
def test_wrong_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        sample("test", 0, "image", "tone", picture=np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match="uint8"):
        sample("test", 0, "image", "tone", picture=np.zeros((64, 64, 3)))


def test_a_picture_keeps_its_pixels_inside_a_scene() -> None:
    picture = photo("chelsea", 64)
    assert np.array_equal(render(Scene(Picture(picture), ()), frame_times("image"))[0], picture)
