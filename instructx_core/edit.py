"""One call from file to file: read, fit, edit, write; and a report of everything that was done on the way.

Around the pipeline in the data flow: media -> [geometry, padding] -> pipeline -> [trim] -> media. Nothing is stretched:
the picture is scaled by one factor and cut to the model's multiple, and the report says what was cut. A clip is padded
to 4n+1 frames by repeating its last one and trimmed back; frame rate and audio are kept.
Legend: F frames, H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import InputError
from .geometry import FitBox, fit_size, pad_frames
from .media.files import (
    ALPHA_SUFFIXES,
    Media,
    claim_output,
    output_kind,
    read_image,
    read_media,
    write_image,
    write_video,
)
from .media.paste import KeepOutside, paste_back
from .media.stream import ClipScan, scan_clip
from .speed.memory import within_memory

if TYPE_CHECKING:
    from .config import InstructXConfig
    from .long_video.job import OnWindow, WindowOptions
    from .pipeline import InstructXPipeline

Progress = Callable[[int, int], None]  # (step done, steps in all)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model is run at unless the caller says otherwise, and what it should be told about that."""

    max_pixels: int
    max_frames: int
    remark: str = ""

    def remarks(self, size: tuple[int, int], frames: int) -> list[str]:
        """The remark, unless the source (H, W) and its frames are just what the model was trained on."""
        trained = size[0] * size[1] == self.max_pixels and frames in (1, self.max_frames)
        return [self.remark] if self.remark and not trained else []


_LIMITS = {
    "tiny": Limits(
        64 * 64,
        17,
        "the tiny model was trained on 64x64 pictures and 17-frame clips of coloured shapes: expect toy results on "
        "photos and films",
    ),
    "paper_14b": Limits(832 * 480, 81),
    "kiwi_5b": Limits(1280 * 704, 121),
}


def limits_of(config: InstructXConfig) -> Limits:
    """Default area (pixels of one frame) and length (frames) for a model; Wan2.1's training size for an unknown one."""
    return _LIMITS.get(config.name, _LIMITS["paper_14b"])


@dataclass(frozen=True, slots=True)
class EditReport:
    """What an edit did. Sizes are (H, W) in pixels, seconds by stage: read, edit, write."""

    source: Path
    output: Path
    instruction: str
    modality: str
    source_size: tuple[int, int]
    box: FitBox
    frames_in: int
    frames_padded: int
    fps: Fraction | None
    steps: int
    guidance_scale: float
    seed: int
    references: int
    restored: bool = False  # pasted back into the source, at its size
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result."""
        return self.source_size if self.restored else (self.box.height, self.box.width)

    def lines(self) -> list[str]:
        """The report for a person."""
        height, width = self.source_size
        kind = (
            "image" if self.modality == "image" else f"clip, {self.frames_in} frames at {float(self.fps or 0):.3f} fps"
        )
        lines = [f"source    {self.source} ({width}x{height} {kind})", f"geometry  {self.box.describe()}"]
        if self.frames_padded != self.frames_in:
            lines.append(
                f"length    {self.frames_in} frames padded to {self.frames_padded} (4n+1, last frame repeated), "
                f"trimmed back to {self.frames_in}"
            )
        lines.append(
            f"edit      {self.instruction!r}, {self.steps} steps, guidance {self.guidance_scale:g}, seed {self.seed}"
            + (f", {self.references} reference(s)" if self.references else "")
        )
        lines += [f"note      {note}" for note in self.notes]
        lines.append("seconds   " + ", ".join(f"{name} {value:.2f}" for name, value in self.seconds.items()))
        lines.append(f"written   {self.output} ({self.size[1]}x{self.size[0]})")
        return lines


def apply_box(frame_HWC: np.ndarray, box: FitBox) -> np.ndarray:
    """Cut and scale one uint8 frame as `box` says (Lanczos, antialiased); the frame itself when nothing changes."""
    if box.is_identity:
        return frame_HWC
    top, left, bottom, right = box.source_box
    image = Image.fromarray(np.ascontiguousarray(frame_HWC))
    fitted = image.resize((box.width, box.height), Image.Resampling.LANCZOS, box=(left, top, right, bottom))
    return np.array(fitted, dtype=np.uint8)


def pad_clip(frames_FHWC: np.ndarray, stride: int = 4) -> np.ndarray:
    """Repeat the last frame until the length is stride*n + 1, which the causal VAE needs."""
    missing = pad_frames(len(frames_FHWC), stride) - len(frames_FHWC)
    if missing == 0:
        return frames_FHWC
    return np.concatenate([frames_FHWC, np.repeat(frames_FHWC[-1:], missing, axis=0)])


def to_uint8_frames(frames_BFCHW: Tensor) -> np.ndarray:
    """The pipeline's "pt" output, (1, F, 3, H, W) in [0, 1] -> (F, H, W, 3) uint8, rounded."""
    return (frames_BFCHW[0].float() * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def claims_output(edit: Callable[..., EditReport]) -> Callable[..., EditReport]:
    """No second job may work on the output of one that runs (media.claim_output), from its beginning on."""

    @functools.wraps(edit)
    def claimed(*arguments: Any, output: str | Path, **options: Any) -> EditReport:
        with claim_output(output):
            return edit(*arguments, output=output, **options)

    return claimed


@claims_output
def edit_file(
    pipe: InstructXPipeline,
    source: str | Path,
    instruction: str,
    references: Sequence[str | Path] = (),
    *,
    output: str | Path,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    max_pixels: int | None = None,
    max_frames: int | None = None,
    partial: bool = False,
    keep_outside: KeepOutside | None = None,
    windows: WindowOptions | None = None,
    progress: Progress | None = None,
    on_window: OnWindow | None = None,
) -> EditReport:
    """Edit an image or a clip on disk. The output's suffix must fit the source's kind; it is written atomically.

    steps, guidance: default to the model's. max_pixels: area of a frame the model works at, default by model (the
    result has that size). A clip longer than the model's length (limits_of) is edited in windows (long_video), and so
    is every clip when `windows` is given; max_frames: in one piece, a longer clip is refused. progress(done, total) is
    called after each step, on_window after each window.
    partial: of a damaged or cut off clip, edit what can be read. keep_outside: lay the edit over the source at its full
    size, exact outside of a mask (media/paste.py).
    Raises InputError for anything wrong with input, output path or the model's numbers; then nothing is written.
    """
    config = pipe.instructx_config
    limits = limits_of(config)
    check_request(instruction, seed, steps, max_pixels)
    look = read_media(source, first_only=True)
    check_kind(look, output_kind(output), Path(output))
    if keep_outside is not None:
        keep_outside.check(look)
    if scan := _needs_windows(look, limits, max_frames, windows, partial):
        from .long_video.job import edit_clip

        return edit_clip(
            pipe, scan, instruction, references, output=output, options=windows, steps=steps, guidance=guidance,
            seed=seed, max_pixels=max_pixels, keep_outside=keep_outside, progress=progress, on_window=on_window,
        )  # fmt: skip
    seconds: dict[str, float] = {}
    box = fit_size(*look.size, config.size_multiple, limits.max_pixels if max_pixels is None else max_pixels)
    with _timed(seconds, "read"):
        media = read_media(source, lambda frame_HWC: apply_box(frame_HWC, box), max_frames, partial=partial)
        pictures = [read_image(path) for path in references]
    with _timed(seconds, "edit"):
        frames_FHWC, steps, guidance = run_clip(pipe, media, instruction, pictures, steps, guidance, seed, progress)
    notes = [*media.notes, *pipe.memory.notes]
    with _timed(seconds, "write"):
        notes += _write(Path(output), media, frames_FHWC, box, keep_outside, partial)
    notes += limits.remarks(media.size, len(frames_FHWC))
    return EditReport(
        source=Path(source), output=Path(output), instruction=instruction, references=len(pictures),
        modality="video" if media.is_video else "image", source_size=media.size, box=box,
        frames_in=len(frames_FHWC), frames_padded=pad_frames(len(frames_FHWC), config.vae.scale_factor_temporal),
        fps=media.fps, steps=steps, guidance_scale=guidance, seed=seed, notes=tuple(notes), seconds=seconds,
        restored=keep_outside is not None,
    )  # fmt: skip


def _write(
    output: Path, media: Media, frames_FHWC: np.ndarray, box: FitBox, keep_outside: KeepOutside | None, partial: bool
) -> list[str]:
    """Write the edited frames of `media`, alone or over its source; notes on transparency and sound."""
    notes: list[str] = []
    if keep_outside is not None:
        original = read_media(media.path, partial=partial)
        frames_FHWC, note = paste_back(original.frames_FHWC, media.frames_FHWC, frames_FHWC, box, keep_outside)
        notes.append(note + (", before its compression" if media.is_video else ""))
        media = original
    if media.is_video:
        fps = media.fps or 25
        return notes + list(write_video(output, frames_FHWC, fps, audio=media.audio, pixel_aspect=media.pixel_aspect))
    if media.alpha_HW is None:
        write_image(output, frames_FHWC[0])
    elif output.suffix.lower() in ALPHA_SUFFIXES:
        write_image(output, frames_FHWC[0], media.alpha_HW)
        notes.append("the source's transparency was put back")
    else:
        write_image(output, frames_FHWC[0])
        notes.append(f"the source's transparency is lost: {output.suffix} has none, write a .png to keep it")
    return notes


def _needs_windows(
    look: Media,
    limits: Limits,
    max_frames: int | None,
    windows: WindowOptions | None,
    partial: bool,
) -> ClipScan | None:
    """The scanned clip where it is to be edited in windows, else None. Raises InputError for contradicting options."""
    if windows is not None and max_frames is not None:
        raise InputError("windows and max_frames are both given; max_frames edits in one piece: give one of them")
    if not look.is_video or max_frames is not None:
        return None
    scan = scan_clip(look.path, partial)
    if windows is None and scan.frames <= limits.max_frames:
        return None
    return scan


def check_request(instruction: str, seed: int, steps: int | None, max_pixels: int | None) -> None:
    """Raises InputError for an empty instruction or a number out of its range."""
    if not instruction.strip():
        raise InputError('the instruction is empty; say what to change, e.g. "make the circle blue"')
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; it must lie between 0 and 2^63 - 1")
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}; use at least 1")
    if max_pixels is not None and max_pixels < 1:
        raise InputError(f"the size is {max_pixels} pixels; it must be positive")


def check_kind(media: Media, kind: str, output: Path) -> None:
    """Raises InputError when an image would become a video or the other way round."""
    if media.is_video and kind == "image":
        raise InputError(f"{output}: the source is a video and the output an image; use .mp4, .mov or .mkv")
    if not media.is_video and kind == "video":
        raise InputError(f"{output}: the source is an image and the output a video; use .png or .jpg")


def run_clip(
    pipe: InstructXPipeline, media: Media, instruction: str, pictures: list[np.ndarray], steps: int | None,
    guidance: float | None, seed: int, progress: Progress | None, contexts: tuple[Tensor, Tensor | None] | None = None,
    pinned: int = 0,
) -> tuple[np.ndarray, int, float]:  # fmt: skip
    """Pixels in, pixels out, as many frames as came in; and the number of steps and guidance that were used.

    contexts: (context, negative) of pipe.encode_instruction, where the MLLM has read the instruction already. pinned:
    latent frames at the start that are edited already.
    """
    sampling = pipe.instructx_config.sampling
    steps = sampling.num_steps if steps is None else steps
    guidance = sampling.guidance_scale if guidance is None else guidance
    source_FHWC = pad_clip(media.frames_FHWC, pipe.instructx_config.vae.scale_factor_temporal)

    def on_step(_pipe: Any, step: int, _timestep: Tensor, _tensors: dict[str, Any]) -> dict[str, Any]:
        if progress is not None:
            progress(step + 1, steps)
        return {}

    def sample() -> Tensor:
        return pipe(
            source_FHWC, instruction if contexts is None else None, context=contexts and contexts[0],
            negative_context=contexts and contexts[1], reference=[torch.from_numpy(p.copy()) for p in pictures] or None,
            num_inference_steps=steps, guidance_scale=guidance, pinned=pinned, output_type="latent", return_dict=False,
            generator=torch.Generator("cpu").manual_seed(seed), callback_on_step_end=on_step,
            fps=None if media.fps is None else float(media.fps),
        )[0]  # fmt: skip

    try:
        latents = within_memory(pipe, "sampling", sample)
        frames_BFCHW = within_memory(pipe, "decoding", lambda: pipe.decode(latents, "pt"))
    except FloatingPointError as error:
        raise InputError(
            f"{error}; the weights may hold NaN: check the checkpoint, or run with --dtype float32"
        ) from None
    frames_FHWC = to_uint8_frames(frames_BFCHW)[: len(media.frames_FHWC)]
    pipe.maybe_free_model_hooks()
    return frames_FHWC, steps, float(guidance)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
