"""The report in a real browser: sliders, clips in step, sorting, keyboard, 500 items, a phone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instructx_core.data.record import EditRecord
from instructx_core.evaluation.items import read_items, write_items
from instructx_core.evaluation.metrics.measure import METRICS
from instructx_core.evaluation.report.contents import read_report
from instructx_core.evaluation.report.page import write_report_page
from instructx_core.evaluation.scores import Score, ScoreFile

pytestmark = pytest.mark.browser

EDITORS = ("mine", "other <b>one</b>")
GROUPS = {"add": "Add", "remove": "Remove", "style": "Style / Tone Change"}
PHONE = {"width": 390, "height": 844}


def filled(folder: Path) -> Path:
    """Scores of "mine" rise with the item from 1 to 10, those of the other are constant but for two without."""
    (folder / "benchmark.json").write_text(json.dumps({"name": "vie"}))
    items = [
        EditRecord(i.id, i.task, i.modality, i.instruction, i.source, meta={"group": GROUPS[i.task]})
        for i in read_items(folder / "items.jsonl")
    ]
    write_items(folder / "items.jsonl", items)
    file, last = ScoreFile(folder), len(items) - 1
    file.start()
    scores = []
    for place, item in enumerate(items):
        value = round(1 + 9 * place / last, 3)
        mine = {"instruction": value, "preservation": value, "quality": 11 - value if place else value}
        reason = f"Reason <img src=x> {place}"
        scores.append(Score(item.id, EDITORS[0], "gpt-4o", mine, reason=reason))
        status = {1: "unparsed", 2: "refused"}.get(place, "ok")
        other = {"instruction": 5, "preservation": 6, "quality": 7} if status == "ok" else {}
        scores.append(Score(item.id, EDITORS[1], "gpt-4o", other, status, reason))
    file.add(scores)
    line = {"id": items[0].id, "editor": EDITORS[0], "metrics": {"outside_psnr": 31.25}, "not_measured": {}}
    (folder / METRICS).write_text(json.dumps(line) + "\n")
    path = folder / "report.html"
    write_report_page(path, read_report(folder), "VIE-Bench of two editors")
    return path


def picture(page: Any, name: str, whole: bool = False) -> None:
    """For eyes: INSTRUCTX_SCREENSHOTS names a folder."""
    if folder := os.environ.get("INSTRUCTX_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=whole)


def first(page: Any) -> str:
    return page.locator(".entry .about").first.inner_text()


def test_numbers_and_outputs(benchmark_folder: Callable[..., Path], opened: Callable[..., Any], until: Any) -> None:
    page = opened(filled(benchmark_folder(6, EDITORS, clips=(5,)).parent))
    picture(page, "report-numbers", whole=True)
    assert "gpt-4o was not checked" in page.locator(".warn").first.inner_text()
    table = page.get_by_role("region", name="Table 3: VIE-Bench")
    assert table.locator("tr.published").count() == 37 and table.locator("tbody tr").count() == 37 + 6
    assert page.locator(".plots svg").count() == 4 and page.locator(".plots circle").count() == 8
    page.get_by_role("tab", name="Outputs").click()
    picture(page, "report-outputs", whole=True)
    assert first(page).startswith("other <b>one</b> - Remove - item001"), "without a score comes first"
    page.get_by_label("Scores").select_option("scored")
    assert first(page).startswith("mine - Add - item000")
    assert "Reason <img src=x> 0" in page.locator(".entry").first.inner_html().replace("&lt;", "<").replace("&gt;", ">")
    assert page.locator(".entry img[src=x]").count() == 0, "a judge's words are text"
    page.get_by_label("Order").select_option("best")
    assert first(page).startswith("mine - Style / Tone Change - item005")
    stage = page.locator(".compare").first
    until(page, "[...document.querySelectorAll('.entry')[0].querySelectorAll('video')].every(v => v.currentTime > 0.1)")
    page.get_by_role("button", name="Pause").first.click()
    times = stage.evaluate("e => [...e.querySelectorAll('video')].map(v => v.currentTime)")
    assert len(times) == 2 and abs(times[0] - times[1]) < 0.05
    page.get_by_label("Time in the clips of item005").first.fill("0.5")
    until(page, "[...document.querySelectorAll('.entry')[0].querySelectorAll('video')].every(v => !v.seeking)")
    times = stage.evaluate("e => [...e.querySelectorAll('video')].map(v => v.currentTime)")
    assert times == pytest.approx([0.5, 0.5], abs=0.05), "half of the eight frames at 8 Hz"


def test_an_editor_without_a_mean_is_named(benchmark_folder: Callable[..., Path], opened: Callable[..., Any]) -> None:
    page = opened(filled(benchmark_folder(3, EDITORS).parent))
    assert page.locator(".plots circle").count() == 4, "of one editor"
    assert page.get_by_text("Not drawn: other <b>one</b> has no score in Remove, Style / Tone Change.").is_visible()
    assert page.get_by_text("all: the mean of the kinds, each alike.").is_visible()


def test_sliders_and_keys(benchmark_folder: Callable[..., Path], opened: Callable[..., Any]) -> None:
    page = opened(filled(benchmark_folder(4, EDITORS).parent))
    page.get_by_role("tab", name="Outputs").click()
    slider = page.get_by_label("Boundary between source").first
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    stage = page.locator(".compare").first
    split = "e => getComputedStyle(e).getPropertyValue('--split')"
    assert stage.evaluate(split) == "40%"
    box = stage.bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    assert abs(float(stage.evaluate(split).rstrip("%")) - 80) < 4
    clip = stage.locator(".before").evaluate("e => getComputedStyle(e).clipPath")
    assert clip.startswith("inset(0px"), "what is left of the line shows the source"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("[...document.querySelectorAll('.entry')].indexOf(document.activeElement)") == 2
    page.keyboard.press("k")
    assert page.evaluate("[...document.querySelectorAll('.entry')].indexOf(document.activeElement)") == 1
    page.keyboard.press("/")
    page.keyboard.type("item003")
    assert page.locator(".entry").count() == 2 and page.locator("#count").inner_text() == "2 of 2 outputs"


def test_500_items_on_a_phone(benchmark_folder: Callable[..., Path], opened: Callable[..., Any]) -> None:
    page = opened(filled(benchmark_folder(500, EDITORS, size=(24, 32)).parent), PHONE)
    picture(page, "report-phone-numbers")
    sideways = "document.documentElement.scrollWidth"
    assert page.evaluate(sideways) <= PHONE["width"], "tables scroll inside of their own boxes"
    scroll = page.get_by_role("region", name="Table 3: VIE-Bench")
    scroll.evaluate("e => { e.scrollLeft = 10000; }")
    cell = scroll.locator("tbody tr").first.locator("td").nth(1)
    box, around = cell.bounding_box(), scroll.bounding_box()
    assert box["x"] >= around["x"] and box["x"] + box["width"] < around["x"] + around["width"] / 2, "the model stays"
    page.get_by_role("tab", name="Outputs").click()
    picture(page, "report-phone-outputs")
    assert page.evaluate(sideways) <= PHONE["width"]
    assert page.locator(".entry").count() == 24 and page.locator("#count").inner_text() == "24 of 1000 outputs"
    page.get_by_role("button", name="Show 24 more").click()
    assert page.locator(".entry").count() == 48
    page.get_by_label("Kind of edit").select_option("Remove")
    page.locator("#choose-editor").select_option("mine")
    assert page.locator("#count").inner_text() == "24 of 167 outputs"
    page.get_by_label("Order").select_option("worst:quality")
    shown = page.locator(".entry .chips").first.inner_text()
    assert "quality 1\n" in shown, "the last item: 11 - its score of 10"
    assert page.evaluate("performance.memory.usedJSHeapSize") < 200e6
