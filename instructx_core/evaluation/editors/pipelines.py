"""Pipelines of diffusers as editors, from weights that lie on this machine: the field's open baselines in one harness.

Place: items -> pipelines -> outputs. A pipeline is told what it takes, and nothing is made up for it: an item with a
reference is no item for one that has no place for it. Results keep the size that the pipeline gives.
Shapes: frames_FHWC uint8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ...digests import file_digest, weights_digest
from ...editing.fit import pad_clip
from ...errors import InputError
from ...media.base import Media
from ...media.files import read_image, read_media, write_image, write_video
from ...precision import usual_dtype
from ..objects import read_object
from .adapters import ADAPTERS, FIXED_SIZE, PipelineCall, resized_picture
from .run import EditTask

TEMPORAL = 4  # Wan: 4n+1 frames
CONFIGURATIONS = (".json", ".txt", ".model", ".jinja")  # of a folder of weights: what is no weight and changes results


class PipelineEditor:
    """weights: what identifies them (pipeline_digest). steps, guidance: None is the pipeline's own. max_pixels: largest
    area; the source's shape is kept."""

    def __init__(
        self,
        pipe: Any,
        adapter: str,
        name: str | None = None,
        weights: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self.pipe, self.key, self.adapter, self.name = pipe, adapter, ADAPTERS[adapter], name or adapter
        self.weights, self.steps, self.guidance, self.max_pixels = weights, steps, guidance, max_pixels

    @property
    def settings(self) -> Mapping[str, Any]:
        names = {"steps": self.steps, "guidance": self.guidance, "max_pixels": self.max_pixels}
        return {"kind": "diffusers", "pipeline": self.adapter.kind, "weights": self.weights, **names}

    def edit(self, task: EditTask) -> None:
        """Raises InputError for an item that the pipeline cannot be asked."""
        item, adapter = task.item, self.adapter
        if item.modality != adapter.modality:
            raise InputError(f"{adapter.kind} edits {_plural(adapter.modality)}, not {_plural(item.modality)}")
        if task.reference is not None and not adapter.takes_reference:
            raise InputError(f"{adapter.kind} takes no reference picture")
        media = read_media(task.source)
        frames_FHWC = media.frames_FHWC
        if adapter.modality == "video":
            frames_FHWC = pad_clip(frames_FHWC, TEMPORAL)
        size = self._size(*frames_FHWC.shape[1:3])
        frames = [Image.fromarray(frame) for frame in frames_FHWC]
        if self.key in FIXED_SIZE and size is not None:
            frames = [resized_picture(frame, size) for frame in frames]
        reference = None if task.reference is None else Image.fromarray(read_image(task.reference))
        call = PipelineCall(str(item.meta.get("target_prompt") or item.instruction), frames, reference, size)
        result = self._run(call, task.seed)
        self._write(task.output, result[: len(media.frames_FHWC)], media)

    def _size(self, height: int, width: int) -> tuple[int, int] | None:
        """(H, W) in the pipeline's multiple, at most max_pixels; None: left to the pipeline."""
        if self.max_pixels is None and self.key not in FIXED_SIZE:
            return None
        scale = 1.0 if self.max_pixels is None else min(1.0, (self.max_pixels / (height * width)) ** 0.5)
        multiple = self.adapter.multiple
        sides = [max(multiple, round(side * scale / multiple) * multiple) for side in (height, width)]
        return sides[0], sides[1]

    def _run(self, call: PipelineCall, seed: int) -> np.ndarray:
        given: dict[str, Any] = {"prompt": call.instruction, **self.adapter.arguments(call)}
        if self.steps is not None:
            given["num_inference_steps"] = self.steps
        if self.guidance is not None:
            given[self.adapter.guidance] = self.guidance
        generator, device = torch.Generator("cpu").manual_seed(seed), torch.device(self.pipe.device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)  # OmniGen draws the latents of its pictures beside the generator
            result = self.pipe(**given, generator=generator, output_type="np")
        pixels = np.asarray(result.frames[0] if self.adapter.modality == "video" else result.images)
        if not np.isfinite(pixels).all():
            raise InputError(f"{self.adapter.kind} gave numbers that are not finite; try another --dtype")
        return (np.clip(pixels, 0.0, 1.0) * 255.0).round().astype(np.uint8)

    def _write(self, output: Path, frames_FHWC: np.ndarray, media: Media) -> None:
        if media.is_video:
            write_video(output, frames_FHWC, media.fps or 16)
        else:
            write_image(output, frames_FHWC[0])


def _plural(modality: str) -> str:
    return "pictures" if modality == "image" else "clips"


def open_pipeline(spec: str, device: torch.device, dtype: str | None) -> tuple[Any, str, str]:
    """NAME:DIR -> a pipeline of that kind, its adapter's name and what identifies its weights. Raises InputError for an
    unknown name, a folder that is none, weights of another kind. Nothing is downloaded."""
    name, _, place = spec.partition(":")
    if name not in ADAPTERS or not place:
        raise InputError(f"--diffusers {spec!r}: use NAME:DIR with NAME one of {', '.join(ADAPTERS)}")
    if not (Path(place) / "model_index.json").is_file():
        raise InputError(f"{place}: no model_index.json in it; give the folder of a diffusers model")
    _check_weights(name, Path(place))
    import diffusers

    kind = getattr(diffusers, ADAPTERS[name].kind, None)
    if kind is None:
        raise InputError(f"this diffusers {diffusers.__version__} has no {ADAPTERS[name].kind}; update it")
    try:
        pipe = kind.from_pretrained(
            place, torch_dtype=getattr(torch, dtype) if dtype else usual_dtype(device), local_files_only=True
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{place}: is no {ADAPTERS[name].kind} that this diffusers reads ({reason})") from None
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device), name, pipeline_digest(pipe, Path(place))


def pipeline_digest(pipe: Any, folder: Path) -> str:
    """By content: every weight as it was loaded, in its number format, and the folder's configurations and
    vocabularies; where the folder lies counts for nothing."""
    modules = [part for _, part in sorted(pipe.components.items()) if isinstance(part, nn.Module)]
    digest = hashlib.sha256(weights_digest(*(module.state_dict() for module in modules)).encode())
    for file in sorted(path for path in folder.rglob("*") if path.suffix in CONFIGURATIONS and path.is_file()):
        name = file.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):  # what a download notes for itself
            digest.update(f"{name.as_posix()} {file_digest(file)}\n".encode())
    return digest.hexdigest()[:16]


def _check_weights(name: str, folder: Path) -> None:
    """Raises InputError for a folder whose pipeline has a name of its own here: two may share their parts, and would
    edit with each other's weights without a word."""
    index = read_object(folder / "model_index.json", "download it again")
    written = index.get("_class_name")
    other = next((key for key, adapter in ADAPTERS.items() if adapter.kind == written and key != name), None)
    if other is not None:
        raise InputError(f"{folder}: holds a {written}; use --diffusers {other}:{folder}")
