"""Fixtures of the tests of pages: one headless Chromium; pages opened from disk must load nothing from anywhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instructx_core.data.record import EditRecord, Locator
from instructx_core.evaluation.items import write_items
from instructx_core.evaluation.outputs import Output, OutputFile
from instructx_core.media.files import write_video

WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Skipped where the machine has no Chromium, as the browser tests on a host are; .ci/run says so in its log."""
    from playwright.sync_api import sync_playwright

    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not binary:
        pytest.skip("tests of pages need Chromium: apt-get install chromium, or point CHROMIUM at one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Any]]:
    """opened(path, size) -> the page, which asks for nothing but itself and says nothing wrong to the console."""
    wrong: list[str] = []
    contexts = []

    def open_page(path: Path, size: dict[str, int] = WIDE) -> Any:
        context = chromium.new_context(viewport=size, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "blob:", "data:")) else wrong.append(request.url),
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong, wrong


@pytest.fixture
def until() -> Callable[[Any, str], None]:
    """until(page, expression): waits for it; Playwright's own way needs `eval`, which the pages forbid."""

    def wait(page: Any, expression: str) -> None:
        for _ in range(600):
            if page.evaluate(expression):
                return
            page.wait_for_timeout(50)
        pytest.fail(f"never came true: {expression}")

    return wait


def coloured(level: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A picture that says its level by its colour, with an edge in it."""
    frame = np.full((*size, 3), (level % 256, (37 * level) % 256, 128), np.uint8)
    frame[: size[0] // 2, : size[1] // 3] = 255 - frame[: size[0] // 2, : size[1] // 3]
    return frame


@pytest.fixture
def benchmark_folder(tmp_path: Path) -> Callable[..., Path]:
    """make(items, editors, clips=(), size) -> items.jsonl, a folder of outputs an editor beside it."""

    def make(
        count: int, editors: tuple[str, ...], clips: tuple[int, ...] = (), size: tuple[int, int] = (48, 64)
    ) -> Path:
        def write(folder: Path, number: int, level: int) -> str:
            name = f"{number:03d}.mp4" if number in clips else f"{number:03d}.png"
            if number in clips:
                frames = np.stack([coloured(level + 6 * t, size) for t in range(8)])
                write_video(folder / name, frames, 8)
            else:
                Image.fromarray(coloured(level, size)).save(folder / name)
            return name

        items = []
        (tmp_path / "sources").mkdir()
        for number in range(count):
            name = write(tmp_path / "sources", number, 20 + number)
            items.append(
                EditRecord(
                    f"item{number:03d}",
                    ("add", "remove", "style")[number % 3],
                    "video" if number in clips else "image",
                    f'Make it <b>{number}</b> & "bright"',
                    Locator(f"sources/{name}"),
                )
            )
        write_items(tmp_path / "items.jsonl", items)
        for place, editor in enumerate(editors):
            folder = tmp_path / f"out{place}"
            folder.mkdir()
            file = OutputFile(folder)
            file.start()
            outputs = [
                Output(item.id, editor, write(folder, number, 90 + 40 * place + number))
                for number, item in enumerate(items)
            ]
            file.add(outputs)
        return tmp_path / "items.jsonl"

    return make
