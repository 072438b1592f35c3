"""Pictures of every form through outputs -> metrics -> judge -> export -> report: all of them see the same pixels, and
what was changed on the way (transparent, gray, 16 bits) is in the transcript."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import serve
from PIL import Image

from instructx_core.cli import main
from instructx_core.data.record import Locator
from instructx_core.evaluation.items import read_items, write_items
from instructx_core.evaluation.metrics.preservation import PSNR_MOST

pytest.importorskip("openai")

SEEN_HWC = np.full((48, 64, 3), (250, 250, 250), np.uint8)  # what each lossless output is, over white and in RGB
SEEN_HWC[:24] = 255
SEEN_HWC[:, 32:] = (100, 100, 100)
CLEAR_HW = np.where((SEEN_HWC == 255).all(axis=-1), 0, 255).astype(np.uint8)
NAMES = "Prompt Compliance", "Seamlessness", "Detail"
PROMPT = "ADD <edit_prompt>\n" + "\n".join(f"{name}: A number from 1 to 5." for name in NAMES)
REPLY = "Brief reasoning: fine\n" + "\n".join(f"{name}: 4" for name in NAMES)
LOSSLESS = ("rgb", "rgba", "palette", "la", "gray", "sixteen", "webp", "bilevel-key", "still")
NEARLY = ("cmyk", "turned")  # JPEG
NONE = ("moving", "broken")


def hidden(colour: int) -> np.ndarray:
    """The picture with another colour where it is transparent."""
    return np.where(CLEAR_HW[..., None] == 0, np.uint8(colour), SEEN_HWC)


def write_outputs(folder: Path) -> None:
    folder.mkdir()
    picture, gray = Image.fromarray(SEEN_HWC), Image.fromarray(SEEN_HWC[..., 0])
    picture.save(folder / "rgb.png")
    Image.fromarray(np.dstack([hidden(3), CLEAR_HW])).save(folder / "rgba.png")
    Image.fromarray(np.dstack([hidden(3), CLEAR_HW])).save(folder / "webp.webp", lossless=True, exact=True)
    Image.fromarray(np.dstack([hidden(7)[..., 0], CLEAR_HW])).save(folder / "la.png")
    gray.save(folder / "gray.png")
    Image.fromarray(SEEN_HWC[..., 0].astype(np.uint16) * 257).save(folder / "sixteen.png")
    indexed = Image.fromarray(np.select([CLEAR_HW == 0, SEEN_HWC[..., 0] == 100], [0, 1], 2).astype(np.uint8), "P")
    indexed.putpalette([9, 9, 9, 100, 100, 100, 250, 250, 250])
    indexed.save(folder / "palette.png", transparency=0)
    indexed.save(folder / "still.gif", transparency=0)
    rgb = Image.fromarray(hidden(3))
    rgb.save(folder / "bilevel-key.png", transparency=(3, 3, 3))
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=100)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", quality=100, subsampling=0, exif=exif)
    picture.save(folder / "moving.gif", save_all=True, append_images=[Image.fromarray(255 - SEEN_HWC)], duration=100)
    (folder / "broken.png").write_bytes((folder / "rgb.png").read_bytes()[:60])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    download, run = tmp_path / "download", tmp_path / "run"
    download.mkdir()
    Image.fromarray(SEEN_HWC).save(download / "source.png")
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(download / "mask.png")
    names = (*LOSSLESS, *NEARLY, *NONE)
    rows = {name: {"id": "source.png", "prompt": "do it", "edit_type": "add"} for name in names}
    (download / "basic_edit.json").write_text(json.dumps(rows))
    (download / "prompts.json").write_text(json.dumps({"add": PROMPT}))
    write_outputs(tmp_path / "made")
    assert main(["eval", "items", "imgedit", str(download), "--out", str(run), "--partial"]) == 0
    mask = Locator("../download/mask.png")
    items = [dataclasses.replace(item, mask=mask) for item in read_items(run / "items.jsonl")]
    write_items(run / "items.jsonl", items)
    assert main(["eval", "edit", str(run), "--outputs", str(tmp_path / "made"), "--name", "odd"]) == 0
    return run


def read(path: Path) -> dict[str, dict[str, Any]]:
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line.get("item", line["id"]): line for line in lines}


def shown(request: dict[str, Any]) -> np.ndarray:
    """The output as the judge was sent it."""
    url = [part["image_url"]["url"] for part in request["messages"][0]["content"] if part["type"] == "image_url"][1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def test_all_links_see_the_same_pixels(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = dict[str, np.ndarray]()
    with serve(REPLY) as server:
        judge = ["--judge", server.url, "--judge-model", "j", "--concurrency", "1"]
        assert main(["eval", "judge", str(run), *judge, "--prompts", str(tmp_path / "download")]) == 0
        judged = (*LOSSLESS, *NEARLY)
        asked = dict(zip(judged, map(shown, server.seen), strict=True))
    assert main(["eval", "metrics", str(run)]) == 0
    measured, scores = read(run / "metrics.jsonl"), read(run / "scores.jsonl")
    for name in LOSSLESS:
        assert (asked[name] == SEEN_HWC).all(), name
        assert measured[name]["metrics"]["outside_psnr"] == pytest.approx(PSNR_MOST, abs=1e-5), name
    for name in NEARLY:
        assert abs(asked[name].astype(int) - SEEN_HWC).mean() < 2, name
        assert measured[name]["metrics"]["outside_psnr"] > 35, name
    assert {name for name, score in scores.items() if score["status"] == "ok"} == {*LOSSLESS, *NEARLY}
    assert "is a clip; this benchmark is of pictures" in scores["moving"]["reason"]
    assert measured["moving"]["not_measured"]["outside_psnr"].startswith("the output is (2, 48, 64)")
    assert measured["broken"]["not_measured"]["outside_psnr"].startswith("the output cannot be read")
    lines = read(run / "transcripts.jsonl")
    said = {name: str(line["questions"][0]["sent"][2].get("notes", "")) for name, line in lines.items()}
    assert said["rgb"] == "" and all("over white" in said[name] for name in ("rgba", "palette", "la", "still"))
    assert "16-bit gray reduced" in said["sixteen"] and "CMYK" in said["cmyk"] and "EXIF" in said["turned"]
    capsys.readouterr()
    assert main(["eval", "export", str(run), "--editor", "odd", "--out", str(tmp_path / "out")]) == 2
    assert "moving.gif: the benchmark's scripts take .png" in capsys.readouterr().err
    (tmp_path / "made" / "moving.gif").unlink()
    assert main(["eval", "export", str(run), "--editor", "odd", "--out", str(tmp_path / "out")]) == 1
    assert "no output of moving, broken" in capsys.readouterr().out
    for name in LOSSLESS:  # as a script of the authors opens it, which drops alpha
        with Image.open(tmp_path / "out" / "odd" / f"{name}.png") as image:
            assert (np.asarray(image.convert("RGB")) == SEEN_HWC).all(), name
    assert main(["eval", "report", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    shown_of = {data["items"][each["item"]]["id"]: each["output"] for each in data["entries"]}
    kinds = {name: data["media"][number]["kind"] for name, number in shown_of.items() if number is not None}
    assert kinds == {**dict.fromkeys((*LOSSLESS, *NEARLY), "image"), "broken": "none"}
