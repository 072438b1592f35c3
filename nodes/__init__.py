"""The ComfyUI layer: one node a file, each a thin step around instructx_core; data flows in the order of NODES.

    Load Encoder -> Query Embeddings -> Connector -> Source and Reference -> (sampler, VAE decode) -> Compare
    Load Model gives Source and Reference its MODEL and VAE, as the host's own loaders do
    Load Checkpoint in place of Load Encoder and a model loader, for Kiwi-Edit's own files
    MODEL -> Attention -> MODEL, anywhere before the sampler; Long Video: the whole chain, window by window

Only `extension()` touches the host. Heavy libraries (transformers) are imported when a node runs, never at start.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

logger = logging.getLogger("instructx")

# (module, class) in the order of the data flow. A new node is one line here.
NODES = (
    ("sample", "InstructXSample"),
    ("load_model", "InstructXLoadModel"),
    ("load_encoder", "InstructXLoadEncoder"),
    ("load_checkpoint", "InstructXLoadCheckpoint"),
    ("query_embeddings", "InstructXQueryEmbeddings"),
    ("connector", "InstructXConnector"),
    ("attention", "InstructXAttention"),
    ("source_reference", "InstructXSourceReference"),
    ("sampler", "InstructXSampler"),
    ("long_video", "InstructXLongVideo"),
    ("compare", "InstructXCompare"),
)


def node_classes() -> list[type]:
    """The node classes. One that this host cannot define is reported in its log and left out; the others work."""
    classes = []
    for module, name in NODES:
        try:
            node = getattr(importlib.import_module(f".{module}", __name__), name)
            node.GET_SCHEMA()  # here, where it costs one node: the host would drop the whole pack
            classes.append(node)
        except (ImportError, AttributeError, TypeError, ValueError):
            logger.exception("InstructX: node %s does not load on this ComfyUI; update ComfyUI or report this", name)
    return classes


def extension() -> Any:
    """The ComfyExtension of this pack; also keeps graphs running that name the shipped model in the host's loaders."""
    from comfy_api.latest import ComfyExtension

    from ..instructx_core.errors import InputError
    from .parts.host import before_each_prompt
    from .parts.shipped_names import with_own_loader

    before_each_prompt(with_own_loader)
    InputError.__module__ = "builtins"  # the page puts an error's module before its sentence, but for these

    class InstructXExtension(ComfyExtension):
        async def get_node_list(self) -> list[type]:
            return node_classes()

    return InstructXExtension()
