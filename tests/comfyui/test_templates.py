"""What the pack ships beside its nodes, on a real host: templates, help pages, locales, blueprints, headless graphs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from PIL import Image

from instructx_core.shapes import sample, score, there_and_back

ROOT = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-InstructX"
CLIENT = ROOT / "workflows" / "api" / "client.py"
TRY = ("try_image", "try_video", "try_reference", "try_long")


@pytest.fixture(scope="module")
def from_host(load_helper: Callable[[str, str], ModuleType]) -> ModuleType:
    return load_helper("instructx_from_host", "../scripts/from_host.py")


def graph_of(slug: str) -> dict[str, Any]:
    return json.loads((ROOT / "workflows" / "api" / f"{slug}.json").read_text(encoding="utf-8"))


def test_signatures_and_english_texts_are_the_nodes_own(host: Any, from_host: ModuleType) -> None:
    """After a change of a node: scripts/from_host.py, then scripts/make_workflows.py."""
    info = host.object_info()
    written = json.loads((ROOT / "scripts" / "signatures.json").read_text(encoding="utf-8"))
    found = from_host.signatures(info)
    ours = [name for name in written if name.startswith("InstructX")]
    assert {name: found[name] for name in ours} == {name: written[name] for name in ours}
    for name in set(written) - set(ours):  # the host's nodes may gain inputs
        kept = [entry["name"] for entry in found[name]["inputs"]]
        assert all(entry["name"] in kept for entry in written[name]["inputs"]), name
        assert found[name]["outputs"][: len(written[name]["outputs"])] == written[name]["outputs"], name
    texts = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert texts == from_host.locale(info)
    empty = [f"{n}.{i}" for n in texts for i, text in texts[n]["inputs"].items() if not text["tooltip"]]
    assert not empty, "every input has a tooltip"


def test_templates_are_listed_and_served(host: Any) -> None:
    listed = host.get("/workflow_templates")[PACK]
    titles = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert sorted(listed) == titles and "index" not in listed
    for title in titles:
        path = f"/api/workflow_templates/{PACK}/{quote(title)}"
        assert host.get(f"{path}.json")["nodes"]
        assert host.request("GET", f"{path}.jpg")[:2] == b"\xff\xd8"


def test_help_pages_and_their_pictures(host: Any) -> None:
    for page in sorted((ROOT / "web" / "docs").rglob("*")):
        if page.is_file():
            path = f"/extensions/{PACK}/docs/{page.relative_to(ROOT / 'web' / 'docs').as_posix()}"
            assert host.request("GET", path) == page.read_bytes()


def test_locales_reach_the_frontend(host: Any) -> None:
    texts = host.get("/i18n")
    for language in ("en", "zh"):
        written = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert written.items() <= texts[language]["nodeDefs"].items()


def test_blueprints_are_served(host: Any) -> None:
    ours = {key: entry for key, entry in host.get("/global_subgraphs").items() if PACK in entry["info"]["node_pack"]}
    assert {entry["name"] for entry in ours.values()} == {
        "Edit Image (InstructX)",
        "Edit Video (InstructX)",
        "Edit Long Video (InstructX)",
    }
    for key in ours:
        assert json.loads(host.get(f"/global_subgraphs/{key}")["data"])["definitions"]["subgraphs"]


def test_extension_is_served(host: Any) -> None:
    assert {f"/extensions/{PACK}/js/compare.js", f"/extensions/{PACK}/js/compare_view.js"} <= set(
        host.get("/extensions")
    )


@pytest.mark.parametrize("slug", TRY)
def test_try_it_now_runs_by_the_client(host: Any, slug: str, tmp_path: Path) -> None:
    """The documented command; the saved file passes the world's own success measure."""
    command = [sys.executable, str(CLIENT), str(ROOT / "workflows" / "api" / f"{slug}.json"), "--url", host.url]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (saved,) = tmp_path.iterdir()
    assert done.stdout.strip() == str(saved)
    drawn, edited = drawn_sample(slug), frames(saved)
    assert edited.shape == drawn.source_FHWC.shape
    assert score(drawn, edited).success


def drawn_sample(slug: str) -> Any:
    given = next(e["inputs"] for e in graph_of(slug).values() if e["class_type"] == "InstructXSample")
    if given["kind"] == "long video":
        return there_and_back(sample("test", given["seed"], "video", given["edit"]))
    return sample("test", given["seed"], given["kind"], given["edit"])


def frames(path: Path) -> np.ndarray:
    from instructx_core.media.files import read_media

    if path.suffix == ".png":
        return np.array(Image.open(path).convert("RGB"))[None]
    return np.asarray(read_media(path).frames_FHWC)


def comfy_cli(home: Path, *arguments: str) -> str:
    """Output of `comfy --json ...`, which must succeed; it neither asks nor reports."""
    done = subprocess.run(
        [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={"DO_NOT_TRACK": "1", "PATH": "/usr/bin:/bin", "HOME": str(home)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("slug", TRY)
def test_comfy_cli_validates_offline(host: Any, slug: str, tmp_path: Path) -> None:
    info = tmp_path / "object_info.json"
    info.write_text(json.dumps(host.object_info()), encoding="utf-8")
    flow = ROOT / "workflows" / "api" / f"{slug}.json"
    comfy_cli(tmp_path, "workflow", "validate", "--workflow", str(flow), "--input", str(info))


@pytest.mark.parametrize("slug", TRY)
def test_comfy_cli_runs(host: Any, slug: str, tmp_path: Path) -> None:
    flow = ROOT / "workflows" / "api" / f"{slug}.json"
    where = urlsplit(host.url)
    said = comfy_cli(
        tmp_path, "run", "--workflow", str(flow), "--wait", "--host", str(where.hostname), "--port", str(where.port)
    )
    data = json.loads(said)["data"]
    saved = [url for url in data["outputs"] if "type=output" in url]
    assert data["status"] == "completed" and len(saved) == 1
    assert len(host.request("GET", saved[0].removeprefix(host.url))) > 1000


def test_the_client_reports_a_node_that_fails(host: Any, tmp_path: Path) -> None:
    command = [sys.executable, str(CLIENT), str(ROOT / "workflows" / "api" / "try_image.json"), "--url", host.url]
    done = subprocess.run(
        [*command, "--set", "2.vae=missing.safetensors", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "missing.safetensors" in done.stderr and not list(tmp_path.iterdir())


def test_the_client_notices_a_job_that_is_gone(host: Any, load_helper: Callable[[str, str], ModuleType]) -> None:
    """Behind a long job, then taken out of the queue by somebody else: an error, not endless waiting."""
    module = load_helper("instructx_http_client", "../workflows/api/client.py")
    graph = graph_of("try_video")
    sampler = next(entry["inputs"] for entry in graph.values() if entry["class_type"] == "InstructXSampler")
    long = host.queue(json.loads(json.dumps(graph).replace('"steps": 4', '"steps": 900')))
    sampler["seed"] = 12345
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(module.Client(host.url).run, graph)
        while not (pending := host.get("/queue")["queue_pending"]):
            time.sleep(0.1)
        chosen = module.idlest(["http://127.0.0.1:9", host.url])
        assert chosen.url == host.url and chosen.jobs() == [long, pending[0][1]]
        host.post("/queue", {"delete": [pending[0][1]]})
        with pytest.raises(module.Refused, match="queue it again"):
            answer.result(timeout=180)
    host.interrupt()
    assert host.wait(long)["status"]["status_str"] == "error"
