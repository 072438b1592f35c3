"""Browser lane: headless Chromium on the host's real frontend opens Templates, loads and runs graphs, moves the slider.

    apt-get install chromium; pip install playwright; pytest -m browser
    INSTRUCTX_SCREENSHOTS=1 ...   also writes docs/comfyui/*.webp and the pictures of the help pages

CHROMIUM names another browser binary. Nothing is skipped: where the browser is missing the fixture fails and says so.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from frontend import STAGE, load, run, show_all, shown_texts, template
from PIL import Image

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

ROOT = Path(__file__).resolve().parents[2]
TITLES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


def keep(page: Any, path: str, clip: dict[str, float] | None = None, width: int = 900) -> None:
    """Writes a screenshot into the repository, small, when INSTRUCTX_SCREENSHOTS is set."""
    if not os.environ.get("INSTRUCTX_SCREENSHOTS"):
        return
    with Image.open(io.BytesIO(page.screenshot(clip=clip) if clip else page.screenshot())) as shot:
        picture = shot.convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    target = ROOT / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".png":
        picture.quantize(128).save(target, optimize=True)
    else:
        picture.save(target, quality=55, method=6)


def around(page: Any) -> dict[str, float]:
    """The part of the window that shows the graph, for a picture of it."""
    x, y, width, height = page.evaluate(
        "() => { const all = [...window.app.graph.groups, ...window.app.graph.nodes].map(n => n.boundingRect);"
        " const { scale, offset } = window.app.canvas.ds, at = (i, f) => Math[f](...all.map(r => r[i]));"
        " const end = i => Math.max(...all.map(r => r[i] + r[i + 2]));"
        " const x = at(0, 'min'), y = at(1, 'min');"
        " return [(x + offset[0]) * scale, (y + offset[1]) * scale, (end(0) - x) * scale, (end(1) - y) * scale]; }"
    )
    canvas = page.locator("canvas#graph-canvas").bounding_box()
    return {"x": canvas["x"] + x - 10, "y": canvas["y"] + y - 10, "width": width + 20, "height": height + 20}


def split(page: Any) -> float:
    """Percent of the picture that shows `before`."""
    return float(page.locator(f"{STAGE} .slider").input_value())


def picture_of_run(page: Any, slug: str, percent: int) -> None:
    """Nothing selected, the slider over what was edited."""
    page.locator(f"{STAGE} .slider").fill(str(percent))
    page.evaluate("window.app.canvas.deselectAll()")
    page.wait_for_timeout(500)
    keep(page, f"docs/comfyui/{slug}.webp", around(page))


def test_templates_dialog(page: Any) -> None:
    page.evaluate("window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text("InstructX", exact=True).last.click()
    for title in TITLES:
        page.get_by_text(title, exact=True).first.wait_for()
    page.wait_for_function(  # cards load their pictures when they come into view; the first two rows are in view
        "[...document.querySelectorAll('img')].filter(i => i.complete && i.naturalWidth === 400).length >= 4"
    )
    keep(page, "docs/comfyui/templates.webp")
    page.get_by_text("InstructX - Try it now - image", exact=True).first.click()
    page.wait_for_function("window.app.graph.nodes.some(node => node.type === 'InstructXSampler')")


@pytest.mark.parametrize("title", TITLES)
def test_every_template_loads_whole(page: Any, host: Any, title: str) -> None:
    """No missing node, and the graph that the frontend would queue is the headless one of the same name."""
    load(page, template(host, title))
    kinds = page.evaluate("window.app.graph.nodes.map(node => node.type)")
    known = page.evaluate("Object.keys(window.LiteGraph.registered_node_types)")
    assert kinds and set(kinds) <= set(known)
    marked = page.evaluate("window.app.graph.nodes.filter(node => node.has_errors).map(node => node.type)")
    files = {"UNETLoader", "VAELoader", "InstructXLoadEncoder", "LoadImage", "LoadVideo"}  # of models not here
    assert set(marked) <= (set() if title.startswith("InstructX - Try it now") else files)
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    wanted = next(
        graph
        for path in (ROOT / "workflows" / "api").glob("*.json")
        if (graph := json.loads(path.read_text(encoding="utf-8"))) and _prefix(graph) == _prefix(prompt)
    )
    for node, entry in wanted.items():
        here = prompt[node]["inputs"]
        dotted = {name for name in entry["inputs"] if "." in name and name in here}  # newer hosts: format.codec, ...
        plain = {name for name in entry["inputs"] if "." not in name} - {name.split(".")[-1] for name in dotted}
        plain -= {"resolution_steps"} - here.keys()  # newer hosts need it, older ones don't know it
        want = {name: entry["inputs"][name] for name in plain | dotted}
        got = {name: here.get(name) for name in want}
        assert got == want, f"{title}: node {node} ({entry['class_type']})"
    if not title.startswith("InstructX - Try it now"):  # those are pictured after a run
        show_all(page)
        keep(page, f"docs/comfyui/{_prefix(wanted).removeprefix('InstructX/')}.webp", around(page))


def _prefix(graph: dict[str, Any]) -> str:
    return next(e["inputs"]["filename_prefix"] for e in graph.values() if "filename_prefix" in e["inputs"])


def test_image_runs_and_the_slider_moves(page: Any, host: Any, renderer: str) -> None:
    load(page, template(host, "InstructX - Try it now - image"))
    show_all(page)
    run(page, host)
    box = page.locator(STAGE).bounding_box()
    assert box["width"] > 60 and abs(box["width"] / box["height"] - 1) < 0.05, "the stage has the picture's shape"
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert abs(split(page) - 25) < 6
    assert f"{split(page):g}%" in page.locator(f"{STAGE} .after").get_attribute("style")
    page.keyboard.press("Home")
    assert split(page) == 0
    page.keyboard.press("ArrowRight")
    assert split(page) == 0.5
    said = page.evaluate(
        "window.app.graph.nodes.map(n => n.widgets?.find(w => w.name === 'instructx_notes')?.element.textContent)"
    )
    assert any("1 frame(s) seen as" in text for text in said if text), "nodes say on the page what they did"
    names = page.eval_on_selector_all(f"{STAGE} .slider", "all => all.map(e => e.getAttribute('aria-label'))")
    assert all(names)
    if renderer == "vue":
        return  # pictures for the docs are of the other one
    picture_of_run(page, "try_image", 24)
    kinds = page.evaluate("Object.keys(window.LiteGraph.registered_node_types).filter(k => k.startsWith('InstructX'))")
    pictures(page, [kind for kind in kinds if kind != "InstructXCompare"])


def pictures(page: Any, kinds: list[str]) -> None:
    """One picture a node for its help page; a node that is not in the graph is put beside it."""
    if os.environ.get("INSTRUCTX_SCREENSHOTS"):
        for kind in kinds:
            page.evaluate(
                "kind => { const c = window.app.canvas; let n = window.app.graph.nodes.find(n => n.type === kind);"
                " if (!n) { n = window.LiteGraph.createNode(kind); n.pos = [0, 1000 * window.app.graph.nodes.length];"
                " window.app.graph.add(n); }"
                " c.ds.scale = 1; c.ds.offset = [300 - n.pos[0], 200 - n.pos[1]]; c.setDirty(true, true); }",
                kind,
            )
            page.wait_for_timeout(1200)
            width, height = page.evaluate("kind => [...window.app.graph.nodes.find(n => n.type === kind).size]", kind)
            canvas = page.locator("canvas#graph-canvas").bounding_box()
            clip = {"x": canvas["x"] + 280, "y": canvas["y"] + 150, "width": width + 40, "height": height + 70}
            keep(page, f"web/docs/img/{kind}.png", clip, width=420)


def test_video_plays_in_step(page: Any, host: Any, renderer: str) -> None:
    load(page, template(host, "InstructX - Try it now - video"))
    show_all(page)
    run(page, host)
    page.wait_for_function(
        "[...document.querySelectorAll('.instructx-compare video')].every(v => v.readyState >= 2) &&"
        " document.querySelectorAll('.instructx-compare video').length === 2"
    )
    slider = page.locator(f"{STAGE} .slider")
    slider.focus()
    playing = "[...document.querySelectorAll('.instructx-compare video')].map(v => !v.paused)"
    times = "[...document.querySelectorAll('.instructx-compare video')].map(v => v.currentTime)"
    for state in (True, False):
        for _ in range(10):  # a slow machine may start to play by itself between the look and the key
            if set(page.evaluate(playing)) == {state}:
                break
            page.keyboard.press("Space")
            page.wait_for_timeout(1000)
        assert page.evaluate(playing) == [state] * 2
    timeline = page.locator(".instructx-compare .bar input")
    timeline.fill("8")
    page.wait_for_timeout(300)
    before, after = page.evaluate(times)
    assert abs(before - after) < 1e-3 and abs(before - 8.5 / 16) < 0.02, "both show frame 9 of 17"
    timeline.focus()
    page.keyboard.press("ArrowRight")
    assert timeline.input_value() == "9"
    page.keyboard.press(".")
    assert timeline.input_value() == "10"
    assert page.locator(".instructx-compare .count").inner_text() == "11 / 17"
    labels = page.eval_on_selector_all(
        ".instructx-compare button, .instructx-compare input", "all => all.map(e => e.getAttribute('aria-label'))"
    )
    assert len(labels) == 4 and all(labels)
    if renderer == "classic":
        picture_of_run(page, "try_video", 26)
        pictures(page, ["InstructXCompare"])


@pytest.mark.parametrize(("title", "slug"), [("reference", "try_reference"), ("long video", "try_long")])
def test_the_others_run(page: Any, host: Any, title: str, slug: str) -> None:
    load(page, template(host, f"InstructX - Try it now - {title}"))
    show_all(page)
    run(page, host)
    picture_of_run(page, slug, 76)


def test_result_comes_back_after_a_change_of_tab(page: Any, host: Any, renderer: str) -> None:
    """A graph loaded in a new tab and left again shows its result without a run."""
    load(page, template(host, "InstructX - Try it now - image"))
    run(page, host)
    load(page, template(host, next(title for title in TITLES if "Kiwi 5B" in title and title.endswith("image"))))
    assert page.locator(STAGE).count() == 0
    page.evaluate("window.app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    page.wait_for_selector(STAGE)


@pytest.mark.parametrize("medium", ["Image", "Video", "Long Video"])
def test_blueprint_is_one_node(page: Any, host: Any, medium: str) -> None:
    """One node with its widgets, which becomes our nodes in the prompt, and nothing marked as missing."""
    served = {entry["name"]: key for key, entry in host.get("/global_subgraphs").items()}
    blueprint = host.get(f"/global_subgraphs/{served[f'Edit {medium} (InstructX)']}")["data"]
    load(page, json.loads(blueprint))
    (node,) = page.evaluate("window.app.graph.nodes.map(n => [n.title, n.has_errors, n.widgets.map(w => w.name)])")
    assert node[0] == f"Edit {medium} (InstructX)" and not node[1]
    assert {"instruction", "seed", "steps", "diffusion_model", "vae", "encoder", "adapter"} <= set(node[2])
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    kinds = {entry["class_type"] for entry in prompt.values()}
    chain = {"InstructXLongVideo"} if medium == "Long Video" else {"InstructXConnector", "InstructXSampler"}
    assert {"InstructXLoadModel", "InstructXLoadEncoder"} | chain <= kinds
    sampling = next(entry["inputs"] for entry in prompt.values() if "shift" in entry["inputs"])
    assert (sampling["steps"], sampling["shift"]) == (4, 3)
    keep(page, f"docs/comfyui/edit_{medium.lower().replace(' ', '_')}_node.webp", around(page), width=480)


VALUES = {"instruction": "Remove the red star, please.", "seed": 11, "steps": 3}


def shown(page: Any) -> dict[str, Any]:
    """What the one blueprint in the graph shows in its widgets."""
    return page.evaluate(
        "names => { const n = window.app.graph.nodes.find(n => n.subgraph);"
        " return Object.fromEntries(names.map(name => [name, n.widgets.find(w => w.name === name)?.value])); }",
        list(VALUES),
    )


def sent(page: Any) -> dict[str, Any]:
    """What would be queued: the same values out of the prompt."""
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    found: dict[str, Any] = {}
    for entry in prompt.values():
        found |= {name: entry["inputs"][name] for name in VALUES if name in entry["inputs"]}
    return found


@pytest.mark.parametrize("medium", ["Image", "Video", "Long Video"])
def test_a_blueprint_keeps_its_values(page: Any, host: Any, ready: str, renderer: str, medium: str) -> None:
    """What is shown is what is sent: as it comes, when typed into, after a change of tab, a save and open, a reload."""
    served = {entry["name"]: key for key, entry in host.get("/global_subgraphs").items()}
    blueprint = json.loads(host.get(f"/global_subgraphs/{served[f'Edit {medium} (InstructX)']}")["data"])
    load(page, blueprint)
    assert shown(page) == sent(page) == {"instruction": "Make the circle blue.", "seed": 0, "steps": 4}
    page.evaluate(
        "values => { const n = window.app.graph.nodes.find(n => n.subgraph);"
        " for (const [name, value] of Object.entries(values)) {"
        " const w = n.widgets.find(w => w.name === name); w.value = value; w.callback?.(value); } }",
        VALUES,
    )
    assert shown(page) == sent(page) == VALUES and VALUES["instruction"] in shown_texts(page)
    saved = page.evaluate("async () => JSON.stringify((await window.app.graphToPrompt()).workflow)")
    load(page, template(host, "InstructX - Try it now - image"))
    page.evaluate("window.app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    page.wait_for_function("window.app.graph.nodes.length === 1")
    page.wait_for_timeout(500)
    assert shown(page) == sent(page) == VALUES, "after a change of tab"
    load(page, json.loads(saved))
    assert shown(page) == sent(page) == VALUES, "after save and open"
    page.wait_for_timeout(1500)  # the frontend keeps a draft of the graph a moment after a change
    page.reload(wait_until="domcontentloaded")
    page.wait_for_function(ready)
    page.wait_for_function("window.app.graph.nodes.length === 1")
    page.wait_for_timeout(1000)
    assert shown(page) == sent(page) == VALUES and VALUES["instruction"] in shown_texts(page), "after a reload"
