"""What the nodes' schemas share: one category, the types of our own wires, and filters for older hosts.

Hosts differ in which keywords `io.Schema` and the inputs take (0.3.75 lacks search_aliases and advanced); an unknown
one would disable the whole pack, so keywords that a host lacks are dropped here.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from comfy_api.latest import io

CATEGORY = "InstructX"
MAX_REFERENCES = 4

# Wires of our own; everything else is a native type.
Encoder = io.Custom("INSTRUCTX_ENCODER")
Queries = io.Custom("INSTRUCTX_QUERIES")


def schema(node_id: str, display_name: str, description: str, **keywords: Any) -> io.Schema:
    """io.Schema in our category, without the keywords this host does not know."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    chosen = {"category": CATEGORY, **keywords}
    return io.Schema(
        node_id=node_id,
        display_name=f"{display_name} (InstructX)",
        description=description,
        **{key: value for key, value in chosen.items() if key in known},
    )


def make(kind: Any, id: str, **keywords: Any) -> Any:
    """`kind.Input(id, ...)` without the keywords this host does not know, e.g. advanced. kind: io.Int, io.Combo ..."""
    known = inspect.signature(kind.Input.__init__).parameters
    return kind.Input(id, **{key: value for key, value in keywords.items() if key in known})


def source_input(tooltip: str, **keywords: Any) -> Any:
    """The `source` input: an IMAGE batch or a VIDEO."""
    return io.MultiType.Input("source", types=[io.Image, io.Video], tooltip=tooltip, **keywords)


def reference_inputs(tooltip: str) -> list[Any]:
    """reference_1 ... reference_4: optional IMAGE inputs; each may hold a batch, and sizes may differ between them."""
    return [
        io.Image.Input(f"reference_{number}", optional=True, tooltip=tooltip)
        for number in range(1, MAX_REFERENCES + 1)
    ]  # fmt: skip
