"""Films for the tests of synthesis: drawn, with their truth, written once a session."""

import numpy as np
import pytest

from instructx_core.media.files import write_video
from instructx_core.synthesis.drawn_films import FPS, draw_film

from ..evaluation.conftest import chromium  # noqa: F401

SEEDS = (2, 5, 7)


@pytest.fixture(scope="session")
def three_scenes(tmp_path_factory):
    """A film of three scenes of three seconds."""
    path = tmp_path_factory.mktemp("films") / "three scenes.mp4"
    write_video(path, np.concatenate([draw_film(seed).frames_FHWC for seed in SEEDS]), FPS, crf=16)
    return path
