"""The classic stages on drawn films, through the same files as films of cameras: the goals of docs/synthesis.md.

A few films of each kind here; the table in the docs is of many (`benchmarks/synthesis.py`).
"""

import dataclasses

import numpy as np
import pytest

from instructx_core.synthesis.drawn_films import draw_film
from instructx_core.synthesis.measure import SETS, judge, measure_films, summary
from instructx_core.synthesis.terms.clip import ERASED, MASK, write_clip, write_mask


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return list(measure_films(tmp_path_factory.mktemp("measure"), range(4), ("static", "shadow", "second mover")))


def test_masks_and_plates_on_static_cameras_meet_their_goals(measured):
    for row in summary(measured):
        assert row["passed"] >= 3, row
        assert row["iou"] >= 0.88, row
        assert row["error"] < 2.0, row
        assert row["wrong_after"] == 0, row


def test_the_measure_itself_sees_wrong_pairs(tmp_path):
    film = draw_film(5)
    write_clip(tmp_path, "clip.mp4", film.frames_FHWC, 16)
    write_mask(tmp_path, MASK, film.mask_FHW, 16)

    def judged(erased_FHWC):
        write_clip(tmp_path, ERASED, erased_FHWC, 16)
        return judge(film, film.without_FHWC, tmp_path)

    iou, error, is_wrong = judged(film.without_FHWC)
    assert iou == 1.0
    assert error < 2.0
    assert not is_wrong
    assert judged(film.frames_FHWC)[2], "nothing erased"
    half_FHWC = np.where(film.mask_FHW[..., None] & (np.arange(160) < 80)[:, None], film.frames_FHWC, film.without_FHWC)
    assert judged(half_FHWC)[2], "half of the subject left"
    other_FHWC = film.without_FHWC.copy()
    other_FHWC[:, 90:, :40] = 128
    assert judged(other_FHWC)[2], "something else gone"


def test_a_film_is_a_function_of_its_seed():
    for troubles in SETS.values():
        first, again = draw_film(3, troubles), draw_film(3, troubles)
        for field in dataclasses.fields(first):
            one, other = getattr(first, field.name), getattr(again, field.name)
            assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other
