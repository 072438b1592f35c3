"""What a weight file or folder is, from its header alone: names, shapes, types, metadata; no tensor is read.

`instructx inspect` prints it, `instructx verify` and `instructx convert` decide by it. The tests in KINDS are tried in
order, the most specific first: an adapter also holds LoRA names, a Kiwi training file also holds a whole DiT.
Expected shapes and counts of the public files: docs/first-run-with-real-weights.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ...errors import some
from ..containers.opening import SUFFIXES
from ..layouts.checkpoints import folder_layout
from ..layouts.folders import KIWI_DIT, KIWI_EMBEDDERS, KIWI_VAE, MODEL_FOLDERS
from ..layouts.kiwi_folder import KIWI_ENCODER
from ..layouts.llama_cpp import is_projector_alone
from ..layouts.public_models import FOREIGN
from ..layouts.weight_file import OpenFiles, WeightFile
from .added_weights import adapter, kiwi_training, lora
from .base_models import NO_TEXT, projector, qwen, wan_dit, wan_vae
from .identity import Header, Identity, listed

KINDS: tuple[Callable[[Header], Identity | None], ...] = (adapter, kiwi_training, lora, wan_dit, wan_vae, qwen)


def identify(path: str | Path, opened: OpenFiles | None = None) -> Identity:
    """What lies at `path`: a .safetensors or .gguf file, an index of shards, or a folder.

    opened: keeps the files that were looked into for who reads them next. Raises InputError when nothing readable is
    there. A readable file of an unknown kind is Identity.kind "unknown".
    """
    if opened is None:
        with OpenFiles() as opened:
            return identify(path, opened)
    path = Path(path)
    found = _folder(path, opened) if path.is_dir() else None
    return identify_file(opened.open(path)) if found is None else found


def identify_file(file: WeightFile) -> Identity:
    """What an opened file is; asked once, and kept with it."""
    return file.once(_identity)


def _identity(file: WeightFile) -> Identity:
    header = Header(file)
    if is_projector_alone(file.source):
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


def _folder(root: Path, opened: OpenFiles) -> Identity | None:
    """A folder that is more than one model's shards; None for those."""
    layout = folder_layout(root)
    if layout is not None:
        return FOLDER_KINDS[layout.kind](root, opened)
    present = [name for name in MODEL_FOLDERS if (root / name).is_dir()]
    if "model_patches" in present or len(present) > 1:
        return _models_folder(root, present)
    if (root / "model_index.json").is_file():
        parts = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and any(entry.glob("*.safetensors*")))
        facts = (("parts", ", ".join(parts) or "none"),)
        takers = tuple(f"instructx inspect {root.name}/{part}" for part in parts if part in ("transformer", "vae"))
        return Identity(root, "diffusers-folder", "a diffusers pipeline", facts, (NO_TEXT,), takers)
    return None


def _kiwi_folder(root: Path, opened: OpenFiles) -> Identity:
    """The parts one by one: a folder of another author may lack some."""
    facts = {}
    for part in (KIWI_DIT, KIWI_VAE, *KIWI_EMBEDDERS):
        present = (root / part).is_dir() and any((root / part).glob("*.safetensors"))
        facts[part] = identify(root / part, opened).title if present else "missing"
    queries, dim = {}, 0
    if (root / KIWI_ENCODER).is_file():
        shapes = Header(opened.open(root / KIWI_ENCODER)).shapes
        named = ((name, f"{name}_queries") for name in ("image", "video", "ref"))
        queries = {name: shapes[key][0] for name, key in named if len(shapes.get(key, ())) == 2}
        dim = (shapes.get("connector.2.weight") or (0,))[0]
    facts["queries"] = listed(queries) or "missing"
    takers = (
        "node Load Checkpoint (InstructX), folder in models/diffusers",
        f"instructx convert {root.name} OUT.safetensors --to adapter | original",
    )
    values = {"queries": queries, "dim": dim}
    return Identity(
        root, "kiwi-folder", "Kiwi-Edit folder of diffusers", tuple(facts.items()), (NO_TEXT,), takers, values
    )


# Kind of a layout whose checkpoints are folders (layouts/checkpoints.py) -> what tells more about one.
FOLDER_KINDS: dict[str, Callable[[Path, OpenFiles], Identity]] = {"kiwi-folder": _kiwi_folder}


def _models_folder(root: Path, present: list[str]) -> Identity:
    counted = {}
    for name in present:
        files = [p for p in (root / name).rglob("*") if p.suffix in SUFFIXES and p.is_file()]
        counted[name] = len(files)
    facts = tuple((name, f"{count} files" if count != 1 else "1 file") for name, count in counted.items())
    missing = tuple(f"something in {name}" for name in MODEL_FOLDERS if not counted.get(name))
    takers = (f"instructx verify {root}", *(() if missing else (f"instructx edit --model {root}",)))
    return Identity(root, "models-folder", "a folder of models", facts, missing, takers, {"files": counted})
