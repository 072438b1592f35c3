"""What an artist does to a graph on the page: mutes or bypasses a node, puts ours into a subgraph, changes tabs.

What the page would send is compared with what it sent before, and run where the answer is a picture.
"""

from __future__ import annotations

from typing import Any

import frontend
import numpy as np
import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

MODES = {"mute": 2, "bypass": 4}
TRY = "InstructX - Try it now"
SET_MODE = "([kind, mode]) => window.app.graph.nodes.filter(n => n.type === kind).forEach(n => { n.mode = mode; })"
# What remains without a node of ours: nobody runs a graph in which an edit is missing.
MISSED = {
    "InstructXLoadModel": {"model", "vae"}, "InstructXLoadEncoder": {"encoder"}, "InstructXSample": {"source"},
    "InstructXQueryEmbeddings": {"queries"}, "InstructXConnector": {"positive"},
    "InstructXSourceReference": {"latent"}, "InstructXSampler": {"images", "after"},
}  # fmt: skip
NOTED = {"InstructXSample", "InstructXQueryEmbeddings", "InstructXSourceReference"}


def open_template(page: Any, host: Any, title: str, steps: int = 2) -> None:
    """With few steps, and seeds that stay, so that a run can be compared with the one before."""
    frontend.load(page, frontend.template(host, f"{TRY} - {title}"))
    page.evaluate(
        "steps => { for (const n of window.app.graph.nodes) for (const w of n.widgets ?? [])"
        " if (w.name === 'control_after_generate') w.value = 'fixed'; else if (w.name === 'steps') w.value = steps }",
        steps,
    )


def prompt_of(page: Any) -> dict[str, Any]:
    """What Run would send."""
    return page.evaluate("async () => (await window.app.graphToPrompt()).output")


def without(page: Any, kind: str, mode: str) -> dict[str, Any]:
    """The prompt while nodes of this kind are muted or bypassed."""
    page.evaluate(SET_MODE, [kind, MODES[mode]])
    prompt = prompt_of(page)
    page.evaluate(SET_MODE, [kind, 0])
    assert kind not in {entry["class_type"] for entry in prompt.values()}
    return prompt


def saved(host: Any, prompt: dict[str, Any]) -> np.ndarray:
    """The one picture that Save Image wrote."""
    (node,) = [name for name, entry in prompt.items() if entry["class_type"] == "SaveImage"]
    (picture,) = host.pictures(host.run(prompt), node)
    return picture


def wire(prompt: dict[str, Any], kind: str, name: str) -> Any:
    """What an input of the node of this kind gets."""
    (entry,) = [entry for entry in prompt.values() if entry["class_type"] == kind]
    return entry["inputs"].get(name)


def noted(page: Any) -> dict[str, str]:
    """Our notes by the kind of their node, of the graph or subgraph that is open."""
    return page.evaluate(
        "Object.fromEntries(window.app.canvas.graph.nodes.map(n => [n.type,"
        " n.widgets?.find(w => w.name === 'instructx_notes')?.element.textContent]).filter(([, text]) => text))"
    )


@pytest.mark.parametrize("mode", list(MODES))
def test_a_node_that_is_left_out_is_missed_by_name(page: Any, host: Any, hosting: Any, mode: str) -> None:
    """The host refuses the graph and names the input, rather than to edit something else."""
    open_template(page, host, "image")
    for kind, inputs in MISSED.items():
        with pytest.raises(hosting.HostError, match="Required input is missing") as refused:
            host.queue(without(page, kind, mode))
        assert all(f'"input_name": "{name}"' in str(refused.value) for name in inputs), kind


@pytest.mark.parametrize("mode", list(MODES))
def test_what_can_be_left_out(page: Any, host: Any, mode: str) -> None:
    """Compare; a picture to refer to, for both of its readers; Attention and Long Video pass on what they got."""
    open_template(page, host, "image")
    whole = prompt_of(page)
    assert np.array_equal(saved(host, without(page, "InstructXCompare", mode)), saved(host, whole))
    page.evaluate(
        "() => { const g = window.app.graph, of = kind => g.nodes.find(n => n.type === kind);"
        " const add = kind => { const n = window.LiteGraph.createNode(kind); g.add(n); return n; };"
        " const picture = add('LoadImage'), attention = add('InstructXAttention');"
        " const source = of('InstructXSourceReference');"
        " for (const n of [of('InstructXQueryEmbeddings'), source])"
        " picture.connect(0, n, n.inputs.findIndex(i => i.name === 'reference_1'));"
        " of('InstructXLoadModel').connect(0, attention, attention.inputs.findIndex(i => i.name === 'model'));"
        " attention.connect(0, source, source.inputs.findIndex(i => i.name === 'model')); }"
    )
    assert wire(prompt_of(page), "InstructXQueryEmbeddings", "reference_1")
    prompt = without(page, "LoadImage", mode)
    for reader in ("InstructXQueryEmbeddings", "InstructXSourceReference"):
        assert wire(prompt, reader, "reference_1") is None
    model = wire(without(page, "InstructXAttention", mode), "InstructXSourceReference", "model")
    assert model == (wire(whole, "InstructXSourceReference", "model") if mode == "bypass" else None)
    open_template(page, host, "long video")
    source = wire(prompt_of(page), "InstructXLongVideo", "source")
    prompt = without(page, "InstructXLongVideo", mode)
    assert wire(prompt, "SaveVideo", "video") == (source if mode == "bypass" else None)


def test_inside_a_subgraph_of_the_artist(page: Any, host: Any, renderer: str) -> None:
    """The same is sent and comes out, notes, before and after stand inside."""
    open_template(page, host, "image")
    whole = prompt_of(page)
    page.evaluate(
        "() => { const g = window.app.graph;"
        " g.convertToSubgraph(new Set(g.nodes.filter(n => n.type.startsWith('InstructX')))); }"
    )
    page.wait_for_timeout(500)
    inside = prompt_of(page)
    for entry in whole.values():
        (same,) = [other["inputs"] for other in inside.values() if other["class_type"] == entry["class_type"]]
        values = {name: value for name, value in entry["inputs"].items() if not isinstance(value, list)}
        assert values.items() <= same.items() and same.keys() == entry["inputs"].keys()
    assert np.array_equal(saved(host, inside), saved(host, whole))
    host.free()  # hosts before 0.19 send no notes of a node that does not run again
    page.wait_for_timeout(500)
    page.evaluate("window.app.queuePrompt(0, 1)")
    settle(page, host)
    page.evaluate(
        "() => { const n = window.app.graph.nodes.find(n => n.subgraph);"
        " window.app.canvas.openSubgraph(n.subgraph, n); }"
    )
    frontend.show_all(page)
    page.wait_for_selector(frontend.STAGE)
    assert noted(page).keys() == NOTED


def test_a_job_of_another_tab_puts_no_note_on_another_kind_of_node(page: Any, host: Any) -> None:
    """The page gives results to nodes by number, whatever graph is open: Long Video's is Connector's here."""
    open_template(page, host, "long video", steps=1)
    page.evaluate("window.app.queuePrompt(0, 1)")
    open_template(page, host, "image")
    settle(page, host)
    assert noted(page).keys() <= NOTED


def settle(page: Any, host: Any) -> None:
    """Waits until no job is left, and until the page has heard so."""
    page.wait_for_timeout(500)
    while any(host.get("/queue").values()):
        page.wait_for_timeout(300)
    page.wait_for_timeout(1500)
