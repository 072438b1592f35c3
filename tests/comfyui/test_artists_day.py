"""An artist's day in the browser, in both node renderers: from the first start of an empty installation on.

    pytest -m browser tests/comfyui/test_artists_day.py
    INSTRUCTX_DAY=FOLDER ...   also writes a screenshot of every step there, to be looked at

What the page shows is compared with what the host was sent. The steps share a page and follow each other, but each
loads what it needs. Nothing is skipped: where the browser is missing the fixture fails and says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from instructx_core.media.files import write_video

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

SIZE = {"width": 1600, "height": 960}
STAGE = ".instructx-compare .stage"
CARD = "[role=dialog] [data-testid^='template-workflow-']"
TRY = "InstructX - Try it now"
RENDERERS = {"classic": False, "vue": True}


@pytest.fixture(scope="module", params=list(RENDERERS))
def day(request: pytest.FixtureRequest, browser: Any, host: Any, ready: str) -> Iterator[Day]:
    """A page that was never here before, on a host whose settings know nothing but the renderer."""
    settings = host.base / "user/default/comfy.settings.json"
    before = settings.read_text(encoding="utf-8")
    settings.write_text(json.dumps({"Comfy.VueNodes.Enabled": RENDERERS[request.param]}), encoding="utf-8")
    host.free()  # what another page ran is not this one's first run
    page = browser.new_context(viewport=SIZE).new_page()
    page.set_default_timeout(180_000)
    page.goto(host.url, wait_until="domcontentloaded")
    page.wait_for_function(ready)
    all_templates(page)  # the last thing that the frontend does on a first start
    yield Day(page, host, request.param, ready)
    page.context.close()
    settings.write_text(before, encoding="utf-8")


def all_templates(page: Any) -> None:
    """Chooses them in the dialog, and waits for cards.

    Frontends before 1.58 open a newcomer's dialog at Getting Started, a search stays within what is open, and with
    newer templates nothing is there.
    """
    page.locator("[role=dialog]").get_by_text("All Templates", exact=True).first.click()
    page.wait_for_selector(CARD)


@pytest.fixture(autouse=True)
def no_dialog_is_left(day: Day) -> Iterator[None]:
    """What a test left open does not lie over the next one's graph."""
    yield
    day.close_dialogs()


class Day:
    """One page, and what an artist does on it."""

    def __init__(self, page: Any, host: Any, renderer: str, ready: str) -> None:
        self.page, self.host, self.renderer, self.ready = page, host, renderer, ready
        self.shots = 0

    def look(self, name: str) -> None:
        """A screenshot for the eyes, where asked for."""
        folder = os.environ.get("INSTRUCTX_DAY")
        if folder:
            self.page.evaluate("window.app.canvas.deselectAll()")
            self.page.mouse.move(700, 940)
            self.page.wait_for_timeout(1500)
            self.shots += 1
            self.page.screenshot(path=Path(folder) / f"{self.renderer}_{self.shots:02d}_{name}.png")

    def command(self, name: str) -> None:
        self.page.evaluate("name => window.app.extensionManager.command.execute(name)", name)

    def close_dialogs(self) -> None:
        for _ in range(self.page.locator("[role=dialog]").count()):
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(500)

    def open(self, title: str) -> None:
        """A template, in a tab of its own."""
        from urllib.parse import quote

        self.close_dialogs()
        graph = self.host.get(f"/api/workflow_templates/ComfyUI-InstructX/{quote(title)}.json")
        self.page.evaluate("([graph, name]) => window.app.loadGraphData(graph, true, true, name)", [graph, title])
        self.settled()

    def reload(self) -> None:
        """The browser's reload; the frontend opens what was open, from the drafts that it keeps."""
        self.page.wait_for_timeout(1500)  # it keeps one a moment after a change
        self.page.reload(wait_until="domcontentloaded")
        self.page.wait_for_function(self.ready)
        self.page.wait_for_function("window.app.graph.nodes.length > 5")
        self.page.wait_for_timeout(2500)

    def settled(self) -> None:
        self.page.wait_for_timeout(1500)
        self.command("Comfy.Canvas.FitView")
        self.page.wait_for_timeout(1000)

    def run(self) -> dict[str, Any]:
        """Presses Run, waits for the end; the history entry. Fails with what the host says."""
        known = set(self.host.get("/history"))
        self.page.evaluate("window.app.queuePrompt(0, 1)")
        entry = self.ended(known)
        assert entry["status"]["status_str"] == "success", json.dumps(entry["status"])[:2000]
        self.page.wait_for_selector(STAGE)
        self.page.wait_for_timeout(2000)
        return entry

    def ended(self, known: set[str]) -> dict[str, Any]:
        for _ in range(1000):
            if found := set(self.host.get("/history")) - known:
                return self.host.get(f"/history/{(name := found.pop())}")[name]
            self.page.wait_for_timeout(300)
        raise AssertionError(f"no run ended; end of the log:\n{self.host.log()[-3000:]}")

    def type(self, text: str) -> None:
        """Into the instruction box, as a person does, who moves the view there first."""
        self.page.evaluate(
            "() => { const c = window.app.canvas; c.ds.scale = 1; c.centerOnNode(window.app.graph.nodes.find("
            "n => n.widgets?.some(w => w.name === 'instruction'))); c.setDirty(true, true); }"
        )
        self.page.wait_for_timeout(500)
        box = self.box()
        box.click()
        box.fill(text)
        box.blur()
        self.page.wait_for_timeout(500)

    def box(self) -> Any:
        """The instruction's text field, as it stands on the page."""
        node = self.page.evaluate(
            "() => { for (const e of document.querySelectorAll('[data-instruction]'))"
            " e.removeAttribute('data-instruction');"  # of a tab that was left: its field is hidden
            " for (const n of window.app.graph.nodes) {"
            " const w = n.widgets?.find(w => w.name === 'instruction'); if (w) {"
            " w.element?.setAttribute('data-instruction', ''); return String(n.id); } } }"
        )
        field = f"[data-node-id='{node}'] textarea" if self.renderer == "vue" else "textarea[data-instruction]"
        return self.page.locator(field).last

    def widgets(self) -> dict[str, dict[str, Any]]:
        """{node id: {widget: value}} as the page has them, without those that live in the browser only."""
        return self.page.evaluate(
            "Object.fromEntries(window.app.graph.nodes.filter(n => n.type !== 'MarkdownNote').map(n => [String(n.id),"
            " Object.fromEntries((n.widgets ?? []).filter(w => w.name !== 'control_after_generate'"
            " && !w.name.startsWith('instructx_') && w.name !== 'view' && !w.name.startsWith('$$')"
            " && !['upload', 'image_upload', 'video-preview', 'audioUI'].includes(w.name) && w.type !== 'button')"
            ".map(w => [w.name, w.value]))]))"
        )

    def notes(self) -> str:
        """All that our nodes say of their run, in no order: the page has them as they came."""
        said = self.page.eval_on_selector_all(".instructx-notes", "all => all.map(e => e.textContent)")
        return "\n".join(sorted(said))

    def replace_sample(self, kind: str, widget: str, file: str) -> None:
        """Deletes Sample and connects a loader's first output where Sample's source went; the nodes stay otherwise."""
        self.command("Comfy.RefreshNodeDefinitions")
        self.page.wait_for_timeout(1500)
        self.page.evaluate(
            "([kind, widget, file]) => { const g = window.app.graph;"
            " const s = g.nodes.find(n => n.type === 'InstructXSample');"
            " const to = s.outputs[0].links.map(id => g.links.get?.(id) ?? g.links[id])"
            ".map(l => [l.target_id, l.target_slot]);"
            " const n = window.LiteGraph.createNode(kind); n.pos = [...s.pos]; g.remove(s); g.add(n);"
            " const w = n.widgets.find(w => w.name === widget); w.value = file; w.callback?.(file);"
            " for (const [id, slot] of to) n.connect(0, g.getNodeById(id), slot); }",
            [kind, widget, file],
        )
        self.settled()

    def loose(self) -> list[str]:
        """Kinds of the nodes that hang on nothing."""
        return self.page.evaluate(
            "window.app.graph.nodes.filter(n => n.type !== 'MarkdownNote'"
            " && !(n.inputs ?? []).some(i => i.link != null) && !(n.outputs ?? []).some(o => o.links?.length))"
            ".map(n => n.type)"
        )


def sent(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of the widgets in the prompt that the host got."""
    prompt = entry["prompt"][2]
    return {
        name: {key: value for key, value in node["inputs"].items() if not isinstance(value, list)}
        for name, node in prompt.items()
    }


def agree(shown: dict[str, dict[str, Any]], prompt: dict[str, dict[str, Any]]) -> None:
    """Every widget of the page is in the prompt with the value that it shows."""
    assert prompt.keys() == shown.keys()
    for node, values in prompt.items():
        for name, value in values.items():
            if name in shown[node]:
                assert value == shown[node][name], f"node {node}: {name}"


def photo(height: int = 170, width: int = 250) -> np.ndarray:
    """Soft colours with grain: nothing that the tiny model knows, and sides that fit no grid."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (30 + 9 * c)) * np.cos(y / (25 + 7 * c)) for c in range(3)]
    grain = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(128 + 90 * np.stack(waves, -1) + grain, 0, 255).astype(np.uint8)


def test_first_start(day: Day) -> None:
    """Templates open by themselves; a search for our name in all of them finds Try it now before all else."""
    page = day.page
    page.locator("[role=dialog] input[placeholder^='Search']").first.fill("InstructX")
    ours = CARD.replace("workflow-", "workflow-InstructX")
    page.wait_for_function("card => document.querySelectorAll(card).length >= 8", arg=ours)
    page.wait_for_timeout(2000)
    day.look("search")
    cards = page.eval_on_selector_all(ours, "all => all.map(e => e.dataset.testid)")
    assert [TRY in name for name in cards[:5]] == [True] * 4 + [False], cards
    page.get_by_text(f"{TRY} - image", exact=True).first.click()
    page.wait_for_function("window.app.graph.nodes.some(node => node.type === 'InstructXSampler')")
    day.settled()
    day.look("template")
    assert page.evaluate("window.app.graph.nodes.filter(n => n.has_errors).map(n => n.type)") == []


def test_the_first_run_and_a_typed_instruction(day: Day) -> None:
    day.open(f"{TRY} - image")
    shown = day.widgets()
    entry = day.run()
    day.look("first_run")
    agree(shown, sent(entry))
    assert "asks: " in day.notes() and "tokens" in day.notes(), "nodes say on the page what they did"
    seeds = [values["seed"] for values in day.widgets().values() if "seed" in values]
    assert not set(seeds) & {values["seed"] for values in shown.values() if "seed" in values}, "a new one each run"
    day.type("invert the colors")
    shown = day.widgets()
    entry = day.run()
    day.look("typed")
    agree(shown, sent(entry))
    assert "invert the colors" in [values.get("instruction") for values in sent(entry).values()]
    assert day.box().input_value() == "invert the colors"
    assert day.notes().count("asks: ") == 1, "Sample says its own; what was typed is in the box"


def test_notes_of_a_run_that_is_cached(day: Day) -> None:
    """A host that keeps what a node made does not run it again; its note comes back to a page that knows nothing."""
    day.open(f"{TRY} - reference")
    day.run()
    said = day.notes()
    assert "asks: " in said and "tokens" in said
    day.reload()
    day.open(f"{TRY} - reference")  # with the seed of the first run
    assert day.notes() == ""
    entry = day.run()
    day.look("cached")
    cached = next(data["nodes"] for kind, data in entry["status"]["messages"] if kind == "execution_cached")
    assert len(cached) > 5
    says_again = day.host.object_info()["InstructXSample"].get("has_intermediate_output", False)
    assert day.notes() == (said if says_again else ""), "hosts before 0.19 say nothing of what they kept"


def test_own_photo(day: Day) -> None:
    day.host.put_input("own photo.png", photo())
    day.open(f"{TRY} - image")
    day.replace_sample("LoadImage", "image", "own photo.png")
    assert day.loose() == []
    day.type("make it grayscale")
    shown = day.widgets()
    entry = day.run()
    day.look("own_photo")
    agree(shown, sent(entry))
    assert "cropped to 240x160" in day.notes() and "expect toy results" in day.notes()
    (saved,) = [record for record in day.host.outputs(entry) if record["type"] == "output"]
    assert saved["filename"].startswith("try_image")
    box = day.page.locator(STAGE).bounding_box()
    assert abs(box["width"] / box["height"] - 240 / 160) < 0.05, "before and after in the shape of what was edited"


def test_own_clip(day: Day) -> None:
    write_video(day.host.base / "input" / "own clip.mp4", np.stack([photo(64, 80)] * 19), Fraction(24))
    day.open(f"{TRY} - video")
    day.replace_sample("LoadVideo", "file", "own clip.mp4")
    assert day.loose() == []
    day.type("make it darker")
    shown = day.widgets()
    entry = day.run()
    day.page.wait_for_function("document.querySelectorAll('.instructx-compare video').length === 2")
    day.look("own_clip")
    agree(shown, sent(entry))
    assert "19 frame(s)" in day.notes() and "from 19 to 21 frames" in day.notes()


def test_values_survive_tabs_reload_save_and_open(day: Day, load_helper: Callable[[str, str], ModuleType]) -> None:
    page, name = day.page, f"my edit {day.renderer}"
    day.open(f"{TRY} - image")
    day.type("remove the star")
    page.evaluate(
        "for (const n of window.app.graph.nodes) for (const w of n.widgets ?? [])"
        " if (w.name === 'steps') { w.value = 3; w.callback?.(3); }"
    )
    page.wait_for_timeout(1500)
    mine = day.widgets()
    assert "remove the star" in [values.get("instruction") for values in mine.values()]
    day.open(f"{TRY} - video")
    day.command("Workspace.PreviousOpenedWorkflow")
    page.wait_for_function("window.app.graph.nodes.every(n => n.type !== 'CreateVideo')")
    page.wait_for_timeout(1500)
    assert day.widgets() == mine and day.box().input_value() == "remove the star", "after a change of tab"
    day.reload()
    assert day.widgets() == mine and day.box().input_value() == "remove the star", "after a reload"
    day.look("reloaded")
    page.evaluate("name => { void window.app.extensionManager.command.execute('Comfy.SaveWorkflowAs'); }", name)
    field = page.locator("[role=dialog] input").last
    field.fill(name)
    field.press("Enter")
    saved = day.host.base / "user/default/workflows" / f"{name}.json"
    for _ in range(100):
        if saved.is_file() and saved.stat().st_size:
            break
        page.wait_for_timeout(200)
    day.look("saved")
    day.open(f"{TRY} - video")
    graph = json.loads(saved.read_text(encoding="utf-8"))
    page.evaluate("([graph, name]) => window.app.loadGraphData(graph, true, true, name)", [graph, name])
    day.settled()
    assert day.widgets() == mine and day.box().input_value() == "remove the star", "after save and open"
    entry = day.run()
    agree(mine, sent(entry))


def test_cancel_free_and_a_second_run(day: Day) -> None:
    page = day.page
    day.open(f"{TRY} - image")
    page.evaluate(
        "for (const n of window.app.graph.nodes) for (const w of n.widgets ?? [])"
        " if (w.name === 'steps') { w.value = 1000; w.callback?.(1000); }"
    )
    known = set(day.host.get("/history"))
    page.evaluate("window.app.queuePrompt(0, 1)")
    while not day.host.running():
        page.wait_for_timeout(200)
    page.wait_for_timeout(3000)
    day.command("Comfy.Interrupt")
    entry = day.ended(known)
    assert "execution_interrupted" in [kind for kind, _ in entry["status"]["messages"]]
    page.wait_for_timeout(1500)
    day.look("cancelled")
    assert not page.locator("[role=dialog]").count(), "a cancel is no error"
    day.host.free()
    page.evaluate(
        "for (const n of window.app.graph.nodes) for (const w of n.widgets ?? [])"
        " if (w.name === 'steps') { w.value = 4; w.callback?.(4); }"
    )
    shown = day.widgets()
    entry = day.run()
    day.look("second_run")
    agree(shown, sent(entry))
