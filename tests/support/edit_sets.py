"""Edit sets made by hand: tiny pictures and clips on disk, as records or as a plain folder of pairs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from instructx_core.data.readers.jsonl import write_records
from instructx_core.data.record import EditRecord, Locator
from instructx_core.media.files import write_video


def picture(path: Path, shade: int, size: tuple[int, int] = (64, 64)) -> Path:
    """A PNG of (height, width): a ramp to the right, `shade` in green."""
    height, width = size
    pixels_HWC = np.zeros((height, width, 3), np.uint8)
    pixels_HWC[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    pixels_HWC[..., 1] = shade % 256
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_HWC).save(path)
    return path


def clip(path: Path, frames: int, fps: int = 16, size: tuple[int, int] = (64, 64), shade: int = 0) -> Path:
    """Frame i is 5 i brighter than black in red and blue, `shade` in green: which frames were taken can be told."""
    pixels_FHWC = np.zeros((frames, *size, 3), np.uint8)
    pixels_FHWC[..., 0] = pixels_FHWC[..., 2] = (5 * np.arange(frames) % 256)[:, None, None]
    pixels_FHWC[..., 1] = shade % 256
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, pixels_FHWC, Fraction(fps), crf=0)
    return path


def pairs(folder: Path, images: int = 4, clips: int = 0, frames: int = 5, size: tuple[int, int] = (64, 64)) -> Path:
    """A plain folder: imageN_source.png, ..., clipN_source.mkv, ..., one instruction.txt."""
    for number in range(images):
        for word, shade in (("source", 0), ("target", 200)):
            picture(folder / f"image{number}_{word}.png", shade + number, size)
    for number in range(clips):
        for word, shade in (("source", 0), ("target", 200)):
            clip(folder / f"clip{number}_{word}.mkv", frames, size=size, shade=shade + number)
    (folder / "instruction.txt").write_text("make it green\n")
    return folder


def records(folder: Path, images: int = 4, clips: int = 2, references: int = 0, frames: int = 5) -> Path:
    """records.jsonl with media beside it; the first `references` of images and of clips have a reference."""
    made = []
    for modality, count, suffix in (("image", images, "png"), ("video", clips, "mkv")):
        for number in range(count):
            name, places = f"{modality}{number}", {}
            for word, shade in (("source", 0), ("target", 200)):
                path = folder / "media" / f"{name}_{word}.{suffix}"
                shade += number
                picture(path, shade) if modality == "image" else clip(path, frames, shade=shade)
                places[word] = Locator(str(path))
            if number < references:
                places["reference"] = Locator(str(picture(folder / "media" / f"{name}_reference.png", 90, (80, 64))))
            meta = {"score": float(number), "wordings": ["turn it green"]}
            task = ("color", "tone")[number % 2]
            made.append(EditRecord(name, task, modality, f"make it green, {number}", meta=meta, **places))
    write_records(folder / "records.jsonl", made)
    return folder / "records.jsonl"


def mixture(path: Path, sets: str, **rules: object) -> Path:
    """A mixture file of small clips: frames of 5, no rejects but those that a test allows."""
    lines = {"frames": [5], "max_rejects": 0.0} | rules
    text = "".join(f"{name} = {value!r}\n" for name, value in lines.items())
    path.write_text(text + sets)
    return path
