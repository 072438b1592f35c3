"""Node Sample: a drawn test picture or clip with an instruction and the right answer, for trying a graph with no files.

Stands where LoadImage or LoadVideo will stand: shapes world -> IMAGE, instruction, reference, ground truth. A template
cannot bring an input file (the host reads its own input folder only), and a file written there by a pack would be
litter; drawn samples need none, give a new edit for every seed, and their right answer is known exactly.
Legend: F frames (1, 17 or 129), H = W = 64 pixels; IMAGE is float [0,1] (F, H, W, 3).
"""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from .parts.media import to_image
from .parts.notes import SAYS_AGAIN, note, notes_ui
from .parts.schema import schema

ANY = "any"
LONG_VIDEO = "long video"
# Fixed here, because the choices of a node must not change under saved workflows; a test compares with shapes.TASKS.
EDITS = (
    "add",
    "remove",
    "swap",
    "color",
    "background",
    "style",
    "tone",
    "hybrid",
    "segment",
    "reference_add",
    "reference_swap",
)
FPS = 16.0


class InstructXSample(io.ComfyNode):
    """edit, kind, seed -> source IMAGE, instruction, reference IMAGE or nothing, ground truth IMAGE, fps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXSample",
            "Sample",
            "Draws a test picture or clip with an instruction and the right answer, so that a graph runs with no "
            "files. Replace it with Load Image or Load Video for your own.",
            search_aliases=["test image", "example input", "demo"],
            **SAYS_AGAIN,
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=["image", "video", LONG_VIDEO],
                    default="image",
                    tooltip="image: one picture of 64x64 pixels. video: a clip of 17 frames, 16 frames per second. "
                    "long video: 129 frames, the clip there and back.",
                ),
                io.Combo.Input(
                    "edit",
                    options=[ANY, *EDITS],
                    default=ANY,
                    tooltip="The edit that the instruction asks for. any draws one of them; reference_add and "
                    "reference_swap also give a reference picture.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Number of the sample, 0 to 4294967295. The same number always gives the same sample; none "
                    "of them was trained on.",
                ),
            ],
            outputs=[
                io.Image.Output("source", display_name="source", tooltip="The picture or clip to edit."),
                io.String.Output(
                    "instruction",
                    display_name="instruction",
                    tooltip="What to change: for instruction_if_empty.",
                ),
                io.Image.Output(
                    "reference",
                    display_name="reference",
                    tooltip="The picture that the instruction refers to; nothing for edits that need none.",
                ),
                io.Image.Output(
                    "ground_truth", display_name="ground truth", tooltip="The right answer, to compare the edit with."
                ),
                io.Float.Output("fps", display_name="fps", tooltip="Frames per second of a clip."),
            ],
        )

    @classmethod
    def execute(cls, kind: str, edit: str, seed: int) -> io.NodeOutput:
        from ..instructx_core.shapes import sample, there_and_back

        modality = "video" if kind == LONG_VIDEO else kind
        drawn = sample("test", seed, modality, None if edit == ANY else edit)
        drawn = there_and_back(drawn) if kind == LONG_VIDEO else drawn
        reference = None if drawn.reference_HWC is None else to_image(drawn.reference_HWC[None])
        source = to_image(drawn.source_FHWC)
        notes = notes_ui("InstructXSample", [note("asks", instruction=drawn.instruction)])
        shown = source[:1] if reference is None else torch.cat([source[:1], reference])
        return io.NodeOutput(
            source,
            drawn.instruction,
            reference,
            to_image(drawn.target_FHWC),
            FPS,
            ui=notes | ui.PreviewImage(shown).as_dict(),
        )
