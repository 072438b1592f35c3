"""What a file is, as data: what is looked at (Header, of an opened file) and what is said of it (Identity).

A layout tells its own checkpoints, telling/ the rest; inspect prints it, verify and convert decide by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..containers.quantisation import is_side_tensor
from .llama_cpp import LlamaCppSource
from .weight_file import WeightFile

Facts = tuple[tuple[str, str], ...]
NO_TEXT = "no T5: the connector takes the place of text prompts"
ENCODER_FILE = "Qwen2.5-VL-3B with its vision tower (models/text_encoders)"
MISSING = "missing"


@dataclass(frozen=True)
class Identity:
    """What a path holds. kind: a word for programs; title: a line for people; facts: (name, value) from its header.

    needs: what must lie beside it; taken_by: nodes and commands that take it, none where nothing here does.
    values: numbers for programs; an adapter has dim, hidden_size and channels of what it needs. readable: whether the
    library can turn its numbers into plain ones. parts: of a folder, each told by itself; None for one that is not
    there. brings: parts of a model (PARTS) in a checkpoint beside the adapter. wrong: what is incomplete or other than
    in the public file.
    """

    path: Path
    kind: str
    title: str
    facts: Facts = ()
    needs: tuple[str, ...] = ()
    taken_by: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    readable: bool = True
    parts: Mapping[str, Path | None] = field(default_factory=dict)
    brings: tuple[str, ...] = ()
    wrong: str | None = None

    def lines(self) -> list[str]:
        """One screen of text."""
        out = [f"{self.path.name}: {self.title}", *(f"  {name:<17}{value}" for name, value in self.facts)]
        for head, entries in (("needs", self.needs), ("taken by", self.taken_by or ("nothing in InstructX",))):
            out += [f"  {head if n == 0 else '':<17}{entry}" for n, entry in enumerate(entries)]
        return out

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        named = {"path": str(self.path), "kind": self.kind, "title": self.title, "facts": dict(self.facts)}
        return named | {"needs": list(self.needs), "taken_by": list(self.taken_by), **self.values}


class Header:
    """Names, shapes and types of a file without what stands beside quantised weights.

    shapes: tensor name -> shape. config_fact: the config in the metadata, nothing for files that carry none.
    """

    def __init__(self, file: WeightFile) -> None:
        """Raises InputError when a config or a quantisation in the file cannot be read."""
        self.file, source = file, file.source
        self.path, self.readable = file.path, file.readable
        self.numbers, self.quantisation = file.numbers.counted, file.numbers.quantisation
        self.gguf, self.llama_cpp = source.container == "GGUF", isinstance(source, LlamaCppSource)
        self.shapes = {key: source.shape(key) for key in source.keys() if not is_side_tensor(key)}
        self.count, self.bytes = len(source.keys()), sum(path.stat().st_size for path in file.files)
        config = file.config
        self.config_fact: Facts = (("config", f"{config.name} (profile {config.profile})"),) if config else ()

    def identity(
        self,
        kind: str,
        title: str,
        facts: Facts = (),
        needs: tuple[str, ...] = (),
        taken_by: tuple[str, ...] = (),
        values: Mapping[str, Any] | None = None,
        wrong: str | None = None,
        brings: tuple[str, ...] = (),
    ) -> Identity:
        """An Identity of this file; size and tensor count come first among its facts."""
        size = (("size", f"{_size(self.bytes)}, {self.count} tensors"),)
        numbers = {"tensors": self.count, "weights": len(self.shapes), "bytes": self.bytes}
        numbers |= {"quantisation": self.quantisation}
        known = {**numbers, **(values or {})}
        return Identity(
            self.path, kind, title, size + facts, needs, taken_by, known, self.readable, brings=brings, wrong=wrong
        )

    def unlike(self, *counts: int) -> str | None:
        """What is wrong where the file has none of these counts of tensors; None without any."""
        have = len(self.shapes)
        if not counts or have in counts:
            return None
        return f"{have} tensors instead of {counts[0]}: incomplete or changed, download it again"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"


def listed(values: Mapping[str, object]) -> str:
    """ "image 256, video 512"."""
    return ", ".join(f"{name} {value}" for name, value in values.items())
