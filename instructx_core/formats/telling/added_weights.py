"""Tests of identify for what is added to Wan and Qwen: adapters, Kiwi-Edit training files, LoRA.

Each takes a Header and answers None when the file is something else.
"""

from __future__ import annotations

import re
from collections import Counter

from ...config import EMBEDDERS
from ..layouts.dit_sizes import Shapes, bare_dit, dit_sizes, dit_title
from ..layouts.kiwi_config import reference_position
from ..layouts.kiwi_names import wan_name
from ..layouts.public_models import DIT_SIZES, qwen_size, vae_for
from .base_models import ENCODER_BESIDE
from .identity import Header, Identity, listed

DISTILLED = re.compile(r"distill|lightx2v|lightning|causvid|accvid|fastwan|turbo|dmd", re.I)
_DOWN = re.compile(r"[._]lora_(A|down)\.(default\.)?weight$|\.lora\.down\.weight$")
_DIT_LAYER = re.compile(r"blocks[._]\d+[._](self_attn|cross_attn|attn1|attn2|ffn)[._]")
_MLLM_LAYER = re.compile(r"layers\.\d+\.(self_attn|mlp)\.|visual\.blocks\.")


def ranks(shapes: Shapes) -> Counter[int]:
    """Rank -> number of adapted layers, in any naming."""
    return Counter(min(shape[:2]) for key, shape in shapes.items() if _DOWN.search(key) and len(shape) >= 2)


def lora_text(shapes: Shapes) -> str:
    """ "rank 64 on 144 layers"."""
    found = ranks(shapes)
    return f"rank {', '.join(map(str, sorted(found)))} on {sum(found.values())} layers" if found else "none"


def _queries(shapes: Shapes, pattern: str) -> dict[str, int]:
    found = ((re.fullmatch(pattern, key), shape) for key, shape in shapes.items())
    return {{"ref": "reference"}.get(match[1], match[1]): shape[0] for match, shape in found if match and shape}


def _connector(shapes: Shapes, pattern: str) -> tuple[int, int]:
    """(width of the MLLM, width of the DiT); zeros where the file does not tell."""
    at = {match[1]: shape for key, shape in shapes.items() if len(shape) == 2 and (match := re.fullmatch(pattern, key))}
    return at.get("0", (0, 0))[1], at.get("2", (0, 0))[0]


def adapter(header: Header) -> Identity | None:
    queries = _queries(header.shapes, r"queries\.(\w+)")
    width, dim = _connector(header.shapes, r"connector\.([02])\.weight")
    if not queries or not dim:
        return None
    embedders = [name for name in EMBEDDERS if f"{name}.weight" in header.shapes]
    facts = (
        *(header.config_fact or (("config", "none: it is not complete, save it again"),)),
        ("queries", listed(queries)),
        ("connector", f"{width} -> {dim}"),
        ("MLLM LoRA", lora_text(header.shapes)),
        ("embedders", ", ".join(embedders) or "none of its own"),
    )
    channels = header.shapes.get("source_embedder.weight", (0, None))[1]
    values = {"dim": dim, "hidden_size": width, "channels": channels, "queries": queries}
    needs = (
        f"a Wan DiT of width {dim} and its VAE",
        f"Qwen2.5-VL {qwen_size(width)} with its vision tower",
    )
    takers = (
        "node Load Encoder (InstructX), file in models/model_patches",
        "instructx edit --model FOLDER, file in FOLDER/model_patches",
    )
    return header.identity("adapter", "InstructX adapter", facts, needs, takers, values)


def kiwi_training(header: Header) -> Identity | None:
    shapes = {key.removeprefix("pipe."): shape for key, shape in header.shapes.items()}
    queries = _queries(shapes, r"mllm\.(image|video|ref)_queries\.q")
    if not queries:
        return None
    width, dim = _connector(shapes, r"mllm\.connec?tor\.([02])\.weight")
    dit = {name: shape for key, shape in shapes.items() if (name := wan_name(key)) is not None}
    included = "lora" if ranks(dit) else "full" if dit else "none"
    stage = 3 if "reference" in queries else 2 if "vae_condition.patch_embedding.weight" in shapes else 1
    holds = {
        "lora": f"a LoRA of the DiT, {lora_text(dit)}",
        "full": f"the whole Wan DiT {dit_title(dit_sizes(dit))}",
        "none": "no DiT: the one it was trained on is unchanged",
    }
    first = reference_position(None, header.path.stem)[0] == "first"
    facts = (
        ("holds", f"{holds[included]} ({len(dit)} tensors)"),
        ("numbers", header.numbers),
        ("queries", listed(queries)),
        ("MLLM LoRA", lora_text({key: shape for key, shape in shapes.items() if key.startswith("mllm.model.")})),
        ("reference", "first, by the file name" if first else "last: the file name does not say pad_first"),
    )
    given = (shape[1] for key, shape in shapes.items() if key.endswith("patch_embedding.weight") and len(shape) > 1)
    channels = next(given, 48 if dim == 3072 else 16)
    needs = (ENCODER_BESIDE, vae_for(channels)) + ((f"the Wan DiT of width {dim}",) if included != "full" else ())
    values = {"stage": stage, "queries": queries, "dim": dim, "hidden_size": width, "channels": channels}
    values |= {"dit": included, "reference_first": first}
    title = f"Kiwi-Edit training file, stage {stage}"
    return header.identity("kiwi-training", title, facts, needs, _kiwi_takers(header.path.name, included), values)


def _kiwi_takers(name: str, included: str) -> tuple[str, ...]:
    """With a DiT of its own it is a checkpoint; without, an adapter for the Wan that it was trained on."""
    command = f"instructx edit --model {name} --part NAME=FILE for what it needs"
    if included == "full":
        return (
            "node Load Checkpoint (InstructX), file in models/checkpoints",
            command,
            f"instructx convert {name} OUT.safetensors --to original, and --to adapter, for the other loaders",
        )
    merge = f"instructx convert DIT OUT.safetensors --to merged --lora {name}, for Load Diffusion Model"
    return (
        "node Load Encoder (InstructX), as the adapter, file in models/model_patches",
        *((merge,) if included == "lora" else ()),
        command,
    )


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
    width = next((s[1] for k, s in shapes.items() if _DOWN.search(k) and re.search(r"[._](q|to_q)[._]", k)), 0)
    distilled = bool(DISTILLED.search(header.path.name))
    names = [name.split(",")[0] for (dim, _, _), name in DIT_SIZES.items() if dim == width]
    title = f"LoRA of a Wan DiT {names[0] if names else 'of another width'}"
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
    key = next(key for key in shapes if _DOWN.search(key))
    if key.startswith("lora_unet_"):
        return "musubi (lora_unet_...)"
    if key.startswith("diffusion_model."):
        return "ComfyUI (diffusion_model....)"
    return "diffusers" if re.search(r"\.attn[12]\.", key) else "PEFT"
