"""The floor and the memory plans: cards against NVIDIA's figures, counted memory against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from instructx_core.costs.cards import CARDS, find_card
from instructx_core.costs.count import cost_of, fake_tensors
from instructx_core.costs.floor import GIB, RESERVE, first_fitting, plans, stages
from instructx_core.costs.info import cost_report
from instructx_core.errors import InputError
from instructx_core.geometry import ClipSize

MIB = 1 << 20


@pytest.mark.parametrize(
    ("name", "published"),
    [("3080", 59.5), ("3090", 71.0), ("4080", 97.5), ("4090", 165.2), ("5080", 112.6), ("5090", 209.5)],
)
def test_the_rule_gives_the_published_peaks(name: str, published: float) -> None:
    assert find_card(name).bf16 == pytest.approx(published, rel=0.005)


def test_cards_are_found_however_they_are_spelt() -> None:
    for spelling in ("4060ti", "RTX 4060 Ti", "NVIDIA GeForce RTX 4060 Ti", "rtx-4060-ti"):
        assert find_card(spelling) is CARDS["4060ti"]
    with pytest.raises(InputError, match="4090"):
        find_card("9999")


@pytest.mark.parametrize("fake", [False, True])
def test_peak_is_what_is_alive_at_once(fake: bool) -> None:
    def call() -> torch.Tensor:
        a = torch.ones(MIB, dtype=torch.uint8)  # 1 MiB
        b = a.float()  # 4 more
        del a
        c = b.view(2, -1).add_(1)  # nothing: a view, in place
        d = c.half()  # 2 more: 6 alive
        del b, c
        return d.flatten() + d.flatten()  # 2 more: 4 alive

    if fake:
        with fake_tensors():
            assert cost_of(call).peak == 6 * MIB
    else:
        assert cost_of(call).peak == 6 * MIB


def test_attention_counts_without_its_matrix() -> None:
    q = torch.randn(1, 2, 64, 16)
    cost = cost_of(lambda: nn.functional.scaled_dot_product_attention(q, q, q))
    assert cost.flops == 4 * 64 * 64 * 16 * 2
    assert cost.peak < 4 * 2 * 64 * 64  # the matrix alone would be this


def test_stages_are_bound_by_the_slower_resource(paper) -> None:
    card = find_card("4090")
    found = {stage.name: stage for stage in stages(paper, card, 4)}
    step = found["4 steps"]
    assert step.bound == "compute" and step.seconds == pytest.approx(
        paper["flops"]["DiT"] / 50 * 4 / 165.15e12, rel=1e-3
    )
    small = {**paper, "flops": {**paper["flops"], "DiT step": 10**12}}
    few = {stage.name: stage for stage in stages(small, card, 1)}["1 steps"]
    assert few.bound == "memory" and few.seconds == pytest.approx(paper["bytes"]["parts"]["DiT"] / 1008e9, rel=1e-6)


def test_plans_shrink_and_the_first_that_fits_is_taken(paper) -> None:
    found = plans(paper)
    peaks = [plan.peak for plan in found]
    assert peaks == sorted(peaks, reverse=True)
    parts, work = paper["bytes"]["parts"], paper["bytes"]["work"]
    assert (
        peaks[0]
        == parts["encoder"]
        + parts["DiT"]
        + parts["VAE"]
        + max(work[name] for name in ("encoder", "DiT step", "VAE encode", "VAE decode"))
        + RESERVE
    )
    assert first_fitting(found, 80).name == "all on the card"  # type: ignore[union-attr]
    assert first_fitting(found, 24).name == "+ DiT stored in fp8"  # type: ignore[union-attr]
    assert first_fitting(found, 12).name == "DiT streamed, bf16"  # type: ignore[union-attr]
    assert first_fitting(found, 3) is None
    assert found[-1].streamed == parts["DiT blocks"] and all(plan.peak > RESERVE + GIB for plan in found)


def test_text_names_source_and_plan() -> None:
    text = cost_report("tiny", ClipSize(64, 64, 5), find_card("4090"), 0.5, 4)
    assert "128 SMs x 512 FLOP x 2.52 GHz" in text and "4 steps" in text and "0.5 GiB: nothing fits" in text


def test_bad_numbers_are_refused(capsys) -> None:
    from instructx_core.cli import main

    for extra in (["--gpu", "abc"], ["--vram", "0"], ["--gpu", "4090", "--steps", "0"]):
        assert main(["info", "tiny", *extra]) == 2
        assert capsys.readouterr().err.startswith("error: ")
