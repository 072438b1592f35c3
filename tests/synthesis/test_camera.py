"""The camera's path is found to a fraction of a pixel, and a camera that stands is told from one that moves."""

import numpy as np
import pytest

from instructx_core.synthesis.drawn_films import draw_film
from instructx_core.synthesis.terms.camera import camera_path, plate_area


@pytest.mark.parametrize("seed", [0, 3, 5])
@pytest.mark.parametrize("troubles", [(), ("noise",), ("second", "shadow")])
def test_a_camera_that_stands_is_told_to_stand(seed, troubles):
    path = camera_path(draw_film(seed, troubles).frames_FHWC)
    assert path.is_static
    assert np.array_equal(path.to_middle_F33, np.tile(np.eye(3), (48, 1, 1)))
    assert path.agreement >= 0.5


@pytest.mark.parametrize("step", [(0.7, 0.2), (-1.5, 0.5)])
def test_a_known_pan_is_found(step):
    ground_HWC = draw_film(4).without_FHWC[0]
    frames = [np.roll(ground_HWC, 0, axis=0)]
    import cv2

    for number in range(1, 17):
        matrix = np.array([[1.0, 0.0, number * step[0]], [0.0, 1.0, number * step[1]]])
        frames.append(cv2.warpAffine(ground_HWC, matrix, ground_HWC.shape[1::-1], borderMode=cv2.BORDER_REFLECT))
    path = camera_path(np.stack(frames))
    assert not path.is_static
    shift_F2 = path.to_middle_F33[:, :2, 2]
    wanted_F2 = (8 - np.arange(17))[:, None] * np.array(step)
    assert np.abs(shift_F2 - wanted_F2).max() < 0.6
    assert 1.0 < plate_area(path, ground_HWC.shape[:2]) < 2.0
