"""What a LoRA file adds to the Wan DiT: alpha / rank * up @ down, and whole differences, in fp32.

lora_names.py matches the names; lora.py puts the result into a model, forms/merged.py into a file. layers="self" takes
self-attention and FFN only: distilled LoRAs were made with text features in cross-attention, which InstructX replaces.
"""

from __future__ import annotations

import json
import math
from typing import Any, cast

import torch
from torch import Tensor

from ...errors import InputError
from ..containers.json_object import read_json
from ..containers.strict import read_weight
from ..containers.tensor_source import FLOATS, TensorSource
from .dit_sizes import Shapes
from .lora_names import LAYERS, Layers, match_lora
from .weight_file import WeightFile


class DitLora:
    """An opened LoRA file, matched to a DiT.

    shapes: name in InstructXTransformer3DModel -> shape. names: those that the file changes. ignored: names in the file
    that match no layer. left_out: those that `layers` leaves out. Raises InputError when nothing matches, a half is
    missing, shapes do not fit, or the file is of another kind (LoKr, DoRA, ...).
    """

    def __init__(self, file: WeightFile, shapes: Shapes, layers: str = "all") -> None:
        if layers not in LAYERS:
            raise InputError(f"layers {layers!r} is unknown; use {' or '.join(LAYERS)}")
        self.source = file.plain
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._default = _default_scale(self.source)
        found = match_lora(self.source, self._shapes, cast("Layers", layers))
        self._parts, self.ignored, self.left_out = found.parts, found.ignored, found.left_out
        for name in self._parts:
            self._check(name)

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


def _default_scale(source: TensorSource) -> float:
    """alpha / rank where PEFT wrote it apart from the tensors: in the metadata or an adapter_config.json. Otherwise 1.

    Raises InputError for settings by layer, which no public Wan LoRA has.
    """
    beside = source.files[0].parent / "adapter_config.json"
    try:
        settings: Any = json.loads(source.metadata.get("lora_adapter_metadata", "null"))
        if settings is None and beside.is_file():
            settings = read_json(beside)
        if settings is None:
            return 1.0
        named = {key.rpartition(".")[2]: value for key, value in settings.items()}
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
