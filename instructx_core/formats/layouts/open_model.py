"""The opened files of one model: what the adapter is read with, a file of ours or Kiwi-Edit's, or its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .kiwi_folder import KiwiFolder, is_kiwi_folder, kiwi_folder
from .weight_file import OpenFiles, Paths, WeightFile


@dataclass(frozen=True)
class OpenFolder:
    """A Kiwi-Edit diffusers folder. adapter: (prefix of its tensors, file) of what is beside Qwen, Wan and the VAE."""

    path: Path
    folder: KiwiFolder
    adapter: tuple[tuple[str, WeightFile], ...]


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """The opened files of a model: the adapter, and the others as far as they are known."""

    adapter: WeightFile | OpenFolder
    text_encoder: WeightFile | None
    denoiser: WeightFile | None
    vae: WeightFile | None


def open_model(
    opened: OpenFiles,
    adapter: str | Path,
    *,
    text_encoder: Paths | None = None,
    denoiser: str | Path | None = None,
    vae: str | Path | None = None,
) -> OpenModel:
    """Open what is given; a Kiwi-Edit folder also gives the parts that are not."""
    path = Path(adapter)
    made: WeightFile | OpenFolder
    if is_kiwi_folder(path):
        folder = kiwi_folder(path)
        made = OpenFolder(path, folder, tuple((prefix, opened.open(file)) for prefix, file in folder.adapter))
        denoiser, vae = denoiser or folder.transformer, vae or folder.vae
        text_encoder = text_encoder or folder.text_encoder
    else:
        made = opened.open(path)
    return OpenModel(
        adapter=made,
        text_encoder=None if text_encoder is None else opened.open(text_encoder),
        denoiser=None if denoiser is None else opened.open(denoiser),
        vae=None if vae is None else opened.open(vae),
    )
