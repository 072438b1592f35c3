"""The page of a set in a real browser: it says what the funnel says, limits move, and it fits a phone."""

import numpy as np
import pytest

from instructx_core.media.files import write_video
from instructx_core.synthesis.drawn_films import FPS, draw_film
from instructx_core.synthesis.films import find_films
from instructx_core.synthesis.pipeline import stages_of
from instructx_core.synthesis.report import write_report
from instructx_core.synthesis.run import candidates_of
from instructx_core.synthesis.setup import Setup
from instructx_core.synthesis.terms.limits import Limits


@pytest.fixture(scope="module")
def page_of_a_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    frames_FHWC = draw_film(2).frames_FHWC
    write_video(folder / "passes.mp4", frames_FHWC, FPS, crf=16)
    write_video(folder / "stands.mp4", np.repeat(frames_FHWC[:1], 48, axis=0), FPS)
    found = list(candidates_of(find_films(folder, folder / "set"), folder / "set", Setup(), 1))
    return write_report(found, [stage.name for stage in stages_of(Setup())], folder / "set", Limits())


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_the_funnel_and_lets_limits_be_moved(chromium, page_of_a_set, width):
    page = chromium.new_page(viewport={"width": width, "height": 900})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(page_of_a_set.as_uri())
    first = page.locator("tbody tr").first
    assert [cell.strip() for cell in first.locator("td").all_inner_texts()] == [
        "gates",
        "2",
        "1",
        "",
        "nothing changes: 1",
    ]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    change = page.locator("section.card", has_text="gates: change")
    assert "1 of 2 pass at 1.5" in change.inner_text()
    slider = change.locator("input")
    slider.focus()
    page.keyboard.press("Home")
    assert "2 of 2 pass" in change.inner_text()
    change.locator("button").press("Enter")
    assert "1 of 2 pass at 1.5" in change.inner_text()
    page.get_by_role("button", name="nothing changes (1)").click()
    picture = page.locator(".samples img")
    picture.wait_for()
    assert picture.count() == 1
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    page.get_by_role("button", name="passed (1)").click()
    assert "remove:" in page.locator(".samples").inner_text()
    assert said == []
    page.close()
