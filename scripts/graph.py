"""One description of a graph -> the files that ComfyUI reads: workflow (UI format), API prompt, subgraph blueprint.

    graph = Graph("Edit"); load = graph.add("Models", "VAELoader", vae_name="x.safetensors")
    graph.add("Result", "VAEDecode", vae=load.out("VAE"), samples=...)
    graph.ui(), graph.api(), graph.blueprint(...)

Inputs are given by name: a value for a widget, `node.out(name)` for a wire. Names, order and types come from
signatures.json, a cut of a real host's /object_info (tests/comfyui/test_templates.py compares it with the host).
Columns are the groups of the graph, left to right in the order of their first use.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIGNATURES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "signatures.json").read_text(encoding="utf-8")
)
PACK_ID = "instructx"  # our id in the registry, equal to project.name in pyproject.toml
NOTE = "MarkdownNote"  # lives in the browser only
WIDTH, GAP, TOP, TITLE = 340, 60, 90, 30
TALL = {"InstructXCompare": 420, "SaveImage": 240, "SaveVideo": 240}
TALL |= {"LoadImage": 260, "LoadVideo": 260}
# room for what they say of their run (web/js/notes.js)
TALL |= {
    "InstructXSample": 290,
    "InstructXQueryEmbeddings": 120,
    "InstructXSourceReference": 70,
    "InstructXLongVideo": 90,
}


@dataclass(frozen=True)
class Wire:
    """An output of a node, or an input of the subgraph around it (node is None)."""

    node: Node | None
    name: str

    @property
    def slot(self) -> int:
        return [name for name, _ in SIGNATURES[self.node.kind]["outputs"]].index(self.name)

    @property
    def type(self) -> str:
        return SIGNATURES[self.node.kind]["outputs"][self.slot][1]


@dataclass(eq=False)
class Node:
    """A node of the graph; `given` maps input names to values and wires, `models` are files the host may offer."""

    id: int
    column: str
    kind: str
    given: dict[str, Any]
    models: list[dict[str, str]] = field(default_factory=list)
    title: str | None = None

    def out(self, name: str) -> Wire:
        names = [entry[0] for entry in SIGNATURES[self.kind]["outputs"]]
        if name not in names:
            raise KeyError(f"{self.kind} has no output {name!r}; it has {', '.join(names)}")
        return Wire(self, name)

    @property
    def inputs(self) -> list[dict[str, Any]]:
        return [] if self.kind == NOTE else SIGNATURES[self.kind]["inputs"]

    @property
    def wires(self) -> list[tuple[dict[str, Any], Wire]]:
        return [(entry, self.given[entry["name"]]) for entry in self.inputs if self.is_wire(entry)]

    def is_wire(self, entry: dict[str, Any]) -> bool:
        return isinstance(self.given.get(entry["name"]), Wire)

    def value(self, entry: dict[str, Any]) -> Any:
        """Value of a widget; the default where a wire feeds it."""
        value = self.given.get(entry["name"], entry.get("default"))
        return entry.get("default", "") if isinstance(value, Wire) else value

    @property
    def height(self) -> int:
        if self.kind == NOTE:
            return 60 + 16 * sum(1 + len(line) // 52 for line in self.given["text"].split("\n"))
        outputs = len(SIGNATURES[self.kind]["outputs"])
        sockets = sum(not entry["widget"] for entry in self.inputs)
        rows = sum(26 + (24 if entry.get("control") else 0) for entry in self.inputs if entry["widget"])
        tall = 70 * sum(bool(entry.get("multiline")) for entry in self.inputs)
        return 20 + 20 * max(sockets, outputs) + rows + tall + TALL.get(self.kind, 0)


Link = tuple[int, Wire, Node, int, str]


class Graph:
    """Nodes in the order they are added, which is the order they run in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Node] = []

    def add(
        self,
        column: str,
        kind: str,
        /,
        *,
        models: list[dict[str, str]] | None = None,
        title: str | None = None,
        **given: Any,
    ) -> Node:
        """Raises KeyError for an input the node does not have, ValueError for one it needs."""
        node = Node(len(self.nodes) + 1, column, kind, given, models or [], title)
        if kind != NOTE:
            known = {entry["name"] for entry in node.inputs}
            if unknown := sorted(set(given) - known):
                raise KeyError(f"{kind} has no input {', '.join(unknown)}; it has {', '.join(sorted(known))}")
            for entry in node.inputs:
                if not entry["widget"] and not entry["optional"] and entry["name"] not in given:
                    raise ValueError(f"{kind} needs {entry['name']}")
        self.nodes.append(node)
        return node

    def note(self, column: str, text: str) -> Node:
        return self.add(column, NOTE, text=text)

    # --- API ---------------------------------------------------------------------------------------------------------

    def api(self) -> dict[str, Any]:
        """The prompt for POST /prompt."""
        prompt = {
            str(node.id): {
                "class_type": node.kind,
                "inputs": {
                    entry["name"]: [str(self_wire.node.id), self_wire.slot]
                    if isinstance(self_wire := node.given.get(entry["name"]), Wire)
                    else node.value(entry)
                    for entry in node.inputs
                    if entry["widget"] or node.is_wire(entry)
                },
                "_meta": {"title": node.title or SIGNATURES[node.kind]["display_name"]},
            }
            for node in self.nodes
            if node.kind != NOTE
        }
        for entry in prompt.values():
            # needed by newer hosts, ignored by older ones
            if entry["class_type"] == "SaveVideo":
                entry["inputs"]["format.codec"] = entry["inputs"]["codec"]
            if entry["class_type"] == "ImageScaleToTotalPixels":
                entry["inputs"]["resolution_steps"] = 1
        return prompt

    # --- UI ----------------------------------------------------------------------------------------------------------

    def layout(self) -> tuple[dict[int, tuple[int, int]], list[dict[str, Any]]]:
        """Position of every node, and one group a column."""
        places: dict[int, tuple[int, int]] = {}
        groups = []
        for number, column in enumerate(dict.fromkeys(node.column for node in self.nodes)):
            x, y = number * (WIDTH + GAP), TOP
            for node in self.nodes:
                if node.column == column:
                    places[node.id] = (x, y)
                    y += node.height + TITLE + 48  # the newer renderer puts a line for advanced inputs below
            groups.append(
                {
                    "id": number + 1,
                    "title": column,
                    "bounding": [x - 20, TOP - 80, WIDTH + 40, y - TOP + 70],
                    "color": "#3f789e",
                    "font_size": 24,
                    "flags": {},
                }
            )
        return places, groups

    def links(self) -> list[Link]:
        """(id, from, to, slot of the target among its sockets, type) of every wire between nodes."""
        found = []
        for node in self.nodes:
            for slot, entry in enumerate(sockets(node)):
                if node.is_wire(entry) and node.given[entry["name"]].node is not None:
                    wire = node.given[entry["name"]]
                    found.append((len(found) + 1, wire, node, slot, wire.type))
        return found

    def node_records(self, links: list[Link], outer: dict[str, int]) -> list[dict[str, Any]]:
        """The nodes in UI format. outer: link ids of wires from the subgraph's inputs, by "node id.input name"."""
        places, _ = self.layout()
        incoming = {(target.id, slot): link for link, _, target, slot, _ in links}
        records = []
        for order, node in enumerate(self.nodes):
            record: dict[str, Any] = {
                "id": node.id,
                "type": node.kind,
                "pos": list(places[node.id]),
                "size": [WIDTH, node.height],
                "flags": {},
                "order": order,
                "mode": 0,
            }
            if node.kind == NOTE:
                record |= {"inputs": [], "outputs": [], "title": "Note", "properties": {}}
                record |= {"widgets_values": [node.given["text"]], "color": "#432", "bgcolor": "#653"}
                records.append(record)
                continue
            record["inputs"] = [
                {
                    "name": entry["name"],
                    "type": entry["type"],
                    **({"shape": 7} if entry["optional"] else {}),
                    **({"widget": {"name": entry["name"]}} if entry["widget"] else {}),
                    "link": incoming.get((node.id, slot), outer.get(f"{node.id}.{entry['name']}")),
                }
                for slot, entry in enumerate(sockets(node))
            ]
            record["outputs"] = [
                {
                    "name": name,
                    "type": kind,
                    "links": [link for link, wire, *_ in links if wire.node is node and wire.slot == slot],
                }
                for slot, (name, kind) in enumerate(SIGNATURES[node.kind]["outputs"])
            ]
            if node.title:
                record["title"] = node.title
            record["properties"] = properties(node)
            record["widgets_values"] = widget_values(node)
            records.append(record)
        return records

    def ui(self) -> dict[str, Any]:
        """The workflow file."""
        links = self.links()
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"instructx/workflows/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(links),
            "nodes": self.node_records(links, {}),
            "links": [
                [link, wire.node.id, wire.slot, target.id, slot, kind] for link, wire, target, slot, kind in links
            ],
            "groups": self.layout()[1],
            "config": {},
            "extra": {"ds": {"scale": 0.7, "offset": [60, 40]}},
            "version": 0.4,
        }


def sockets(node: Node) -> list[dict[str, Any]]:
    """Inputs in the order of their dots: sockets first, then widgets, as the frontend lists them."""
    return [entry for entry in node.inputs if not entry["widget"]] + [e for e in node.inputs if e["widget"]]


def properties(node: Node) -> dict[str, Any]:
    """What names our pack to hosts that lack it, and the files the host may offer to download."""
    ours = node.kind.startswith("InstructX")
    found: dict[str, Any] = {"cnr_id": PACK_ID if ours else "comfy-core", "Node name for S&R": node.kind}
    if node.models:
        found["models"] = node.models
    return found


def widget_values(node: Node) -> list[Any]:
    values = []
    for entry in node.inputs:
        if entry["widget"]:
            values.append(node.value(entry))
            if entry.get("control"):
                values.append("randomize")
    return values
