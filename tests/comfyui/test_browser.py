"""Browser lane: headless Chromium on the host's real frontend opens Templates, loads and runs graphs, moves the slider.

    apt-get install chromium; pip install playwright; pytest -m browser
    INSTRUCTX_SCREENSHOTS=1 ...   also writes docs/comfyui/*.jpg and the pictures of the help pages

CHROMIUM names another browser binary. Nothing is skipped: where the browser is missing the fixture fails and says so.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

ROOT = Path(__file__).resolve().parents[2]
TITLES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
READY = (
    "!!(window.app && window.app.graph && window.LiteGraph && "
    "window.LiteGraph.registered_node_types['InstructXCompare'])"
)
STAGE = ".instructx-compare .stage"
PATIENCE = 180_000  # ms; CI shares two cores with the host
SIZE = {"width": 1600, "height": 960}


def furnish(host: Any) -> None:
    """For pictures: the names of the large models' files, empty, so that no warning lies over their graphs."""
    where = {"unet_name": "diffusion_models", "vae_name": "vae", "encoder": "text_encoders", "adapter": "model_patches"}
    for path in (ROOT / "workflows" / "api").glob("*.json"):
        for entry in json.loads(path.read_text(encoding="utf-8")).values():
            for name, value in entry["inputs"].items():
                if name in where and isinstance(value, str):
                    file = host.base / "models" / where[name] / value
                    file.parent.mkdir(exist_ok=True)
                    if "tiny" not in value:
                        file.touch()
    (host.base / "models" / "checkpoints").mkdir()
    (host.base / "models" / "checkpoints" / "kiwi_edit_stage3.safetensors").touch()
    host.put_input("example.png", np.full((64, 64, 3), 128, np.uint8))
    host.put_input("your_clip.mp4", b"")


@pytest.fixture(scope="module")
def page(host: Any) -> Iterator[Any]:
    """The frontend of the session's host, ready for graphs."""
    if os.environ.get("INSTRUCTX_SCREENSHOTS"):
        furnish(host)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("the browser lane needs playwright: pip install -r tests/comfyui/requirements.txt")
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not binary:
        pytest.fail("the browser lane needs Chromium: apt-get install chromium, or point CHROMIUM at one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE)
        page.goto(host.url, wait_until="domcontentloaded")
        page.wait_for_function(READY)
        page.wait_for_timeout(1000)
        yield page
        browser.close()


def keep(page: Any, path: str, clip: dict[str, float] | None = None, width: int = 1100) -> None:
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
        picture.save(target, quality=82, optimize=True)


def load(page: Any, graph: dict[str, Any]) -> None:
    page.evaluate("graph => window.app.loadGraphData(graph)", graph)
    page.wait_for_timeout(500)


def template(host: Any, title: str) -> dict[str, Any]:
    """The template as the host serves it."""
    from urllib.parse import quote

    return host.get(f"/api/workflow_templates/ComfyUI-InstructX/{quote(title)}.json")


def run(page: Any, host: Any) -> None:
    """Queues the graph, waits for its end and for the result in Compare."""
    page.evaluate("window.app.queuePrompt(0, 1)")
    while any(host.get("/queue").values()):
        page.wait_for_timeout(300)
    page.wait_for_selector(STAGE)
    page.wait_for_timeout(1500)


def show_all(page: Any) -> None:
    page.evaluate("window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(1500)


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
    keep(page, f"docs/comfyui/{slug}.jpg", around(page))


def test_templates_dialog(page: Any) -> None:
    page.evaluate("window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text("InstructX", exact=True).last.click()
    for title in TITLES:
        page.get_by_text(title, exact=True).first.wait_for()
    page.wait_for_function(  # cards load their pictures when they come into view; the first two rows are in view
        "[...document.querySelectorAll('img')].filter(i => i.complete && i.naturalWidth === 400).length >= 4"
    )
    keep(page, "docs/comfyui/templates.jpg")
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
        want = {name: entry["inputs"][name] for name in plain | dotted}
        got = {name: here.get(name) for name in want}
        assert got == want, f"{title}: node {node} ({entry['class_type']})"
    if not title.startswith("InstructX - Try it now"):  # those are pictured after a run
        show_all(page)
        keep(page, f"docs/comfyui/{_prefix(wanted).removeprefix('InstructX/')}.jpg", around(page))


def _prefix(graph: dict[str, Any]) -> str:
    return next(e["inputs"]["filename_prefix"] for e in graph.values() if "filename_prefix" in e["inputs"])


def test_image_runs_and_the_slider_moves(page: Any, host: Any) -> None:
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
    names = page.eval_on_selector_all(f"{STAGE} .slider", "all => all.map(e => e.getAttribute('aria-label'))")
    assert all(names)
    picture_of_run(page, "try_image", 24)
    kinds = page.evaluate("Object.keys(window.LiteGraph.registered_node_types).filter(k => k.startsWith('InstructX'))")
    pictures(page, [kind for kind in kinds if kind != "InstructXCompare"])


def tiny_clip() -> bytes:
    """Two frames of H.264."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=4, options={"crf": "30"})
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for level in (0, 255):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return held.getvalue()


def test_every_pair_of_a_list_can_be_seen(page: Any) -> None:
    """A node that runs once an item of a list gives a result each: clips are turned over, pictures leafed through."""
    drawn = (
        "color => { const c = document.createElement('canvas'); c.width = c.height = 8; const x = c.getContext('2d');"
        " x.fillStyle = color; x.fillRect(0, 0, 8, 8); return c.toDataURL(); }"
    )
    page.route("**/tried.mp4", lambda route: route.fulfill(body=tiny_clip(), content_type="video/mp4"))
    page.evaluate(
        "async () => { const { CompareView } = await import('/extensions/ComfyUI-InstructX/js/compare_view.js');"
        f" const url = {drawn};"
        " const view = new CompareView(); document.body.append(view.element); view.element.id = 'tried';"
        " view.element.style = 'position: fixed; inset: 0 auto auto 0; z-index: 9999; width: 300px; height: 300px';"
        " const pictures = (a, b) => ({ kind: 'pictures', before: a.map(url), after: b.map(url), frames: [1, 1] });"
        " const pair = { kind: 'video', before: ['tried.mp4'], after: ['tried.mp4'], frames: [2, 2],"
        " fps: 4 };"
        " view.show([pictures(['red'], ['blue', 'lime']), pair, pictures(['gold'], ['navy']), pair]); }"
    )
    tried = page.locator("#tried")
    seen = []
    for _ in range(3):
        seen.append([tried.locator(name).inner_text() for name in (".pair", ".count")])
        seen[-1].append(tried.locator("video").count())
        tried.get_by_role("button", name="Next pair").click()
    assert [row[::2] for row in seen] == [["1 / 3", 2], ["2 / 3", 2], ["3 / 3", 0]] and seen[2][1] == "1 / 3"
    tried.get_by_role("button", name="Previous pair").click()
    sources = []
    for _ in range(3):
        sources.append(page.eval_on_selector_all("#tried img", "all => all.map(e => e.src)"))
        tried.get_by_role("button", name="Next picture").click()
    assert sources == [[page.evaluate(f"({drawn})('{name}')") for name in row] for row in PAIRS]
    page.evaluate("document.getElementById('tried').remove()")


PAIRS = (("red", "blue"), ("red", "lime"), ("gold", "navy"))


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


def test_video_plays_in_step(page: Any, host: Any) -> None:
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
    picture_of_run(page, "try_video", 26)
    pictures(page, ["InstructXCompare"])


@pytest.mark.parametrize(("title", "slug"), [("reference", "try_reference"), ("long video", "try_long")])
def test_the_others_run(page: Any, host: Any, title: str, slug: str) -> None:
    load(page, template(host, f"InstructX - Try it now - {title}"))
    show_all(page)
    run(page, host)
    picture_of_run(page, slug, 76)


def test_result_comes_back_after_a_change_of_tab(page: Any, host: Any) -> None:
    """A graph loaded in a new tab and left again shows its result without a run."""
    load(page, template(host, "InstructX - Try it now - image"))
    run(page, host)
    load(page, template(host, "InstructX Kiwi 5B - image"))
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
    assert {"instruction", "seed", "steps", "unet_name", "vae_name", "encoder", "adapter"} <= set(node[2])
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    kinds = {entry["class_type"] for entry in prompt.values()}
    chain = {"InstructXLongVideo"} if medium == "Long Video" else {"InstructXConnector", "InstructXSampler"}
    assert {"UNETLoader", "VAELoader", "InstructXLoadEncoder"} | chain <= kinds
    sampling = next(entry["inputs"] for entry in prompt.values() if "shift" in entry["inputs"])
    assert (sampling["steps"], sampling["shift"]) == (4, 3)
    keep(page, f"docs/comfyui/edit_{medium.lower().replace(' ', '_')}_node.jpg", around(page), width=480)


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
def test_a_blueprint_keeps_its_values(page: Any, host: Any, medium: str) -> None:
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
    assert shown(page) == sent(page) == VALUES
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
    page.wait_for_function(READY)
    page.wait_for_function("window.app.graph.nodes.length === 1")
    page.wait_for_timeout(1000)
    assert shown(page) == sent(page) == VALUES, "after a reload"
