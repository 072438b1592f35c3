"""Node Long Video: a VIDEO of any length is edited in windows by the host's sampler and VAE (paper A.5).

The whole chain in one node, because the edited tail of a window is the head of the next one's source. A VIDEO that is
a file is read and written window by window, so that memory does not grow with its length. Finished windows outlive
Cancel, /free and the host itself: the same graph, run again, goes on behind them.
Legend: F frames, H W pixels, 3 RGB; frames are uint8, IMAGE is float [0,1] (F, H, W, 3).
"""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..instructx_core.editing.windows import JOINS, SECONDS, SMOOTH, Window, plan_windows
from ..instructx_core.editing.windows.between import edited_numbers
from ..instructx_core.editing.windows.options import CONTEXTS, WINDOW, WindowOptions, edit_rate, window_size
from .parts.clip_files import Source, finish, open_clip
from .parts.fitting import PAD
from .parts.host import output_folder
from .parts.host_model import interruption
from .parts.media import read_clip, read_references
from .parts.notes import SAYS_AGAIN, Note, note, notes_ui
from .parts.prepare import EditMaterial, prepare_edit
from .parts.queries import Sight, ask, connect
from .parts.schema import (
    asked_for,
    encoder_input,
    fallback_instruction_input,
    instruction_input,
    make,
    reference_inputs,
    sampling_inputs,
    schema,
    size_rule_input,
    vae_input,
)
from .parts.settings import SamplerInputs, SamplingSettings
from .parts.unfinished import UnfinishedEdit, edit_key, open_unfinished
from .parts.window_run import Steps, WindowRun

if TYPE_CHECKING:
    from torch import Tensor

AUTO = 1  # of the input window: as long as the model says; no window has one frame
logger = logging.getLogger("instructx")


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
            **SAYS_AGAIN,
            inputs=[*_wires(), *sampling_inputs(63), *_windows(), *reference_inputs(), fallback_instruction_input()],
            outputs=[io.Video.Output("VIDEO", display_name="video", tooltip="The edit: length, speed and sound kept.")],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls, model: Any, vae: Any, encoder: Any, source: Any, instruction: str, **options: Any
    ) -> io.NodeOutput:
        references = {name: options.pop(name) for name in list(options) if name.startswith("reference_")}
        asked = asked_for(instruction, options.pop("instruction_if_empty", None))
        sampling, windowing, resize = _sampling(options), _windowing(options), options["resize"]
        multiple = vae.spacial_compression_encode() * encoder.config.denoiser.patch_size[1]
        clip = open_clip(source, multiple, resize)
        stride = int(vae.temporal_compression_decode() or 1)
        numbers = edited_numbers(clip.frames, clip.fps, windowing.edit_fps)
        size = window_size(clip, windowing, encoder.config.sampling.frames, stride)
        windows = plan_windows(len(numbers), size, windowing.overlap, stride, windowing.joins)
        work = open_unfinished(Path(output_folder()), edit_key(cls.hidden, clip, references))
        notes = [note("asks", instruction=asked)] if asked != instruction else []
        notes += window_notes(windows, clip, work, len(numbers))
        steps = _steps(model, vae, encoder, asked, references, float(edit_rate(clip.fps, windowing.edit_fps)), resize)
        run = WindowRun(steps, vae, clip, windows, sampling, windowing, work, numbers)
        run_or_keep(run)
        video, about_sound = finish(work.parts(len(windows)), run.lengths, clip)
        work.remove()
        notes += [note("file", text=text) for text in about_sound]
        if len(windows) > 1:
            mean = sum(work.joins[1:]) / (len(windows) - 1)
            notes.append(note("joins", change=f"{mean:.1f}"))
        return io.NodeOutput(video, ui=notes_ui("InstructXLongVideo", notes))


def _sampling(options: dict[str, Any]) -> SamplingSettings:
    names = ("seed", "steps", "cfg", "shift", "sampler_name", "scheduler")
    return SamplingSettings(**{name: options[name] for name in names})


def _windowing(options: dict[str, Any]) -> WindowOptions:
    names = ("overlap", "context", "match_colour", "joins")
    frames = None if options["window"] == AUTO else options["window"]
    rate = options.get("edit_fps", 0.0) or None  # a graph saved before there was one has none
    return WindowOptions(frames=frames, edit_fps=rate, **{name: options[name] for name in names})


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
            default=AUTO,
            min=AUTO,
            max=16381,
            step=4,
            tooltip=f"Frames edited at once, 4n+1, 5 to 16381. 1: {SECONDS} seconds, at most the model's usual length "
            "(81 for Wan2.1, tiny model 17). Longer takes more memory.",
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
            default=WINDOW,
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
        make(
            io.Float,
            "edit_fps",
            default=0.0,
            min=0.0,
            max=240.0,
            step=0.01,
            advanced=True,
            optional=True,
            tooltip="Frames per second that are edited, 0 to 240, e.g. the 16 that Wan2.1 was trained at; those "
            "between take over what was changed in the two around them. 0, or more than the clip has: every frame.",
        ),
    ]


def _steps(
    model: Any,
    vae: Any,
    encoder: Any,
    instruction: str,
    references: dict[str, Tensor | None],
    fps: float,
    resize: str,
) -> Steps:
    """What the nodes of the chain do, with everything but the frames given."""
    pictures = read_references(references)

    def conditioning(frames_FHWC: Tensor, drop_instruction: bool) -> Any:
        shown = Sight(clip=read_clip(frames_FHWC), references=pictures, modality="video", fps=fps)
        return connect(ask(encoder, instruction, shown, drop_instruction)[0])

    def prepare(frames_FHWC: Tensor, positive: Any, negative: Any) -> SamplerInputs:
        given = EditMaterial(model=model, vae=vae, source=frames_FHWC, references=pictures, rules=(resize, PAD))
        return prepare_edit(given, positive, negative).edit

    return Steps(conditioning, prepare)


def run_or_keep(run: WindowRun) -> None:
    """Edits the windows that are left. After Cancel what is finished is one clip in the host's output folder."""
    interrupted = interruption()
    try:
        run.run()
    except interrupted:
        if run.work.saved.done:
            kept = run.work.keep(run.lengths, run.clip)
            done = f"{run.work.saved.done} of {len(run.windows)} windows are finished and kept ({kept})"
            logger.warning("InstructX: %s; run the graph again to go on", done)
        raise


def window_notes(windows: tuple[Window, ...], clip: Source, work: UnfinishedEdit, edited: int) -> list[Note]:
    """What will be done, and what was. edited: frames that are."""
    longest, fps = max(window.frames for window in windows), f"{float(Fraction(clip.fps)):.3f}"
    plan = note("windows", frames=clip.frames, fps=fps, windows=len(windows), longest=longest)
    done = [note("finished", done=work.saved.done)] if work.saved.done else []
    redone = [note("redone", reason=work.note)] if work.note else []
    if edited < clip.frames:
        done.insert(0, note("between", edited=edited, frames=clip.frames))
    return [plan, *done, *redone, *(note("file", text=text) for text in clip.notes)]
