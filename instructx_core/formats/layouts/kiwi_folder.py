"""What lies where in a Kiwi-Edit diffusers folder. Paths and settings only; weight_file.py opens what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ..containers.json_object import read_json
from .folders import (
    CONFIG_FILE,
    DIFFUSERS_DIT,
    DIFFUSERS_VAE,
    DIFFUSERS_WEIGHTS,
    KIWI_MLLM,
    KIWI_PROCESSOR,
    KIWI_REFERENCE,
    KIWI_SOURCE,
    TOKENIZER_FILE,
)


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
    """Whether a path is a Kiwi-Edit diffusers folder, whole or not."""
    return (path / KIWI_MLLM).is_dir()


def encoder_file(root: Path) -> Path:
    """Queries and connector."""
    return root / KIWI_MLLM / DIFFUSERS_WEIGHTS


def kiwi_folder(root: Path) -> KiwiFolder:
    """What lies where. Raises InputError naming what is missing."""
    mllm = root / KIWI_MLLM
    encoder = encoder_file(root)
    whole = (mllm / "model.safetensors.index.json", mllm / "model.safetensors")
    qwen = next((file for file in whole if file.is_file()), None)
    for file, what in ((encoder, "queries and connector"), (qwen or whole[0], "Qwen2.5-VL's weights")):
        if not file.is_file():
            raise InputError(f"no {file.relative_to(root)} in {root} ({what}); download the whole folder")
    adapter = [("", encoder)]
    for name in (KIWI_SOURCE, KIWI_REFERENCE):
        file = root / name / DIFFUSERS_WEIGHTS
        if file.is_file():
            adapter.append((f"{name}.", file))
    assert qwen is not None
    processor = root / KIWI_PROCESSOR
    configs = (folder / "qwen_config.json" for folder in (processor, mllm))
    first = _setting(root / KIWI_REFERENCE / CONFIG_FILE, "ref_pad_first", bool)
    return KiwiFolder(
        transformer=root / DIFFUSERS_DIT,
        vae=root / DIFFUSERS_VAE,
        text_encoder=qwen,
        qwen_config=next((file for file in configs if file.is_file()), None),
        tokenizer=next((f for f in (processor, mllm) if (f / TOKENIZER_FILE).is_file()), processor),
        adapter=tuple(adapter),
        reference_first=None if first is None else bool(first),
        object_tokens=_setting(mllm / CONFIG_FILE, "max_object_token", int),
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
