"""Frames between edited ones: which are edited, what the others get, windows, resuming; moving shapes with truth."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from instructx_core.editing.windows import edit_windows, plan_windows
from instructx_core.editing.windows.between import Thinning, added_frames, carry_over, edited_numbers
from instructx_core.shapes import sample
from instructx_core.shapes.render import render


def moving(count: int) -> np.ndarray:
    y, x = np.mgrid[:8, :8]
    return np.stack([np.stack([x + 3 * i, y + i, x + y + 2 * i], -1) % 200 for i in range(count)]).astype(np.uint8)


def test_which_frames_are_edited() -> None:
    assert edited_numbers(9, 30, None) == edited_numbers(9, 16, 16.0) == edited_numbers(9, 12, 16) == tuple(range(9))
    assert edited_numbers(7, 30, 15) == (0, 2, 4, 6)
    assert edited_numbers(8, 30, 15) == (0, 2, 4, 6, 7), "the last one too"
    assert edited_numbers(1, 30, 1) == (0,)
    for fps in (Fraction(24000, 1001), Fraction(30), Fraction(60), 50):
        numbers = edited_numbers(1000, fps, 16)
        assert (numbers[0], numbers[-1]) == (0, 999) and len(set(numbers)) == len(numbers)
        assert abs(len(numbers) - 1000 / float(fps) * 16) < 2, "that many a second"
        ideal = np.arange(len(numbers) - 1) * float(fps) / 16
        assert np.abs(np.array(numbers[:-1]) - ideal).max() <= 0.51


def test_between_two_edits_the_picture_is_the_sources_own() -> None:
    """A change that is the same in both is carried over exactly; one that grows is mixed by the distance."""
    sources = moving(5)
    assert np.array_equal(carry_over(sources, sources[0] + 20, sources[-1] + 20), sources[1:-1] + 20)
    mixed = carry_over(sources, sources[0], sources[-1] + 40)
    assert np.array_equal(mixed, sources[1:-1] + np.array([10, 20, 30], np.uint8)[:, None, None, None])
    assert carry_over(sources[:2], sources[0], sources[1]).shape == (0, 8, 8, 3)
    white = carry_over(np.full((3, 1, 1, 3), 250, np.uint8), *np.full((2, 1, 1, 3), 255, np.uint8))
    assert white.max() == 255


@pytest.mark.parametrize("joins", ["smooth", "plain"])
@pytest.mark.parametrize("rate", [None, 16, 12.5])
@pytest.mark.parametrize("resumed", [0, 2])
def test_every_frame_comes_back_once(joins: str, rate: float | None, resumed: int) -> None:
    source = moving(70)
    numbers = edited_numbers(70, 30, rate)
    windows = plan_windows(len(numbers), 9, joins=joins)
    assert len(windows) > 3
    tails: list[np.ndarray | None] = [None]
    parts: list[np.ndarray] = []
    for done in (0, resumed):
        thinning = Thinning(numbers, windows[done])
        frames = thinning.thin(iter(source[thinning.start :]))
        fade = 8 if joins == "smooth" else 0
        results = edit_windows(frames, windows, brighter, fade=fade, done=done, tail_OHWC=tails[done])
        tail = tails[done]
        del parts[done:]
        for result in results:
            parts.append(thinning.fill(result, None if tail is None else tail[-1]))
            assert len(parts[-1]) == added_frames(numbers, result.window)
            tail = result.tail_OHWC
            tails.append(tail)
            assert len(thinning._sources) <= 2, "no more than the frame that the next ones are compared with"
    assert np.array_equal(np.concatenate(parts), source + 20)


def brighter(frames_FHWC: np.ndarray, window: object) -> np.ndarray:
    """Adds 20 to a frame of the source; one that was handed over is edited already."""
    keep = getattr(window, "handed", 0)
    return np.concatenate([frames_FHWC[:keep], frames_FHWC[keep:] + 20])


@pytest.mark.parametrize("fps", [24, 30])
def test_on_moving_shapes_it_is_near_the_truth(fps: int) -> None:
    """With the truth as the edit of 16 frames a second: the others are off by less than a repeated or mixed frame."""
    errors: dict[str, list[float]] = {"carried": [], "mixed": [], "repeated": []}
    times = np.arange(fps + 1) / fps
    numbers = edited_numbers(fps + 1, fps, 16)
    for task in ("color", "remove", "add", "background", "reference_swap"):
        for index in range(3):
            drawn = sample("test", index, "video", task)
            source, target = render(drawn.source_scene, times), render(drawn.target_scene, times).astype(np.float32)
            for first, last in pairwise(numbers):
                if last - first < 2:
                    continue
                ends = target[first], target[last]
                truth = target[first + 1 : last]
                share = np.arange(1, last - first)[:, None, None, None] / (last - first)
                made = {
                    "carried": carry_over(source[first : last + 1], *(end.astype(np.uint8) for end in ends)),
                    "mixed": (1 - share) * ends[0] + share * ends[1],
                    "repeated": np.where(share < 0.5, *ends),
                }
                for name, frames in made.items():
                    errors[name].append(float(np.abs(frames - truth).mean()))
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    assert means["carried"] < 0.25 and means["carried"] < means["mixed"] < means["repeated"], means
