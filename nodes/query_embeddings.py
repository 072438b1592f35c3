"""Node Query Embeddings: source + instruction (+ references) -> what the encoder's learnable queries collected.

Second step of the graph (paper 3.1). The host caches the result while the inputs stay, so that changing the sampler
costs no new encode. Queries hold a reference to the encoder, because Connector needs its connector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from .parts.notes import SAYS_AGAIN, Note, note, notes_ui
from .parts.schema import (
    QueriesWire,
    asked_for,
    encoder_input,
    fallback_instruction_input,
    instruction_input,
    make,
    reference_inputs,
    schema,
    source_input,
)

if TYPE_CHECKING:
    from torch import Tensor

    from .parts.encoder_model import LoadedEncoder
    from .parts.media import SourceClip

MODALITIES = ("auto", "image", "video")


class InstructXQueryEmbeddings(io.ComfyNode):
    """encoder, instruction, source, references -> INSTRUCTX_QUERIES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXQueryEmbeddings",
            "Query Embeddings",
            "Lets the encoder look at the source and read the instruction.",
            search_aliases=["prompt", "instruction", "encode", "edit text"],
            **SAYS_AGAIN,
            inputs=[
                encoder_input(),
                instruction_input(),
                source_input("The picture or clip to edit; of a clip the encoder sees frames spread over its length."),
                make(
                    io.Combo,
                    "modality",
                    options=list(MODALITIES),
                    default="auto",
                    advanced=True,
                    tooltip="What the source is. auto: one picture is an image, more are a clip. image: each "
                    "picture of a batch is edited by itself. video: a batch is a clip, also of one frame.",
                ),
                make(
                    io.Boolean,
                    "drop_instruction",
                    default=False,
                    advanced=True,
                    tooltip="On: the encoder sees the pictures without the instruction. Use a second node like that "
                    "for the negative when cfg is above 1.",
                ),
                make(
                    io.Float,
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Frames per second of an IMAGE batch, 0 to 240: tells the encoder how fast things move. "
                    "0: the rate the model was trained at. A VIDEO brings its own.",
                ),
                *reference_inputs(),
                fallback_instruction_input(),
            ],
            outputs=[QueriesWire.Output("QUERIES", display_name="queries", tooltip="For Connector (InstructX).")],
        )

    @classmethod
    def execute(
        cls,
        encoder: LoadedEncoder,
        instruction: str,
        source: Any,
        modality: str = "auto",
        drop_instruction: bool = False,
        fps: float = 0.0,
        instruction_if_empty: str | None = None,
        **references: Tensor | None,
    ) -> io.NodeOutput:
        from .parts.media import clipped_notes, read_clip, read_references
        from .parts.queries import Sight, ask

        asked = asked_for(instruction, instruction_if_empty)
        clip, pictures = read_clip(source), read_references(references)
        shown = Sight(clip=clip, references=pictures, modality=modality, fps=fps)
        queries, prepared = ask(encoder, asked, shown, drop_instruction)
        notes = [encoder_note(prepared, clip, len(pictures)), *remarks(clip, modality, encoder)]
        notes += [*clip.notes, *clipped_notes(references)]
        if asked != instruction:
            notes.insert(0, note("asks", instruction=asked))
        return io.NodeOutput(queries, ui=notes_ui("InstructXQueryEmbeddings", notes))


def encoder_note(prepared: Any, clip: SourceClip, references: int) -> Note:
    """What the encoder saw."""
    return note(
        "seen_pictures" if prepared.input_ids_BL.shape[0] > 1 else "seen_clip",
        modality=prepared.modality,
        frames=len(clip.frames_FHWC),
        grid="x".join(map(str, prepared.grid)),
        length=prepared.input_ids_BL.shape[1],
        references=references,
        queries=prepared.query_count,
        query_set=prepared.query_set,
    )


def remarks(clip: SourceClip, modality: str, encoder: LoadedEncoder) -> list[Note]:
    """What a batch was taken for where nobody said it; that the model knows one small world, for a source out of it."""
    frames, height, width, _ = clip.frames_FHWC.shape
    config, found = encoder.config, []
    usual = config.sampling
    if modality == "auto" and clip.fps is None and frames > 1:
        found.append(note("batch_is_a_clip"))
    if config.trained_on and (height * width != usual.area or frames not in (1, usual.frames)):
        found.append(note("small_world", model=config.name, world=config.trained_on))
    return found
