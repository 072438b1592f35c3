"""Runs that are less usual: without a cache, several prompts queued at once, prompts by HTTP that leave out what is
optional or wire what no widget would hold. Each gives what the plain run gives, or one sentence.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.comfyui

Graph = dict[str, Any]


@pytest.fixture(scope="module")
def uncached(boot: Any) -> Any:
    """A host that keeps no output of any node."""
    return boot(extra=("--cache-none",))


def test_without_a_cache(uncached: Any, graphs: Any) -> None:
    """Twice the same picture with guidance, a reference and Compare; nothing of the run before is asked for."""
    graph = graphs.guided(graphs.edit(task="reference_add", cfg=2.0))
    graph["compare"] = graphs.node(
        "InstructXCompare", before=["source", 4], after=["sampler", 0], batch="video", fps=8.0
    )
    first, second = (graphs.pictures(uncached, graph)[0] for _ in range(2))
    assert np.array_equal(first, second) and first.std() > 1


def test_two_prompts_at_once(uncached: Any, graphs: Any) -> None:
    """Queued together, of other kinds and settings: each is what it is alone."""
    asked = [graphs.edit("video", seed=5), graphs.edit(seed=6), graphs.edit("video", seed=5)]
    entries = [uncached.wait(name) for name in [uncached.queue(graph) for graph in asked]]
    assert [entry["status"]["status_str"] for entry in entries] == ["success"] * 3
    clip, picture, again = (np.stack(uncached.pictures(entry, "save")) for entry in entries)
    assert np.array_equal(clip, again) and len(clip) == 17
    assert np.array_equal(picture, np.stack(graphs.pictures(uncached, asked[1])))


def test_prompts_by_http_without_optional_inputs(uncached: Any, graphs: Any) -> None:
    """An empty socket is the same whether its name is there or not; the instruction is typed."""
    info = uncached.object_info()
    graph = graphs.edit()
    graph["queries"]["inputs"] |= {"instruction": "make it blue", "instruction_if_empty": "make it red"}
    short = copy.deepcopy(graph)
    for node in short.values():
        optional = info[node["class_type"]]["input"].get("optional", {})
        for name in [name for name in node["inputs"] if name in optional]:
            del node["inputs"][name]
    assert short["queries"]["inputs"].keys() < graph["queries"]["inputs"].keys()
    assert np.array_equal(graphs.pictures(uncached, short), graphs.pictures(uncached, graph))


def test_choices_and_numbers_over_wires(uncached: Any, graphs: Any) -> None:
    """0.3.75 checks no choice of a V3 node, and no host checks a wire: a sentence, and no picture of another rule."""
    graph = graphs.edit()
    graph["source"]["inputs"]["resize"] = "stretch"
    assert "resize" in uncached.fails(graph)
    graph = graphs.edit()
    graph["none"] = graphs.node("PrimitiveInt", value=0)
    graph["sampler"]["inputs"]["steps"] = ["none", 0]
    assert "steps is 0; it must be a whole number from 1 to 1000" in uncached.fails(graph)
