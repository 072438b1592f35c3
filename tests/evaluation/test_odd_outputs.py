"""The whole chain on a folder of outputs as people have them: every odd one is scored, or counted with its reason."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import scores, serve
from PIL import Image

from instructx_core.cli import main
from instructx_core.media.files import write_image, write_video

pytest.importorskip("openai")

FRAMES_FHWC = np.stack([np.full((32, 48, 3), 20 + 20 * t, np.uint8) for t in range(8)])
IDS = ("whole", "small", "gif", "webp", "mov", "empty", "broken", "picture", "missing", "猫 и кот", "a b#c")


def animated(path: Path) -> None:
    first, *rest = [Image.fromarray(frame) for frame in FRAMES_FHWC]
    first.save(path, save_all=True, append_images=rest, duration=125, lossless=True)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The evaluation's folder and that of the outputs."""
    download, made = tmp_path / "download", tmp_path / "made"
    download.mkdir()
    made.mkdir()
    write_video(download / "source.mp4", FRAMES_FHWC, 8)
    rows = [{"id": name, "task": "add", "instruction": f"Do {name}.", "source": "source.mp4"} for name in IDS]
    (download / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("whole", "猫 и кот", "a b#c"):
        write_video(made / f"{name}.mp4", FRAMES_FHWC, 8)
    write_video(made / "small.mp4", FRAMES_FHWC[:3, :16, :16], 8)
    write_video(made / "mov.mov", FRAMES_FHWC, 8)
    animated(made / "gif.gif")
    animated(made / "webp.webp")
    (made / "empty.mp4").write_bytes(b"")
    (made / "broken.mp4").write_bytes((made / "whole.mp4").read_bytes()[:700])
    write_video(made / "picture.mp4", FRAMES_FHWC[:1], 8)
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(made / "thumbnail.png")
    (made / "notes.txt").write_text("mine")
    run = tmp_path / "run"
    assert main(["eval", "items", "vie", str(download), "--out", str(run), "--partial"]) == 0
    return run, made


def read(path: Path) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def test_every_output_is_scored_or_says_why_not(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, made = folders
    assert main(["eval", "edit", str(run), "--outputs", str(made), "--name", "odd"]) == 1
    said = capsys.readouterr().out
    assert "1 files of" in said and "are of no item: thumbnail.png" in said
    assert "odd: 10 outputs" in said and "no output of missing: no add/missing.mp4" in said
    with serve(scores()) as server:
        assert main(["eval", "judge", str(run), "--judge", server.url, "--judge-model", "j", "--frames", "3"]) == 0
    judged = read(run / "scores.jsonl")
    assert {name for name, line in judged.items() if line["status"] == "ok"} == set(IDS) - {
        "empty",
        "broken",
        "missing",
    }
    assert "empty" in judged["empty"]["reason"] and "broken.mp4" in judged["broken"]["reason"]
    (made / "mov.mov").unlink()  # after it was judged
    assert main(["eval", "metrics", str(run)]) == 0
    assert "cannot be read" in read(run / "metrics.jsonl")["empty"]["not_measured"]["smoothness_proxy"]
    capsys.readouterr()
    assert main(["eval", "report", str(run)]) == 0
    assert "odd has no output of 2 of 11 items" in capsys.readouterr().out
    page = (run / "report.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    entries = {data["items"][each["item"]]["id"]: each for each in data["entries"]}
    assert "not there any more" in entries["mov"]["error"] and entries["mov"]["output"] is None
    kinds = {
        name: data["media"][each["output"]]["kind"] for name, each in entries.items() if each["output"] is not None
    }
    assert {name for name, kind in kinds.items() if kind == "none"} == {"empty", "broken"}
    assert "empty" in data["media"][entries["empty"]["output"]]["why"]


def test_another_benchmark_in_the_folder_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = folders
    write_image(tmp_path / "0.png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "basic_edit.json").write_text(json.dumps({"0": {"id": "0.png", "prompt": "do", "edit_type": "add"}}))
    before = (run / "items.jsonl").read_bytes()
    assert main(["eval", "items", "imgedit", str(tmp_path), "--out", str(run), "--partial"]) == 2
    assert "holds items of vie" in capsys.readouterr().err and (run / "items.jsonl").read_bytes() == before


def test_killed_while_judging_nothing_is_asked_twice(folders: tuple[Path, Path]) -> None:
    run, made = folders
    main(["eval", "edit", str(run), "--outputs", str(made), "--name", "odd"])
    with serve(scores()) as server:
        judge = ["eval", "judge", str(run), "--judge", server.url, "--judge-model", "j", "--frames", "1"]
        server.answers = [scores(), scores(), scores(), 3600.0]
        killed = subprocess.Popen([sys.executable, "-m", "instructx_core", *judge, "--concurrency", "1"])
        until = time.monotonic() + 240
        while len(server.seen) < 4 and time.monotonic() < until:
            time.sleep(0.05)
        killed.kill()
        killed.wait()
        assert len(server.seen) == 4 and len((run / "scores.jsonl").read_text().splitlines()) >= 3
        with (run / "scores.jsonl").open("a") as file:
            file.write('{"id": "whole", "edi')  # a line that was under way
        server.answers = [scores()]
        assert main(judge) == 0
    assert len(server.seen) == 4 + len(IDS) - 3 - 3, "three were judged, three are no outputs"
    assert sum(line["status"] == "ok" for line in read(run / "scores.jsonl").values()) == len(IDS) - 3


@pytest.mark.skipif(sys.platform == "win32", reason="there a file's size has no limit of a process")
def test_a_full_disk_is_said_and_loses_nothing(folders: tuple[Path, Path]) -> None:
    import resource

    run, made = folders
    main(["eval", "edit", str(run), "--outputs", str(made), "--name", "odd"])
    with serve(scores()) as server:
        judge = ["eval", "judge", str(run), "--judge", server.url, "--judge-model", "j", "--frames", "1"]
        full = subprocess.run(
            [sys.executable, "-m", "instructx_core", *judge, "--concurrency", "1"],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
            capture_output=True,
            text=True,
        )
        assert full.returncode == 2 and "transcripts.jsonl" in full.stderr and full.stderr.startswith("error: ")
        kept = sum(line["status"] == "ok" for line in read(run / "scores.jsonl").values())
        assert 1 <= kept == len(server.seen) - 1, "but for the one whose transcript did not fit"
        assert main(judge) == 0
    assert sum(line["status"] == "ok" for line in read(run / "scores.jsonl").values()) == len(IDS) - 3
