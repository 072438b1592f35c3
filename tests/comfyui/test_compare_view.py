"""The view of the node Compare by itself, in the browser: results of a list, one after the other."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]


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
