"""What training costs: parameters, FLOPs and memory against sums done by hand; the text of `instructx info --train`."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from instructx_core.cli import main
from instructx_core.config import paper_14b
from instructx_core.costs.cards import card_of
from instructx_core.costs.count import cost_of_training, fake_tensors
from instructx_core.costs.floor import GIB, RESERVE
from instructx_core.costs.plan import Spread, StageCost, next_smaller, plan_spread, training_plans
from instructx_core.costs.training import SampleCost, _denoiser_cost, count_weights, extrapolated, with_layers
from instructx_core.geometry import ClipSize
from instructx_core.training.recipes.edit import EditRecipe
from instructx_core.training.recipes.paper import stage1, stage2

KIB = 1 << 10


@pytest.mark.parametrize("recompute", [False, True])
def test_forward_and_backward_are_counted(recompute: bool) -> None:
    """Frozen linears of 32 -> 32 on 64 rows with GELU: an activation is 8 KiB, a product 2 x 64 x 32 x 32 FLOP."""

    def block() -> nn.Sequential:
        return nn.Sequential(nn.Linear(32, 32, bias=False), nn.GELU(), nn.Linear(32, 32, bias=False), nn.GELU())

    def cost(layers: int) -> tuple[int, int]:
        with fake_tensors():
            blocks = nn.ModuleList(block() for _ in range(layers)).requires_grad_(False)
            x = torch.empty(64, 32, requires_grad=True)

            def loss() -> Tensor:
                y = x
                for each in blocks:
                    y = checkpoint(each, y, use_reentrant=False) if recompute else each(y)
                return y.sum()

            found = cost_of_training(loss, blocks)
        return found.flops, found.peak

    (flops, peak), (more_flops, more_peak) = cost(2), cost(3)
    passes = 3 if recompute else 2  # forward, again, with respect to the input
    assert more_flops - flops == passes * 2 * 2 * 64 * 32 * 32
    assert more_peak - peak == 8 * KIB * (1 if recompute else 2), "inputs of blocks, or of both GELUs"


@pytest.mark.parametrize("recipe", [stage1(), stage2()], ids=["stage1", "stage2"])
def test_layers_that_are_not_run_are_counted_right(recipe: EditRecipe) -> None:
    """Six layers from two and three, against all six."""
    base = paper_14b()
    sizes = {"dim": 256, "ffn_dim": 512, "num_layers": 6, "num_heads": 2}
    config = dataclasses.replace(base, denoiser=dataclasses.replace(base.denoiser, **sizes))
    clip = ClipSize(832, 480, 5)
    two, three, six = (_denoiser_cost(recipe, with_layers(config, n), clip, True) for n in (2, 3, 6))
    found = extrapolated(two, (three, 4))
    assert found.flops == six.flops and found.peak == pytest.approx(six.peak, rel=0.02)


def test_parameters_of_the_stages() -> None:
    """Stage 1: 594,444,288 of LoRA, 256 queries of 2048 and the connector; stage 2: the DiT and 512 queries as well."""
    one, two = (count_weights(recipe, paper_14b()) for recipe in (stage1(), stage2()))
    connector = 2048 * 5120 + 5120 + 5120 * 5120 + 5120
    assert one.trained == 594_444_288 + 256 * 2048 + connector
    dit = two.trained - one.trained - 512 * 2048
    assert 14.2e9 < dit < 14.3e9 and one.trained + one.frozen == two.trained + two.frozen - 512 * 2048


def test_plans_by_hand() -> None:
    """8 cards, 14.87 B trained: 20 bytes each with the average, an eighth on a card."""
    weights = count_weights(stage2(), paper_14b())
    samples = {"image": SampleCost(1_560, 10**14, GIB), "video": SampleCost(32_760, 10**15, 8 * GIB)}
    cost = StageCost(stage2(), weights, samples)
    assert cost.tokens == pytest.approx(0.4 * 128 * 1_560 + 0.6 * 32 * 32_760)
    plans = {plan.name: plan for plan in training_plans(cost, 8)}
    sharded = plans["sharded"]
    gathered = 6 * weights.block + 4 * weights.root_trained + 2 * weights.root_frozen
    state = (20 * weights.trained + 2 * weights.frozen) / 8
    assert sharded.peak == pytest.approx(state + gathered + 2 * weights.vae + 8 * GIB + RESERVE)
    assert plans["replicated"].peak > 7 * state
    host = plans["shards in the host's memory"].host
    assert sum(host.values()) == pytest.approx(state + 4 * weights.tensor / 8)
    assert sharded.host == {"a tensor while it is read": 4 * weights.tensor / 8} and weights.tensor == 151_936 * 2048
    assert sharded.state == pytest.approx(state + 2 * weights.vae)
    low = plan_spread(cost, "", Spread(8, shard=True, low_moments=True))
    assert sharded.peak - low.peak == pytest.approx((8 - 2 - 8 / 256) * weights.trained / 8)
    assert low.flags == "--shard --recompute --optimizer-bits 8"
    assert next_smaller(cost, 8, sharded.peak) == f"use --shard --recompute, which needs {sharded.peak / GIB:.1f}"
    assert next_smaller(cost, 8, 0).startswith("no plan fits: start more processes")
    peaks = [plan.peak for plan in training_plans(cost, 8)]
    assert peaks == sorted(peaks, reverse=True), "each is smaller than the one before"
    assert [plan.name for plan in training_plans(cost, 1)] == ["replicated"]


def test_info_says_what_a_stage_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "paper_14b", "--train", "stage1", "--gpus", "8", "--gpu", "h100", "--clip", "64x64x1"]) == 0
    said = capsys.readouterr().out
    assert "stage1 of paper_14b on 8 cards" in said and "assumed, not measured" in said
    assert "H100, 80 GiB: sharded" in said or "H100, 80 GiB: replicated" in said
    assert "video" not in said, "stage 1 sees images alone"
    refused = {
        "use stage1, stage2 or stage3": ["tiny", "--train", "stage1"],
        "use at least 1": ["paper_14b", "--train", "stage1", "--gpus", "0"],
        "--train is for recipes of edits; tiny_vae trains": ["tiny2", "--train", "tiny_vae"],
    }
    for words, arguments in refused.items():
        assert main(["info", *arguments]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "memory", "known"),
    [
        ("NVIDIA H100 80GB HBM3", 79.2, "H100"),
        ("NVIDIA H200", 139.8, "H200"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", 79.2, "A100 80GB"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 15.7, "RTX 4070 Ti Super"),
        ("NVIDIA GeForce RTX 4090", 23.5, "RTX 4090"),
        ("NVIDIA L40S", 44.5, "L40S"),
        ("NVIDIA L40", 44.5, None),
        ("NVIDIA H100 PCIe", 79.2, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.7, None),
        ("AMD Instinct MI300X", 191.7, None),
    ],
)
def test_a_card_is_known_by_its_drivers_name(name: str, memory: float, known: str | None) -> None:
    found = card_of(name, memory)
    assert (found and found.name) == known
