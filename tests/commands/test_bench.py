"""`instructx bench propose | curate | manifest`, from clips to the items of an evaluation, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import serve

from instructx_core.cli import main
from instructx_core.media.files import write_video

pytest.importorskip("openai")


def five(_: dict[str, Any]) -> str:
    kinds = ("add", "remove", "swap", "style", "tone")
    return json.dumps({"instructions": [{"kind": kind, "instruction": f"Do {kind}."} for kind in kinds]})


def test_a_benchmark_of_own_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips, bench, run = tmp_path / "clips", tmp_path / "bench", tmp_path / "run"
    clips.mkdir()
    for name in ("a", "b"):
        write_video(clips / f"{name}.mp4", np.zeros((8, 32, 32, 3), np.uint8), 8)
    (clips / "bad.mp4").write_bytes(b"")
    asked = ["bench", "propose", str(clips), "--out", str(bench)]
    assert main(asked) == 2 and "give --url and --model" in capsys.readouterr().err
    (clips / "bad.mp4").unlink()
    assert main([*asked, "--dry-run"]) == 0
    assert "2 clips, 2 requests, 16 pictures, about" in capsys.readouterr().out and not bench.exists()
    (clips / "bad.mp4").write_bytes(b"")
    with serve(five) as server:
        assert main([*asked, "--url", server.url, "--model", "m"]) == 1, "a clip has no proposals"
    said = capsys.readouterr().out
    assert "10 proposals of 2 clips" in said and "no proposals of bad: unreadable" in said
    assert "2 clips are below 720P" in said and "2 clips are not of 3 to 10 seconds" in said
    assert main(["bench", "curate", str(bench), "--out", str(tmp_path / "page.txt")]) == 2
    assert main(["bench", "curate", str(bench)]) == 0 and (bench / "curate.html").is_file()
    assert "10 proposals of 2 clips" in capsys.readouterr().out.splitlines()[-1]
    yes = {"verdict": "accept", "task": "add", "instruction": "Do add, slowly.", "proposed": "Do add."}
    file = tmp_path / "curation.json"
    file.write_text(json.dumps({"kind": "instructx curation", "bench": "x", "decisions": {"a-1": yes}}))
    assert main(["bench", "manifest", str(bench), str(file)]) == 0
    said = capsys.readouterr().out
    assert "1 items, of 140 in Table 4" in said and "add                     1 of 30" in said and "--partial" in said
    assert main(["eval", "items", "vie", str(bench / "manifest.jsonl"), "--out", str(run), "--partial"]) == 0
    (item,) = [json.loads(line) for line in (run / "items.jsonl").read_text().splitlines()]
    assert item["instruction"] == "Do add, slowly." and item["id"] == "a-1"
