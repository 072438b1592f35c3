"""What the nodes read from native wires: pictures as the host shows them, and a sentence for what is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.comfyui


def grey(value: float = 0.5, **options: Any) -> Tensor:
    return torch.full((2, 16, 16, 3), value, **options)


def spoiled(value: float) -> Tensor:
    picture = grey()
    picture[1, 3, 4, 0] = value
    return picture


def test_pictures_are_read_as_the_host_shows_them(pack: Callable[[str], ModuleType]) -> None:
    media = pack("nodes.parts.media")
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(1, 1, 1, 3)
    assert torch.equal(media.from_image(levels.float() / 255, "source"), levels)
    rgba = torch.cat([levels.float() / 255, torch.zeros(1, 16, 16, 1)], dim=-1)
    assert torch.equal(media.from_image(rgba, "source"), levels)
    assert torch.equal(media.from_image(levels.double() / 255, "source"), levels)
    assert torch.equal(media.from_image(levels.half() / 255, "source"), levels)
    assert media.from_image(levels.float() / 255 + 0.5, "source").max() == 255


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (grey()[:0], "source has shape .*; connect an IMAGE with at least one picture"),
        (grey()[0], "source has shape"),
        (grey()[..., :1], r"source has 1 channel\(s\) of float32; an IMAGE has 3 or 4"),
        (grey(200, dtype=torch.uint8), r"source has 3 channel\(s\) of uint8; an IMAGE has 3 or 4 of floats"),
        (spoiled(math.nan), "source has values that are no numbers"),
        (spoiled(-math.inf), "source has values that are no numbers"),
    ],
)
def test_what_is_no_picture_says_so(pack: Callable[[str], ModuleType], wrong: Tensor, sentence: str) -> None:
    """To the encoder and to the VAE; a black picture came of NaN, a white one of whole numbers."""
    with pytest.raises(ValueError, match=sentence):
        pack("nodes.parts.media").read_clip(wrong)
    with pytest.raises(ValueError, match=sentence):
        pack("nodes.parts.source").read_source(wrong)


def test_values_outside_of_the_range_are_noted(pack: Callable[[str], ModuleType]) -> None:
    media = pack("nodes.parts.media")
    (said,) = media.read_clip(spoiled(1.5)).notes
    assert said.text() == "source has values outside of 0 to 1; they are clipped"
    assert not media.read_clip(spoiled(1.001)).notes, "less than half a level"
    wires = {"reference_1": spoiled(-1.0), "reference_2": None, "reference_3": grey()}
    assert [each.values for each in media.clipped_notes(wires)] == [(("name", "reference_1"),)]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16])
def test_masks_of_every_type_lie_as_one_of_floats(pack: Callable[[str], ModuleType], dtype: torch.dtype) -> None:
    """Other packs make masks of bool and of levels; the host's own scaling takes neither."""
    source, fitting = pack("nodes.parts.source"), pack("nodes.parts.fitting")
    placement = fitting.Placement((1, 20, 20), (1, 16, 16), (2, 2))
    mask = torch.zeros(1, 20, 20)
    mask[:, :10] = 1
    want = source.latent_of(torch.zeros(1, 16, 1, 2, 2), mask, placement)["noise_mask"]
    levels = mask * 255 if dtype == torch.uint8 else mask
    made = source.latent_of(torch.zeros(1, 16, 1, 2, 2), levels.to(dtype), placement)["noise_mask"]
    assert made.dtype == torch.float32 and torch.equal(made, want)
    with pytest.raises(ValueError, match="mask has values that are no numbers"):
        source.latent_of(torch.zeros(1, 16, 1, 2, 2), mask.masked_fill(mask > 0, math.nan), placement)


def test_an_edit_of_nan_says_so(pack: Callable[[str], ModuleType]) -> None:
    """As half precision makes it where it overflows: the host would save a black picture."""

    class OverflowingVae:
        first_stage_model = torch.nn.Identity()

        def decode(self, latent: Tensor) -> Tensor:
            return spoiled(math.nan)[None]

    with pytest.raises(ValueError, match="the edit has values that are no numbers"):
        pack("nodes.parts.sampling").decode(OverflowingVae(), torch.zeros(1, 16, 1, 2, 2), None)


def test_no_instruction_is_an_empty_one(pack: Callable[[str], ModuleType]) -> None:
    """Nodes that find nothing give None."""
    asked_for = pack("nodes.parts.schema").asked_for
    assert asked_for(None, None) == ""
    assert asked_for(None, "make it blue") == asked_for(" ", "make it blue") == "make it blue"
