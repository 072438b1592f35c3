"""A tiny random model of Kiwi-Edit's kind, and its files in every layout that the authors publish.

Names and shapes are those of the public files; the weights are one pipeline of ours, so what is loaded again
must edit as it does.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from small import save
from torch import Tensor

from instructx_core.config import InstructXConfig, LoraConfig, SamplingConfig, kiwi_5b, tiny
from instructx_core.formats.layouts.keymaps import dit_to_original, vae_to_original
from instructx_core.formats.layouts.qwen_names import mllm_to_original

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from tiny import pipeline, tokenizer

REFERENCE = ("queries.reference", "reference_")
OWN = ("queries.", "connector.", "reference_connector.")


def config(lora: LoraConfig | None = None, **denoiser: Any) -> InstructXConfig:
    """Kiwi-Edit's switches on a tiny model; keyword arguments change the denoiser."""
    base, kiwi = tiny(), kiwi_5b()
    tower = {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "full_attention_blocks": (1,)}
    vision = dataclasses.replace(base.mllm.vision, **tower)
    mllm = dataclasses.replace(base.mllm, vocab_size=320, intermediate_size=96, num_layers=2, vision=vision)
    rule = dataclasses.replace(
        kiwi.instruction,
        num_image_queries=4,
        num_video_queries=6,
        num_reference_queries=5,
        max_reference_pixels=28 * 28 * 5,
    )
    switches = {"source_embedder": "own", "source_scale": "sigma", "reference_embedder": "own"}
    dit = dataclasses.replace(
        base.denoiser, dim=128, ffn_dim=192, num_layers=2, num_heads=1, text_dim=64, **{**switches, **denoiser}
    )
    return dataclasses.replace(
        base,
        name="small_kiwi",
        profile="kiwi",
        trained_on="",
        mllm=mllm,
        instruction=rule,
        denoiser=dit,
        lora=lora or LoraConfig(rank=4, alpha=4, targets=kiwi.lora.targets, scope="language_model"),
        vae=dataclasses.replace(base.vae, base_dim=4),
        sampling=SamplingConfig(),
    )


@functools.lru_cache(maxsize=4)
def pipe(settings: InstructXConfig) -> Any:
    """A random pipeline whose MLLM has LoRA layers. Do not change it."""
    made = pipeline(settings)
    torch.manual_seed(7)
    made.encoder.add_lora(settings.lora)
    with torch.no_grad():
        for name, value in made.encoder.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(value, std=0.3)
    return made


def adapter(settings: InstructXConfig) -> dict[str, Tensor]:
    from instructx_core.weights import adapter_state

    made = pipe(settings)
    return {name: value.detach().clone() for name, value in adapter_state(made.encoder, made.transformer).items()}


def training_name(name: str) -> str:
    """Our name of an adapter tensor -> that of a training file."""
    if name.startswith("queries."):
        return f"mllm.{name.removeprefix('queries.').replace('reference', 'ref')}_queries.q"
    for ours, theirs in (("connector.", "mllm.connetor."), ("reference_connector.", "mllm.ref_connector.")):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    for ours, theirs in (("source_embedder.", "vae_condition."), ("reference_embedder.", "ref_vae_condition.")):
        if name.startswith(ours):
            return f"{theirs}patch_embedding.{name.removeprefix(ours)}"
    stem = name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
    return f"mllm.model.{_newer(stem)}"


def dit_state(settings: InstructXConfig) -> dict[str, Tensor]:
    state = pipe(settings).transformer.state_dict()
    own = ("source_embedder.", "reference_embedder.")
    return {dit_to_original(k): v.detach().clone() for k, v in state.items() if not k.startswith(own)}


def qwen_state(settings: InstructXConfig) -> dict[str, Tensor]:
    """Qwen without the LoRA, in the names of its first repository."""
    state = pipe(settings).encoder.mllm.state_dict()
    return {mllm_to_original(k): v.detach().clone() for k, v in state.items() if ".lora_" not in k}


def vae_state(settings: InstructXConfig) -> dict[str, Tensor]:
    return {vae_to_original(k, settings.vae): v.clone() for k, v in pipe(settings).vae.state_dict().items()}


def stage_tensors(settings: InstructXConfig, stage: int) -> dict[str, Tensor]:
    """Tensors of a training file beside the DiT, in its names: stage 1 images only, 2 without references, 3 all."""
    tensors = adapter(settings)
    if stage < 3:
        tensors = {name: value for name, value in tensors.items() if not name.startswith(REFERENCE)}
    if stage == 1:
        tensors = {n: v for n, v in tensors.items() if not n.startswith(("queries.video", "source_embedder"))}
    return {training_name(name): value for name, value in tensors.items()}


def training_file(path: Path, settings: InstructXConfig, stage: int = 3, dit: bool = True, pipe_left: bool = False):
    """pipe_left: with the prefixes that are left when the trainer strips `pipe.dit.` alone."""
    tensors = stage_tensors(settings, stage)
    if pipe_left:
        tensors = {f"pipe.{name}": value for name, value in tensors.items()}
    if dit:
        tensors |= {name if pipe_left else f"dit.{name}": value for name, value in dit_state(settings).items()}
    return save(path, tensors)


def qwen_config(settings: InstructXConfig) -> str:
    """config.json as on the model hub."""
    mllm, vision = settings.mllm, settings.mllm.vision
    return json.dumps(
        {
            "hidden_size": mllm.hidden_size,
            "num_attention_heads": mllm.num_heads,
            "rms_norm_eps": mllm.rms_norm_eps,
            "num_key_value_heads": mllm.num_kv_heads,
            "rope_theta": mllm.rope_theta,
            "rope_scaling": {"type": "mrope", "mrope_section": list(mllm.mrope_section)},
            "vision_config": {
                "num_heads": vision.num_heads,
                "window_size": vision.window_size,
                "spatial_merge_size": 2,
                "fullatt_block_indexes": list(vision.full_attention_blocks),
                "tokens_per_second": 2,
            },
        }
    )


def qwen_folder(folder: Path, settings: InstructXConfig, newer: bool = False, shards: int = 1) -> Path:
    """The folder of the model hub. newer: the second generation of names. shards: with an index when above 1."""
    state = qwen_state(settings)
    if newer:
        state = {_newer(name): value for name, value in state.items()}
    names = sorted(state)
    if shards == 1:
        save(folder / "model.safetensors", state)
    else:
        places = {}
        for n in range(shards):
            file = f"model-{n + 1:05d}-of-{shards:05d}.safetensors"
            part = {name: state[name] for name in names[n::shards]}
            save(folder / file, part)
            places |= dict.fromkeys(part, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_text(qwen_config(settings))
    tokenizer().save_pretrained(folder)
    return folder


def _newer(name: str) -> str:
    return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else f"model.{name}"


def folder(root: Path, settings: InstructXConfig, kind: str = "instruct-reference", told: bool | None = None) -> Path:
    """A diffusers folder; kind is instruct-only, reference-only or instruct-reference. told: ref_pad_first."""
    made = pipe(settings)
    tensors = adapter(settings)
    if kind == "instruct-only":
        tensors = {name: value for name, value in tensors.items() if not name.startswith(REFERENCE)}
    own = {n: v for n, v in tensors.items() if n.startswith(OWN)}
    save(root / "mllm_encoder" / "diffusion_pytorch_model.safetensors", {_folder_name(n): v for n, v in own.items()})
    (root / "mllm_encoder" / "config.json").write_text(json.dumps({"max_object_token": 5, "max_frames": 16}))
    for ours, theirs in (("source_embedder", "source_embedder"), ("reference_embedder", "ref_embedder")):
        parts = {n.replace(ours, "patch_embedding"): v for n, v in tensors.items() if n.startswith(ours)}
        if parts:
            save(root / theirs / "diffusion_pytorch_model.safetensors", parts)
        (root / theirs).mkdir(parents=True, exist_ok=True)
        (root / theirs / "config.json").write_text(json.dumps({} if told is None else {"ref_pad_first": told}))
    state = made.transformer.state_dict()
    save(
        root / "transformer" / "diffusion_pytorch_model.safetensors",
        {k: v for k, v in state.items() if not k.startswith(("source_", "reference_"))},
    )
    save(root / "vae" / "diffusion_pytorch_model.safetensors", vae_state(settings))
    merged = merged_qwen(settings)
    names = sorted(merged)
    places = {}
    for n in range(2):
        file = f"model-{n + 1:05d}-of-00002.safetensors"
        save(root / "mllm_encoder" / file, {name: merged[name] for name in names[n::2]})
        places |= dict.fromkeys(names[n::2], file)
    index = json.dumps({"metadata": {}, "weight_map": places})
    (root / "mllm_encoder" / "model.safetensors.index.json").write_text(index)
    tokenizer().save_pretrained(root / "processor")
    (root / "processor" / "qwen_config.json").write_text(qwen_config(settings))
    return root


def merged_qwen(settings: InstructXConfig) -> dict[str, Tensor]:
    """Qwen with the LoRA folded in, B A with scale 1 in fp32, as Kiwi-Edit's converter does it."""
    state, tensors = qwen_state(settings), adapter(settings)
    for name, down in tensors.items():
        if ".lora_A." in name:
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            key = name.replace(".lora_A.weight", ".weight")
            state[key] = state[key] + up @ down
    return state


def _folder_name(name: str) -> str:
    if name.startswith("queries."):
        return f"{name.removeprefix('queries.').replace('reference', 'ref')}_queries"
    return name.replace("reference_connector.", "ref_connector.")
