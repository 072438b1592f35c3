"""Tests of identify for what InstructX builds on: the Wan DiT, the Wan VAE and Qwen2.5-VL.

Each takes a Header and answers None when the file is something else.
"""

from __future__ import annotations

import re

from ..layouts.dit_sizes import PATCH_EMBEDDING, bare_dit, dit_sizes, dit_variant, layer_count
from ..layouts.identity import ENCODER_FILE, NO_TEXT, Header, Identity, listed
from ..layouts.public_models import (
    KIWI_DIT,
    QWEN_NEEDED,
    QWEN_SIZES,
    QWEN_TENSORS,
    dit_title,
    public_dit,
    public_vae,
    qwen_size,
    vae_for,
)
from ..layouts.vae import is_wan22_vae


def wan_dit(header: Header) -> Identity | None:
    shapes = {bare_dit(key): shape for key, shape in header.shapes.items()}
    original = "head.modulation" in shapes
    diffusers = "scale_shift_table" in shapes and "condition_embedder.time_proj.weight" in shapes
    if PATCH_EMBEDDING not in shapes or not (original or diffusers):
        return None
    sizes = dit_sizes(shapes)
    layout = "original" if original else "diffusers"
    facts = (
        ("layout", f"{layout} names"),
        ("numbers", header.numbers),
        ("sizes", listed(sizes)),
        *header.config_fact,
    )
    values = {"layout": layout, **sizes}
    variant = dit_variant(shapes)
    if variant is not None:
        title = f"Wan DiT, {variant}: InstructX needs the text-to-video model"
        return header.identity("wan-dit-variant", title, facts, values=values)
    adapter = f"an adapter for width {sizes.get('dim')} (models/model_patches)"
    needs = (vae_for(sizes.get("in_channels", 0)), ENCODER_FILE, adapter, NO_TEXT)
    public = public_dit(sizes)
    wrong = None if public is None else header.unlike(public.tensors)
    title, takers = f"Wan DiT {dit_title(sizes)}", _takers(header, original)
    return header.identity("wan-dit", title, facts, needs, takers, values, wrong)


def _takers(header: Header, original: bool) -> tuple[str, ...]:
    command = "instructx edit --model FOLDER, file in FOLDER/diffusion_models"
    node = "node Load Diffusion Model, file in models/diffusion_models"
    if header.gguf:
        node = "node Unet Loader (GGUF) of the pack ComfyUI-GGUF"
    elif not original:
        node = f"nodes after instructx convert {header.path.name} OUT.safetensors --to original"
    if not header.readable:
        command = "not the library: it cannot read these numbers"
    return node, command


def wan_vae(header: Header) -> Identity | None:
    shapes = header.shapes
    original = "decoder.middle.0.residual.0.gamma" in shapes
    if not original and "decoder.mid_block.resnets.0.norm1.gamma" not in shapes:
        return None
    first = shapes.get("decoder.conv1.weight" if original else "decoder.conv_in.weight", ())
    channels = first[1] if len(first) > 1 else 0
    public = public_vae(is_wan22_vae(shapes))
    layout = "original" if original else "diffusers"
    cells = f"{channels} channels, 1/{public.spatial} of the size, 1/4 of the frames"
    facts = (("layout", f"{layout} names"), ("numbers", header.numbers), ("latent", cells), *header.config_fact)
    node = "node Load VAE, file in models/vae"
    if not original:
        node = f"nodes after instructx convert {header.path.name} OUT.safetensors --to original"
    return header.identity(
        "wan-vae",
        f"Wan VAE {public.version}",
        facts,
        (f"a Wan DiT of {channels} channels{f' ({KIWI_DIT.name})' if channels == KIWI_DIT.channels else ''}",),
        (node, "instructx edit --model FOLDER, file in FOLDER/vae"),
        {"layout": layout, "channels": channels, "version": public.version},
        header.unlike(public.tensors),
    )


def qwen(header: Header) -> Identity | None:
    shapes = header.shapes
    table = next((shape for key, shape in shapes.items() if key.endswith("embed_tokens.weight")), ())
    layers = layer_count(shapes, r"model\.(?:language_model\.)?layers\.(\d+)\.")
    biased = any(key.endswith("layers.0.self_attn.q_proj.bias") for key in shapes)  # Qwen3 and Llama have none
    if len(table) != 2 or not layers or not biased:
        return None
    tower = any(re.match(r"(model\.)?visual\.blocks\.0\.mlp\.gate_proj\.", key) for key in shapes)
    older = any(re.match(r"(model\.)?visual\.blocks\.0\.mlp\.fc1\.", key) for key in shapes)
    newer = any(key.startswith("model.language_model.") for key in shapes)
    layout = "llama.cpp" if header.llama_cpp else "transformers since 4.52" if newer else "the original repository"
    width, size = table[1], qwen_size(table[1])
    facts = (
        ("layout", f"names of {layout}"),
        ("numbers", header.numbers),
        ("sizes", f"width {width}, {layers} layers, vocabulary {table[0]}"),
        ("vision tower", "yes" if tower or older else "no"),
        *header.config_fact,
    )
    values = {"hidden_size": width, "layers": layers, "vision": tower}
    wrong = None
    if older:
        wrong = ("qwen-other", f"Qwen2-VL {size}: the adapters need Qwen2.5-VL")
    elif not tower:
        lack = "its mmproj file belongs beside it" if header.llama_cpp else "it cannot see the source"
        wrong = ("qwen-text", f"Qwen2.5 {size} without its vision tower: {lack}")
    elif QWEN_SIZES.get(width, QWEN_NEEDED) != QWEN_NEEDED:
        wrong = ("qwen-other", f"Qwen2.5-VL {size}: the adapters need {QWEN_NEEDED}")
    if wrong is not None:
        return header.identity(*wrong, facts, values=values)
    takers = (
        "node Load Encoder (InstructX), file in models/text_encoders",
        "instructx edit --model FOLDER, file in FOLDER/text_encoders",
    )
    needs = ("an adapter (models/model_patches)", "a Wan DiT and its VAE")
    unlike = header.unlike(*QWEN_TENSORS) if size == QWEN_NEEDED else None
    return header.identity("qwen2.5-vl", f"Qwen2.5-VL {size}", facts, needs, takers, values, unlike)


def projector(header: Header) -> Identity:
    """The mmproj file of llama.cpp by itself."""
    facts, needs = (("numbers", header.numbers),), ("the language model's .gguf in the same folder",)
    takers = ("what takes the language model, which is the file to choose",)
    return header.identity("qwen-vision", "vision tower of a Qwen2.5-VL (mmproj of llama.cpp)", facts, needs, takers)
