"""Node Long Video: a VIDEO of any length is edited in windows by the host's sampler and VAE (paper A.5).

The whole chain in one node, because the edited tail of a window is the head of the next one's source. A VIDEO that is
a file is read and written window by window, so that memory does not grow with its length. Finished windows outlive
Cancel: the same graph, run again, goes on behind them.
Legend: F frames, H W pixels, 3 RGB; frames are uint8, IMAGE is float [0,1] (F, H, W, 3).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..instructx_core.editing.windows import (
    FADE,
    JOINS,
    SECONDS,
    SMOOTH,
    Window,
    WindowResult,
    edit_windows,
    plan_windows,
    window_seed,
)
from .connector import InstructXConnector
from .parts.clip_files import Source, finish, new_folder, open_source, save_unfinished, write_part
from .parts.fitting import PAD
from .parts.host import progress_bar
from .parts.host_model import interruption, window_callback
from .parts.schema import (
    encoder_input,
    instruction_input,
    make,
    reference_inputs,
    sampling_inputs,
    schema,
    size_rule_input,
    vae_input,
)
from .query_embeddings import InstructXQueryEmbeddings
from .sampler import sample
from .source_reference import InstructXSourceReference

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger("instructx")
CONTEXTS = ("window", "first")
PREVIEW = 512  # pixels, longest side of the preview of a finished window


@dataclass(eq=False)
class Unfinished:
    """Windows that a cancelled run left: its inputs, the files, and the tail that the next window starts from."""

    inputs: tuple[Any, ...]
    folder: Path
    parts: list[Path] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    tail_OHWC: np.ndarray | None = None
    conditioning: tuple[Any, Any] | None = None
    joins: list[float] = field(default_factory=list)

    def is_of(self, inputs: tuple[Any, ...]) -> bool:
        """True for the same objects on the wires and the same values: the host hands over what it has cached."""
        plain = (str, int, float, bool, type(None))
        return all(
            a == b if isinstance(a, plain) and type(a) is type(b) else a is b
            for a, b in zip(self.inputs, inputs, strict=True)
        )


_unfinished: dict[str, Unfinished] = {}  # by the node's id in the graph


class InstructXLongVideo(io.ComfyNode):
    """MODEL, VAE, encoder, VIDEO, instruction -> VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXLongVideo",
            "Long Video",
            "Edits a video of any length in windows that continue each other. Takes the place of Query Embeddings, "
            "Connector, Source and Reference, and Sampler.",
            search_aliases=["long clip", "sliding window", "video edit"],
            inputs=[*_wires(), *sampling_inputs(63), *_windows(), *reference_inputs()],
            outputs=[io.Video.Output("VIDEO", display_name="video", tooltip="The edit: length, speed and sound kept.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model: Any, vae: Any, encoder: Any, source: Any, instruction: str, **options: Any
    ) -> io.NodeOutput:
        references = {name: options.pop(name) for name in list(options) if name.startswith("reference_")}
        inputs = (model, vae, encoder, source, instruction, *options.values(), *references.values())
        key = str(getattr(cls.hidden, "unique_id", ""))
        multiple = vae.spacial_compression_encode() * encoder.config.denoiser.patch_size[1]
        clip = open_source(source, multiple, options["resize"])
        stride = int(vae.temporal_compression_decode() or 1)
        windows = plan_windows(clip.frames, options["window"], options["overlap"], stride, options["joins"])
        work = _unfinished.get(key)
        if work is None or not work.is_of(inputs):
            work = _unfinished[key] = Unfinished(inputs, new_folder())
        job = _Job(model, vae, encoder, instruction, options, references, clip, work, len(windows))
        report = [describe(windows, clip, len(work.parts))]
        logger.info("InstructX: %s", report[0])
        interrupted = interruption()
        try:
            job.run(windows)
        except interrupted:
            if work.parts:
                kept = save_unfinished(work.parts, work.lengths, clip)
                logger.warning(
                    "InstructX: %d of %d windows are finished and kept (%s); run the graph again to go on",
                    len(work.parts), len(windows), kept,
                )  # fmt: skip
            raise
        video = finish(work.parts, work.lengths, clip)
        del _unfinished[key]
        if len(windows) > 1:
            mean = sum(work.joins[1:]) / (len(windows) - 1)
            report.append(f"where windows meet, they differ by {mean:.1f} of 255")
        return io.NodeOutput(video, ui={"text": report})


def _wires() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The Wan DiT of the checkpoint, from any loader; not patched yet."),
        vae_input(),
        encoder_input(),
        io.Video.Input("source", tooltip="The video to edit, of any length. The result has its length and sound."),
        instruction_input(),
    ]


def _windows() -> list[Any]:
    return [
        io.Int.Input(
            "window",
            default=81,
            min=5,
            max=16381,
            step=4,
            tooltip=f"Frames edited at once, 4n+1, 5 to 16381. 81 ({SECONDS} seconds at 16 fps) for Wan2.1, tiny model "
            "17. Longer takes more memory.",
        ),
        size_rule_input(),
        make(
            io.Int,
            "overlap",
            default=1,
            min=1,
            max=64,
            advanced=True,
            tooltip="Edited frames that a window hands to the next, 1 to 64, at most half of it. 1: as in the paper.",
        ),
        make(
            io.Combo,
            "context",
            options=list(CONTEXTS),
            default=CONTEXTS[0],
            advanced=True,
            tooltip="What the encoder sees. window: each window's own frames. first: those of the first window, for "
            "all windows.",
        ),
        make(
            io.Boolean,
            "match_colour",
            default=False,
            advanced=True,
            tooltip="On: every window is corrected so that its shared frames have the colours of the window before.",
        ),
        make(
            io.Combo,
            "joins",
            options=list(JOINS),
            default=SMOOTH,
            advanced=True,
            tooltip="Where windows meet. smooth: the frame handed over is not edited again, and the step to the next "
            "window fades out. plain: as in the paper.",
        ),
    ]


@dataclass(eq=False)
class _Job:
    """One run of the node: everything that a window needs."""

    model: Any
    vae: Any
    encoder: Any
    instruction: str
    options: dict[str, Any]
    references: dict[str, Tensor | None]
    clip: Source
    work: Unfinished
    windows: int

    def run(self, windows: tuple[Window, ...]) -> None:
        """The windows that are not finished yet; each is on disk before the next one begins."""
        done, steps = len(self.work.parts), self.options["steps"]
        self.bar = progress_bar(len(windows) * steps)
        frames = self.clip.read(windows[done].first_source) if done < len(windows) else iter(())
        results: Iterator[WindowResult] = edit_windows(
            frames, windows, self.edit, match_colour=self.options["match_colour"],
            fade=FADE if self.options["joins"] == SMOOTH else 0, done=done, tail_OHWC=self.work.tail_OHWC,
        )  # fmt: skip
        for result in results:
            part = write_part(self.work.folder, result, self.clip)
            self.work.parts.append(part)
            self.work.lengths.append(len(result.new_FHWC))
            self.work.tail_OHWC = result.tail_OHWC
            self.work.joins.append(result.join)
            number = result.window.index + 1
            self.bar.update_absolute(number * steps, len(windows) * steps, picture(result))
            logger.info("InstructX: window %d of %d done, join %.1f of 255", number, len(windows), result.join)

    def edit(self, given_FHWC: np.ndarray, window: Window) -> np.ndarray:
        """One window through the pack's own nodes, uint8 in and out."""
        options, frames_FHWC = self.options, torch.from_numpy(given_FHWC).float() / 255.0
        positive, negative = self.conditioning(frames_FHWC)
        *parts, latent = InstructXSourceReference.execute(
            self.model, positive, self.vae, frames_FHWC, options["resize"], PAD, negative, **self.references
        ).args
        if options["joins"] == SMOOTH:
            latent = pinned(latent, window.pinned(int(self.vae.temporal_compression_decode() or 1)))
        callback = window_callback(
            self.model, self.bar, window.index * options["steps"], self.windows * options["steps"]
        )
        image, _ = sample(
            *parts, latent, self.vae, seed=window_seed(options["seed"], window.index), steps=options["steps"],
            cfg=options["cfg"], shift=options["shift"], sampler_name=options["sampler_name"],
            scheduler=options["scheduler"], denoise=1.0, callback=callback,
        )  # fmt: skip
        return (image * 255.0).round().clamp(0, 255).to("cpu", torch.uint8).numpy()

    def conditioning(self, frames_FHWC: Tensor) -> tuple[Any, Any]:
        """(positive, negative or None) for these frames, or those of the first window where all share them."""
        shared = self.options["context"] == CONTEXTS[1]
        if shared and self.work.conditioning is not None:
            return self.work.conditioning
        fps = float(self.clip.fps)

        def encode(drop: bool) -> Any:
            queries = InstructXQueryEmbeddings.execute(
                self.encoder, self.instruction, frames_FHWC, "video", drop, fps, **self.references
            ).args[0]
            return InstructXConnector.execute(queries).args[0]

        made = encode(False), encode(True) if self.options["cfg"] != 1.0 else None
        if shared:
            self.work.conditioning = made
        return made


def pinned(latent: dict[str, Any], count: int) -> dict[str, Any]:
    """A LATENT whose first `count` frames the host's sampler keeps as they are, by its noise mask."""
    if not count:
        return latent
    mask_BCTHW = torch.ones_like(latent["samples"][:1, :1])
    mask_BCTHW[:, :, :count] = 0.0
    return {**latent, "noise_mask": mask_BCTHW}


def picture(result: WindowResult) -> tuple[str, Any, int]:
    """The last frame of a finished window as the host's preview."""
    from PIL import Image

    return "JPEG", Image.fromarray(result.new_FHWC[-1]), PREVIEW


def describe(windows: tuple[Window, ...], clip: Source, done: int) -> str:
    """What will be done, in one line."""
    line = f"{clip.frames} frames at {float(Fraction(clip.fps)):.3f} fps in {len(windows)} window(s)"
    line += f" of up to {max(window.frames for window in windows)}"
    return line + (f"; {done} of them are finished already" if done else "")
