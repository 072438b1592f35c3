"""LoRA files of the Wan DiT in every public spelling, merged into the weights or kept beside them.

PEFT and diffusers (`transformer.blocks.0.attn1.to_q.lora_A.weight`), ComfyUI and Kiwi
(`diffusion_model.blocks.0.self_attn.q.lora_down.weight`), musubi (`lora_unet_blocks_0_self_attn_q.lora_down.weight`),
and the `.diff`, `.diff_b`, `.diff_m` that step-distilled files add to weights, biases and modulations. What is added is
strength * alpha / rank * up @ down, in fp32. layers="self" takes self-attention and FFN only: distilled LoRAs were made
with text features in cross-attention, which InstructX replaces.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..containers.opening import open_source, read_json
from ..containers.quantised import dequantised
from ..containers.tensor_source import TensorSource
from ..containers.tensorfile import FLOATS, read_weight
from ..telling.report import LoadReport, some
from .encoder_weights import EMBEDDERS
from .keymaps import dit_to_original

LAYERS = ("all", "self")
_SELF = re.compile(r"blocks\.\d+\.(attn1|ffn)\.")
_KEY = re.compile(
    r"(?P<stem>.+?)\.(?:lora_(?P<half>A|B|down|up)(?:\.default)?(?:\.weight)?|lora\.(?P<older>down|up)\.weight"
    r"|(?P<other>alpha|diff|diff_b|diff_m))"
)
_DOWN = ("A", "down")
_FOREIGN = re.compile(r"(?:^|\.)(lokr|hada|oft|dora|lora_magnitude|lora_mid)_?")
_FOREIGN_NAMES = {"lokr": "LoKr", "hada": "LoHa", "oft": "OFT", "dora": "DoRA", "lora_magnitude": "DoRA",
                  "lora_mid": "LoCon with a middle layer"}  # fmt: skip
_WRAPPERS = ("base_model.model.", "pipe.", "dit.", "model.", "diffusion_model.", "transformer.")
_FLAT = ("lora_unet_", "lora_transformer_", "lycoris_")


class DitLora:
    """An open LoRA file, matched to a DiT. A context manager.

    shapes: name in InstructXTransformer3DModel -> shape. names: those that the file changes. ignored: names in the file
    that match no layer. left_out: those that `layers` leaves out. Raises InputError when nothing matches, a half is
    missing, shapes do not fit, or the file is of another kind (LoKr, DoRA, ...).
    """

    def __init__(self, path: str | Path, shapes: Mapping[str, tuple[int, ...]], layers: str = "all") -> None:
        if layers not in LAYERS:
            raise InputError(f"layers {layers!r} is unknown; use {' or '.join(LAYERS)}")
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        stored = open_source(path)
        try:
            self.source = dequantised(stored)
            self._default = _default_scale(self.source)
            self._parts, self.ignored, self.left_out = self._match(layers)
            for name in self._parts:
                self._check(name)
        except BaseException:
            stored.close()
            raise

    def __enter__(self) -> DitLora:
        return self

    def __exit__(self, *error: object) -> None:
        self.source.close()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parts)

    @property
    def consumed(self) -> tuple[str, ...]:
        return tuple(key for parts in self._parts.values() for key in parts.values())

    @property
    def ranks(self) -> tuple[int, ...]:
        downs = (parts["down"] for parts in self._parts.values() if "down" in parts)
        return tuple(sorted({self.source.shape(key)[0] for key in downs}))

    def change(self, name: str, device: str | torch.device = "cpu") -> Tensor:
        """What strength 1 adds to a parameter, fp32. Raises InputError when it is not finite."""
        parts, total = self._parts[name], torch.zeros(self._shapes[name], device=device)
        if "down" in parts:
            up, down = self.halves(name, device)
            total += (up.flatten(1) @ down.flatten(1)).reshape(total.shape)
        if "diff" in parts:
            total += read_weight(self.source, parts["diff"], device, torch.float32).reshape(total.shape)
        return total

    def halves(self, name: str, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
        """up (out, rank), with alpha / rank in it, and down (rank, in), fp32."""
        parts = self._parts[name]
        up, down = (read_weight(self.source, parts[half], device, torch.float32) for half in ("up", "down"))
        alpha = float(read_weight(self.source, parts["alpha"])) if "alpha" in parts else None
        return up * (self._default if alpha is None else alpha / len(down)), down

    def only_differences(self) -> tuple[str, ...]:
        """Names that a `.diff` changes, which cannot stand beside the weights."""
        return tuple(name for name, parts in self._parts.items() if "diff" in parts)

    def _match(self, layers: str) -> tuple[dict[str, dict[str, str]], tuple[str, ...], tuple[str, ...]]:
        """(parameter -> part -> key, keys of no parameter, keys that `layers` leaves out)"""
        places, source = _places(self._shapes), self.source
        parts: dict[str, dict[str, str]] = defaultdict(dict)
        ignored, left_out, alphas = [], [], {}
        for key in source.keys():
            foreign = _FOREIGN.search(key)
            if foreign is not None:
                kind = _FOREIGN_NAMES[foreign[1]]
                raise InputError(f"{source.path.name} is a {kind}, which is not supported; use a LoRA")
            match = _KEY.fullmatch(key)
            name, part = ("", "") if match is None else _target(match, places)
            if name not in self._shapes:
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
        return matched, tuple(ignored), tuple(left_out)

    def _check(self, name: str) -> None:
        """Raises InputError unless the parts of one parameter are complete and fit it. Reads shapes only."""
        parts, want = self._parts[name], self._shapes[name]
        shapes = {part: self.source.shape(key) for part, key in parts.items()}
        where = f"{self.source.path.name}: {next(iter(parts.values()))}"
        strange = [self.source.dtype(key) for key in parts.values() if self.source.dtype(key) not in FLOATS]
        if strange:
            raise InputError(f"{where} is {strange[0]}, no plain number; use the bf16 or fp16 LoRA")
        if ("down" in parts) != ("up" in parts):
            raise InputError(f"{where} lacks its other half; the file is incomplete, download it again")
        if "down" in parts:
            down, up = shapes["down"], shapes["up"]
            matrices = min(len(down), len(up), len(want)) > 1
            if not matrices or not (0 < down[0] == math.prod(up[1:]) and (up[0], math.prod(down[1:])) == _matrix(want)):
                raise InputError(f"{where}: {up} x {down} does not fit the layer {want}; use a LoRA made for this Wan")
        if "diff" in parts and math.prod(shapes["diff"]) != math.prod(want):
            raise InputError(f"{where} is {shapes['diff']}, the layer {want}; use a LoRA made for this Wan")
        if "alpha" in parts and math.prod(shapes["alpha"]) != 1:
            raise InputError(f"{where}: alpha is no single number; use another file")


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """(out, in) of a linear layer, or of a convolution as one."""
    return shape[0], math.prod(shape[1:])


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


def _places(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Every spelling of a parameter -> its name: diffusers and original, with dots or flat."""
    places = {}
    for name in shapes:
        spellings = {name} if name.startswith(EMBEDDERS) else {name, dit_to_original(name)}
        for spelling in spellings:
            stem, _, kind = spelling.rpartition(".")
            places[spelling] = places[f"{stem.replace('.', '_')}.{kind}"] = name
    return places


def _default_scale(source: TensorSource) -> float:
    """alpha / rank where PEFT wrote it apart from the tensors: in the metadata or an adapter_config.json. Otherwise 1.

    Raises InputError for settings by layer, which no public Wan LoRA has.
    """
    beside = source.files[0].parent / "adapter_config.json"
    try:
        told: Any = json.loads(source.metadata.get("lora_adapter_metadata", "null"))
        if told is None and beside.is_file():
            told = read_json(beside)
        if told is None:
            return 1.0
        named = {key.rpartition(".")[2]: value for key, value in told.items()}
        if named.get("alpha_pattern") or named.get("rank_pattern"):
            raise InputError(
                f"{source.path.name} has an alpha or rank by layer in its config; merge it with PEFT first"
            )
        rank, alpha = float(named["r"]), float(named["lora_alpha"])
        return alpha / (math.sqrt(rank) if named.get("use_rslora") else rank)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise InputError(f"{source.path.name} has an unreadable LoRA config; use another file") from None


# --- into a model --------------------------------------------------------------------------------------------------


def apply_lora(
    transformer: nn.Module,
    path: str | Path,
    strength: float = 1.0,
    layers: str = "all",
    merge: bool = True,
    name: str | None = None,
) -> LoadReport:
    """Add a LoRA to a DiT. merge: into the weights, one at a time, in fp32, rounded once; otherwise beside them (PEFT).

    name: of the PEFT adapter. Nothing is changed when it raises InputError, for a strength that is not finite and as
    DitLora does.
    """
    if not math.isfinite(strength):
        raise InputError(f"strength {strength} is no number; use 1, or less for a weaker effect")
    owned = {
        key.replace(".base_layer.", "."): value for key, value in transformer.named_parameters() if ".lora_" not in key
    }
    with DitLora(path, {key: tuple(value.shape) for key, value in owned.items()}, layers) as lora:
        if merge:
            _merge(owned, lora, strength)
        else:
            _attach(transformer, lora, strength, name or Path(path).stem.replace(".", "_"))
        how = "merged" if merge else "beside the weights"
        rank = f"LoRA of rank {', '.join(map(str, lora.ranks))}" if lora.ranks else "differences"
        notes = (f"{len(lora.left_out)} tensors of other layers than self-attention and FFN left out",)
        return LoadReport(
            files=lora.source.files,
            kind=f"{rank} on {len(lora.names)} weights of the DiT, strength {strength:g}, {how}",
            consumed=lora.consumed,
            ignored=lora.ignored,
            notes=notes if lora.left_out else (),
        ).log()


@torch.no_grad()
def _merge(owned: Mapping[str, nn.Parameter], lora: DitLora, strength: float) -> None:
    plain = (torch.float32, torch.float16, torch.bfloat16)
    wrong = [name for name in lora.names if owned[name].is_meta or owned[name].dtype not in plain]
    if wrong:
        raise InputError(f"{some(wrong)} is offloaded or quantised; merge the LoRA before that, or use merge=False")
    for name in lora.names:  # a first pass that changes nothing: a broken LoRA must not leave half of itself behind
        lora.change(name)
    for name in lora.names:
        weight = owned[name]
        weight.copy_(weight.float().add_(lora.change(name, weight.device), alpha=strength))


def _attach(transformer: Any, lora: DitLora, strength: float, name: str) -> None:
    single = lora.only_differences()
    if single:
        raise InputError(
            f"{lora.source.path.name} changes {len(single)} weights directly ({some(single)}), which cannot stand "
            "beside them; merge it"
        )
    state = {}
    for weight in lora.names:
        stem = weight.removesuffix(".weight")
        state[f"{stem}.lora_B.weight"], state[f"{stem}.lora_A.weight"] = lora.halves(weight)
    here = getattr(transformer, "peft_config", {})
    strengths = {key: value for key, value in getattr(transformer, "_lora_strengths", {}).items() if key in here}
    if name in here:
        raise InputError(f"a LoRA called {name} is there already; give another name, or unload it first")
    transformer.load_lora_adapter(state, prefix=None, adapter_name=name)
    strengths[name] = strength
    transformer._lora_strengths = strengths
    transformer.set_adapters(list(strengths), list(strengths.values()))


class LoadsFiles:
    """What weight files add to a pipeline. Mixed into InstructXPipeline."""

    load_reports: tuple[LoadReport, ...] = ()  # what load_pipeline and load_dit_lora read, in order

    def load_dit_lora(
        self, path: str | Path, strength: float = 1.0, layers: str = "all", merge: bool = True, name: str | None = None
    ) -> LoadReport:
        """Add a LoRA file to the DiT; see apply_lora. layers="self" is for step-distilled ones (lightx2v, FastWan)."""
        report = apply_lora(self.transformer, path, strength, layers, merge, name)  # type: ignore[attr-defined]
        self.load_reports = (*self.load_reports, report)
        return report
