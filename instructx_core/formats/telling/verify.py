"""`instructx verify`: are the files of a models folder what they claim to be, whole, and do some work together?

Walks the subfolders that ComfyUI and we use, identifies every file, compares counts with those of the public models
(docs/first-run-with-real-weights.md) and looks for the DiT, VAE and encoder of every adapter. Headers only, unless
`full`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ...errors import InputError
from ..containers.opening import SUFFIXES
from ..containers.quantised import dequantised
from ..containers.strict import is_finite
from ..containers.tensor_source import TensorSource
from ..layouts.checkpoints import folder_layout, is_checkpoint
from ..layouts.folders import MODEL_FOLDERS, SEARCHED
from ..layouts.identity import Identity
from ..layouts.llama_cpp import is_projector
from ..layouts.weight_file import OpenFiles
from .identify import identify
from .model_sets import combine

# Kinds of files that something here works with, beside checkpoints.
PARTS = ("wan-dit", "wan-vae", "qwen2.5-vl", "qwen-vision", "dit-lora")


@dataclass(frozen=True)
class Check:
    """One line of the result. state: ok, bad, or other (a readable file that InstructX does not use)."""

    path: Path
    state: str
    text: str
    identity: Identity | None = None


@dataclass(frozen=True)
class Verification:
    """checks: one a file. sets: what works together, one line each; incomplete: adapters without their parts."""

    checks: tuple[Check, ...]
    sets: tuple[str, ...]
    incomplete: tuple[str, ...]

    @property
    def good(self) -> bool:
        return bool(self.sets) and not any(check_path.state == "bad" for check_path in self.checks)

    def lines(self, root: Path) -> list[str]:
        """Text for people, bad files first."""
        order = {"bad": 0, "ok": 1, "other": 2}
        ordered = sorted(self.checks, key=lambda check_path: (order[check_path.state], str(check_path.path)))
        out = [f"{c.state:<6}{c.path.relative_to(root) if c.path != root else c.path.name}: {c.text}" for c in ordered]
        out += [f"set   {line}" for line in self.sets] + [f"lacks {line}" for line in self.incomplete]
        return out if self.sets else [*out, "no set of files here works together yet"]


def verify(root: str | Path, full: bool = False) -> Verification:
    """Check a models folder (ComfyUI's, ours, or one Kiwi-Edit folder). full: also read every tensor for NaN.

    Raises InputError when the folder holds no weight file at all.
    """
    root = Path(root)
    checks: list[Check] = []
    for together in _groups(model_paths(root)):
        with OpenFiles() as opened:
            checks += [check_path(path, full, opened) for path in together]
    if not checks:
        places = ", ".join(MODEL_FOLDERS)
        raise InputError(f"no weight file in {root}; give a folder with {places} or a Kiwi-Edit folder")
    found = [c.identity for c in checks if c.state != "bad" and c.identity is not None]
    sets, incomplete = combine(found)
    return Verification(tuple(checks), tuple(sets), tuple(incomplete))


def model_paths(root: Path) -> Iterator[Path]:
    """Files and folders that each hold one model. Raises InputError when root is no folder."""
    if not root.is_dir():
        raise InputError(f"no folder {root}; check the path")
    if folder_layout(root) is not None:
        yield root
        return
    for place in SEARCHED:
        for entry in sorted((root / place).iterdir()) if (root / place).is_dir() else ():
            is_folder = entry.is_dir() and (any(entry.glob("*.safetensors*")) or folder_layout(entry) is not None)
            if is_folder or (entry.suffix in SUFFIXES and entry.is_file()):
                yield entry


def _groups(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """One path each, but GGUF files of a folder together: a language model opens its vision tower, which comes last."""
    for _, together in groupby(paths, lambda path: path.parent if path.suffix == ".gguf" else path):
        yield sorted(together, key=lambda path: is_projector(path.name))


def check_path(path: Path, full: bool, opened: OpenFiles) -> Check:
    """One file or folder. opened: what was opened for its neighbours."""
    try:
        found = identify(path, opened)
        if found.wrong is None and full and _used(found.kind):
            read_all(path, opened)
    except InputError as error:
        return Check(path, "bad", str(error))
    if found.wrong is not None:
        return Check(path, "bad", f"{found.title}; {found.wrong}", found)
    return Check(path, "ok" if _used(found.kind) else "other", found.title, found)


def _used(kind: str) -> bool:
    """Whether something here works with it; other kinds are named and left alone."""
    return kind in PARTS or is_checkpoint(kind)


def read_all(path: Path, opened: OpenFiles) -> None:
    """Read every tensor once. Raises InputError on the first that is not finite or cannot be read."""
    if not path.is_dir():
        for part in opened.open(path).source.parts:
            if part.path == path:  # without the vision tower, which has a line of its own
                _read_finite(dequantised(part))
        return
    read = {part for file in opened for part in file.files}
    for other in sorted(set(path.rglob("*.safetensors")) - read):
        opened.open(other)
    for file in opened:
        for source in (file.plain,) if file.numbers.quantisation else file.source.parts:
            _read_finite(source)


def _read_finite(source: TensorSource) -> None:
    for key in source.keys():
        tensor = source.get(key)
        if tensor.is_floating_point() and not is_finite(tensor):
            raise InputError(f"{source.path.name}: {key} holds NaN or infinity; download it again")
