"""What tests do on a page of the host's frontend: load a template, choose the renderer of nodes, run, read the graph.

`page` is playwright's, `host` a Host of tests/comfyui/host.py. Both renderers draw the same graph: the classic canvas,
with the widgets that are HTML laid over it, and the one in Vue ("Nodes 2.0"), where every node is HTML.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

RENDERERS = {"classic": False, "vue": True}  # name -> Comfy.VueNodes.Enabled
STAGE = ".instructx-compare .stage"


def load(page: Any, graph: dict[str, Any]) -> None:
    page.evaluate("graph => window.app.loadGraphData(graph)", graph)
    page.wait_for_timeout(500)


def template(host: Any, title: str) -> dict[str, Any]:
    """The template as the host serves it."""
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


def use_renderer(page: Any, name: str) -> None:
    """Switches the page, as its settings do, and waits until the graph that is open stands in the new renderer."""
    page.evaluate("on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", RENDERERS[name])
    page.wait_for_function("on => on === !!document.querySelector('[data-node-id]')", arg=RENDERERS[name])
    page.wait_for_timeout(500)


def shown_texts(page: Any) -> list[str]:
    """What stands in the text fields that can be seen."""
    return page.eval_on_selector_all(
        "textarea", "all => all.filter(e => e.checkVisibility() && e.offsetParent).map(e => e.value)"
    )
