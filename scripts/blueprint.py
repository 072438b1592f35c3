"""Subgraph blueprints: a Graph with open ends -> a file of subgraphs/, which the host lists as one node.

Open ends are wires whose node is None. An end that feeds sockets becomes a socket of the node, one that feeds a widget
becomes its widget, with the value given here.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from graph import PACK_ID, Graph, Wire, sockets

IN, OUT = -10, -20  # ids of the two sides of a subgraph, fixed by the frontend


@dataclass(frozen=True)
class End:
    """One open input: its type, and the value of its widget (None for a socket)."""

    name: str
    type: str
    value: Any = None

    @property
    def wire(self) -> Wire:
        return Wire(None, self.name)


def identity(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"instructx/subgraphs/{name}"))


def link_record(link: int, origin: tuple[int, int], target: tuple[int, int], kind: str) -> dict[str, Any]:
    return {
        "id": link,
        "origin_id": origin[0],
        "origin_slot": origin[1],
        "target_id": target[0],
        "target_slot": target[1],
        "type": kind,
    }


def opening(graph: Graph, links: int) -> dict[str, Any]:
    """What a subgraph begins with: its name and its counters."""
    return {
        "id": identity(graph.name),
        "version": 1,
        "state": {
            "lastGroupId": 0,
            "lastNodeId": len(graph.nodes),
            "lastLinkId": links,
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": graph.name,
    }


def blueprint(graph: Graph, ends: list[End], results: list[tuple[str, Wire]], description: str) -> dict[str, Any]:
    """The file. results: (name, wire) of the outputs. Raises ValueError for an end that feeds nothing."""
    inner = graph.links()
    links = [link_record(link, (w.node.id, w.slot), (target.id, slot), kind) for link, w, target, slot, kind in inner]
    outer: dict[str, int] = {}
    fed: dict[str, list[int]] = {end.name: [] for end in ends}
    for node in graph.nodes:
        for slot, entry in enumerate(sockets(node)):
            wire = node.given.get(entry["name"])
            if isinstance(wire, Wire) and wire.node is None:
                position = [end.name for end in ends].index(wire.name)
                links.append(link_record(len(links) + 1, (IN, position), (node.id, slot), ends[position].type))
                outer[f"{node.id}.{entry['name']}"] = len(links)
                fed[wire.name].append(len(links))
    if unused := [name for name, ids in fed.items() if not ids]:
        raise ValueError(f"{graph.name}: {', '.join(unused)} feeds nothing")
    records = graph.node_records(inner, outer)
    leaving: list[int] = []
    for position, (_, wire) in enumerate(results):
        links.append(link_record(len(links) + 1, (wire.node.id, wire.slot), (OUT, position), wire.type))
        leaving.append(len(links))
        record = next(record for record in records if record["id"] == wire.node.id)
        record["outputs"][wire.slot]["links"].append(len(links))
    right = max(record["pos"][0] for record in records) + 460
    subgraph = {
        **opening(graph, len(links)),
        "inputNode": {"id": IN, "bounding": [-280, 90, 160, 40 + 20 * len(ends)]},
        "outputNode": {"id": OUT, "bounding": [right, 90, 120, 40 + 20 * len(results)]},
        "inputs": [
            {"id": identity(f"{graph.name}/{end.name}"), "name": end.name, "type": end.type, "linkIds": fed[end.name]}
            for end in ends
        ],
        "outputs": [
            {"id": identity(f"{graph.name}/out/{name}"), "name": name, "type": wire.type, "linkIds": [link]}
            for (name, wire), link in zip(results, leaving, strict=True)
        ],
        "widgets": [],
        "nodes": records,
        "groups": graph.layout()[1],
        "links": links,
        "extra": {},
        "category": "InstructX",
        "description": description,
    }
    return {
        "revision": 0,
        "last_node_id": len(graph.nodes) + 1,
        "last_link_id": len(links),
        "nodes": [outer_node(graph, ends, results)],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
    }


def outer_node(graph: Graph, ends: list[End], results: list[tuple[str, Wire]]) -> dict[str, Any]:
    """The one node that the artist sees."""
    widgets = [end for end in ends if end.value is not None]
    return {
        "id": len(graph.nodes) + 1,
        "type": identity(graph.name),
        "pos": [0, 0],
        "size": [400, 120 + 30 * len(ends)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [
            {
                "name": end.name,
                "type": end.type,
                **({} if end.value is None else {"widget": {"name": end.name}}),
                "link": None,
            }
            for end in ends
        ],
        "outputs": [{"name": name, "type": wire.type, "links": []} for name, wire in results],
        "title": graph.name,
        # no "proxyWidgets": newer frontends quarantine entries for ends, and the artist's values with them
        "properties": {"cnr_id": PACK_ID},
        "widgets_values": [end.value for end in widgets],
    }
