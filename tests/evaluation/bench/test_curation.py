"""Curation in a real browser, and what becomes of its file: by keyboard and by finger, saved while working, large."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation.bench.curation import KIND, Decision, join_decisions, write_curation_page, write_manifest
from instructx_core.evaluation.bench.proposals import PROPOSALS, ClipProposals, Proposal
from instructx_core.evaluation.bench.propose import kinds_of_clips
from instructx_core.evaluation.benchmarks.reading import Download
from instructx_core.evaluation.benchmarks.tasks import VIE_COUNTS
from instructx_core.evaluation.benchmarks.vie import read_vie
from instructx_core.evaluation.items import check_items
from instructx_core.evaluation.lines import LineFile
from instructx_core.media.files import write_image, write_video

PHONE = {"width": 390, "height": 844}


def proposals(folder: Path, count: int, media: int = 1) -> Path:
    """Proposals of `count` clips in the shares of Table 4; they share `media` files."""
    (folder / "clips").mkdir(parents=True)
    for number in range(media):
        ramp_FHWC = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None] * 16, (12, 54, 96, 3)).copy()
        ramp_FHWC[..., 0] = 40 * number
        write_video(folder / "clips" / f"{number}.mp4", ramp_FHWC, 6)
    write_image(folder / "clips" / "thing.png", np.full((40, 40, 3), 200, np.uint8))
    lines = LineFile(folder / PROPOSALS)
    lines.add(
        ClipProposals(
            f"clips/{number % media}.mp4",
            f"clip{number:03}",
            "ok",
            tuple(Proposal(kind, f'Do <b>{kind}</b> "{number}.{slot}" to it.') for slot, kind in enumerate(kinds)),
            size=(720, 1280),
            seconds=5.0,
            reference="clips/thing.png" if any(kind.startswith("reference") for kind in kinds) else None,
            model="m",
        ).as_json()
        for number, kinds in enumerate(kinds_of_clips(count, True))
    )
    return folder


def page_of(folder: Path) -> Path:
    write_curation_page(folder / "curate.html", folder, "Curation")
    return folder / "curate.html"


def saved(page: Any, tmp_path: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save file").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def picture(page: Any, name: str) -> None:
    """For eyes: INSTRUCTX_SCREENSHOTS names a folder."""
    if folder := os.environ.get("INSTRUCTX_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.browser
def test_140_items_by_keyboard(tmp_path: Path, opened: Callable[..., Any], until: Callable[..., None]) -> None:
    folder = proposals(tmp_path / "bench", 29, media=2)
    page = opened(page_of(folder))
    until(page, "document.querySelector('video').currentTime > 0.1")
    picture(page, "curate-wide")
    assert page.locator("textarea").first.input_value() == 'Do <b>swap</b> "0.0" to it.', "text is text"
    page.keyboard.press("e")
    page.keyboard.type(" And more, a r n p.")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.keyboard.press("k")
    assert page.locator(".proposal.current.accept textarea").input_value().endswith("to it. And more, a r n p.")
    page.keyboard.press("j")
    page.keyboard.press("r")
    page.keyboard.press("o")
    for _ in range(139):
        page.keyboard.press("a")
        page.keyboard.press("o")
    assert page.locator("#done").inner_text() == "140 of 140" and page.locator("#open").is_disabled()
    picture(page, "curate-done")
    page.reload()
    assert page.locator("#done").inner_text() == "140 of 140", "nothing is lost on reload"
    file = saved(page, tmp_path)
    counts = write_manifest(folder / "manifest.jsonl", folder, join_decisions([file]))
    assert counts == VIE_COUNTS
    (tmp_path / "run").mkdir()
    items = read_vie(Download(folder / "manifest.jsonl", tmp_path / "run"))
    check_items(items, tmp_path / "run")
    assert Counter(item.task for item in items) == VIE_COUNTS
    assert items[0].id == "clip000-1" and items[0].instruction.endswith("And more, a r n p.")
    assert "clip000-2" not in {item.id for item in items}, "it was rejected"
    assert all(bool(item.reference) == item.task.startswith("reference") for item in items)


@pytest.mark.browser
def test_another_kind_another_browser_and_a_newer_page(tmp_path: Path, opened: Callable[..., Any]) -> None:
    folder = proposals(tmp_path / "bench", 2)
    page = opened(page_of(folder))
    with_picture = page.locator("section[aria-label=Reference]").count() > 0
    select = page.locator(".proposal select").first
    assert ("reference_add" in select.evaluate("s => [...s.options].map(o => o.value)")) == with_picture
    select.select_option("tone")
    page.locator(".proposal textarea").nth(1).fill("")
    assert page.locator("button.accept").nth(1).is_disabled(), "no words, no item"
    page.locator("button.accept").first.click()
    page.locator("button.accept").nth(2).click()
    page.locator("button.accept").nth(2).click()
    file = saved(page, tmp_path)
    decisions = json.loads(file.read_text())["decisions"]
    assert (decisions["clip000-1"]["verdict"], decisions["clip000-1"]["task"]) == ("accept", "tone")
    assert decisions["clip000-3"]["verdict"] == "", "a second press takes it back"

    other = opened(folder / "curate.html")  # a browser that knows nothing of it
    assert other.locator(".proposal.accept").count() == 0
    other.locator("input[type=file]").set_input_files(file)
    other.get_by_text("3 of 3 decisions taken").wait_for()
    assert other.locator(".proposal.accept select").input_value() == "tone"

    lines = [json.loads(line) for line in (folder / PROPOSALS).read_text().splitlines()]
    lines[0]["proposals"][0]["instruction"] = "Anew."  # the model was asked again
    (folder / PROPOSALS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    page_of(folder)
    page.reload()
    assert page.locator(".proposal.accept").count() == 0 and page.locator("textarea").first.input_value() == "Anew."
    assert page.locator("textarea").nth(1).input_value() == "", "of what is as it was the decision is kept"


@pytest.mark.browser
def test_two_windows_do_not_undo_each_other(
    tmp_path: Path, opened: Callable[..., Any], until: Callable[..., None]
) -> None:
    path = page_of(proposals(tmp_path / "bench", 2))
    first = opened(path)
    second = first.context.new_page()
    second.goto(path.as_uri())
    first.keyboard.press("a")
    until(second, "document.querySelectorAll('.proposal.accept').length === 1")
    second.keyboard.press("j")
    second.keyboard.press("r")
    until(first, "document.querySelectorAll('.proposal.reject').length === 1")
    first.reload()
    until(first, "document.querySelectorAll('.proposal.accept').length === 1")
    until(first, "document.querySelectorAll('.proposal.reject').length === 1")


@pytest.mark.browser
def test_500_on_a_phone(tmp_path: Path, opened: Callable[..., Any]) -> None:
    page = opened(page_of(proposals(tmp_path / "bench", 100)), PHONE)
    picture(page, "curate-phone")
    assert page.locator("#left").inner_text() == "0 of 500 proposals decided"
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "nothing to scroll sideways"
    for button in page.locator(".verdicts button:visible").all():
        assert button.bounding_box()["height"] >= 44, "room for a finger"
    page.locator("#jump").select_option(index=99)
    assert page.locator("#next").is_disabled()
    page.locator("button.reject").first.click()
    assert page.locator("#left").inner_text() == "1 of 500 proposals decided"
    page.locator("#open").click()
    page.reload()
    assert page.locator("#jump").evaluate("jump => jump.selectedIndex") == 99, "where it was left"
    assert page.evaluate("performance.memory.usedJSHeapSize") < 200e6


def decisions_of(path: Path, **decided: Any) -> Path:
    path.write_text(json.dumps({"kind": KIND, "bench": "x", "decisions": decided}))
    return path


def test_files_that_are_no_decisions(tmp_path: Path) -> None:
    folder = proposals(tmp_path / "bench", 1)
    proposed = json.loads((folder / PROPOSALS).read_text())["proposals"][0]["instruction"]
    yes = {"verdict": "accept", "task": "swap", "instruction": "Do.", "proposed": proposed}
    first = decisions_of(tmp_path / "1.json", **{"clip000-1": yes})
    same = decisions_of(tmp_path / "2.json", **{"clip000-1": yes, "clip000-2": {**yes, "verdict": ""}})
    assert join_decisions([first, same]) == {"clip000-1": Decision(**yes)}
    for files, said in (
        ([tmp_path / "none.json"], "cannot be read"),
        ([folder / PROPOSALS], "holds no decisions"),
        ([decisions_of(tmp_path / "3.json", a={"verdict": "accept"})], "no decision"),
        ([decisions_of(tmp_path / "4.json", a={**yes, "task": "paint"})], "no decision"),
        ([first, decisions_of(tmp_path / "5.json", **{"clip000-1": {**yes, "verdict": "reject"}})], "otherwise"),
    ):
        with pytest.raises(InputError, match=said):
            join_decisions(files)
    out = tmp_path / "manifest.jsonl"
    for decided, said in (
        ({"clip009-1": yes}, "clip009-1, which .* has not"),
        ({"clip000-1": {**yes, "proposed": "older"}}, "which .* has not"),
        ({"clip000-1": {**yes, "verdict": "reject"}}, "nothing was accepted"),
        ({"clip000-1": {**yes, "instruction": " "}}, "accepted without a word"),
    ):
        with pytest.raises(InputError, match=said):
            write_manifest(out, folder, {name: Decision(**each) for name, each in decided.items()})
    assert not out.exists()
    with pytest.raises(InputError, match="make proposals first"):
        write_curation_page(tmp_path / "x.html", tmp_path, "x")
