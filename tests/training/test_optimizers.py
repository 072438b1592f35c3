"""Which weights Muon trains. Moments in 8 bits (torchao): nearly the steps of fp32, and a checkpoint that both go on
from, to the same bits."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from torch import Tensor, nn

from instructx_core.errors import InputError
from instructx_core.training.checkpoint import optimizer_tensors, restore_optimizer
from instructx_core.training.filling import local_part
from instructx_core.training.muon import Muon
from instructx_core.training.optimizers import build_optimizers, round_moments, set_learning_rate, step_optimizers
from instructx_core.training.recipes.paper import stage1


class Small:
    """Two layers that learn a fixed function; the weight of the first has 4,096 values, which are kept in 8 bits."""

    def __init__(self, low: bool) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 3))
        self.names = {parameter: name for name, parameter in self.model.named_parameters()}
        self.optimizers = build_optimizers(stage1(), dict(self.model.named_parameters()), low)

    def train(self, first: int, last: int) -> list[float]:
        losses = []
        for step in range(first, last):
            set_learning_rate(self.optimizers, 1e-2)
            x = torch.randn(32, 64, generator=torch.Generator().manual_seed(step))
            loss = (self.model(x) - x[:, :3]).pow(2).mean()
            loss.backward()
            step_optimizers(self.optimizers, "cpu")
            losses.append(loss.item())
        return losses

    def save(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        saved = {name: value.clone() for name, value in self.model.state_dict().items()}
        moments = optimizer_tensors(self.optimizers, self.names)
        round_moments(self.optimizers)
        return saved, moments

    def load(self, saved: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
        self.model.load_state_dict(saved[0])
        restore_optimizer(self.optimizers[0], self.names, saved[1])
        round_moments(self.optimizers)

    def packed(self) -> list[str]:
        (optimizer,) = self.optimizers
        return [self.names[p] for p, state in optimizer.state.items() if hasattr(local_part(state["exp_avg"]), "codes")]


def test_a_run_in_8_bits_learns_and_resumes() -> None:
    pytest.importorskip("torchao.optim", reason="needs the extra train")
    exact = Small(low=False).train(0, 12)
    whole = Small(low=True)
    losses, saved = whole.train(0, 6), whole.save()
    losses += whole.train(6, 12)
    assert losses != exact and losses == pytest.approx(exact, rel=0.05) and losses[-1] < losses[0]
    assert whole.packed() == ["0.weight"], "a quarter of the memory, of what is large enough"
    resumed = Small(low=True)
    resumed.load(saved)
    assert resumed.train(6, 12) == losses[6:]
    assert all(a.equal(b) for a, b in zip(resumed.names, whole.names, strict=True)), "to the same bits"
    assert {tensor.dtype for tensor in saved[1].values()} == {torch.float32}
    plain = Small(low=False)
    plain.load(saved)
    assert plain.train(6, 12) == pytest.approx(losses[6:], rel=0.05) and not plain.packed()


def test_torchao_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(InputError, match="--optimizer-bits 8 needs torchao; install it with: pip install"):
        build_optimizers(stage1(), {"w": nn.Parameter(torch.ones(2, 2))}, low_moments=True)


def test_muon_takes_hidden_weights_alone() -> None:
    shapes = {
        "language_model.embed_tokens.weight": (64, 8),
        "language_model.layers.0.mlp.up_proj.weight": (16, 8),
        "language_model.layers.0.mlp.up_proj.lora_A.weight": (4, 8),
        "language_model.layers.0.input_layernorm.weight": (8,),
        "visual.patch_embed.proj.weight": (8, 3, 2, 4, 4),
        "denoiser.source_embedder.weight": (8, 3, 1, 2, 2),
        "visual.blocks.1.attn.qkv.weight": (24, 8),
        "visual.blocks.1.attn.qkv.bias": (24,),
        "vae.conv_in.weight": (8, 3, 1, 3, 3),
        "vae.norm.gamma": (8, 1, 1, 1),
        "queries.image": (16, 8),
        "proj_out.weight": (4, 8),
    }
    weights = {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    names = {parameter: name for name, parameter in weights.items()}
    adam, muon = build_optimizers(dataclasses.replace(stage1(), muon_scale=2.0), weights)
    taken = [names[p] for group in muon.param_groups for p in group["params"]]
    assert isinstance(muon, Muon) and taken == [
        "language_model.layers.0.mlp.up_proj.weight",
        "visual.blocks.1.attn.qkv.weight",
        "vae.conv_in.weight",
    ]
    rest = [names[p] for group in adam.param_groups for p in group["params"]]
    assert sorted(rest + taken) == sorted(shapes), "each weight has one optimiser"
    set_learning_rate([adam, muon], 0.5)
    assert muon.param_groups[0]["lr"] == 1.0 and adam.param_groups[0]["lr"] == 0.5
    assert len(build_optimizers(stage1(), weights)) == 1
