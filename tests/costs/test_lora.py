"""The memory plans of an edit taught by LoRA: counted as the modules are, and smaller plans are smaller."""

from __future__ import annotations

import re

import pytest
import torch

from instructx_core.cli import main
from instructx_core.config import kiwi_5b, tiny
from instructx_core.costs.floor import GIB
from instructx_core.costs.lora import FORMATS, lora_plans, lora_sample, lora_weights, plan_of_run
from instructx_core.denoiser import build_denoiser
from instructx_core.geometry import ClipSize
from instructx_core.training.lora.branches import DIT_LINEARS, add_branches

PICTURE = ClipSize(64, 64, 1)


def test_it_counts_what_a_run_trains() -> None:
    with torch.device("meta"):
        denoiser = build_denoiser(tiny())
    whole = sum(parameter.numel() for parameter in denoiser.parameters())
    weights = lora_weights(tiny(), 32)
    assert weights.blocks + weights.rest == whole
    denoiser = build_denoiser(tiny())
    assert weights.lora == sum(value.numel() for value in add_branches(denoiser, DIT_LINEARS, 32, 32, 0).values())


def test_smaller_plans_are_smaller() -> None:
    config = kiwi_5b()
    weights, clip = lora_weights(config, 32), ClipSize(1280, 704, 1)
    samples = {recompute: lora_sample(config, 32, clip, recompute) for recompute in (False, True)}
    found = {name: lora_plans(weights, samples, 4, size) for name, size in FORMATS.items()}
    for plans in found.values():
        sizes = [plan.peak for plan in plans]
        assert sizes == sorted(sizes, reverse=True)
    assert found["bf16"][1].peak - found["fp8, int8"][1].peak > 3 * GIB  # half of the weights, less a layer unpacked
    assert found["bf16"][0].card["DiT, frozen"] == pytest.approx(2 * 5.0e9, rel=0.01)
    assert min(plan.encoding for plan in found["Q4_K"]) == pytest.approx(8.4 * GIB, rel=0.01)


def test_activations_are_those_of_a_step() -> None:
    """Without recomputing a layer keeps its inputs and more; twice the tokens take twice the memory."""
    small, large = (lora_sample(tiny(), 8, ClipSize(side, 64, 1), False) for side in (64, 128))
    assert large.tokens == 2 * small.tokens
    assert large.activations == pytest.approx(2 * small.activations, rel=0.15)
    assert lora_sample(tiny(), 8, PICTURE, True).activations < 0.5 * small.activations


def test_info_says_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "tiny", "--train", "lora", "--rank", "8"]) == 0
    said = capsys.readouterr().out
    assert "LoRA of rank 8 on tiny: 0.3 M numbers trained" in said
    assert re.search(r"Q4_K .* 12: yes; 16: yes; 24: yes", said)
    assert main(["info", "tiny", "--train", "lora", "--vram", "1"]) == 0
    assert "1: no" in capsys.readouterr().out
    assert "with --recompute, by part" in plan_of_run(tiny(), 8, PICTURE, 4, 20_000_000)
