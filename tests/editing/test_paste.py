"""Paste-back: exact outside of the mask, feathered inside, in place to a fraction of a pixel, sizes and errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instructx_core.editing.fit import apply_box
from instructx_core.editing.paste import (
    KeepOutside,
    PasteMask,
    feather_mask,
    paste_back,
    pasted_frames,
    read_paste_mask,
    to_source,
)
from instructx_core.errors import InputError
from instructx_core.geometry import fit_size

RNG = np.random.default_rng(0)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture that scaling keeps: blobs of some twenty pixels."""
    small = RNG.integers(0, 256, (height // 20 + 2, width // 20 + 2, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("feather", [0, 1, 5])
def test_feather_goes_inwards(feather: int) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:50, 30:80] = 255  # touches the right border
    soft = feather_mask(mask, feather)
    assert (soft[mask == 0] == 0).all() and soft.max() == 255
    assert (np.diff(soft[35, 30:50].astype(int)) >= 0).all()
    assert (soft[35, 45:] == 255).all(), "the picture's border is no edge of the mask"
    inside = soft[35, 30 : 30 + 2 * feather]
    assert feather == 0 or ((inside > 0).all() and (inside < 255).any())


@pytest.mark.parametrize("size", [(100, 160), (101, 161), (240, 90), (64, 64)])
def test_exact_outside_of_a_mask_file(tmp_path: Path, size: tuple[int, int]) -> None:
    original = smooth(*size)
    box = fit_size(*size, 16, 64 * 64)
    source = apply_box(original, box)
    mask = np.zeros(size, np.uint8)
    mask[20:60, 10:50] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edited = 255 - source
    (result,), note = paste_back(
        original[None], source[None], edited[None], box, read_paste_mask(KeepOutside(tmp_path / "mask.png", 3), size)
    )
    assert result.shape == original.shape
    assert (result[mask == 0] == original[mask == 0]).all() and "% of the pixels are the source's" in note
    middle = (slice(30, 50), slice(20, 40))
    assert np.abs(result[middle].astype(int) - (255 - original[middle].astype(int))).mean() < 6


def test_automatic_mask_finds_the_edit() -> None:
    """A block is painted in frame 1 of 3: elsewhere all is exact, and its neighbours share the mask."""
    original = np.stack([smooth(120, 160)] * 3)
    box = fit_size(120, 160, 16, 80 * 60)
    source = np.stack([apply_box(frame, box) for frame in original])
    edited = np.clip(source.astype(int) + RNG.integers(-9, 10, source.shape), 0, 255).astype(np.uint8)  # the VAE's loss
    edited[1, 16:32, 16:32] = (255, 0, 0)
    result, _ = paste_back(original, source, edited, box, PasteMask(KeepOutside(feather=2)))
    changed = (result != original).any(-1)
    top, left, bottom, _ = box.source_box
    scale = (bottom - top) / box.height
    reach = np.zeros(original.shape[1:3], bool)
    reach[int(top + 11 * scale) : int(top + 38 * scale), int(left + 11 * scale) : int(left + 38 * scale)] = True
    assert not changed[:, ~reach].any()
    centre = result[1, int(top + 24 * scale), int(left + 24 * scale)]
    assert np.abs(centre.astype(int) - (255, 0, 0)).max() <= 2
    untouched, note = paste_back(original, source, source, box, PasteMask(KeepOutside()))
    assert (untouched == original).all() and "100.0 %" in note


@pytest.mark.parametrize("size", [(90, 130), (91, 133), (200, 64), (63, 211)])
def test_back_in_place(size: tuple[int, int]) -> None:
    """Scaled down and back: registered to the source within 0.1 pixels, in every corner (a zoom would show there)."""
    registration = pytest.importorskip("skimage.registration")
    original = smooth(*size)
    box = fit_size(*size, 16, 64 * 64)
    back = to_source(apply_box(original, box), box, Image.Resampling.BICUBIC)
    top, left, bottom, right = (round(edge) for edge in box.source_box)
    window = np.outer(np.hanning((bottom - top) // 2), np.hanning((right - left) // 2))
    for y in (top, (top + bottom) // 2):
        for x in (left, (left + right) // 2):
            part = (slice(y, y + window.shape[0]), slice(x, x + window.shape[1]))
            want, have = (image[part].mean(-1) for image in (original, back))
            shift, _, _ = registration.phase_cross_correlation(
                (want - want.mean()) * window, (have - have.mean()) * window, upsample_factor=100, normalization=None
            )
            assert np.abs(shift).max() < 0.1, (size, y, x, shift)


def test_wrong_masks(tmp_path: Path) -> None:
    original = smooth(64, 64)
    box = fit_size(64, 64, 16)
    line = np.zeros((64, 64), np.uint8)
    line[30:34] = 255
    for name, mask, words in (
        ("small.png", np.full((32, 64), 255, np.uint8), "64x32, the source 64x64"),
        ("black.png", np.zeros((64, 64), np.uint8), "black everywhere"),
        ("thin.png", line, "smaller --feather"),
    ):
        Image.fromarray(mask).save(tmp_path / name)
        keep = KeepOutside(tmp_path / name)
        with pytest.raises(InputError, match=words):
            mask = read_paste_mask(keep, (64, 64))
            paste_back(original[None], original[None], original[None], box, mask)
    painted = np.dstack([np.full((64, 64, 3), 255, np.uint8), line])  # white on nothing, which white paper would hide
    Image.fromarray(painted).save(tmp_path / "clear.png")
    with pytest.raises(InputError, match=r"transparent in places.*fill them with black"):
        read_paste_mask(KeepOutside(tmp_path / "clear.png"), (64, 64))
    with pytest.raises(InputError, match="feather is -1"):
        KeepOutside(feather=-1)
    with pytest.raises(InputError, match="use at most 32"):
        read_paste_mask(KeepOutside(feather=3000), (64, 80))


def test_a_stream_is_pasted_one_frame_at_a_time() -> None:
    original = np.stack([smooth(120, 160) for _ in range(4)])
    box = fit_size(120, 160, 16, 80 * 60)
    source = np.stack([apply_box(frame, box) for frame in original])
    edited = source.copy()
    edited[:, 16:32, 16:32] = (255, 0, 0)
    drawn = []

    def one_by_one() -> Iterator[np.ndarray]:
        for index, frame in enumerate(original):
            drawn.append(index)
            yield frame

    for index, frame in enumerate(pasted_frames(one_by_one(), source, edited, box, PasteMask(KeepOutside()))):
        assert drawn == list(range(index + 1)), "the next full-size frame is not asked for before this one is out"
        assert np.array_equal(frame, paste_back(original, source, edited, box, PasteMask(KeepOutside()))[0][index])
