"""`instructx eval items | edit | judge | export`: a benchmark from its download to scores, in this process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from judge_server import serve

from instructx_core.cli import main
from instructx_core.commands.eval import with_stage
from instructx_core.media.files import write_image

COPY = "import sys, shutil; shutil.copyfile(sys.argv[1], sys.argv[2])"
PROMPT = "Rate <edit_prompt>\n" + "".join(f"{name}: A number from 1 to 5.\n" for name in ("One", "Two", "Three"))


@pytest.fixture
def download(tmp_path: Path) -> Path:
    folder = tmp_path / "download"
    folder.mkdir()
    rows = {
        str(n): {"id": f"{n}.png", "prompt": f"do {n}", "edit_type": kind} for n, kind in enumerate(["add", "action"])
    }
    for n in range(2):
        write_image(folder / f"{n}.png", np.full((16, 16, 3), 80 * n, np.uint8))
    (folder / "basic_edit.json").write_text(json.dumps(rows))
    (folder / "prompts.json").write_text(json.dumps({"add": PROMPT, "action": PROMPT}))
    return folder


def test_a_benchmark(download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["eval", "items", "imgedit", str(download), "--out", run, "--partial"]) == 0
    assert "ImgEdit-Bench: 2 items" in capsys.readouterr().out
    line = f'{sys.executable} -c "{COPY}" {{source}} {{output}} {{instruction}}'
    assert main(["eval", "edit", run, "--command", line, "--name", "copy"]) == 0
    assert main(["eval", "edit", run, "--outputs", str(download), "--name", "taken"]) == 0
    assert "taken: 2 outputs" in capsys.readouterr().out
    assert main(["eval", "judge", run, "--dry-run", "--prompts", str(download)]) == 0
    text = capsys.readouterr().out
    assert "copy: 2 outputs to judge, 2 requests, 4 pictures" in text and "in all: 4 outputs" in text
    with serve("One: 4\nTwo: 3\nThree: 5") as server:
        judged = ["eval", "judge", run, "--judge", server.url, "--judge-model", "j", "--prompts", str(download)]
        assert main(judged) == 0 and main(judged) == 0
        assert len(server.seen) == 4, "nothing is asked twice"
        assert main([*judged, "--temperature", "0.5"]) == 2
        assert "scores of another temperature; give this one another --judge-name" in capsys.readouterr().err
    scores = [json.loads(text) for text in (tmp_path / "run" / "scores.jsonl").read_text().splitlines()]
    assert {score["status"] for score in scores} == {"ok"} and scores[0]["dimensions"]["Three"] == 5
    assert main(["eval", "export", run, "--editor", "copy", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "copy" / "1.png").is_file()


def test_without_a_stage_options_are_the_boxs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_stage([]) == ["box"] and with_stage(["--limit", "1"]) == ["box", "--limit", "1"]
    assert with_stage(["report", "--help"]) == ["report", "--help"] and with_stage(["--help"]) == ["--help"]
    assert main(["eval", "--model", "/no/such/model"]) == 2
    assert "/no/such/model: no such checkpoint folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "nothing is drawn for a model that is not there"


def test_what_is_missing_is_said(download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    for arguments, said in (
        (["items", "imgedit", str(download), "--out", run], "instead of 94"),
        (["items", "paint", str(download), "--out", run], "use one of vie, gedit"),
        (["edit", run], "make the items first"),
    ):
        assert main(["eval", *arguments]) == 2
        assert said in capsys.readouterr().err
    (download / "1.png").unlink()
    assert main(["eval", "items", "imgedit", str(download), "--out", str(tmp_path / "b"), "--partial"]) == 2
    assert "1 files of the items are not there: 1: source" in capsys.readouterr().err
    write_image(download / "1.png", np.zeros((16, 16, 3), np.uint8))
    assert main(["eval", "items", "imgedit", str(download), "--out", run, "--partial"]) == 0
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "0.png").write_bytes((download / "0.png").read_bytes())
    for arguments, said in (
        (["judge", run, "--judge", "http://x/v1", "--judge-model", "j"], "no outputs of any editor"),
        (["edit", run, "--command", "x {source} {output} {instruction}"], "needs --name"),
        (["edit", run, "--outputs", str(tmp_path / "none")], "is no folder of outputs"),
    ):
        assert main(["eval", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["eval", "edit", run, "--outputs", str(tmp_path / "made")]) == 1, "an item has no output"
    assert "no output of 1: no 1.png in" in capsys.readouterr().out
    for arguments, said in (
        (["judge", run], "no judge; give --judge URL"),
        (["judge", run, "--judge", "http://x/v1"], "needs --judge-model"),
        (["judge", run, "--judge", "http://x/v1", "--judge-model", "j"], "give --prompts a checkout"),
        (["judge", run, "--editors", "none"], "no outputs of none"),
    ):
        assert main(["eval", *arguments]) == 2
        assert said in capsys.readouterr().err
