"""A bucket as a value: equal ones are one, impossible ones are refused, its names."""

from __future__ import annotations

import pytest

from instructx_core.data.bucket import Bucket
from instructx_core.errors import InputError


def test_names() -> None:
    clip = Bucket("video", 17, 64, 96, reference=True)
    assert (str(clip), clip.label, clip.kind) == ("video-17x64x96-reference", "video+reference", ("video", True))
    assert str(Bucket("image", 1, 64, 64)) == "image-1x64x64-plain" and Bucket("image", 1, 64, 64).label == "image"
    assert Bucket("image", 1, 64, 64) == Bucket("image", 1, 64, 64)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("film", 1, 64, 64), "use image or video"),
        (("video", 16, 64, 64), "4n \\+ 1"),
        (("image", 5, 64, 64), "an image is 1"),
        (("image", 1, 0, 64), "64x0 pixels"),
    ],
)
def test_impossible_ones(values: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Bucket(*values)
