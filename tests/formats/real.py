"""Names and shapes of the public files, from the real classes on the meta device: name -> (type, shape).

Original Wan names, Qwen's original names; what is expected of them stands in the tests.
"""

from __future__ import annotations

import dataclasses
import functools

import torch

from instructx_core.config import InstructXConfig, kiwi_5b, paper_14b
from instructx_core.formats.layouts.keymaps import dit_to_original, vae_to_original

Entries = dict[str, tuple[str, tuple[int, ...]]]


def wan_1b() -> InstructXConfig:
    """Wan2.1-T2V-1.3B under the paper's model."""
    sizes = {"dim": 1536, "ffn_dim": 8960, "num_layers": 30, "num_heads": 12}
    base = paper_14b()
    return dataclasses.replace(base, denoiser=dataclasses.replace(base.denoiser, **sizes))


SIZES = {"1.3B": wan_1b, "14B": paper_14b, "5B": kiwi_5b}


@functools.cache
def _dit(size: str) -> dict[str, tuple[int, ...]]:
    from instructx_core.denoiser import build_denoiser

    with torch.device("meta"):
        state = build_denoiser(SIZES[size]()).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def dit(size: str, kind: str = "BF16", diffusers: bool = False) -> Entries:
    """The DiT of a public size."""
    own = ("source_embedder.", "reference_embedder.")
    bare = {key: shape for key, shape in _dit(size).items() if not key.startswith(own)}
    return {key if diffusers else dit_to_original(key): (kind, shape) for key, shape in bare.items()}


@functools.cache
def _vae(size: str) -> dict[str, tuple[int, ...]]:
    from instructx_core.vae import build_vae

    with torch.device("meta"):
        state = build_vae(SIZES[size]().vae).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def vae(size: str, kind: str = "BF16", diffusers: bool = False) -> Entries:
    """The VAE that belongs to a DiT size."""
    config = SIZES[size]().vae
    return {key if diffusers else vae_to_original(key, config): (kind, shape) for key, shape in _vae(size).items()}


def qwen(kind: str = "BF16", width: int = 2048, vision: bool = True, newer: bool = False, layers: int = 36) -> Entries:
    """Qwen2.5-VL-3B (or its sizes with another width)."""
    head, kv, ffn, vocabulary = 128, 2, 11008, 151936
    model, visual = ("model.language_model", "model.visual") if newer else ("model", "visual")
    out: Entries = {
        f"{model}.embed_tokens.weight": (kind, (vocabulary, width)),
        f"{model}.norm.weight": (kind, (width,)),
    }
    for n in range(layers):
        layer = f"{model}.layers.{n}"
        for name, rows in (("q", width), ("k", kv * head), ("v", kv * head)):
            out[f"{layer}.self_attn.{name}_proj.weight"] = (kind, (rows, width))
            out[f"{layer}.self_attn.{name}_proj.bias"] = (kind, (rows,))
        out[f"{layer}.self_attn.o_proj.weight"] = (kind, (width, width))
        out |= {f"{layer}.mlp.{name}_proj.weight": (kind, (ffn, width)) for name in ("gate", "up")}
        out[f"{layer}.mlp.down_proj.weight"] = (kind, (width, ffn))
        out |= {f"{layer}.{name}.weight": (kind, (width,)) for name in ("input_layernorm", "post_attention_layernorm")}
    return out | (_tower(visual, width, kind) if vision else {})


def _tower(root: str, width: int, kind: str) -> Entries:
    hidden, ffn = 1280, 3420
    out: Entries = {f"{root}.patch_embed.proj.weight": (kind, (hidden, 3, 2, 14, 14))}
    for n in range(32):
        block = f"{root}.blocks.{n}"
        out |= {f"{block}.norm{m}.weight": (kind, (hidden,)) for m in (1, 2)}
        for name, rows, columns in (("attn.qkv", 3 * hidden, hidden), ("attn.proj", hidden, hidden)):
            out |= {f"{block}.{name}.weight": (kind, (rows, columns)), f"{block}.{name}.bias": (kind, (rows,))}
        for name, rows, columns in (("gate", ffn, hidden), ("up", ffn, hidden), ("down", hidden, ffn)):
            out[f"{block}.mlp.{name}_proj.weight"] = (kind, (rows, columns))
            out[f"{block}.mlp.{name}_proj.bias"] = (kind, (rows,))
    merged = 4 * hidden
    out[f"{root}.merger.ln_q.weight"] = (kind, (hidden,))
    for name, rows in (("mlp.0", merged), ("mlp.2", width)):
        out |= {f"{root}.merger.{name}.weight": (kind, (rows, merged)), f"{root}.merger.{name}.bias": (kind, (rows,))}
    return out


def kiwi_training(stage: int, size: str = "5B") -> Entries:
    """A Kiwi-Edit training file: 5B with the whole DiT from stage 2 on, 14B with LoRA (rank 128) of the DiT."""
    config = SIZES[size]().denoiser
    dim, rank = config.dim, 64 if size == "5B" else 256
    names = ("q", "k", "v", "o")
    out: Entries = {}
    for n in range(36):
        at = f"mllm.model.model.language_model.layers.{n}"
        shapes = {f"self_attn.{name}_proj": (256 if name in "kv" else 2048, 2048) for name in names}
        if size != "5B":
            shapes |= {"mlp.gate_proj": (11008, 2048), "mlp.up_proj": (11008, 2048), "mlp.down_proj": (2048, 11008)}
        for name, (rows, columns) in shapes.items():
            out[f"{at}.{name}.lora_A.default.weight"] = ("BF16", (rank, columns))
            out[f"{at}.{name}.lora_B.default.weight"] = ("BF16", (rows, rank))
    out["mllm.image_queries.q"] = ("BF16", (256, 2048))
    out |= _connector("mllm.connetor", dim)
    if stage >= 2:
        out["mllm.video_queries.q"] = ("BF16", (512, 2048))
        out |= _embedder("vae_condition.patch_embedding", dim, config.in_channels)
        out |= {f"dit.{key}": value for key, value in (dit(size) if size == "5B" else dit_lora(size, 128)).items()}
    if stage == 3:
        out["mllm.ref_queries.q"] = ("BF16", (768 if size == "5B" else 384, 2048))
        out |= _connector("mllm.ref_connector", dim) | _embedder(
            "ref_vae_condition.patch_embedding", dim, config.in_channels
        )
    return out


def _connector(name: str, dim: int) -> Entries:
    return {
        f"{name}.0.weight": ("BF16", (dim, 2048)), f"{name}.0.bias": ("BF16", (dim,)),
        f"{name}.2.weight": ("BF16", (dim, dim)), f"{name}.2.bias": ("BF16", (dim,)),
    }  # fmt: skip


def _embedder(name: str, dim: int, channels: int) -> Entries:
    return {f"{name}.weight": ("BF16", (dim, channels, 1, 2, 2)), f"{name}.bias": ("BF16", (dim,))}


def dit_lora(size: str, rank: int) -> Entries:
    """LoRA of all attention and FFN layers in the names of a Kiwi training file, without its `dit.`."""
    out: Entries = {}
    for key, (kind, shape) in dit(size).items():
        if key.startswith("blocks.") and key.endswith(".weight") and len(shape) == 2:
            stem = key.removesuffix(".weight")
            out[f"{stem}.lora_A.default.weight"] = (kind, (rank, shape[1]))
            out[f"{stem}.lora_B.default.weight"] = (kind, (shape[0], rank))
    return out
