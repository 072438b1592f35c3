"""What a weight file or folder is, from its header alone: names, shapes, types, metadata; no tensor is read.

`instructx inspect` prints it, `instructx verify` and `instructx convert` decide by it. Layouts tell checkpoints
(layouts/checkpoints.py), before the tests in KINDS: an adapter also holds LoRA names, a Kiwi training file a whole DiT.
Expected shapes and counts of the public files: docs/first-run-with-real-weights.md.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from ...errors import some
from ..containers.opening import SUFFIXES
from ..layouts.checkpoints import folder_layout, layout_of
from ..layouts.folders import DIFFUSERS_DIT, DIFFUSERS_INDEX, DIFFUSERS_VAE, FOLDERS, MODEL_FOLDERS
from ..layouts.identity import MISSING, NO_TEXT, Header, Identity
from ..layouts.llama_cpp import is_projector_alone
from ..layouts.public_models import FOREIGN
from ..layouts.weight_file import OpenFiles
from .base_models import projector, qwen, wan_dit, wan_vae
from .lora import lora

# What is no checkpoint, tried in this order: a LoRA has names of its DiT.
KINDS: tuple[Callable[[Header], Identity | None], ...] = (lora, wan_dit, wan_vae, qwen)


def identify(path: str | Path, opened: OpenFiles | None = None) -> Identity:
    """What lies at `path`: a .safetensors or .gguf file, an index of shards, or a folder.

    opened: keeps the files that were looked into for who reads them next. Raises InputError when nothing readable is
    there. A readable file of an unknown kind is Identity.kind "unknown".
    """
    if opened is None:
        with OpenFiles() as opened:
            return identify(path, opened)
    path = Path(path)
    if path.is_dir() and folder_layout(path) is None and (found := _folder(path)) is not None:
        return found
    answer = layout_of(opened, path).tell(opened, path)
    return _part(opened.open(path).once(Header)) if answer is None else _with_parts(answer, opened)


def _with_parts(found: Identity, opened: OpenFiles) -> Identity:
    """With a fact for each part of a folder."""
    titles = {name: MISSING if part is None else identify(part, opened).title for name, part in found.parts.items()}
    return dataclasses.replace(found, facts=(*titles.items(), *found.facts))


def _part(header: Header) -> Identity:
    """A file that is no checkpoint."""
    if is_projector_alone(header.file.source):
        return projector(header)
    for test in KINDS:
        found = test(header)
        if found is not None:
            return found
    return _foreign(header)


def _foreign(header: Header) -> Identity:
    for mark, kind, title, why in FOREIGN:
        if any(re.search(mark, key) for key in header.shapes):
            return header.identity(kind, f"{title}; {why}", (("numbers", header.numbers),))
    first = some(list(header.shapes)) or "none"
    facts = (("numbers", header.numbers if header.shapes else "none"), ("tensors", first))
    return header.identity("unknown", "of no kind that InstructX knows", facts)


# --- folders -------------------------------------------------------------------------------------------------------


def _folder(root: Path) -> Identity | None:
    """A folder that is more than one model's shards and no checkpoint; None for those."""
    present = [name for name in MODEL_FOLDERS if (root / name).is_dir()]
    if FOLDERS["adapter"] in present or len(present) > 1:
        return _models_folder(root, present)
    if (root / DIFFUSERS_INDEX).is_file():
        parts = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and any(entry.glob("*.safetensors*")))
        facts = (("parts", ", ".join(parts) or "none"),)
        ours = [part for part in parts if part in (DIFFUSERS_DIT, DIFFUSERS_VAE)]
        takers = tuple(f"instructx inspect {root.name}/{part}" for part in ours)
        return Identity(root, "diffusers-folder", "a diffusers pipeline", facts, (NO_TEXT,), takers)
    return None


def _models_folder(root: Path, present: list[str]) -> Identity:
    counted = {}
    for name in present:
        files = [p for p in (root / name).rglob("*") if p.suffix in SUFFIXES and p.is_file()]
        counted[name] = len(files)
    facts = tuple((name, f"{count} files" if count != 1 else "1 file") for name, count in counted.items())
    missing = tuple(f"something in {name}" for name in MODEL_FOLDERS if not counted.get(name))
    takers = (f"instructx verify {root}", *(() if missing else (f"instructx edit --model {root}",)))
    return Identity(root, "models-folder", "a folder of models", facts, missing, takers, {"files": counted})
