"""Names in LoRA files of the Wan DiT, in every public spelling -> parameters of the DiT.

PEFT and diffusers (`transformer.blocks.0.attn1.to_q.lora_A.weight`), ComfyUI and Kiwi
(`diffusion_model.blocks.0.self_attn.q.lora_down.weight`), musubi (`lora_unet_blocks_0_self_attn_q.lora_down.weight`),
and the `.diff`, `.diff_b`, `.diff_m` that step-distilled files add to weights, biases and modulations.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ...config import EMBEDDERS
from ...errors import InputError, some
from ..containers.tensor_source import TensorSource
from .dit_sizes import Shapes
from .keymaps import dit_to_original

Layers = Literal["all", "self"]  # self: self-attention and FFN only
LAYERS = get_args(Layers)
_SELF = re.compile(r"blocks\.\d+\.(attn1|ffn)\.")
_KEY = re.compile(
    r"(?P<stem>.+?)\.(?:lora_(?P<half>A|B|down|up)(?:\.default)?(?:\.weight)?|lora\.(?P<older>down|up)\.weight"
    r"|(?P<other>alpha|diff|diff_b|diff_m))"
)
_DOWN = ("A", "down")
_FOREIGN = re.compile(r"(?:^|\.)(lokr|hada|oft|dora|lora_magnitude|lora_mid)_?")
_FOREIGN_NAMES = {
    "lokr": "LoKr",
    "hada": "LoHa",
    "oft": "OFT",
    "dora": "DoRA",
    "lora_magnitude": "DoRA",
    "lora_mid": "LoCon with a middle layer",
}
_WRAPPERS = ("base_model.model.", "pipe.", "dit.", "model.", "diffusion_model.", "transformer.")
_FLAT = ("lora_unet_", "lora_transformer_", "lycoris_")


@dataclass(frozen=True)
class LoraMatch:
    """parts: parameter -> part (down, up, alpha, diff) -> key in the file. ignored: keys of no parameter.

    left_out: keys of parameters that `layers` leaves out.
    """

    parts: Mapping[str, Mapping[str, str]]
    ignored: tuple[str, ...]
    left_out: tuple[str, ...]


def match_lora(source: TensorSource, shapes: Shapes, layers: Layers) -> LoraMatch:
    """Match the tensors of a LoRA file to a DiT. shapes: of its parameters, by our names.

    Raises InputError when nothing matches, and for files of another kind (LoKr, DoRA, ...).
    """
    places = _places(shapes)
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    ignored, left_out, alphas = [], [], {}
    for key in source.keys():
        foreign = _FOREIGN.search(key)
        if foreign is not None:
            kind = _FOREIGN_NAMES[foreign[1]]
            raise InputError(f"{source.path.name} is a {kind}, which is not supported; use a LoRA")
        match = _KEY.fullmatch(key)
        name, part = ("", "") if match is None else _target(match, places)
        if name not in shapes:
            ignored.append(key)
        elif layers == "self" and not _SELF.match(name):
            left_out.append(key)
        elif part == "alpha":
            alphas[name] = key
        elif part in parts[name]:
            raise InputError(f"{source.path.name}: {key} appears under two spellings; use a file of one layout")
        else:
            parts[name][part] = key
    for name, key in alphas.items():
        if "down" in parts.get(name, {}):
            parts[name]["alpha"] = key
        else:
            ignored.append(key)
    matched = {name: found for name, found in parts.items() if found}
    if not matched:
        more = f"; {len(left_out)} are of layers left out" if left_out else ""
        raise InputError(
            f"{source.path.name} changes no layer of this DiT ({len(ignored)} unknown names: "
            f"{some(ignored) or 'none'}{more}); use a LoRA made for this Wan"
        )
    return LoraMatch(matched, tuple(ignored), tuple(left_out))


def _target(match: re.Match[str], places: Mapping[str, str]) -> tuple[str, str]:
    """(parameter, part) that a key belongs to; ("", "") for an unknown layer."""
    stem = match["stem"]
    if stem.startswith(_FLAT):
        stem = next(stem.removeprefix(start) for start in _FLAT if stem.startswith(start)).lstrip("_")
    else:
        for wrapper in _WRAPPERS:
            stem = stem.removeprefix(wrapper)
    half, other = match["half"] or match["older"], match["other"]
    kind = {"diff_b": "bias", "diff_m": "modulation"}.get(other or "", "weight")
    name = places.get(f"{stem}.{kind}", "")
    return name, ("down" if half in _DOWN else "up") if half else "alpha" if other == "alpha" else "diff"


def _places(shapes: Shapes) -> dict[str, str]:
    """Every spelling of a parameter -> its name: diffusers and original, with dots or flat."""
    places = {}
    for name in shapes:
        spellings = {name} if name.startswith(EMBEDDERS) else {name, dit_to_original(name)}
        for spelling in spellings:
            stem, _, kind = spelling.rpartition(".")
            places[spelling] = places[f"{stem.replace('.', '_')}.{kind}"] = name
    return places
