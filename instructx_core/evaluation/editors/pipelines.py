"""Pipelines of diffusers as editors, from weights that lie on this machine: the field's open baselines in one harness.

Place: items -> pipelines -> outputs. A pipeline is told what it takes, and nothing is made up for it: an item with a
reference is no item for one that has no place for it. Results keep the size that the pipeline gives.
Shapes: frames_FHWC uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...editing.fit import pad_clip
from ...errors import InputError
from ...media.base import Media
from ...media.files import read_image, read_media, write_image, write_video
from ...precision import usual_dtype
from .run import EditTask

TEMPORAL = 4  # Wan: 4n+1 frames


@dataclass(frozen=True, slots=True)
class PipelineCall:
    """What a pipeline is called with. size: (H, W), None where it is the pipeline's own choice."""

    instruction: str
    frames: list[Image.Image]
    reference: Image.Image | None
    size: tuple[int, int] | None

    @property
    def image(self) -> Image.Image:
        return self.frames[0]

    @property
    def sides(self) -> dict[str, int]:
        return {} if self.size is None else {"height": self.size[0], "width": self.size[1]}


@dataclass(frozen=True, slots=True)
class PipelineAdapter:
    """kind: the pipeline's class. multiple: of its sides. arguments: what it is called with, beside prompt, steps,
    guidance and generator. guidance: the name that the scale of the text has there."""

    kind: str
    modality: str
    arguments: Callable[[PipelineCall], dict[str, Any]]
    takes_reference: bool = False
    multiple: int = 16
    guidance: str = "guidance_scale"


def _kontext(call: PipelineCall) -> dict[str, Any]:
    if call.size is None:
        return {"image": call.image}
    return {"image": call.image, **call.sides, "max_area": call.size[0] * call.size[1], "_auto_resize": False}


def _omnigen(call: PipelineCall) -> dict[str, Any]:
    pictures = [call.image, *([] if call.reference is None else [call.reference])]
    named = " ".join(f"<img><|image_{number}|></img>" for number in range(1, len(pictures) + 1))
    prompt = f"{named} {call.instruction}"
    size = call.sides or {"use_input_image_size_as_output": True}
    return {"prompt": prompt, "input_images": pictures, **size}


def _vace(call: PipelineCall) -> dict[str, Any]:
    width, height = call.image.size
    reference = {} if call.reference is None else {"reference_images": [call.reference]}
    sizes = {"height": height, "width": width, "num_frames": len(call.frames)}
    return {"video": call.frames, **reference, **sizes}


def _wan(call: PipelineCall) -> dict[str, Any]:
    width, height = call.image.size
    return {"video": call.frames, "height": height, "width": width}


def _qwen_plus(call: PipelineCall) -> dict[str, Any]:
    return {"image": [call.image, *([] if call.reference is None else [call.reference])], **call.sides}


ADAPTERS = {
    "instruct-pix2pix": PipelineAdapter(
        "StableDiffusionInstructPix2PixPipeline", "image", lambda call: {"image": call.image}, multiple=8
    ),
    "kontext": PipelineAdapter("FluxKontextPipeline", "image", _kontext),
    "qwen-image-edit": PipelineAdapter(
        "QwenImageEditPipeline",
        "image",
        lambda call: {"image": call.image, **call.sides},
        guidance="true_cfg_scale",
    ),
    "qwen-image-edit-plus": PipelineAdapter(
        "QwenImageEditPlusPipeline", "image", _qwen_plus, takes_reference=True, guidance="true_cfg_scale"
    ),
    "omnigen": PipelineAdapter("OmniGenPipeline", "image", _omnigen, takes_reference=True),
    "vace": PipelineAdapter("WanVACEPipeline", "video", _vace, takes_reference=True),
    "wan-v2v": PipelineAdapter("WanVideoToVideoPipeline", "video", _wan),
}
FIXED_SIZE = ("instruct-pix2pix", "vace", "wan-v2v")  # whose frames are scaled before: they take no size, or need one


class PipelineEditor:
    """steps, guidance: None is the pipeline's own. max_pixels: largest area; the source's shape is kept."""

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
            frames = [frame.resize((size[1], size[0]), Image.Resampling.LANCZOS) for frame in frames]
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
        generator = torch.Generator("cpu").manual_seed(seed)
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
    """NAME:DIR -> a pipeline of that kind, its adapter's name and the folder. Raises InputError for an unknown name, a
    folder that is none, weights of another kind. Nothing is downloaded."""
    name, _, place = spec.partition(":")
    if name not in ADAPTERS or not place:
        raise InputError(f"--diffusers {spec!r}: use NAME:DIR with NAME one of {', '.join(ADAPTERS)}")
    if not (Path(place) / "model_index.json").is_file():
        raise InputError(f"{place}: no model_index.json in it; give the folder of a diffusers model")
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
    return pipe.to(device), name, place
