"""Which edit a node of a graph makes, as a value: it outlives the objects on the wires, the host's cache, the host.

Long Video keeps finished windows under it. Everything upstream of the node counts (classes, widgets, the size and date
of the files that they name), ids and the rest of the graph do not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

FileState = Callable[[str], tuple[int, ...] | None]  # of a name in a widget: size and date, None for no file


def graph_key(prompt: Mapping[str, Any], node: str, file_state: FileState, *contents: str) -> str:
    """SHA-256 of what the node with that id is made from. prompt: the graph in API format.

    contents: digests of what the graph does not say, the pixels of its sources. Raises KeyError for an unknown id.
    """
    made: dict[str, str] = {}

    def value(given: Any) -> Any:
        if isinstance(given, list) and len(given) == 2 and str(given[0]) in prompt and isinstance(given[1], int):
            return [of(str(given[0])), given[1]]
        return [given, file_state(given)] if isinstance(given, str) else given

    def of(node_id: str) -> str:
        if node_id not in made:
            entry = prompt[node_id]
            inputs = {name: value(given) for name, given in sorted(entry.get("inputs", {}).items())}
            text = json.dumps([entry.get("class_type"), inputs], sort_keys=True, default=str)
            made[node_id] = hashlib.sha256(text.encode()).hexdigest()
        return made[node_id]

    return hashlib.sha256("\n".join([of(node), *contents]).encode()).hexdigest()
