"""Frames in the MLLM's size against showlab/Kiwi-Edit's: every level, and the context that comes of them (1e-5).

scripts/make_golden.py ran its qwen_vl_utils (Pillow, then torchvision where it sizes a clip twice) and its encoder on
textured pictures of six sizes; the numbers are tests/golden/kiwi_resized.json.
"""

from __future__ import annotations

import PIL
import pytest
import torch
from kiwi_case import KINDS, RESIZED, byte_tokenizer, digest, golden, resized_case, samples, small_config, small_encoder

from instructx_core.config import paper_14b, with_parity
from instructx_core.encoder.inputs import prepare_inputs
from instructx_core.encoder.model import InstructXEncoder
from instructx_core.encoder.resize import resize_for_mllm, resize_like_pillow, resize_like_torchvision
from instructx_core.geometry import mllm_frame_size, mllm_frame_sizes

GOLDEN = golden("resized")
CASES = [(kind, *size) for kind in KINDS for size in RESIZED]
pytestmark = pytest.mark.skipif(
    PIL.__version__.split(".")[0] != GOLDEN["pillow"].split(".")[0],
    reason=f"the numbers are of Pillow {GOLDEN['pillow']}; others may shrink the other axis first",
)


@pytest.fixture(scope="module")
def encoder() -> InstructXEncoder:
    return small_encoder()


@pytest.mark.parametrize(("kind", "height", "width"), CASES)
def test_every_level_equals_kiwi(kind: str, height: int, width: int) -> None:
    frames, picture = resized_case(kind, height, width)
    seen = resize_for_mllm(frames if picture is None else picture[None], small_config(), kind)
    assert digest(seen) == GOLDEN["cases"][f"{kind} {height}x{width}"]["levels"]


@pytest.mark.parametrize(("kind", "height", "width"), CASES)
def test_context_equals_kiwi(kind: str, height: int, width: int, encoder: InstructXEncoder) -> None:
    frames, picture = resized_case(kind, height, width)
    references = None if picture is None else [[picture]]
    inputs = prepare_inputs(byte_tokenizer(), with_parity(small_config()), ["Make it blue."], [frames], references)
    with torch.no_grad():
        context_BLD = encoder(inputs)
    want = torch.tensor(GOLDEN["cases"][f"{kind} {height}x{width}"]["context"], dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(samples(context_BLD), dtype=torch.float64), want, atol=1e-5, rtol=0)


def test_the_golden_sizes_tell_the_ways_apart() -> None:
    """They hold clips that are sized twice, and pictures on which the two libraries differ: one way would not do."""
    twice = [size for size in RESIZED if len(set(mllm_frame_sizes(*size, small_config(), "video"))) == 2]
    assert len(twice) >= 2
    differing = 0
    for height, width in RESIZED:
        frames, _ = resized_case("image", height, width)
        size = mllm_frame_size(height, width, small_config(), "image")
        differing += not torch.equal(resize_like_pillow(frames, *size), resize_like_torchvision(frames, *size))
    assert differing >= 4


def test_the_papers_profile_resizes_once() -> None:
    """The paper names no rule beyond Qwen2.5-VL's: one Pillow resize, as its image processor does it."""
    frames, _ = resized_case("video", 240, 426)
    size = mllm_frame_size(240, 426, paper_14b(), "video")
    assert torch.equal(resize_for_mllm(frames, paper_14b(), "video"), resize_like_pillow(frames, *size))
