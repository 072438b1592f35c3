"""Node Connector: query features -> CONDITIONING for the Wan DiT (paper 3.1: a two-layer MLP, no T5).

Third step of the graph. The adapter travels in the conditioning's dict, so that Source and Reference finds the DiT's
switches and embedders without another wire.
Legend: B pictures, L context tokens, D width of the DiT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .parts.guard import only_patched
from .parts.keys import FPS, KEY, PICTURES, REFERENCE_COUNT
from .parts.schema import QueriesWire, schema

if TYPE_CHECKING:
    from .query_embeddings import Queries


class InstructXConnector(io.ComfyNode):
    """INSTRUCTX_QUERIES -> CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXConnector",
            "Connector",
            "Translates the encoder's queries into conditioning for the model.",
            search_aliases=["conditioning", "mlp"],
            inputs=[QueriesWire.Input("queries", tooltip="From Query Embeddings (InstructX).")],
            outputs=[
                io.Conditioning.Output(
                    "CONDITIONING",
                    display_name="conditioning",
                    tooltip="positive (or negative) of Source and Reference (InstructX). Not for unpatched models.",
                )
            ],
        )

    @classmethod
    def execute(cls, queries: Queries) -> io.NodeOutput:
        context_BLD = queries.encoder.connect(queries.query_BQD, queries.reference_BLD)
        options = {
            KEY: queries.encoder.adapter,
            REFERENCE_COUNT: queries.references,
            FPS: queries.fps,
            PICTURES: len(context_BLD) if queries.modality == "image" else 0,
            "hooks": only_patched(),
        }
        return io.NodeOutput([[context_BLD, options]])
