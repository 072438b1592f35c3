"""Node Compare: before and after side by side, for the slider and the synchronised player in web/js/compare.js.

Last step of a graph: (source, edited frames) -> previews in the host's temp folder + one ui record that the extension
reads. The extension fills the input `view`; without it (no browser, or an older one) the record is the host's `images`,
so both previews show plainly and an HTTP client finds them where it finds all others.
Legend: F frames or pictures, H W pixels, 3 RGB; IMAGE is float [0,1] (F, H, W, 3).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from .parts.media import checked_image
from .parts.schema import schema
from .parts.settings import wired_choice, wired_number

UI_KEY = "instructx_compare"  # read by web/js/compare.js
VIEW_TYPE = "INSTRUCTX_COMPARE_VIEW"  # the extension gives an input of this type its widget
VIDEO, PICTURES = "video", "pictures"
RATES = (1.0, 120.0)  # Hz


@dataclass(frozen=True, slots=True)
class Side:
    """One input as files: `records` are the host's (filename, subfolder, type), frames counts pictures or frames."""

    records: list[dict[str, Any]]
    frames: int


def is_video(value: Any) -> bool:
    """True for the host's VIDEO type, False for an IMAGE batch. Duck typed: its class moved between host versions."""
    return hasattr(value, "get_components")


def plays(value: Any, batch: str) -> bool:
    """Whether an input is shown in the player. One picture never is."""
    return is_video(value) or (batch == VIDEO and value.shape[0] > 1)


def common_rate(before: Any, after: Any, fps: float) -> Fraction:
    """Frames per second for IMAGE batches: that of the side that knows its own, else the node's.

    Raises InputError for a rate that is none.
    """
    for side in (before, after):
        if is_video(side):
            return Fraction(side.get_components().frame_rate)
    return Fraction(wired_number("fps", fps, *RATES)).limit_denominator(1001)


def even(images: Any) -> Any:
    """Frames whose sides H.264 takes: an odd side repeats its last row or column, in the preview only."""
    _, height, width, _ = images.shape
    if not (height % 2 or width % 2):
        return images
    rows, columns = (torch.arange(side + side % 2).clamp(max=side - 1) for side in (height, width))
    return images[:, rows][:, :, columns]


def save_video(value: Any, rate: Fraction) -> Side:
    """Write H.264 in MP4, what every browser plays, into the host's temp folder."""
    import folder_paths
    from comfy_api.input_impl import VideoFromComponents
    from comfy_api.util import VideoCodec, VideoComponents, VideoContainer

    parts = value.get_components() if is_video(value) else VideoComponents(images=value, audio=None, frame_rate=rate)
    images = parts.images[..., :3]
    video, shown = value, even(images)
    if not is_video(value) or shown is not images:
        video = VideoFromComponents(
            VideoComponents(images=shown, audio=parts.audio, frame_rate=Fraction(parts.frame_rate))
        )
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"instructx_compare_{uuid.uuid4().hex[:12]}.mp4"
    video.save_to(str(folder / name), format=VideoContainer.MP4, codec=VideoCodec.H264)
    return Side([dict(ui.SavedResult(name, "", io.FolderType.temp))], int(images.shape[0]))


def save_pictures(images: Any, node: type) -> Side:
    """Write PNGs into the host's temp folder with the host's own helper, workflow included."""
    records = [dict(record) for record in ui.PreviewImage(images, cls=node).values]
    return Side(records, len(records))


def pair(before: Any, after: Any, batch: str) -> bool:
    """True when the pair is shown in the player, False on the slider.

    Raises ValueError for what is no picture, when the two do not match, and for an unknown `batch`.
    """
    wired_choice("batch", batch, (VIDEO, PICTURES))
    for name, side in (("before", before), ("after", after)):
        if not is_video(side):
            checked_image(side, name)
    moving = plays(before, batch), plays(after, batch)
    if moving[0] != moving[1]:
        names = [VIDEO if side else "picture" for side in moving]
        raise ValueError(
            f"Compare: before is a {names[0]} and after a {names[1]}; connect two videos or two pictures "
            "(Get Video Components turns a video into pictures)"
        )
    if not moving[0]:
        counts = before.shape[0], after.shape[0]
        if counts[0] != counts[1] and 1 not in counts:
            raise ValueError(
                f"Compare: before has {counts[0]} pictures and after {counts[1]}; connect equal numbers, or one "
                "picture on one side"
            )
    return moving[0]


class InstructXCompare(io.ComfyNode):
    """before + after -> preview. An output node: it has no outputs of its own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXCompare",
            "Compare",
            "Shows before and after under one slider: pictures, or videos played in step.",
            search_aliases=["before after", "slider", "image compare", "video compare"],
            inputs=[
                io.MultiType.Input(
                    "before",
                    types=[io.Image, io.Video],
                    tooltip="What went into the edit: source of Source and Reference (InstructX), an IMAGE batch or a "
                    "VIDEO. Shown left of the slider.",
                ),
                io.MultiType.Input(
                    "after",
                    types=[io.Image, io.Video],
                    tooltip="What came out: an IMAGE batch or a VIDEO. Shown right of the slider.",
                ),
                io.Combo.Input(
                    "batch",
                    options=[VIDEO, PICTURES],
                    default=VIDEO,
                    tooltip="What an IMAGE batch of two or more is: the frames of one video (played in step), or "
                    "separate pictures (leafed through). Has no effect on single pictures and on VIDEO.",
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=RATES[0],
                    max=RATES[1],
                    step=0.01,
                    tooltip="Speed in frames per second, 1 to 120, at which two IMAGE batches play; Wan 2.1 makes 16. "
                    "A connected VIDEO brings its own.",
                ),
                io.Custom(VIEW_TYPE).Input(
                    "view",
                    optional=True,
                    tooltip="The slider itself. Leave it unconnected: the browser extension fills it, and where that "
                    "is absent the node shows plain previews.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, before: Any, after: Any, batch: str, fps: float, view: str | None = None) -> io.NodeOutput:
        moving = pair(before, after, batch)
        rate = common_rate(before, after, fps) if moving else Fraction(0)
        sides = [save_video(side, rate) if moving else save_pictures(side, cls) for side in (before, after)]
        shown = {
            "kind": VIDEO if moving else PICTURES,
            "before": sides[0].records,
            "after": sides[1].records,
            "frames": [side.frames for side in sides],
            "fps": float(rate),
        }
        if view is not None:  # the extension is there; `images` as well would draw both a second time under the slider
            return io.NodeOutput(ui={UI_KEY: [shown]})
        return io.NodeOutput(ui={"images": sides[0].records + sides[1].records, "animated": (moving,)})
