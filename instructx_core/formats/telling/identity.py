"""What identify looks at (Header) and what it says (Identity)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..containers.tensor_source import TensorSource
from ..layouts.llama_cpp import LlamaCppSource

WRAPPERS = re.compile(r"^(model\.diffusion_model|diffusion_model)\.")  # of single-file repackagings
# What stands beside a quantised weight: never part of a model's own names.
SCALES = (".scale_weight", ".scale_input", ".weight_scale", ".weight_scale_2", ".input_scale", ".comfy_quant",
          ".pre_quant_scale")  # fmt: skip
FP8 = ("F8_E4M3", "F8_E5M2")
PLAIN = ("F32", "F16", "BF16", "F64")


def bare_dit(key: str) -> str:
    """Name of a DiT tensor without the wrapper of a repackaging."""
    return WRAPPERS.sub("", key)


@dataclass(frozen=True)
class Identity:
    """What a path holds. kind: a word for programs; title: a line for people; facts: (name, value) from its header.

    needs: what must lie beside it; taken_by: nodes and commands that take it, none where nothing here does.
    values: numbers for programs.
    """

    path: Path
    kind: str
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    taken_by: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One screen of text."""
        out = [f"{self.path.name}: {self.title}", *(f"  {name:<17}{value}" for name, value in self.facts)]
        for head, entries in (("needs", self.needs), ("taken by", self.taken_by or ("nothing in InstructX",))):
            out += [f"  {head if n == 0 else '':<17}{entry}" for n, entry in enumerate(entries)]
        return out

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "path": str(self.path), "kind": self.kind, "title": self.title, "facts": dict(self.facts),
            "needs": list(self.needs), "taken_by": list(self.taken_by), **self.values,
        }  # fmt: skip


class Header:
    """Names, shapes and types of a source without the scales of quantised weights, and what can be said of its numbers.

    shapes: tensor name -> shape. config: name of the InstructXConfig in the metadata, None for other files.
    """

    def __init__(self, source: TensorSource) -> None:
        """Raises InputError when a config in the metadata cannot be read."""
        self.path = source.path
        self.gguf = source.path.suffix.lower() == ".gguf"
        self.llama_cpp = isinstance(source, LlamaCppSource)
        keys = source.keys()
        model = [key for key in keys if not key.endswith(SCALES) and bare_dit(key) != "scaled_fp8"]
        self.shapes = {key: source.shape(key) for key in model}
        self.types = Counter(source.dtype(key) for key in model)
        self.count, self.bytes = len(keys), sum(file.stat().st_size for file in source.files)
        self.quantisation = quantisation(source, self.types)
        self.config = _config_name(source)

    @property
    def numbers(self) -> str:
        """Types and quantisation for people: "BF16", "fp8_scaled (F8_E4M3 300, F16 525)"."""
        if len(self.types) == 1 and self.quantisation is None:
            return next(iter(self.types))
        counted = ", ".join(f"{name} {count}" for name, count in self.types.most_common())
        return counted if self.quantisation is None else f"{self.quantisation} ({counted})"

    @property
    def readable(self) -> bool:
        """Whether the library can turn these numbers into plain ones."""
        return self.quantisation in (None, "fp8", "fp8_scaled", "GGUF")

    @property
    def config_fact(self) -> tuple[tuple[str, str], ...]:
        return (("config", self.config),) if self.config else ()

    def identity(
        self, kind: str, title: str, facts: tuple[tuple[str, str], ...] = (), needs: tuple[str, ...] = (),
        taken_by: tuple[str, ...] = (), values: Mapping[str, Any] | None = None,
    ) -> Identity:  # fmt: skip
        """An Identity of this file; size and tensor count come first among its facts."""
        size = (("size", f"{_size(self.bytes)}, {self.count} tensors"),)
        numbers = {"tensors": self.count, "weights": len(self.shapes), "bytes": self.bytes}
        numbers |= {"quantisation": self.quantisation}
        return Identity(self.path, kind, title, size + facts, needs, taken_by, {**numbers, **(values or {})})


def quantisation(source: TensorSource, types: Counter[str]) -> str | None:
    """ "fp8", "fp8_scaled", "GGUF", a format's own name such as "nvfp4", or None for plain numbers."""
    if source.path.suffix.lower() == ".gguf":
        return "GGUF"
    formats = _declared_formats(source)
    if formats:
        return ", ".join(sorted({"fp8_scaled" if name.startswith("float8") else name for name in formats}))
    keys = source.keys()
    if any(key.endswith(".comfy_quant") for key in keys):
        packed = any(key.endswith(".weight_scale_2") for key in keys)
        return "nvfp4" if packed else "fp8_scaled" if any(name in types for name in FP8) else "int8"
    if any(key.endswith((".scale_weight", ".weight_scale")) or bare_dit(key) == "scaled_fp8" for key in keys):
        return "fp8_scaled"
    return "fp8" if any(name in types for name in FP8) else None


def _declared_formats(source: TensorSource) -> set[str]:
    """Formats in the metadata entry of ComfyUI's quantised files."""
    text = source.metadata.get("_quantization_metadata")
    if text is None:
        return set()
    try:
        layers = json.loads(text)["layers"]
        return {str(layer["format"]) for layer in layers.values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{source.path.name} has unreadable quantisation metadata; download it again") from None


def _config_name(source: TensorSource) -> str | None:
    from ...config import InstructXConfig
    from ..containers.tensorfile import METADATA_KEY

    text = source.metadata.get(METADATA_KEY)
    if text is None:
        return None
    try:
        config = InstructXConfig.from_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source.path.name} carries an unreadable config ({error}); use the file as it was") from None
    return f"{config.name} (profile {config.profile})"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"
