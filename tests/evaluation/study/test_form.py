"""The form in a real browser: filled in by keyboard and by finger, saved while answering, large, on a phone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instructx_core.evaluation.item_outputs import made_files
from instructx_core.evaluation.items import read_items
from instructx_core.evaluation.study.answers import read_answers
from instructx_core.evaluation.study.form import write_form
from instructx_core.evaluation.study.plan import StudyPlan, make_plan
from instructx_core.evaluation.study.result import study_result

pytestmark = pytest.mark.browser

EDITORS = ("alpha-edit", "beta-edit")
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def form_of(tmp_path: Path, benchmark_folder: Callable[..., Any]) -> Callable[..., tuple[Path, StudyPlan]]:
    def make(count: int, editors: tuple[str, ...] = EDITORS, **options: Any) -> tuple[Path, StudyPlan]:
        items_path = benchmark_folder(count, editors, **options)
        items, files = read_items(items_path), made_files(items_path.parent)
        plan = make_plan(items, files)
        path = tmp_path / "form.html"
        write_form(path, plan, {item.id: item for item in items}, tmp_path, files)
        return path, plan

    return make


def begin(page: Any, rater: str) -> None:
    page.get_by_placeholder("Your name or number").fill(rater)
    page.keyboard.press("Enter")
    page.locator(".result").first.wait_for()


def picture(page: Any, name: str) -> None:
    """For eyes: INSTRUCTX_SCREENSHOTS names a folder."""
    if folder := os.environ.get("INSTRUCTX_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def saved(page: Any, tmp_path: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save answers").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_rater_fills_it_in_by_keyboard_and_comes_back(
    form_of: Callable[..., Any], opened: Callable[..., Any], until: Callable[..., None], tmp_path: Path
) -> None:
    path, plan = form_of(3, clips=(1,))
    page = opened(path)
    picture(page, "form-start")
    begin(page, "Rater One")
    picture(page, "form-wide")
    assert page.locator(".instruction").inner_text().startswith('"Make it <b>'), "text of an item is text"
    for _ in range(3):
        for key in "543" * len(EDITORS):
            page.keyboard.press(key)
        until(page, "document.activeElement.id === 'next' || document.getElementById('next').disabled")
        page.keyboard.press("n")
    assert page.locator("#done").inner_text() == "3 of 3 done" and page.locator("#undone").is_disabled()
    page.keyboard.press("p")
    page.keyboard.press("p")
    first = [page.locator(".instruction").inner_text(), page.locator(".result img, .result video").count()]
    page.reload()
    begin(page, "Rater One")
    assert page.locator("#done").inner_text() == "3 of 3 done"
    assert [page.locator(".instruction").inner_text(), page.locator(".result img, .result video").count()] == first
    answers = read_answers(saved(page, tmp_path), plan)
    result = study_result(plan, [answers])
    assert answers.rater == "Rater One" and result.given == result.asked
    assert {key: estimate.mean for key, estimate in result.means[EDITORS[0]].items()} == {
        "instruction": 5.0, "preservation": 4.0, "quality": 3.0, "average": 4.0
    }  # fmt: skip


def test_the_order_is_the_raters(form_of: Callable[..., Any], opened: Callable[..., Any], tmp_path: Path) -> None:
    path, plan = form_of(12, ("a", "b", "c"))
    orders, first = {}, []
    for rater in ("one", "two", "one"):
        page = opened(path)
        begin(page, rater)
        order = json.loads(saved(page, tmp_path).read_text())["order"]
        assert sorted(item for item, _ in order) == sorted(plan.codes)
        assert orders.setdefault(rater, order) == order
        first += [plan.codes[item][codes[0]] for item, codes in order]
    assert orders["one"] != orders["two"] and set(first) == {"a", "b", "c"}


def test_clips_play_in_step_and_the_original_lies_over_a_result(
    form_of: Callable[..., Any], opened: Callable[..., Any], until: Callable[..., None]
) -> None:
    page = opened(form_of(1, clips=(0,))[0])
    begin(page, "one")
    until(page, "[...document.querySelectorAll('video')].filter(v => v.currentTime > 0.2).length === 3")
    page.keyboard.press(" ")
    times = page.evaluate("[...document.querySelectorAll('video')].map(v => [v.paused, v.currentTime])")
    assert all(paused for paused, _ in times) and max(t for _, t in times) - min(t for _, t in times) < 0.05
    page.get_by_role("button", name="See original here").first.click()
    assert page.locator(".over video").is_visible() and page.locator("video").count() == 4
    page.get_by_role("button", name="See result").click()
    assert not page.locator(".over video").is_visible()


def test_a_phone_shows_500_items_one_by_one(form_of: Callable[..., Any], opened: Callable[..., Any]) -> None:
    path, _ = form_of(500, size=(24, 32))
    assert opened(path, PHONE).evaluate("window.scrollY") == 0, "the introduction is read before the name is asked for"
    page = opened(path, PHONE)
    begin(page, "thumb")
    picture(page, "form-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "nothing to scroll sideways"
    for label in page.locator(".choices label").all():
        box = label.bounding_box()
        assert box["height"] >= 44 and box["width"] >= 38, "room for a finger"
    page.locator("#jump").select_option(index=499)
    assert page.locator("#next").is_disabled() and page.locator("#done").inner_text() == "0 of 500 done"
    for label in page.locator(".choices label:nth-child(2)").all():
        label.click()
    assert page.locator("#done").inner_text() == "1 of 500 done"
    page.locator("#undone").click()
    assert page.locator("#jump").evaluate("jump => jump.selectedIndex") == 0
    assert page.evaluate("performance.memory.usedJSHeapSize") < 200e6
