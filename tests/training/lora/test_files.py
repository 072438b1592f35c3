"""One LoRA file, the same model from everyone who loads it: the trained branches, `--lora`, and diffusers both ways.

ComfyUI's own loader is asked in the host lane (tests/comfyui/test_lora.py, tests/nodes/test_formats_host.py).
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders import WanLoraLoaderMixin
from nano import nano
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from instructx_core.config import LORA_TARGETS
from instructx_core.denoiser import build_denoiser
from instructx_core.encoder.designs import build_encoder
from instructx_core.errors import InputError
from instructx_core.formats.layouts.lora import apply_lora
from instructx_core.formats.layouts.mllm_lora import lora_layers
from instructx_core.formats.layouts.weight_file import open_weights
from instructx_core.formats.loading import lora_state
from instructx_core.training.lora.base import TaughtModel
from instructx_core.training.lora.branches import DIT_LINEARS, LoraLinear, add_branches, branches_off
from instructx_core.training.lora.files import LoraFacts, write_lora, write_taught_adapter
from instructx_core.training.recipes.lora import LoraRecipe

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def facts(rank: int, alpha: float) -> LoraFacts:
    recipe = LoraRecipe(
        name="lora", description="", preset="tiny", num_steps=1, base="b", pairs="p", rank=rank, alpha=alpha
    )
    return LoraFacts(recipe, "tiny", {"train": 3, "val": 1}, 7, 0.5)


def randomised(trained: dict[str, nn.Parameter], prefix: str) -> dict[str, Tensor]:
    """B no longer zero, and every number one that bf16 has: what is written is then what was trained."""
    generator = torch.Generator().manual_seed(1)
    for parameter in trained.values():
        draw = torch.randn(parameter.shape, generator=generator) * 0.1
        parameter.data.copy_(draw.bfloat16())
    return {f"{prefix}{name}": parameter.detach().clone() for name, parameter in trained.items()}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, nn.Module, Path]:
    """The base, the base with branches, and their file; alpha is half of the rank."""
    torch.manual_seed(0)
    base = build_denoiser(nano()).eval()
    taught = copy.deepcopy(base)
    final = randomised(add_branches(taught, DIT_LINEARS, 4, 2.0, 0), "denoiser.")
    folder = tmp_path_factory.mktemp("lora")
    save_file(final, folder / "final.safetensors")
    assert write_lora(folder / "x.safetensors", folder / "final.safetensors", facts(4, 2.0)) == 10
    return base, taught, folder / "x.safetensors"


@torch.no_grad()
def velocity(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    latent, context = (torch.randn(*shape, generator=generator) for shape in ((1, 16, 1, 4, 4), (1, 6, 128)))
    more = {"text": False} if "context" in model.config else {}
    return model(latent, torch.tensor([500.0]), context, return_dict=False, **more)[0]


def test_the_branches_change_something_and_can_be_switched_off(case) -> None:
    base, taught, _ = case
    assert (velocity(taught) - velocity(base)).abs().max() > 0.05
    with branches_off(taught):
        assert torch.equal(velocity(taught), velocity(base))
    assert len([layer for layer in taught.modules() if isinstance(layer, LoraLinear)]) == 10


@pytest.mark.parametrize("merge", [True, False])
def test_lora_of_an_edit(case, merge: bool) -> None:
    base, taught, path = case
    model = copy.deepcopy(base)
    with open_weights(path) as file:
        report = apply_lora(model, file, merge=merge)
    assert not report.ignored and "rank 4 on 10 weights" in report.kind
    torch.testing.assert_close(velocity(model), velocity(taught), **CLOSE)


@pytest.mark.parametrize("by", ["pipeline", "model"])
def test_diffusers(case, by: str) -> None:
    """Its pipelines convert the names first; a model of diffusers takes what they give."""
    base, taught, path = case
    plain = WanTransformer3DModel(
        num_attention_heads=1, attention_head_dim=128, in_channels=16, out_channels=16, ffn_dim=64, num_layers=1
    ).eval()
    weights = base.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    assert not {name for name in weights if name not in plain.state_dict()} - {
        name for name in weights if "embedder." in name
    }
    state = WanLoraLoaderMixin.lora_state_dict(load_file(path))
    if by == "model":
        plain.load_lora_adapter(state, prefix="transformer")
    else:
        WanLoraLoaderMixin.load_lora_into_transformer(state, plain)
        plain.fuse_lora()
    merged = copy.deepcopy(base)
    with open_weights(path) as file:
        apply_lora(merged, file)
    layer = plain.blocks[0].attn2.to_out[0]
    change = layer.get_base_layer().weight if by == "pipeline" else layer.weight + layer.get_delta_weight("default_0")
    torch.testing.assert_close(change, merged.blocks[0].attn2.to_out[0].weight, **CLOSE)
    torch.testing.assert_close(change, with_branch(taught.blocks[0].attn2.to_out[0]), **CLOSE)


def with_branch(layer: LoraLinear) -> Tensor:
    return layer.base.weight + layer.scale * layer.lora_B @ layer.lora_A


def test_an_adapter_has_both_loras_of_the_mllm(tmp_path: Path) -> None:
    """What it adds is the sum of what the model's own adds and of what was trained."""
    config = nano()
    torch.manual_seed(0)
    encoder = build_encoder(config)
    encoder.add_lora(config.lora)
    randomised({name: value for name, value in encoder.named_parameters() if ".lora_" in name}, "")
    own = lora_state(encoder)
    bare = build_encoder(config)
    trained = add_branches(bare.mllm.language_model, LORA_TARGETS, 3, 6.0, 0)
    final = randomised(trained, "encoder.mllm.language_model.")
    save_file(final, tmp_path / "final.safetensors")
    model = TaughtModel(None, config, own | {"queries.image": torch.ones(2, 2)}, "", 0, "")  # type: ignore[arg-type]
    path = tmp_path / "adapter.safetensors"
    assert write_taught_adapter(path, tmp_path / "final.safetensors", model, facts(2, 4.0)) == 7
    with open_weights(path) as file:
        assert file.config == config
    made = load_file(path)
    assert torch.equal(made["queries.image"], torch.ones(2, 2).bfloat16())
    before, after = lora_layers(own, config), lora_layers(made, config)
    assert before.keys() == after.keys()
    for name, layer in after.items():
        linear = bare.get_submodule(f"mllm.{name.removesuffix('.weight')}")
        shape = layer.up.shape[0], layer.down.shape[1]
        want = before[name].merged_into(torch.zeros(shape)) + linear.scale * linear.lora_B @ linear.lora_A
        torch.testing.assert_close(layer.merged_into(torch.zeros(shape)), want, rtol=2e-2, atol=2e-3)


def test_a_broken_run_writes_nothing(tmp_path: Path) -> None:
    nan = {f"denoiser.blocks.0.attn1.to_q.lora_{half}": torch.full((2, 2), float("nan")) for half in "AB"}
    save_file(nan, tmp_path / "final.safetensors")
    with pytest.raises(InputError, match="holds NaN or infinity; nothing was written"):
        write_lora(tmp_path / "x.safetensors", tmp_path / "final.safetensors", facts(2, 2.0))
    assert not (tmp_path / "x.safetensors").exists()
