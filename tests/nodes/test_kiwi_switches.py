"""Switches that only files of Kiwi-Edit's kind set, in the patched native model: as in the library."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.comfyui

TOLERANCE = 1e-4  # as in test_model_patch.py
KIWI = {"source_embedder": "own", "source_scale": "sigma", "reference_embedder": "own"}


def patched(pack: Callable[[str], ModuleType], case: Any) -> Any:
    return pack("nodes.parts.model_patch").patch_model(case.load(), case.adapter)


@torch.no_grad()
def test_context_in_front_of_the_text_embedding(dit: ModuleType, pack: Callable[[str], ModuleType]) -> None:
    case = dit.Case(dit.config_of(**KIWI, context="text"))
    given = dit.draw(case.config, references=1)
    assert given.context.shape[-1] == case.config.denoiser.text_dim
    want = case.library(given.noisy, torch.full((1,), 300.0), given.context, given.source, given.references).sample
    model = patched(pack, case)
    assert float((dit.forward(model, given) - want).abs().max()) < TOLERANCE
    given.context = given.context[..., : case.config.denoiser.dim]
    with pytest.raises(ValueError, match="a conditioning of width 256 reached a model"):
        dit.forward(model, given)


@torch.no_grad()
def test_the_timestep_is_rounded_on_request(dit: ModuleType, pack: Callable[[str], ModuleType]) -> None:
    case = dit.Case(dit.config_of(**KIWI, timestep_rounding="bfloat16"))
    given = dit.draw(case.config, references=1)
    sigma = 0.3017  # bf16 has 300 and 302 around 301.7
    want = case.library(
        given.noisy, torch.full((1,), 1000 * sigma), given.context, given.source, given.references
    ).sample
    assert float((dit.forward(patched(pack, case), given, sigma) - want).abs().max()) < TOLERANCE
    plain = dit.Case(dit.config_of(**KIWI))
    assert float((dit.forward(patched(pack, plain), given, sigma) - want).abs().max()) > TOLERANCE


@torch.no_grad()
def test_a_checkpoint_without_reference_parts_refuses_them(dit: ModuleType, pack: Callable[[str], ModuleType]) -> None:
    case = dit.Case(dit.config_of(**{**KIWI, "reference_embedder": "none"}))
    model, given = patched(pack, case), dit.draw(case.config, references=1)
    with pytest.raises(ValueError, match="takes no references"):
        dit.forward(model, given)
    given.references = None
    want = case.library(given.noisy, torch.full((1,), 300.0), given.context, given.source).sample
    assert float((dit.forward(model, given) - want).abs().max()) < TOLERANCE
