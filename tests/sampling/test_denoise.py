"""The loop against the formula it stands for, and what its caller may do with the levels and after a step."""

from __future__ import annotations

import ast
from itertools import pairwise
from typing import Any

import pytest
import torch
from sources import CORE
from tiny import draw, own_config, randomise, small_config
from torch import Tensor

from instructx_core.denoiser import build_denoiser
from instructx_core.errors import InputError
from instructx_core.sampling.denoise import denoise
from instructx_core.sampling.guidance import Conditions, Guidance, predict
from instructx_core.sampling.schedule import build_scheduler, flow_sigmas, shift_sigmas, start

CONTEXT, SOURCE, NOISE = draw(2, 8, 256, seed=1), draw(2, 16, 2, 4, 6, seed=2), draw(2, 16, 2, 4, 6, seed=3)


@pytest.fixture(scope="module")
def model() -> Any:
    return randomise(build_denoiser(own_config()))


@torch.no_grad()
def test_it_is_plain_euler_to_the_bit(model: Any) -> None:
    config = small_config()
    scheduler = build_scheduler(config)
    conditions = Conditions(CONTEXT, source=SOURCE)
    out = denoise(model, scheduler, NOISE, conditions, start(scheduler, 4, "cpu"))
    x = NOISE
    for sigma, following in pairwise([*shift_sigmas(flow_sigmas(4), config.sampling.shift).tolist(), 0.0]):
        x = x + model(x, torch.full((2,), sigma * 1000), CONTEXT, SOURCE).sample * (following - sigma)
    assert torch.equal(out, x)


@torch.no_grad()
def test_after_a_step_everything_may_be_changed(model: Any) -> None:
    scheduler = build_scheduler(small_config())
    seen: list[tuple[int, Conditions]] = []

    def on_step(level: Any, latents: Tensor, conditions: Conditions, guidance: Guidance) -> Any:
        seen.append((level.step, conditions))
        return latents * 0, conditions.changed({"context": CONTEXT * 2, "nose": CONTEXT}), guidance

    given = Conditions(CONTEXT, source=SOURCE)
    denoise(model, scheduler, NOISE, given, iter(start(scheduler, 3, "cpu")), on_step=on_step)
    assert [step for step, _ in seen] == [0, 1, 2] and seen[0][1] is given
    assert torch.equal(seen[1][1].context, CONTEXT * 2) and seen[1][1].source is SOURCE
    first = denoise(model, scheduler, NOISE, given, start(scheduler, 3, "cpu")[:1])
    assert not torch.equal(first, NOISE), "levels may end early"


@torch.no_grad()
def test_text_features_go_through_the_models_own_embedding(model: Any) -> None:
    features, scheduler = draw(2, 5, 64, seed=4), build_scheduler(small_config())
    (level,) = start(scheduler, 1, "cpu")
    velocity = predict(model, NOISE, level, Conditions(features, text=True), Guidance())
    assert torch.equal(velocity, model(NOISE, torch.full((2,), 1000.0), features, text=True).sample)


def test_guidance_needs_something_to_guide_away_from() -> None:
    Guidance(1.0).check(Conditions(CONTEXT))
    Guidance(2.0).check(Conditions(CONTEXT, CONTEXT))
    with pytest.raises(InputError, match="needs negative_context too"):
        Guidance(2.0).check(Conditions(CONTEXT))


def test_the_denoiser_is_called_in_one_place() -> None:
    """Sampling, the benchmark and training give it what it is told by one function; costs/ counts alone."""
    told = {"source", "references", "encoder_hidden_states"}
    calls = {
        source.name
        for source in CORE.values()
        if source.room not in ("costs", "encoder")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and "return_dict" in (names := {k.arg for k in node.keywords}) and names & told
    }
    assert calls == {"instructx_core/sampling/guidance.py"}
