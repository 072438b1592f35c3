"""Frame, latent, token and resolution arithmetic."""

from __future__ import annotations

import pytest

from instructx_core.config import kiwi_5b, paper_14b, tiny
from instructx_core.errors import InputError
from instructx_core.geometry import (
    dit_tokens,
    fit_size,
    latent_frames,
    latent_size,
    mllm_frame_size,
    mllm_grid,
    pad_frames,
    pixel_frames,
    sample_frame_indices,
    smart_resize,
)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (17, 5), (81, 21)])
def test_frames_and_latents(frames: int, latents: int) -> None:
    assert latent_frames(frames) == latents
    assert pixel_frames(latents) == frames
    assert pad_frames(frames) == frames


@pytest.mark.parametrize(("frames", "padded"), [(2, 5), (4, 5), (6, 9), (80, 81), (82, 85)])
def test_other_lengths_are_refused_with_the_remedy(frames: int, padded: int) -> None:
    assert pad_frames(frames) == padded
    with pytest.raises(InputError, match=rf"{frames} frames.*4n\+1.*{padded}"):
        latent_frames(frames)


@pytest.mark.parametrize("call", [lambda: latent_frames(0), lambda: pixel_frames(0), lambda: pad_frames(-3)])
def test_no_frames(call) -> None:
    with pytest.raises(InputError):
        call()


def test_dit_tokens_of_the_two_models() -> None:
    """Kiwi-Edit's and Wan's own numbers."""
    assert dit_tokens(81, 480, 832, paper_14b()) == 32760
    assert dit_tokens(81, 704, 1280, kiwi_5b()) == 18480
    assert dit_tokens(17, 64, 64, tiny()) == 5 * 4 * 4
    assert latent_size(480, 832, paper_14b()) == (60, 104)


def test_size_errors_name_the_neighbours() -> None:
    with pytest.raises(InputError, match=r"height is 720 px.*multiple of 32.*704 or 736"):
        latent_size(720, 1280, kiwi_5b())
    with pytest.raises(InputError, match="width is 8 px"):
        latent_size(64, 8, paper_14b())


def test_fit_size_crops_and_never_stretches() -> None:
    box = fit_size(720, 1280, 32, 720 * 1280)  # Kiwi-Edit's example
    assert (box.height, box.width, box.top, box.left, box.scale) == (704, 1280, 8, 0, 1.0)
    assert box.source_box == (8, 0, 712, 1280)
    assert "cut 0 px in width and 16 px in height" in box.describe()
    same = fit_size(480, 832, 16, 480 * 832)
    assert same.is_identity and same.describe().endswith("unchanged")
    for height, width in [(1080, 1920), (1920, 1080), (333, 777), (70, 4000), (725, 1290)]:
        box = fit_size(height, width, 16, 480 * 832)
        assert box.height % 16 == 0 and box.width % 16 == 0 and box.height * box.width <= 480 * 832
        assert abs(box.scaled_height - height * box.scale) <= 0.5 and abs(box.scaled_width - width * box.scale) <= 0.5
        assert box.top + box.height <= box.scaled_height and box.left + box.width <= box.scaled_width
        assert not box.is_identity


def test_fit_size_too_small() -> None:
    with pytest.raises(InputError, match=r"10x100 picture cannot be fitted.*larger picture"):
        fit_size(100, 10, 16)
    with pytest.raises(InputError, match="within 256 pixels"):
        fit_size(32, 3200, 16, 256)


@pytest.mark.parametrize(
    ("size", "limits", "want"),
    [
        ((1024, 1024), (3136, 12845056), (1036, 1036)),
        ((704, 1280), (100352, 262144), (364, 672)),
        ((1328, 1328), (3136, 602112), (756, 756)),
        ((10, 10), (3136, 12845056), (56, 56)),
        ((28, 5600), (3136, 28 * 28 * 100), (28, 3948)),  # the public rule without its max() gives height 0
    ],
)
def test_smart_resize(size: tuple[int, int], limits: tuple[int, int], want: tuple[int, int]) -> None:
    assert smart_resize(*size, 28, *limits) == want


def test_smart_resize_refuses() -> None:
    with pytest.raises(InputError, match="aspect ratio 201"):
        smart_resize(10, 2010, 28, 3136, 100352)
    with pytest.raises(InputError, match="must be at least"):
        smart_resize(100, 100, 28, 3136, 100)


@pytest.mark.parametrize(
    ("size", "kind", "want"),
    [
        ((704, 1280), "video", (336, 672)),  # Kiwi-Edit, all four
        ((480, 832), "video", (336, 672)),
        ((1024, 1024), "video", (504, 504)),
        ((1328, 1328), "reference", (756, 756)),
        ((168, 336), "video", (224, 448)),
        ((1024, 1024), "image", (1036, 1036)),
    ],
)
def test_mllm_frame_size_of_kiwi(size: tuple[int, int], kind: str, want: tuple[int, int]) -> None:
    assert mllm_frame_size(*size, kiwi_5b(), kind) == want


def test_mllm_frame_size_of_the_others() -> None:
    assert mllm_frame_size(480, 832, paper_14b(), "video") == (364, 672)
    assert {mllm_frame_size(64, 64, tiny(), kind) for kind in ("video", "image", "reference")} == {(56, 56)}
    with pytest.raises(InputError, match="unknown kind 'clip'"):
        mllm_frame_size(64, 64, tiny(), "clip")


def test_sampled_frames() -> None:
    sixteen = [0, 5, 11, 16, 21, 27, 32, 37, 43, 48, 53, 59, 64, 69, 75, 80]
    assert sample_frame_indices(81, 16, "cap") == sixteen  # Kiwi-Edit
    thirteen = sample_frame_indices(81, 13)
    assert len(thirteen) == 13 and thirteen[0] == 0 and thirteen[-1] == 80
    assert sample_frame_indices(9, 16, "cap") == list(range(9)) == sample_frame_indices(9, 13, "always")
    assert sample_frame_indices(5, 1) == [0]
    for bad in [(0, 13, "cap"), (5, 0, "cap"), (5, 3, "often")]:
        with pytest.raises(InputError):
            sample_frame_indices(*bad)


def test_mllm_grid() -> None:
    assert mllm_grid(81, 704, 1280, kiwi_5b(), "video") == (8, 24, 48)
    assert mllm_grid(9, 704, 1280, kiwi_5b(), "video") == (5, 24, 48)
    assert mllm_grid(17, 64, 64, tiny(), "video") == (7, 4, 4)
    assert mllm_grid(17, 64, 64, tiny(), "reference") == (1, 4, 4)
