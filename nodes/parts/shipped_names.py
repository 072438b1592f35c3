"""Graphs that name the shipped model in the host's own loaders, as all did before Load Model: they go on running.

The host hands every prompt to `with_own_loader` before it checks it; a loader that names a shipped file which is in no
list of the host becomes Load Model (nodes/load_model.py).
"""

from __future__ import annotations

import logging
from typing import Any

from .host import listed_files
from .model_files import DENOISERS, TINY, VAES

logger = logging.getLogger("instructx")

# Of the host's loaders: the widget with the file, its model folder, and which output of Load Model takes its place.
LOADERS = {"UNETLoader": ("unet_name", DENOISERS, 0), "VAELoader": ("vae_name", VAES, 1)}


def with_own_loader(request: dict[str, Any]) -> dict[str, Any]:
    """The body of a POST to /prompt, its graph changed in place where a loader of the host names a shipped file."""
    graph = request.get("prompt")
    if not isinstance(graph, dict):
        return request
    moved: dict[str, int] = {}
    for name, node in graph.items():
        if isinstance(node, dict) and node.get("class_type") in LOADERS and isinstance(node.get("inputs"), dict):
            widget, folder, slot = LOADERS[node["class_type"]]
            if node["inputs"].get(widget) == TINY and TINY not in listed_files(folder):
                dtype = node["inputs"].get("weight_dtype", "default")
                node["class_type"] = "InstructXLoadModel"
                node["inputs"] = {"diffusion_model": TINY, "vae": TINY, "weight_dtype": dtype}
                moved[name] = slot
    linked = [node for node in graph.values() if isinstance(node, dict) and isinstance(node.get("inputs"), dict)]
    for node in linked if moved else ():
        for key, value in node["inputs"].items():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in moved:
                node["inputs"][key] = [value[0], moved[value[0]]]
    if moved:
        nodes = ", ".join(moved)
        logger.info("InstructX: the shipped model is loaded by Load Model (InstructX) in place of node %s", nodes)
    return request
