"""What pipelines of diffusers are called with: an item's pictures and words under each one's own names.

Place: pipelines.py (items) -> adapters -> a pipeline. A line of ADAPTERS a pipeline; nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

QWEN_AREA = 1024 * 1024  # pixels that Qwen-Image-Edit gives where it is told no size


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


def resized_picture(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """size: (H, W)."""
    return picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)


def _kontext(call: PipelineCall) -> dict[str, Any]:
    if call.size is None:
        return {"image": call.image}
    return {"image": call.image, **call.sides, "max_area": call.size[0] * call.size[1], "_auto_resize": False}


def _omnigen(call: PipelineCall) -> dict[str, Any]:
    """Where the size is ours it is the source's as well: OmniGen crops sides to a multiple, we round them."""
    source = call.image if call.size is None else resized_picture(call.image, call.size)
    pictures = [source, *([] if call.reference is None else [call.reference])]
    named = " ".join(f"<img><|image_{number}|></img>" for number in range(1, len(pictures) + 1))
    prompt = f"{named} {call.instruction}"
    if call.size is None:
        return {"prompt": prompt, "input_images": pictures, "use_input_image_size_as_output": True}
    return {"prompt": prompt, "input_images": pictures, **call.sides, "max_input_image_size": max(call.size)}


def _vace(call: PipelineCall) -> dict[str, Any]:
    width, height = call.image.size
    reference = {} if call.reference is None else {"reference_images": [call.reference]}
    sizes = {"height": height, "width": width, "num_frames": len(call.frames)}
    return {"video": call.frames, **reference, **sizes}


def _wan(call: PipelineCall) -> dict[str, Any]:
    width, height = call.image.size
    return {"video": call.frames, "height": height, "width": width}


def _qwen(call: PipelineCall) -> dict[str, Any]:
    """The scale of the text counts only beside a negative prompt; one space is the authors' own."""
    return {"image": call.image, "negative_prompt": " ", **call.sides}


def _qwen_plus(call: PipelineCall) -> dict[str, Any]:
    """Left alone, the pipeline takes the shape of the last picture, the reference: it is told the source's."""
    pictures = [call.image, *([] if call.reference is None else [call.reference])]
    width, height = call.image.size
    scale = (QWEN_AREA / (height * width)) ** 0.5
    sides = call.sides or {name: round(side * scale / 32) * 32 for name, side in (("height", height), ("width", width))}
    return {"image": pictures, "negative_prompt": " ", **sides}


ADAPTERS = {
    "instruct-pix2pix": PipelineAdapter(
        "StableDiffusionInstructPix2PixPipeline", "image", lambda call: {"image": call.image}, multiple=8
    ),
    "kontext": PipelineAdapter("FluxKontextPipeline", "image", _kontext),
    "qwen-image-edit": PipelineAdapter("QwenImageEditPipeline", "image", _qwen, guidance="true_cfg_scale"),
    "qwen-image-edit-plus": PipelineAdapter(
        "QwenImageEditPlusPipeline", "image", _qwen_plus, takes_reference=True, guidance="true_cfg_scale"
    ),
    "omnigen": PipelineAdapter("OmniGenPipeline", "image", _omnigen, takes_reference=True),
    "vace": PipelineAdapter("WanVACEPipeline", "video", _vace, takes_reference=True),
    "wan-v2v": PipelineAdapter("WanVideoToVideoPipeline", "video", _wan),
}
FIXED_SIZE = ("instruct-pix2pix", "vace", "wan-v2v")  # whose frames are scaled before: they take no size, or need one
