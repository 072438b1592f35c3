"""A film is cut where its picture changes, into clips of the right length, place, rate and size."""

from fractions import Fraction

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.media.files import write_video
from instructx_core.synthesis.drawn_films import FPS, draw_film
from instructx_core.synthesis.films import MARGIN, film_id, find_films, fit, parts, read_span, scenes
from instructx_core.synthesis.terms.limits import Limits

from .conftest import SEEDS


def test_scenes_are_cut_where_the_picture_changes(three_scenes):
    found = scenes(three_scenes)
    assert [round(FPS * start) for start, _ in found] == [0, 48, 96]
    assert [round(FPS * stop) for _, stop in found] == [48, 96, 144]


@pytest.mark.parametrize(("start", "frames"), [(0.0, 48), (3.0, 48), (7.5, 24)])
def test_a_span_holds_its_own_frames(three_scenes, start, frames):
    stop = start + frames / FPS
    found_FHWC, fps, size = read_span(three_scenes, start, stop, Limits())
    whole_FHWC = np.concatenate([draw_film(seed).frames_FHWC for seed in SEEDS])
    first = round(start * FPS)
    assert (len(found_FHWC), fps, size) == (frames, FPS, whole_FHWC.shape[1:3])
    error = np.abs(found_FHWC.astype(int) - whole_FHWC[first : first + frames]).mean(axis=(1, 2, 3))
    assert error.max() < 4.0, "frames of another time differ by far more"


def test_long_scenes_are_cut_in_equal_parts_and_short_ones_left_out():
    found = parts([(0.0, 1.5), (2.0, 27.1), (30.0, 34.0)], Limits())
    assert found[0][0] == pytest.approx(2.0 + MARGIN)
    lengths = [stop - start for start, stop in found]
    assert lengths[:3] == pytest.approx([lengths[0]] * 3)
    assert len(found) == 4
    assert found[2][1] == pytest.approx(27.1 - MARGIN)
    assert all(2.0 <= length <= 10.0 for length in lengths)


def test_fast_films_lose_every_second_frame_and_none_is_shown_twice(tmp_path):
    frames_FHWC = draw_film(1).frames_FHWC
    write_video(tmp_path / "fast.mp4", frames_FHWC, Fraction(60), crf=10)
    found_FHWC, fps, _ = read_span(tmp_path / "fast.mp4", 0.0, 0.8, Limits())
    assert (len(found_FHWC), fps) == (24, 30)
    assert np.abs(found_FHWC.astype(int) - frames_FHWC[::2]).mean() < 4.0


def test_large_frames_are_scaled_down_small_ones_are_not():
    limits = Limits()
    assert fit(np.zeros((1080, 1920, 3), np.uint8), limits).shape[:2] == (464, 832)
    assert fit(np.zeros((120, 200, 3), np.uint8), limits).shape[:2] == (112, 192)


def test_an_id_says_name_and_content(tmp_path):
    (tmp_path / "a b.mp4").write_bytes(b"x" * 100)
    (tmp_path / "c.mp4").write_bytes(b"x" * 100)
    first, other = film_id(tmp_path / "a b.mp4"), film_id(tmp_path / "c.mp4")
    assert first.startswith("a-b-")
    assert first.rsplit("-", 1)[1] == other.rsplit("-", 1)[1]
    (tmp_path / "c.mp4").write_bytes(b"y" * 100)
    assert film_id(tmp_path / "c.mp4") != other


def test_what_is_no_film_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        find_films(tmp_path / "none", tmp_path / "set")
    with pytest.raises(InputError, match="holds no film"):
        find_films(tmp_path, tmp_path / "set")
    (tmp_path / "bad.mp4").write_bytes(b"no film at all")
    with pytest.raises(InputError, match=r"bad\.mp4: cannot be read"):
        scenes(tmp_path / "bad.mp4")
