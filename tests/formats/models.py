"""One small random model of Kiwi-Edit's kind, laid out in every way in which artists have the real one.

Real names, layouts and number formats; small widths that the host's own detection takes (DiT of width 128 with text_dim
4096, Qwen with heads of 128). All layouts hold the same bf16 numbers, so what runs from two of them must agree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from instructx_core.config import InstructXConfig, LoraConfig, MllmConfig, VisionConfig, kiwi_5b
from instructx_core.formats.layouts.keymaps import dit_to_diffusers, vae_to_diffusers
from instructx_core.formats.layouts.weight_file import METADATA_KEY

SHARD = "{}-{:05d}-of-00002.safetensors"
WEIGHTS = "diffusion_pytorch_model.safetensors"
State = dict[str, Tensor]


def small_kiwi(channels: int = 16) -> InstructXConfig:
    """Kiwi-Edit's switches at small widths, on the VAE of Wan2.1 (16 channels) or Wan2.2 (48)."""
    base = kiwi_5b()
    vision = VisionConfig(depth=2, hidden_size=128, intermediate_size=96, full_attention_blocks=())
    mllm = MllmConfig(
        vocab_size=400, hidden_size=256, intermediate_size=160, num_layers=2, num_heads=2, num_kv_heads=1, vision=vision
    )
    counts = {"num_image_queries": 4, "num_video_queries": 8, "num_reference_queries": 6}
    wan22 = dataclasses.replace(base.vae, base_dim=8, decoder_base_dim=12)
    wan21 = dataclasses.replace(
        base.vae,
        base_dim=8,
        decoder_base_dim=None,
        z_dim=16,
        in_channels=3,
        out_channels=3,
        patch_size=None,
        is_residual=False,
        scale_factor_spatial=8,
    )
    return dataclasses.replace(
        base,
        name="kiwi_small",
        mllm=mllm,
        lora=LoraConfig(rank=4, alpha=4, targets=base.lora.targets, scope="language_model"),
        instruction=dataclasses.replace(base.instruction, **counts, max_reference_pixels=28 * 28 * 6),
        denoiser=dataclasses.replace(
            base.denoiser, dim=128, ffn_dim=96, num_layers=2, num_heads=1, in_channels=channels, out_channels=channels
        ),
        vae={16: wan21, 48: wan22}[channels],
        sampling=dataclasses.replace(base.sampling, num_steps=2, fps=16.0),
    )


class Small:
    """The model in the shipped layout at `root`, and writers of the other layouts. States are in bf16."""

    def __init__(self, root: Path, tiny: ModuleType, config: InstructXConfig | None = None) -> None:
        """tiny: tests/support/tiny.py."""
        from instructx_core.weights import save_checkpoint

        self.config = config or small_kiwi()
        pipe = tiny.pipeline(self.config)
        pipe.encoder.add_lora(self.config.lora)
        tiny.randomise(pipe.encoder, scale=0.1)
        self.files = save_checkpoint(root, pipe, self.config)
        self.root = root
        parts = {name: load_file(getattr(self.files, name)) for name in ("denoiser", "vae", "text_encoder", "adapter")}
        self.dit, self.vae, self.qwen, self.adapter = parts.values()

    # --- the parts -------------------------------------------------------------------------------------------------

    def diffusers_dit(self, folder: Path, sharded: bool = False) -> Path:
        state = {dit_to_diffusers(key): value for key, value in self.dit.items()}
        return shards(folder, state, WEIGHTS[:-12]) if sharded else put(folder / WEIGHTS, state).parent

    def diffusers_vae(self, folder: Path) -> Path:
        state = {vae_to_diffusers(key, self.config.vae): value for key, value in self.vae.items()}
        return put(folder / WEIGHTS, state).parent

    def hub_qwen(self, folder: Path, newer: bool = False, merged: bool = False) -> Path:
        """Two shards with an index, as on the model hub; merged: with the LoRA in the weights, as Kiwi's folders."""
        state = self.merged_qwen() if merged else self.qwen
        if newer:
            state = {new_name(key): value for key, value in state.items()}
        return shards(folder, state)

    def merged_qwen(self) -> State:
        """bf16(W + B A), as Kiwi-Edit's converter does it."""
        state = dict(self.qwen)
        for key, down in self.adapter.items():
            if key.endswith(".lora_A.weight"):
                stem = key.removesuffix(".lora_A.weight")
                up = self.adapter[f"{stem}.lora_B.weight"]
                state[f"{stem}.weight"] = (state[f"{stem}.weight"].float() + up.float() @ down.float()).bfloat16()
        return state

    def training_file(self, path: Path, stage: int = 3, dit: str = "whole") -> Path:
        """A training file. dit: whole, lora (rank 2) or none."""
        state = {kiwi_name(key): value for key, value in self.adapter.items() if at_stage(key, stage)}
        if dit == "whole":
            state |= {f"dit.{key}": value for key, value in self.dit.items()}
        elif dit == "lora":
            state |= {f"dit.{key}": value for key, value in dit_lora(self.dit).items()}
        return put(path, state)

    def put_adapter(self, path: Path, state: State) -> Path:
        """An adapter file of ours with other numbers."""
        return put(path, state, {METADATA_KEY: self.config.to_json()})

    def kiwi_folder(self, root: Path, first: bool = False, stage: int = 3) -> Path:
        """A diffusers folder as Kiwi-Edit publishes it: VAE in ORIGINAL names, LoRA merged into Qwen.

        first: the reference-only one, whose references stand first. stage 2: the instruct-only one, without references.
        """
        self.diffusers_dit(root / "transformer")
        put(root / "vae" / WEIGHTS, self.vae)
        shards(root / "mllm_encoder", self.merged_qwen())
        own: State = {}
        adapter = {key: value for key, value in self.adapter.items() if at_stage(key, stage)}
        for key, value in adapter.items():
            if key.startswith("queries."):
                own[f"{key.split('.')[1].replace('reference', 'ref')}_queries"] = value
            elif "connector." in key:
                own[key.replace("reference_connector", "ref_connector")] = value
        put(root / "mllm_encoder" / WEIGHTS, own)
        for ours, theirs in (("source_embedder", "source_embedder"), ("reference_embedder", "ref_embedder")):
            if f"{ours}.weight" in adapter:
                state = {f"patch_embedding.{part}": adapter[f"{ours}.{part}"] for part in ("weight", "bias")}
                put(root / theirs / WEIGHTS, state)
        if stage == 3:
            (root / "ref_embedder" / "config.json").write_text(json.dumps({"ref_pad_first": first}), encoding="utf-8")
        (root / "processor").mkdir()
        (root / "processor" / "tokenizer.json").write_bytes(self.files.tokenizer.read_bytes())
        (root / "model_index.json").write_text("{}", encoding="utf-8")
        return root


def put(path: Path, state: State, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, str(path), metadata=metadata)
    return path


def shards(folder: Path, state: State, stem: str = "model") -> Path:
    """Two files and their index."""
    keys = sorted(state)
    halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    for number, half in enumerate(halves, 1):
        put(folder / SHARD.format(stem, number), {key: state[key] for key in half})
    places = {key: SHARD.format(stem, number) for number, half in enumerate(halves, 1) for key in half}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    return folder


def new_name(key: str) -> str:
    """Qwen's name since transformers 4.52."""
    return f"model.{key}" if key.startswith("visual.") else key.replace("model.", "model.language_model.", 1)


def at_stage(key: str, stage: int) -> bool:
    """What a training stage has: images, then clips and the source embedder, then references."""
    later = {"reference": 3, "queries.video": 2, "source_embedder": 2}
    return all(stage >= least for mark, least in later.items() if key.startswith((mark, f"queries.{mark}")))


def kiwi_name(key: str) -> str:
    """Name in an adapter of ours -> name in a Kiwi-Edit training file."""
    stem, _, half = key.partition(".lora_")
    if half:
        return f"mllm.model.{new_name(stem)}.lora_{half.replace('.weight', '.default.weight')}"
    rename: dict[str, Callable[[str], str]] = {
        "queries.": lambda rest: f"mllm.{rest.replace('reference', 'ref')}_queries.q",
        "connector.": lambda rest: f"mllm.connetor.{rest}",
        "reference_connector.": lambda rest: f"mllm.ref_connector.{rest}",
        "source_embedder.": lambda rest: f"vae_condition.patch_embedding.{rest}",
        "reference_embedder.": lambda rest: f"ref_vae_condition.patch_embedding.{rest}",
    }
    start = next(start for start in rename if key.startswith(start))
    return rename[start](key.removeprefix(start))


def dit_lora(state: State, rank: int = 2, seed: int = 7) -> dict[str, Any]:
    """A LoRA of the attention and FFN of every block, in PEFT's names."""
    generator, out = torch.Generator().manual_seed(seed), {}
    for key, value in state.items():
        if key.startswith("blocks.") and key.endswith(".weight") and value.ndim == 2:
            stem, (rows, columns) = key.removesuffix(".weight"), value.shape
            out[f"{stem}.lora_A.default.weight"] = (torch.randn(rank, columns, generator=generator) * 0.4).bfloat16()
            out[f"{stem}.lora_B.default.weight"] = (torch.randn(rows, rank, generator=generator) * 0.4).bfloat16()
    return out


# How a layer and a half of a LoRA are called: PEFT, ComfyUI, musubi.
LORAS: dict[str, Callable[[str, bool], str]] = {
    "peft": lambda layer, down: f"base_model.model.{layer}.lora_{'A' if down else 'B'}.weight",
    "comfyui": lambda layer, down: f"diffusion_model.{layer}.lora_{'down' if down else 'up'}.weight",
    "musubi": lambda layer, down: f"lora_unet_{layer.replace('.', '_')}.lora_{'down' if down else 'up'}.weight",
}


def spelled(lora: State, spelling: str) -> State:
    """A LoRA of `dit_lora` in a spelling of LORAS."""
    halves = ((key.split(".lora_"), value) for key, value in lora.items())
    return {LORAS[spelling](layer, half.startswith("A")): value for (layer, half), value in halves}
