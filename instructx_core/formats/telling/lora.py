"""Test of identify for LoRA files: of a Wan DiT in any naming, or of something else."""

from __future__ import annotations

import re

from ..layouts.added_shapes import LORA_DOWN, lora_text, ranks
from ..layouts.dit_sizes import Shapes, bare_dit
from ..layouts.identity import Header, Identity
from ..layouts.public_models import dits_of_width

DISTILLED = re.compile(r"distill|lightx2v|lightning|causvid|accvid|fastwan|turbo|dmd", re.I)
_DIT_LAYER = re.compile(r"blocks[._]\d+[._](self_attn|cross_attn|attn1|attn2|ffn)[._]")
_MLLM_LAYER = re.compile(r"layers\.\d+\.(self_attn|mlp)\.|visual\.blocks\.")


def lora(header: Header) -> Identity | None:
    found = ranks(header.shapes)
    if not found:
        return None
    shapes = {bare_dit(key): shape for key, shape in header.shapes.items()}
    naming = _naming(header.shapes)
    facts = (("naming", naming), ("numbers", header.numbers), ("LoRA", lora_text(shapes)), *header.config_fact)
    if not any(_DIT_LAYER.search(key) for key in shapes):
        what = (
            "Qwen or another language model" if any(_MLLM_LAYER.search(key) for key in shapes) else "an unknown model"
        )
        return header.identity("lora-other", f"LoRA of {what}, not of a Wan DiT", facts, values={"naming": naming})
    width = next((s[1] for k, s in shapes.items() if LORA_DOWN.search(k) and re.search(r"[._](q|to_q)[._]", k)), 0)
    distilled = bool(DISTILLED.search(header.path.name))
    public = dits_of_width(width)
    title = f"LoRA of a Wan DiT {public[0].name if public else 'of another width'}"
    note: tuple[tuple[str, str], ...] = ()
    if distilled:
        title += ", step-distilled by its name"
        note = (("use", "few steps, guidance 1; it was made with T5 prompts: self-attention and FFN only"),)
    takers = (
        "node Load LoRA (Model Only), file in models/loras",
        f"instructx convert DIT OUT.safetensors --to merged --lora {header.path.name}",
    )
    values = {"naming": naming, "rank": max(found), "layers": sum(found.values()), "dim": width, "distilled": distilled}
    return header.identity("dit-lora", title, facts + note, (f"a Wan DiT of width {width}",), takers, values)


def _naming(shapes: Shapes) -> str:
    key = next(key for key in shapes if LORA_DOWN.search(key))
    if key.startswith("lora_unet_"):
        return "musubi (lora_unet_...)"
    if key.startswith("diffusion_model."):
        return "ComfyUI (diffusion_model....)"
    return "diffusers" if re.search(r"\.attn[12]\.", key) else "PEFT"
