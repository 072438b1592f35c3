"""Trained branches -> the files that others load: LoRA of the DiT in ComfyUI's names, LoRA of the MLLM in an adapter.

One file for ComfyUI's LoRA loader, for `--lora` and for diffusers: of each layer, `diffusion_model.blocks.0.ffn.0` say,
it holds lora_A, lora_B and alpha. The MLLM's part goes where it is read from everywhere: into an adapter, with that of
the model beside it, as one LoRA of the rank of both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...errors import InputError
from ...formats.containers.strict import is_finite
from ...formats.layouts.keymaps import dit_to_original
from ...formats.layouts.mllm_lora import lora_layers
from ...formats.layouts.qwen_names import mllm_to_original
from ...formats.layouts.weight_file import config_metadata
from ...media.outputs import write_safetensors
from ..recipes.lora import LoraRecipe
from .base import TaughtModel

DIT, MLLM = "denoiser.", "encoder.mllm."


@dataclass(frozen=True, slots=True)
class LoraFacts:
    """What a file says of its making. step, loss: of the weights that are in it. pairs: trained on, held out."""

    recipe: LoraRecipe
    model: str
    pairs: Mapping[str, int]
    step: int
    loss: float

    def metadata(self) -> dict[str, str]:
        """The first two as other trainers write them."""
        about = {
            "model": self.model,
            "model_digest": self.recipe.base,
            "pairs": dict(self.pairs),
            "step": self.step,
            "validation_loss": self.loss,
            "recipe": self.recipe.as_json(),
        }
        return {
            "ss_network_dim": str(self.recipe.rank),
            "ss_network_alpha": f"{self.recipe.alpha:g}",
            "instructx_lora": json.dumps(about),
        }


def write_lora(path: Path, final: Path, facts: LoraFacts) -> int:
    """The DiT's part of the weights in `final`; gives the number of layers. Raises InputError on NaN or a full disk."""
    trained = load_file(final)
    stems = sorted({name.rpartition(".")[0] for name in trained if name.startswith(DIT)})
    tensors = dict[str, Tensor]()
    for stem in stems:
        weight = dit_to_original(f"{stem.removeprefix(DIT)}.weight")
        layer = f"diffusion_model.{weight.removesuffix('.weight')}"
        tensors |= {f"{layer}.{half}.weight": trained[f"{stem}.{half}"] for half in ("lora_A", "lora_B")}
        tensors[f"{layer}.alpha"] = torch.tensor(float(facts.recipe.alpha))
    _write(path, tensors, facts.metadata())
    return len(stems)


def write_taught_adapter(path: Path, final: Path, model: TaughtModel, facts: LoraFacts) -> int:
    """The adapter of `model` with what the MLLM learnt; gives the number of layers. Raises InputError as write_lora.

    Two LoRAs of a layer are one: their halves side by side, each with its scale in it.
    """
    trained, config = load_file(final), model.config
    scale = facts.recipe.alpha / facts.recipe.rank
    own = {layer.stem: layer for layer in lora_layers(model.adapter, config).values()}
    added = {
        mllm_to_original(name.removeprefix(MLLM).removesuffix(".lora_A")): name.removesuffix(".lora_A")
        for name in trained
        if name.startswith(MLLM) and name.endswith(".lora_A")
    }
    tensors = {name: value for name, value in model.adapter.items() if ".lora_" not in name and ".alpha" not in name}
    for stem in sorted(own.keys() | added.keys()):
        downs, ups = list[Tensor](), list[Tensor]()
        if stem in own:
            downs.append(own[stem].down.float())
            ups.append(own[stem].up.float() * own[stem].scale)
        if stem in added:
            downs.append(trained[f"{added[stem]}.lora_A"])
            ups.append(trained[f"{added[stem]}.lora_B"] * scale)
        tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"] = torch.cat(downs), torch.cat(ups, 1)
        tensors[f"{stem}.alpha"] = torch.tensor(float(len(tensors[f"{stem}.lora_A.weight"])))
    _write(path, tensors, facts.metadata() | config_metadata(config))
    return len(added)


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """In bf16 but for alpha, whose every digit counts."""
    plain = {
        name: (value if name.endswith(".alpha") else value.detach().bfloat16()).cpu().contiguous()
        for name, value in tensors.items()
    }
    wrong = [name for name, value in plain.items() if not is_finite(value)]
    if wrong:
        raise InputError(f"{wrong[0]} holds NaN or infinity; nothing was written: lower the learning rate, train anew")
    write_safetensors(path, plain, metadata)
