"""Fixtures of the host lane: one ComfyUI for the session, and a factory for hosts of one's own.

Run with `pytest -m comfyui` after `pip install -r tests/comfyui/requirements.txt`. Nothing is skipped: where the host
cannot be had, the fixture fails and names the remedy. COMFYUI_PATH runs the same lane on another host.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import frontend
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
READY = (
    "!!(window.app && window.app.graph && window.LiteGraph && "
    "window.LiteGraph.registered_node_types['InstructXCompare'])"
)
PATIENCE = 180_000  # ms; CI shares two cores with the host
SIZE = {"width": 1600, "height": 960}


@pytest.fixture(scope="session")
def hosting(load_helper: Callable[[str, str], ModuleType]) -> ModuleType:
    """The module tests/comfyui/host.py."""
    return load_helper("instructx_test_host", "comfyui/host.py")


@pytest.fixture(scope="session")
def boot(hosting: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """boot(packs=(...), extra=(...)) -> a started Host in a folder of its own; stopped at the end of the session."""
    hosts = []

    def start(**options: Any) -> Any:
        base: Path = tmp_path_factory.mktemp("host")
        host = hosting.Host(hosting.host_tree(), base, **options)
        hosts.append(host)
        return host.start()

    yield start
    for host in hosts:
        host.stop()


@pytest.fixture(scope="module")
def graphs(load_helper: Any) -> Any:
    """The module test_interplay.py, for its graphs."""
    return load_helper("instructx_interplay_graphs", "comfyui/test_interplay.py")


@pytest.fixture(scope="session")
def host(boot: Callable[..., Any]) -> Any:
    """The session's host, with the pack under its usual name."""
    return boot()


@pytest.fixture(scope="session")
def ready() -> str:
    """JavaScript: whether the frontend has our nodes."""
    return READY


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
def browser() -> Iterator[Any]:
    """Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("the browser lane needs playwright: pip install -r tests/comfyui/requirements.txt")
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not binary:
        pytest.fail("the browser lane needs Chromium: apt-get install chromium, or point CHROMIUM at one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(host: Any, browser: Any) -> Any:
    """The frontend of the session's host, ready for graphs."""
    if os.environ.get("INSTRUCTX_SCREENSHOTS"):
        furnish(host)
    page = browser.new_page(viewport=SIZE)
    page.set_default_timeout(PATIENCE)
    page.goto(host.url, wait_until="domcontentloaded")
    page.wait_for_function(READY)
    page.wait_for_timeout(1000)
    return page


@pytest.fixture(params=list(frontend.RENDERERS))
def renderer(request: pytest.FixtureRequest, page: Any, host: Any) -> Iterator[str]:
    """Both of the frontend's node renderers, one after the other: "classic" and "vue".

    The host forgets what it ran: those before 0.19 send no notes of a node that does not run again.
    """
    frontend.use_renderer(page, request.param)
    host.free()
    yield request.param
    frontend.use_renderer(page, "classic")
