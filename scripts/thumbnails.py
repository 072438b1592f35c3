"""Draws the pictures of the Templates: workflows/*.jpg, before and after, from a real run of each tiny graph.

    python scripts/thumbnails.py --url http://127.0.0.1:8188    run the try-it-now graphs, write all pictures
    python scripts/thumbnails.py --url ... --find 20            name the samples, of 20, that each graph edits right

Needs a running ComfyUI with this pack. Do both again after a new tiny model, and put the samples into templates.py. The
templates of the large models get a plain card: their weights are not here. The host takes one .jpg a template of a node
pack (its two-picture slider is for its own templates), so before and after share one picture.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import logging
import sys
import textwrap
import urllib.parse
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "workflows" / "api")]

from client import Client, Refused  # noqa: E402
from templates import TEMPLATES, Template  # noqa: E402

from instructx_core.shapes import Score, sample, score, tasks_of, there_and_back  # noqa: E402

SIZE = 400  # pixels, square as the cards of the Templates dialog
BACKGROUND, FAINT = (28, 34, 48), (150, 160, 185)
logger = logging.getLogger("instructx.thumbnails")


def graph_of(template: Template) -> dict[str, Any]:
    return json.loads((ROOT / "workflows" / "api" / f"{template.slug}.json").read_text(encoding="utf-8"))


def node_of(graph: dict[str, Any], kind: str) -> str:
    return next(node for node, entry in graph.items() if entry["class_type"] == kind)


def frames(data: bytes, name: str) -> np.ndarray:
    """A PNG or MP4 -> uint8 frames (F, H, W, 3)."""
    if name.endswith(".png"):
        return np.array(Image.open(io.BytesIO(data)).convert("RGB"))[None]
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def run(client: Client, graph: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Before and after of the Compare node, uint8 frames (F, H, W, 3)."""
    records = client.run(graph)[node_of(graph, "InstructXCompare")]["images"]
    data = [client.request("/view?" + urllib.parse.urlencode(record)) for record in records]
    half = len(data) // 2
    before, after = data[:half], data[half:]
    return frames(before[0], records[0]["filename"]), frames(after[0], records[half]["filename"])


def scored(client: Client, template: Template, edit: str, seed: int) -> Score:
    """The success measure on one sample, sent through the graph."""
    graph = copy.deepcopy(graph_of(template))
    graph[node_of(graph, "InstructXSample")]["inputs"] |= {"edit": edit, "seed": seed}
    clip = sample("test", seed, template.medium, edit)
    return score(there_and_back(clip) if template.window else clip, run(client, graph)[1])


def find(client: Client, count: int) -> None:
    """Logs the samples that each try-it-now graph edits right, best first."""
    for template in (t for t in TEMPLATES if t.sample):
        found = []
        for seed in range(count):
            tasks = [t for t in tasks_of("test", template.medium) if t.startswith("reference") == template.reference]
            edit = tasks[seed % len(tasks)]
            result = scored(client, template, edit, seed)
            found.append((not result.success, result.pixel_error, edit, seed))
        for failed, error, edit, seed in sorted(found)[:8]:
            logger.info("%s: %s %d %s error %.3f", template.slug, edit, seed, "failed" if failed else "OK", error)


def pair_picture(before: np.ndarray, after: np.ndarray, instruction: str) -> Image.Image:
    """Before and after side by side, pixels enlarged as they are, the instruction below; the middle frame of a clip."""
    picture = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    frame = min(len(before), len(after)) // 2
    for pixels, x, label in ((before, 6, "before"), (after, SIZE // 2 + 2, "after")):
        side = SIZE // 2 - 8
        picture.paste(Image.fromarray(pixels[frame]).resize((side, side), Image.Resampling.NEAREST), (x, 60))
        draw.text((x + side // 2, 274), label, fill=FAINT, font=ImageFont.load_default(20), anchor="mm")
    lines = textwrap.wrap(instruction, 28)
    for number, line in enumerate(lines):
        y = 336 + 30 * (number - (len(lines) - 1) / 2)
        draw.text((SIZE // 2, y), line, fill="white", font=ImageFont.load_default(24), anchor="mm")
    return picture


def drawn(client: Client, template: Template) -> Image.Image:
    """The picture of a try-it-now graph, from a run as it is shipped."""
    edit, seed = template.sample
    return pair_picture(*run(client, graph_of(template)), sample("test", seed, template.medium, edit).instruction)


def card(template: Template) -> Image.Image:
    """A plain card with the name of the model and what it edits."""
    picture = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    name, what = template.title.split(" - ")
    name, needs = name.rstrip(")").split(" (")
    lines = [(name, 44, 0.4, "white"), (what, 36, 0.56, "white"), (needs, 20, 0.88, FAINT)]
    for text, size, y, color in lines:
        draw.text((SIZE // 2, y * SIZE), text, fill=color, font=ImageFont.load_default(size), anchor="mm")
    return picture


def save(picture: Image.Image, template: Template) -> None:
    picture.save(ROOT / "workflows" / f"{template.title}.jpg", quality=88, optimize=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8188", help="a running ComfyUI with this pack")
    parser.add_argument("--cards", action="store_true", help="only those of the large models; needs no ComfyUI")
    parser.add_argument("--find", type=int, metavar="N", help="try samples 0 to N-1 instead of drawing")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if given.cards:
        for template in TEMPLATES:
            if not template.sample:
                save(card(template), template)
        return 0
    try:
        client = Client(given.url)
        if given.find:
            find(client, given.find)
            return 0
        for template in TEMPLATES:
            save(drawn(client, template) if template.sample else card(template), template)
    except Refused as error:
        logger.error("error: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
