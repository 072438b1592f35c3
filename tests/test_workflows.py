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
    client.apply(graph, "9", "seed", "7")
    client.apply(graph, "6", "instruction", "make it snow")
    assert graph["9"]["inputs"]["seed"] == 7 and graph["6"]["inputs"]["instruction"] == "make it snow"
    with pytest.raises(client.Refused, match=r"no input 9\.model"):
        client.apply(graph, "9", "model", "x")
    with pytest.raises(client.Refused, match="no http address"):
        client.Client("ftp://host")


def test_client_says_when_no_server_answers(tmp_path: Path) -> None:
    client = ROOT / "workflows" / "api" / "client.py"
    command = [sys.executable, str(client), str(HEADLESS[0]), "--url", "http://127.0.0.1:9", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "no ComfyUI answers" in done.stderr
