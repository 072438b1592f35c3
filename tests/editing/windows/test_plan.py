"""The plan of the windows and the hand-over between them, without a model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from instructx_core.editing.windows import ColourMatch, Window, edit_windows, plan_windows, window_frames, window_seed
from instructx_core.editing.windows.between import edited_numbers
from instructx_core.editing.windows.handover import fade_out
from instructx_core.editing.windows.plan import check_window
from instructx_core.errors import InputError


@pytest.mark.parametrize("joins", ["plain", "smooth"])
@pytest.mark.parametrize(("size", "overlap"), [(5, 1), (5, 2), *itertools.product((13, 17, 81), (1, 2, 5))])
def test_every_frame_is_new_once(size: int, overlap: int, joins: str) -> None:
    twice = int(joins == "smooth")
    for total in (*range(1, 4 * size), 1000, 9001):
        windows = plan_windows(total, size, overlap, joins=joins)
        covered = [(w.first_new, w.stop) for w in windows]
        assert covered[0][0] == 0 and covered[-1][1] == total
        assert all(a[1] == b[0] for a, b in itertools.pairwise(covered)), (total, covered)
        assert all(w.stop > w.first_new and w.frames <= size for w in windows)
        assert all((w.frames - 1) % 4 == 0 for w in windows[:-1]), "only the last one may need padding"
        assert [w.shared for w in windows] == [0] + [overlap + twice] * (len(windows) - 1)
        assert [w.first_source for w in windows] == [0] + [w.first_new - twice for w in windows[1:]]
        assert [w.index for w in windows] == list(range(len(windows)))


def test_last_two_windows_share_what_is_left() -> None:
    """One frame more than fits: not 17 + 2 frames but about half each, in as many windows as needed."""
    assert plan_windows(17, 17) == (Window(0, 0, 17, 0, 0),)
    assert [w.frames for w in plan_windows(18, 17)] == [13, 6]
    assert [w.frames for w in plan_windows(129, 17)] == [17] * 8
    assert [w.frames for w in plan_windows(131, 17)][-3:] == [17, 13, 7]
    shortest = [min(w.frames for w in plan_windows(total, 81)) for total in range(82, 1000)]
    assert min(shortest) >= 38


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [(16, 1, "not 4n.1; use 17"), (1, 1, "use 5"), (17, 0, "overlap of 0"), (17, 9, "1 .the paper's. to 8")],
)
def test_refused_windows(size: int, overlap: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_window(size, overlap)


def test_window_of_five_seconds() -> None:
    assert window_frames(16, 81) == 77 and window_frames(16.2, 81) == 81
    assert window_frames(30, 81) == 81 and window_frames(30, 1000) == 149
    assert window_frames(16, 17, seconds=0.6) == 9
    with pytest.raises(InputError, match="a window needs 5"):
        window_frames(1, 81, seconds=3)
    page = (Path(__file__).resolve().parents[3] / "docs" / "long-video.md").read_text(encoding="utf-8")
    for fps in (16, 24, 30):
        paper, kiwi = window_frames(fps, 81), window_frames(fps, 121)
        assert f"| {fps} fps | {paper} frames, {paper / fps:.1f} s | {kiwi} frames, {kiwi / fps:.1f} s |" in page
        size = window_frames(16, 81)
        spans = edited_numbers(1000, fps, 16)[size - 1] + 1
        assert fps == 16 or f"| {size} of {spans} frames, {size / 16:.1f} s |" in page
    assert window_seed(7, 0) == window_seed(7, 5) == 7
    with pytest.raises(InputError, match="seed is -1"):
        window_seed(-1, 0)


def clip(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(40, 200, (count, 8, 8, 3), np.uint8)


def brighter(given_FHWC: np.ndarray, window: Window) -> np.ndarray:
    """An edit with drift: new frames +20; the head, edited already, comes back 3 levels too bright, and so do they."""
    made = given_FHWC + np.uint8(20) + np.uint8(3 * bool(window.shared))
    made[: window.shared] = given_FHWC[: window.shared] + np.uint8(3)
    return made


def edited(frames: np.ndarray, size: int, **options: object) -> np.ndarray:
    windows = plan_windows(len(frames), size)
    return np.concatenate([r.new_FHWC for r in edit_windows(iter(frames), windows, brighter, **options)])  # type: ignore[arg-type]


def test_edited_tail_is_the_next_head() -> None:
    frames, seen = clip(23), []

    def edit(given_FHWC: np.ndarray, window: Window) -> np.ndarray:
        seen.append(given_FHWC.copy())
        return given_FHWC + np.uint8(20)

    windows = plan_windows(23, 9)
    results = list(edit_windows(iter(frames), windows, edit))
    for before, given, window in zip(results, seen[1:], windows[1:], strict=False):
        assert (given[0] == before.new_FHWC[-1]).all(), "the edited tail"
        assert (given[1:] == frames[window.start + 1 : window.stop]).all(), "the source behind it"
    assert (np.concatenate([r.new_FHWC for r in results]) == frames + 20).all()
    assert [r.join for r in results] == [0.0, 20.0, 20.0]


def test_colour_drift_is_measured_and_corrected() -> None:
    frames = clip(33)
    windows = plan_windows(33, 9)
    plain = list(edit_windows(iter(frames), windows, brighter))
    assert [r.drift for r in plain[1:]] == [(3.0, 3.0, 3.0)] * 3 and not any(r.corrected for r in plain)
    assert plain[0].drift == (0.0, 0.0, 0.0)
    assert (edited(frames, 9)[9:] == frames[9:] + 23).all()
    assert (edited(frames, 9, match_colour=True) == frames + 20).all()


def test_colour_matches_mean_and_spread() -> None:
    wanted = clip(2)
    edited_OHWC = np.rint(wanted * 0.8 + 10).astype(np.uint8)
    back = ColourMatch.between(edited_OHWC, wanted).apply(edited_OHWC)
    assert np.abs(back.astype(int) - wanted).max() <= 2
    flat, other = np.full((1, 4, 4, 3), 9, np.uint8), np.full((1, 4, 4, 3), 12, np.uint8)
    assert ColourMatch.between(flat, other) == ColourMatch((1.0, 1.0, 1.0), (3.0, 3.0, 3.0))


def test_the_step_at_a_join_fades_out() -> None:
    """A head that comes back 30 darker: new frames rise by 24, 18, 12, 6, and then not at all."""
    made = np.full((8, 2, 2, 3), 100, np.uint8)
    made[:2] = 70
    kept = made.copy()
    out = fade_out(made, np.full((2, 2, 2, 3), 100, np.uint8), 4)
    assert [int(frame[0, 0, 0]) for frame in out] == [70, 70, 124, 118, 112, 106, 100, 100]
    assert (made == kept).all() and out.dtype == np.uint8
    short = fade_out(made[:4], np.full((2, 2, 2, 3), 100, np.uint8), 8)
    assert [int(frame[0, 0, 0]) for frame in short[2:]] == [120, 110], "a short window: over what there is"
    made[2:] = 250
    assert fade_out(made, np.full((2, 2, 2, 3), 100, np.uint8), 4)[2].max() == 255, "white stays white"


def test_a_frame_that_both_edit_shows_the_step() -> None:
    """Smooth: frame 0 is handed over, frame 1 is source; the earlier window's is kept, the step fades behind it."""
    frames, windows, seen = clip(16), plan_windows(16, 9, joins="smooth"), []

    def edit(given_FHWC: np.ndarray, window: Window) -> np.ndarray:
        """20 brighter, 26 in window 1; the handed over frame comes back as it is."""
        seen.append(given_FHWC.copy())
        made = given_FHWC + np.uint8(26 if window.index else 20)
        made[: window.head_frames] = given_FHWC[: window.head_frames]
        return made

    first, second = edit_windows(iter(frames), windows, edit, fade=8)
    assert (second.window.shared, second.window.head_frames) == (2, 1)
    assert (seen[1][0] == first.new_FHWC[-2]).all() and (seen[1][1:] == frames[windows[1].start + 1 :]).all()
    steps = [int((made.astype(int) - frame).mean()) for made, frame in zip(second.new_FHWC, frames[9:], strict=True)]
    assert steps == [21, 21, 22, 23, 24, 24, 25] and second.join == 6.0 and second.drift == (6.0, 6.0, 6.0)
    assert (second.tail_OHWC == second.new_FHWC[-2:]).all()
    matched = list(edit_windows(iter(frames), windows, edit, fade=8, match_colour=True))
    assert (np.concatenate([r.new_FHWC for r in matched]) == frames + 20).all()


def test_pinned_latent_frames_hold_handed_over_frames_only() -> None:
    """Latent frame 0 is pixel frame 0, every further one 4 pixel frames."""
    shared = {0: 0, 1: 1, 2: 1, 4: 1, 5: 2, 8: 2, 9: 3}
    assert {count: Window(1, 0, 33, count + 1, count).pinned() for count in shared} == shared


@pytest.mark.parametrize("joins", ["plain", "smooth"])
def test_windows_from_the_middle_give_the_same(joins: str) -> None:
    """A job that goes on after window 2 sees exactly what it would have seen."""
    frames, windows = clip(40), plan_windows(40, 9, 2, joins=joins)
    whole = list(edit_windows(iter(frames), windows, brighter, fade=4))
    rest = edit_windows(
        iter(frames[windows[2].first_source :]), windows, brighter, done=2, tail_OHWC=whole[1].tail_OHWC, fade=4
    )
    for a, b in zip(whole[2:], rest, strict=True):
        assert (a.new_FHWC == b.new_FHWC).all() and a.window == b.window and a.join == b.join


def test_one_window_in_memory() -> None:
    """No more source frames are pulled than the window at hand needs."""
    pulled = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal pulled
        for frame in clip(40):
            pulled += 1
            yield frame

    for result in edit_windows(source(), plan_windows(40, 9), brighter):
        assert pulled == result.window.stop


def test_wrong_use_is_refused() -> None:
    windows = plan_windows(20, 9)
    with pytest.raises(InputError, match="ended 3 frames early in window 2 of 3"):
        list(edit_windows(iter(clip(14)), windows, brighter))
    with pytest.raises(InputError, match="window 2 needs the edited tail"):
        list(edit_windows(iter(clip(20)), windows, brighter, done=1))
    with pytest.raises(InputError, match="keeps number and size"):
        list(edit_windows(iter(clip(20)), windows, lambda given, _: given[1:]))
