"""Node Query Embeddings: source + instruction (+ references) -> what the encoder's learnable queries collected.

Second step of the graph (paper 3.1). The host caches the result while the inputs stay, so that changing the sampler
costs no new encode. Queries hold a reference to the encoder, because Connector needs its connector.
Legend: B batch (1), L tokens, Q queries, D width of the MLLM.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from .parts.schema import QueriesWire, encoder_input, instruction_input, make, reference_inputs, schema, source_input

if TYPE_CHECKING:
    from torch import Tensor

    from .parts.encoder_model import LoadedEncoder

logger = logging.getLogger("instructx")
MODALITIES = ("auto", "image", "video")


@dataclass(frozen=True, eq=False)
class Queries:
    """The wire INSTRUCTX_QUERIES. Features in fp32 on the CPU; reference_BLD only where the profile uses it."""

    encoder: LoadedEncoder
    query_BQD: Tensor
    reference_BLD: Tensor | None
    modality: str
    references: int

    @property
    def has_reference(self) -> bool:
        return self.references > 0


class InstructXQueryEmbeddings(io.ComfyNode):
    """encoder, instruction, source, references -> INSTRUCTX_QUERIES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXQueryEmbeddings",
            "Query Embeddings",
            "Lets the encoder look at the source and read the instruction.",
            search_aliases=["prompt", "instruction", "encode", "edit text"],
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
                    tooltip="Which set of queries is used. auto: image for one picture, video for more. video forces a "
                    "single picture to be a clip of one frame.",
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
        **references: Tensor | None,
    ) -> io.NodeOutput:
        from ..instructx_core.encoder import inputs as core
        from .parts.media import read_clip, read_references

        clip, pictures, config = read_clip(source), read_references(references), encoder.config
        prepared = core.prepare_inputs(
            encoder.tokenizer,
            config,
            [instruction],
            [clip.frames_FHWC],
            [pictures] if pictures else None,
            clip.fps or fps or config.sampling.fps,
            modality=None if modality == "auto" else modality,
            allow_empty=drop_instruction,
        )
        if drop_instruction:
            prepared = core.drop_instruction(encoder.tokenizer, config, prepared)
        query_BQD, reference_BLD = encoder.features(prepared)
        report = describe(prepared, len(clip.frames_FHWC), len(pictures))
        logger.info("InstructX: %s", report)
        queries = Queries(encoder, query_BQD, reference_BLD, prepared.modality, len(pictures))
        return io.NodeOutput(queries, ui={"text": [report]})


def describe(prepared: Any, frames: int, references: int) -> str:
    """What the encoder saw, in one line."""
    t, h, w = prepared.grid
    length = prepared.input_ids_BL.shape[1]
    line = f"{prepared.modality}: {frames} frame(s) seen as {t}x{h}x{w} patches, {length} tokens"
    line += f", {references} reference(s)" if references else ""
    return f"{line}, {prepared.query_count} {prepared.query_set} queries"
