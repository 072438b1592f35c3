"""The key of an edit in a graph: the same for the same edit, whatever else the graph holds, however it is numbered."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.comfyui

GRAPH: dict[str, Any] = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "a.safetensors"}},
    "2": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "lora_name": "l.safetensors", "strength": 0.5}},
    "3": {"class_type": "Long", "inputs": {"model": ["2", 0], "seed": 4, "source": ["5", 1]}},
    "5": {"class_type": "LoadVideo", "inputs": {"file": "c.mp4"}},
    "9": {"class_type": "SaveVideo", "inputs": {"video": ["3", 0]}},
}


@pytest.fixture
def key(pack: Callable[[str], ModuleType]) -> Callable[..., str]:
    graph_key = pack("nodes.parts.graph_key").graph_key
    return lambda graph, node="3", files=lambda name: None, contents=("x",): graph_key(graph, node, files, *contents)


def changed(*path: Any) -> dict[str, Any]:
    graph = copy.deepcopy(GRAPH)
    *way, name, value = path
    entry: Any = graph
    for step in way:
        entry = entry[step]
    entry[name] = value
    return graph


@pytest.mark.parametrize(
    "graph",
    [
        changed("9", "inputs", "filename_prefix", "x"),
        changed("7", {"class_type": "Note", "inputs": {}}),
        {{"1": "11", "2": "3:2", "3": "3"}.get(name, name): entry for name, entry in GRAPH.items()}
        | {"3:2": {**GRAPH["2"], "inputs": {**GRAPH["2"]["inputs"], "model": ["11", 0]}}}
        | {"3": {**GRAPH["3"], "inputs": {**GRAPH["3"]["inputs"], "model": ["3:2", 0]}}},
    ],
    ids=["what follows", "another node", "other ids"],
)
def test_what_does_not_count(key: Callable[..., str], graph: dict[str, Any]) -> None:
    assert key(graph) == key(GRAPH)


@pytest.mark.parametrize(
    "graph",
    [
        changed("2", "inputs", "strength", 0.6),
        changed("1", "inputs", "unet_name", "b.safetensors"),
        changed("3", "inputs", "source", ["5", 0]),
        changed("3", "inputs", "model", ["1", 0]),
        changed("5", "class_type", "LoadVideoPath"),
        changed("3", "inputs", "seed", 5),
    ],
    ids=["a weight", "a file", "an output", "a wire", "a class", "a widget"],
)
def test_what_counts(key: Callable[..., str], graph: dict[str, Any]) -> None:
    assert key(graph) != key(GRAPH)


def test_files_and_contents_count(key: Callable[..., str]) -> None:
    def newer(name: str) -> tuple[int, ...] | None:
        return (1, 2) if name == "l.safetensors" else None

    assert len({key(GRAPH), key(GRAPH, files=newer), key(GRAPH, contents=("y",)), key(GRAPH, contents=("x", ""))}) == 4


def test_a_shared_node_is_read_once(key: Callable[..., str]) -> None:
    """A ladder of forks: without a memory it would take 2^60 steps."""
    graph: dict[str, Any] = {"0": {"class_type": "Start", "inputs": {}}}
    for step in range(60):
        graph[str(step + 1)] = {"class_type": "Both", "inputs": {"a": [str(step), 0], "b": [str(step), 1]}}
    assert len(key(graph, "60")) == 64


def test_the_state_of_a_file(pack: Callable[[str], ModuleType], tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import folder_paths

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    file_state = pack("nodes.parts.host").file_state
    assert file_state("make it blue") is None and file_state("") is None and file_state("x" * 300) is None
    (tmp_path / "c.mp4").write_bytes(b"12345")
    first = file_state("c.mp4")
    assert first is not None and first[0] == 5
    (tmp_path / "c.mp4").write_bytes(b"123456")
    assert file_state("c.mp4") != first
