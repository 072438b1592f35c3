"""Where the files of one model lie: a folder in ComfyUI's layout, a Kiwi-Edit folder, or files given one by one."""

from __future__ import annotations

import dataclasses
import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ...errors import InputError
from ..containers.opening import SUFFIXES
from .checkpoints import checkpoint_files, folder_layout
from .folders import FOLDERS, PARTS, TOKENIZER_FILE, TOKENIZER_PAIR
from .llama_cpp import is_projector
from .weight_file import OpenFiles

if TYPE_CHECKING:
    from typing_extensions import Unpack

_WHAT = {
    "denoiser": "the Wan DiT",
    "vae": "the Wan VAE",
    "text_encoder": "Qwen2.5-VL-3B with its vision tower",
    "adapter": "an InstructX adapter or a Kiwi-Edit file",
    "tokenizer": "tokenizer.json or the folder with Qwen's vocab.json and merges.txt",
}


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """The four weight files and the tokenizer of one model, wherever they lie; folders of weights count as files.

    adapter: a file of ours, or a Kiwi-Edit training file or folder. denoiser may be the same training file.
    """

    denoiser: Path
    vae: Path
    text_encoder: Path
    adapter: Path
    tokenizer: Path


@dataclass(frozen=True, kw_only=True)
class BaseFiles:
    """The public models that a new InstructX is trained from, with Qwen's tokenizer; folders of weights are files."""

    denoiser: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path


class PartPaths(TypedDict, total=False):
    """Parts of a model, given one by one; None for those that are not."""

    denoiser: str | Path | None
    vae: str | Path | None
    text_encoder: str | Path | None
    adapter: str | Path | None
    tokenizer: str | Path | None


def find_files(source: str | Path | None, name: str | None = None, **given: Unpack[PartPaths]) -> CheckpointFiles:
    """The files of a model. given: parts (PARTS) that lie elsewhere.

    source: a folder in ComfyUI's layout (`name` X is needed when a subfolder holds several), a Kiwi-Edit diffusers
    folder, or an adapter file, whose other parts must be given; a Kiwi-Edit training file with the whole DiT needs no
    denoiser. Raises InputError naming what is missing, ambiguous or unknown.
    """
    with OpenFiles() as opened:
        return files_of(source, name, given, opened)


def files_of(source: str | Path | None, name: str | None, given: PartPaths, opened: OpenFiles) -> CheckpointFiles:
    """See find_files. opened: keeps a file that had to be looked into for who reads it next."""
    parts = {part: Path(str(path)) for part, path in given.items() if path is not None}
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise InputError(f"{unknown[0]} is no part of a model; the parts are {', '.join(PARTS)}")
    if source is not None:
        root = Path(source)
        if folder_layout(root) is not None:
            parts = checkpoint_files(opened, root) | parts
        elif root.is_file():
            parts = {"adapter": root} | parts
        else:
            parts = _of_ours(root, name, tuple(parts)) | parts
    if "denoiser" not in parts and "adapter" in parts:
        parts = checkpoint_files(opened, parts["adapter"]) | parts
    if "tokenizer" not in parts and "text_encoder" in parts:
        parts |= _tokenizer_near(parts["text_encoder"])
    missing = [part for part in PARTS if part not in parts]
    if missing:
        raise InputError(f"no {missing[0]} was given; give {missing[0]}=, {_WHAT[missing[0]]}")
    return CheckpointFiles(**parts)


def find_base(folder: Path | None, given: dict[str, Path]) -> BaseFiles:
    """The public files of a base model: in a folder of ComfyUI's layout or of diffusers, or `given` part by part.

    Raises InputError naming what is missing.
    """
    names = [field.name for field in dataclasses.fields(BaseFiles)]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InputError(f"{unknown[0]} is no part of a base model; the parts are {', '.join(names)}")
    parts = dict(given)
    if folder is not None and (folder / "transformer").is_dir():  # as Wan is published for diffusers
        parts = {"denoiser": folder / "transformer", "vae": folder / "vae"} | parts
    elif folder is not None:
        parts = _of_ours(folder, None, (*given, "adapter")) | parts
        if not parts["tokenizer"].exists():
            del parts["tokenizer"]
    if "tokenizer" not in parts and "text_encoder" in parts:
        parts |= _tokenizer_near(parts["text_encoder"])
    missing = [name for name in names if name not in parts]
    if missing:
        raise InputError(f"no {missing[0]} was given; give --part {missing[0]}=FILE, {_WHAT[missing[0]]}")
    absent = [name for name in names if not parts[name].exists()]
    if absent:
        raise InputError(f"no {parts[absent[0]]} for {absent[0]}; give {_WHAT[absent[0]]}")
    return BaseFiles(**parts)


def _of_ours(root: Path, name: str | None, given: tuple[str, ...]) -> dict[str, Path]:
    if not root.is_dir():
        raise InputError(f"no folder {root}; give a folder with {', '.join(FOLDERS.values())}")
    found = {"tokenizer": root / TOKENIZER_FILE}
    for part, sub in FOLDERS.items():
        if part in given:
            continue
        stem = "*" if name is None else glob.escape(name)
        files = sorted(file for suffix in SUFFIXES for file in (root / sub).glob(stem + suffix))
        files = [file for file in files if not is_projector(file.name)]  # it belongs to the language model beside it
        if not files:
            raise InputError(
                f"no {sub}/{name or '*'}.safetensors in {root}; a checkpoint needs one file in each of its folders"
            )
        if len(files) > 1:
            names = ", ".join(file.stem for file in files)
            raise InputError(f"{root / sub} holds several files ({names}); pick one with name=")
        found[part] = files[0]
    return found


def _tokenizer_near(text_encoder: Path) -> dict[str, Path]:
    """tokenizer.json, or vocab.json with merges.txt, in the folder of Qwen's weights, as on the model hub."""
    folder = text_encoder if text_encoder.is_dir() else text_encoder.parent
    pair = (folder / name for name in TOKENIZER_PAIR)
    if (folder / TOKENIZER_FILE).is_file() or all(file.is_file() for file in pair):
        return {"tokenizer": folder}
    return {}
