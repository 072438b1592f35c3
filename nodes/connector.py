"""Node Connector: query features -> CONDITIONING for the Wan DiT (paper 3.1: a two-layer MLP, no T5).

Third step of the graph. The adapter travels in the conditioning's dict, so that Source and Reference finds the DiT's
switches and embedders without another wire.
"""

from __future__ import annotations

from comfy_api.latest import io

from .parts.queries import Queries, connect
from .parts.schema import QueriesWire, schema


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
        return io.NodeOutput(connect(queries))
