"""Weights are checked as they are read and written."""

from __future__ import annotations

import pytest
import torch

from instructx_core.formats.containers.strict import is_finite


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_one_bad_number_is_found_wherever_it_is(dtype):
    for size in (1, 7, 64, 1001):
        clean = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(dtype)
        assert is_finite(clean) and is_finite(clean.view(1, -1)) and is_finite(torch.zeros_like(clean))
        for bad in (float("nan"), float("inf"), -float("inf")):
            for place in {0, size // 2, size - 1}:
                broken = clean.clone()
                broken[place] = bad
                assert not is_finite(broken), (size, bad, place)
    assert is_finite(torch.empty(0, 3, dtype=dtype)) and is_finite(torch.tensor(2.0, dtype=dtype))
