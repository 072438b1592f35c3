"""Pictures and clips as the pipeline takes them -> tensors, and references on white."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import clip

from instructx_core.errors import InputError
from instructx_core.pixels import as_frames, as_references, pad_reference, to_signed, to_uint8


def test_pixels_round_trip_and_alpha():
    frames = clip(2, 16, 16)
    signed = to_signed(frames)
    assert signed.shape == (1, 3, 2, 16, 16) and -1 <= float(signed.min()) <= float(signed.max()) <= 1
    torch.testing.assert_close(to_signed(frames.float() / 255), signed, rtol=0, atol=1e-6)
    assert torch.equal(to_uint8(frames.float() / 255), frames)
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert bool((as_frames(clear) == 255).all())
    assert as_frames(Image.new("L", (4, 6), 7)).shape == (1, 6, 4, 3)
    assert len(as_references([clip(1, 8, 8)[0], clip(2, 9, 9)])) == 3 and as_references(None) == []


@pytest.mark.parametrize("array", [["a.png"], [None], ["2026-01-01"]])
def test_arrays_that_hold_no_numbers_are_refused_in_a_sentence(array: list[object]):
    kinds = {"2026-01-01": "datetime64[D]"}
    values = np.array(array, kinds.get(str(array[0])))
    with pytest.raises(InputError, match=r"cannot read an array of .* as pixels; give a PIL image"):
        as_frames(values)


def test_reference_is_padded_with_white_and_not_stretched():
    picture = torch.zeros(10, 20, 3, dtype=torch.uint8)
    padded = pad_reference(picture, 64, 64)
    rows = (padded < 128).all(-1).all(-1)
    assert rows.sum() == 32 and rows[16:48].all() and bool((padded[:15] == 255).all())
