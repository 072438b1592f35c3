"""What lies where in a Kiwi-Edit diffusers folder. Paths and settings only; weight_file.py opens what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ..containers.json_object import read_json
from .folders import KIWI_DIT, KIWI_EMBEDDERS, KIWI_MLLM, KIWI_VAE

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"  # diffusers' name for the weights of a part
KIWI_ENCODER = f"{KIWI_MLLM}/{WEIGHTS_FILE}"  # queries and connector; by it a folder is known


@dataclass(frozen=True, kw_only=True)
class KiwiFolder:
    """Files of a diffusers folder. adapter: what is beside Qwen, Wan and the VAE.

    reference_first, object_tokens: None where its config files do not say.
    """

    transformer: Path
    vae: Path
    text_encoder: Path
    qwen_config: Path | None
    tokenizer: Path
    adapter: tuple[tuple[str, Path], ...]  # (prefix of its tensors, file)
    reference_first: bool | None
    object_tokens: int | None


def is_kiwi_folder(path: Path) -> bool:
    """Whether a path looks like a Kiwi-Edit diffusers folder."""
    return (path / KIWI_MLLM).is_dir() and (path / KIWI_DIT).is_dir()


def kiwi_folder(root: Path) -> KiwiFolder:
    """What lies where. Raises InputError naming what is missing."""
    mllm = root / KIWI_MLLM
    encoder = root / KIWI_ENCODER
    whole = (mllm / "model.safetensors.index.json", mllm / "model.safetensors")
    qwen = next((file for file in whole if file.is_file()), None)
    for file, what in ((encoder, "queries and connector"), (qwen or whole[0], "Qwen2.5-VL's weights")):
        if not file.is_file():
            raise InputError(f"no {file.relative_to(root)} in {root} ({what}); download the whole folder")
    adapter = [("", encoder)]
    for name in KIWI_EMBEDDERS:
        file = root / name / WEIGHTS_FILE
        if file.is_file():
            adapter.append((f"{name}.", file))
    assert qwen is not None
    configs = (root / "processor" / "qwen_config.json", mllm / "qwen_config.json")
    first = _setting(root / KIWI_EMBEDDERS[1] / "config.json", "ref_pad_first", bool)
    return KiwiFolder(
        transformer=root / KIWI_DIT,
        vae=root / KIWI_VAE,
        text_encoder=qwen,
        qwen_config=next((file for file in configs if file.is_file()), None),
        tokenizer=next((f for f in (root / "processor", mllm) if (f / "tokenizer.json").is_file()), root / "processor"),
        adapter=tuple(adapter),
        reference_first=None if first is None else bool(first),
        object_tokens=_setting(mllm / "config.json", "max_object_token", int),
    )


def _setting(file: Path, name: str, kind: type) -> int | None:
    """A value of a config.json; None where the file or the value is absent. Raises InputError on another type."""
    if not file.is_file():
        return None
    value = read_json(file).get(name)
    if value is not None and type(value) is not kind:
        raise InputError(
            f"{file.parent.name}/{file.name}: {name} is {str(value)[:40]!r}, no {kind.__name__}; download it again"
        )
    return value
