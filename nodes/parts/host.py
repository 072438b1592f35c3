"""The host's symbols that the nodes use, all in one place: when ComfyUI renames one, it is mended here.

Everything is imported inside the functions, so that a renamed symbol breaks the node that uses it and not the pack.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# By model folder, its .gguf files: the roots, all folders that were walked with their dates, the names found.
_gguf_lists: dict[str, tuple[list[str], dict[str, float], list[str]]] = {}


def shipped_files(folder: str) -> dict[str, Path]:
    """The files of the shipped tiny model that belong into a model folder, by name. The host's lists have none."""
    from ...instructx_core.formats.layouts.folders import SHIPPED

    return {path.name: path for path in sorted((SHIPPED / folder).glob("*.safetensors"))}


def listed_files(folder: str) -> list[str]:
    """Names of the files in the host's own list of a model folder."""
    import folder_paths

    return list(folder_paths.get_filename_list(folder))


def model_files(folder: str) -> list[str]:
    """Names of the files that our loaders offer for a model folder, sorted: the host's and the shipped ones."""
    return sorted({*listed_files(folder), *shipped_files(folder)})


def before_each_prompt(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Has the host give every request for a run to `change` before it checks its graph."""
    module = sys.modules.get("server")  # the host has imported it; who only loads the pack has no server
    server = getattr(getattr(module, "PromptServer", None), "instance", None)
    if server is not None:
        server.add_on_prompt_handler(change)


def gguf_files(folder: str) -> list[str]:
    """Names of the .gguf files in a model folder, which the host's own list leaves out, sorted.

    As the host does with its list, the folders are walked again only when one of them has changed.
    """
    import folder_paths

    roots = [root for root in folder_paths.get_folder_paths(folder) if Path(root).is_dir()]
    if folder in _gguf_lists:
        known_roots, dates, names = _gguf_lists[folder]
        if known_roots == roots and all(_date(path) == date for path, date in dates.items()):
            return names
    walked = [folder_paths.recursive_search(root, [".git"]) for root in roots]
    dates = {path: date for _, folders in walked for path, date in folders.items()}
    names = sorted({name for files, _ in walked for name in files if name.lower().endswith(".gguf")})
    _gguf_lists[folder] = roots, dates, names
    return names


def _date(path: str) -> float | None:
    return os.path.getmtime(path) if os.path.isdir(path) else None


def model_folders(folder: str, wanted: Callable[[Path], bool]) -> list[str]:
    """Names of the folders in a model folder that are wanted, sorted."""
    import folder_paths

    roots = [Path(root) for root in folder_paths.get_folder_paths(folder)]
    entries = (entry for root in roots if root.is_dir() for entry in root.iterdir())
    return sorted({entry.name for entry in entries if entry.is_dir() and wanted(entry)})


def model_path(folder: str, name: str) -> Path:
    """Full path of a file, or of a folder, below one of the host's model folders; else of a shipped file.

    Raises ValueError where there is none, or when the name leads out of the model folders.
    """
    import folder_paths

    for root in folder_paths.get_folder_paths(folder):
        path = (Path(root) / name).resolve()
        if path.exists() and path.is_relative_to(Path(root).resolve()):
            return path
    if name in shipped_files(folder):
        return shipped_files(folder)[name]
    raise ValueError(f"no {name} in models/{folder}; put it there and refresh the browser page (key R)")


def output_folder() -> str:
    import folder_paths

    return str(folder_paths.get_output_directory())


def file_state(name: str) -> tuple[int, ...] | None:
    """Size and date of the files that a widget's value names: in the model folders, the input folder, the pack."""
    import folder_paths

    from ...instructx_core.formats.layouts.folders import MODEL_FOLDERS, SHIPPED

    if not name or "\n" in name or len(name) > 255:
        return None
    roots = [root for folders, *_ in folder_paths.folder_names_and_paths.values() for root in folders]
    states = []
    roots += [str(SHIPPED / folder) for folder in MODEL_FOLDERS]
    for path in sorted({os.path.join(root, name) for root in [*roots, folder_paths.get_input_directory()]}):
        if os.path.isfile(path):
            states += [os.path.getsize(path), os.stat(path).st_mtime_ns]
    return tuple(states) or None


def qwen_tokenizer() -> Path | None:
    """Folder of Qwen2.5's tokenizer in the host's own tree; None where the host has none."""
    import comfy

    folder = Path(comfy.__path__[0]) / "text_encoders" / "qwen25_tokenizer"
    return folder if folder.is_dir() else None


def new_patcher(module: Any, load_device: Any, offload_device: Any) -> Any:
    """A ModelPatcher around a module: the host loads, offloads and evicts it like its own models.

    The plain class on every host: the dynamic one of newer hosts knows the weights of its own layers only.
    """
    from comfy.model_patcher import ModelPatcher

    return ModelPatcher(module, load_device=load_device, offload_device=offload_device)


def load_models(patchers: Sequence[Any], memory_required: int = 0) -> None:
    """Makes room and loads models, partially where the memory is short."""
    from comfy import model_management

    model_management.load_models_gpu(list(patchers), memory_required=memory_required)


def encoder_devices(choice: str) -> tuple[Any, Any]:
    """(load, offload) devices for `auto` (the host's choice for text encoders) or `cpu`; ValueError for others."""
    import torch
    from comfy import model_management

    if choice not in ("auto", "cpu"):
        raise ValueError(f"device is {choice!r}; use auto or cpu")
    if choice == "cpu":
        return torch.device("cpu"), torch.device("cpu")
    return model_management.text_encoder_device(), model_management.text_encoder_offload_device()


def prefers_bf16(device: Any) -> bool:
    """True where the host computes in bfloat16 on `device`."""
    from comfy import model_management

    return bool(model_management.should_use_bf16(device))


def cast_ops() -> Any:
    """The host's layer classes that cast their weights to the input, from whatever device they lie on."""
    from comfy import ops

    return ops.manual_cast


def cast_to(tensor: Any, dtype: Any, device: Any, copy: bool) -> Any:
    """A weight on another device and in another dtype, as the host does it."""
    from comfy import model_management

    return model_management.cast_to(tensor, dtype, device, copy=copy)


def language() -> str:
    """The language that the artist chose in the settings, e.g. "en" or "zh"; "en" where nothing is stored."""
    import json

    import folder_paths

    file = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
    try:
        chosen = json.loads(file.read_text(encoding="utf-8")).get("Comfy.Locale")
    except (OSError, ValueError, AttributeError):
        return "en"
    return chosen if isinstance(chosen, str) else "en"


def check_interrupted() -> None:
    """Raises the host's interrupt exception after the artist pressed Cancel."""
    from comfy import model_management

    model_management.throw_exception_if_processing_interrupted()


def progress_bar(total: int) -> Any:
    """The node's progress bar: .update(1), .update_absolute(n)."""
    from comfy.utils import ProgressBar

    return ProgressBar(total)
