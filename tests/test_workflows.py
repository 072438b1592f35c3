"""The shipped graphs: in step with scripts/templates.py, complete, and with a picture each. No host is needed.

What only a host can say (its templates, the runs, the browser) is in tests/comfyui/.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from instructx_core.config import presets

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
HEADLESS = sorted((ROOT / "workflows" / "api").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))


def test_files_are_what_the_description_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_workflows.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(WORKFLOWS) == len(HEADLESS) == 11 and len(BLUEPRINTS) == 3


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow(path: Path) -> None:
    graph = json.loads(path.read_text(encoding="utf-8"))
    kinds = {node["type"] for node in graph["nodes"]}
    assert {"InstructXLoadEncoder", "InstructXCompare", "MarkdownNote"} <= kinds
    assert ("InstructXLongVideo" if "long" in path.stem else "InstructXSourceReference") in kinds
    for node in graph["nodes"]:
        if node["type"] != "MarkdownNote":
            assert node["properties"]["cnr_id"] == (
                "instructx" if node["type"].startswith("InstructX") else "comfy-core"
            )
        for model in node.get("properties", {}).get("models", []):
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(model["name"])
            assert model["name"] in node["widgets_values"], "the host matches downloads by file name"
    ends = [(link[1], link[3]) for link in graph["links"]]
    linked = {node for pair in ends for node in pair}
    assert {node["id"] for node in graph["nodes"] if node["type"] != "MarkdownNote"} == linked, "a node hangs loose"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_picture(path: Path) -> None:
    """Templates of a node pack show NAME.jpg, and every JSON file beside it is a template: no index.json there."""
    picture = path.with_suffix(".jpg")
    assert picture.stat().st_size < 60_000
    with Image.open(picture) as image:
        assert image.format == "JPEG" and image.size[0] == image.size[1] >= 300


def test_try_it_now_needs_no_download() -> None:
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        if path.stem.startswith("InstructX - Try it now"):
            assert set(re.findall(r'"([^"]+\.safetensors)"', text)) == {"instructx_tiny.safetensors"}
            assert "LoadImage" not in text and "LoadVideo" not in text and '"models"' not in text


def test_no_node_hangs_loose_without_sample() -> None:
    """Where Sample gives way to Load Image or Load Video: what it fed either edits or takes the new wire."""
    for path in (path for path in WORKFLOWS if path.stem.startswith("InstructX - Try it now")):
        graph = json.loads(path.read_text(encoding="utf-8"))
        kinds = {node["id"]: node["type"] for node in graph["nodes"]}
        fed = {(kinds[link[3]], link[2]) for link in graph["links"] if kinds[link[1]] == "InstructXSample"}
        editing = {"InstructXQueryEmbeddings", "InstructXSourceReference", "InstructXLongVideo", "CreateVideo"}
        assert fed and {kind for kind, _ in fed} <= editing, path.stem
        (box,) = [node for node in graph["nodes"] if any(e["name"] == "instruction" for e in node.get("inputs", []))]
        assert next(e["link"] for e in box["inputs"] if e["name"] == "instruction") is None, "typed into at once"
        assert next(e["link"] for e in box["inputs"] if e["name"] == "instruction_if_empty") is not None


def test_large_templates_bring_the_source_to_the_size_of_training() -> None:
    """Not the long ones, which would hold the whole clip in memory for it; their note says so."""
    for path in (path for path in WORKFLOWS if "needs" in path.stem):
        graph = json.loads(path.read_text(encoding="utf-8"))
        found = [node["widgets_values"] for node in graph["nodes"] if node["type"] == "ImageScaleToTotalPixels"]
        if "long" in path.stem:
            assert not found and "own size" in json.dumps(graph)
        else:
            ((_, megapixels),) = found
            area = presets.preset("kiwi_5b" if "Kiwi" in path.stem else "paper_14b").sampling.area
            assert abs(megapixels * 2**20 / area - 1) < 0.01


def test_the_tiny_models_templates_rank_first_in_a_search() -> None:
    """The page ranks equal matches by the length of the title (BM25); tests/comfyui/test_artists_day.py looks."""
    words = {path.stem: len(set(path.stem.split())) for path in WORKFLOWS}
    small = [count for title, count in words.items() if "Try it now" in title]
    assert max(small) < min(count for title, count in words.items() if "Try it now" not in title)


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_has_cfg_only_with_its_negative(path: Path) -> None:
    (subgraph,) = json.loads(path.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    has_cfg = "cfg" in {entry["name"] for entry in subgraph["inputs"]}
    kinds = {node["type"]: node for node in subgraph["nodes"]}
    negative = [
        entry["link"]
        for entry in kinds.get("InstructXSourceReference", {}).get("inputs", [])
        if entry["name"] == "negative"
    ]
    makes_its_own = "InstructXLongVideo" in kinds
    assert has_cfg == (makes_its_own or any(link is not None for link in negative))


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_blueprint(path: Path) -> None:
    file = json.loads(path.read_text(encoding="utf-8"))
    (node,), (subgraph,) = file["nodes"], file["definitions"]["subgraphs"]
    assert node["type"] == subgraph["id"] and subgraph["name"] == path.stem
    assert [entry["name"] for entry in node["inputs"]] == [entry["name"] for entry in subgraph["inputs"]]
    links = {link["id"]: link for link in subgraph["links"]}
    assert len(links) == len(subgraph["links"])
    for number, entry in enumerate(subgraph["inputs"]):
        assert entry["linkIds"] and all(links[link]["origin_slot"] == number for link in entry["linkIds"])
    for inner in subgraph["nodes"]:
        for slot, entry in enumerate(inner["inputs"]):
            if entry["link"] is not None:
                link = links[entry["link"]]
                assert (link["target_id"], link["target_slot"]) == (inner["id"], slot)


def test_client_sets_and_refuses(load_helper) -> None:
    client = load_helper("instructx_http_client", "../workflows/api/client.py")
    graph = json.loads((ROOT / "workflows" / "api" / "paper_video.json").read_text(encoding="utf-8"))
    client.apply(graph, "12", "seed", "7")
    client.apply(graph, "9", "instruction", "make it snow")
    assert graph["12"]["inputs"]["seed"] == 7 and graph["9"]["inputs"]["instruction"] == "make it snow"
    with pytest.raises(client.Refused, match=r"no input 12\.model"):
        client.apply(graph, "12", "model", "x")
    with pytest.raises(client.Refused, match="no http address"):
        client.Client("ftp://host")


def test_client_says_when_no_server_answers(tmp_path: Path) -> None:
    client = ROOT / "workflows" / "api" / "client.py"
    command = [sys.executable, str(client), str(HEADLESS[0]), "--url", "http://127.0.0.1:9", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "no ComfyUI answers" in done.stderr
