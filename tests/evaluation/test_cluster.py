"""`eval edit`, `eval judge` and `eval metrics` with --runner ray give what the plain loops give, once."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judge_server import scores, serve
from local_ray import local_ray

from instructx_core.cli import main
from instructx_core.evaluation.benchmarks.box import draw_box
from instructx_core.evaluation.run_folder import RunFolder
from instructx_core.media.files import write_image

COPY = "import sys, shutil; sys.exit(3) if 'tone' in sys.argv[1] else shutil.copyfile(sys.argv[1], sys.argv[2])"
RAY = ["--runner", "ray", "--workers", "2"]
ONE = ["--runner", "ray", "--workers", "1"]  # where it does not matter how many: each loads the libraries


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    with local_ray() as address:
        yield address


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("box") / "run")
    folder.prepare({"name": "box"})
    folder.write(draw_box(folder.path, {"add": 2, "swap": 1, "tone": 1}))
    return folder.path


def lines(path: Path, *left_out: str) -> list[dict[str, Any]]:
    """In the order of their ids: workers end in any order."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(({k: v for k, v in each.items() if k not in left_out} for each in found), key=lambda e: e["id"])


def test_the_same_results(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = f'{sys.executable} -c "{COPY}" {{source}} {{output}} {{instruction}}'
    for name, options in (("plain", []), ("ray", RAY)):
        shutil.copytree(drawn, tmp_path / name)
        assert main(["eval", "edit", name, "--command", line, "--name", "copy", *options]) == 1, "one has no output"
        assert main(["eval", "judge", name, *options]) == 0
        assert main(["eval", "metrics", name, *options]) == 0
    said = capsys.readouterr().out
    assert said.count("outside_psnr") == 2 and said.count("copy has no output of 1 of 4 items") == 2
    kept = ("scores.jsonl", ()), ("metrics.jsonl", ()), ("copy/editor.json", None)
    for file, changing in (("copy/outputs.jsonl", ("seconds",)), *kept):
        plain, ray = tmp_path / "plain" / file, tmp_path / "ray" / file
        if changing is None:
            assert plain.read_text() == ray.read_text()
        else:
            assert lines(plain, *changing) == lines(ray, *changing), file
    for clip in (tmp_path / "plain" / "copy").glob("*.mp4"):
        assert clip.read_bytes() == (tmp_path / "ray" / "copy" / clip.name).read_bytes()
    before = (tmp_path / "ray" / "copy" / "outputs.jsonl").read_text().splitlines()
    assert main(["eval", "edit", "ray", "--command", line, "--name", "copy", *ONE]) == 1
    after = (tmp_path / "ray" / "copy" / "outputs.jsonl").read_text().splitlines()
    assert after[:-1] == before and "tone-00" in after[-1], "only what failed is tried again"
    measured = (tmp_path / "ray" / "metrics.jsonl").read_text()
    assert main(["eval", "metrics", "ray", *RAY]) == 0
    assert (tmp_path / "ray" / "metrics.jsonl").read_text() == measured, "nothing is measured twice"


def test_a_judge_behind_an_address(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(drawn, tmp_path / "run")
    run = str(tmp_path / "run")
    line = f'{sys.executable} -c "{COPY}" {{source}} {{output}} {{instruction}}'
    assert main(["eval", "edit", run, "--command", line, "--name", "copy"]) == 1
    with serve(scores()) as server:
        judged = ["eval", "judge", run, "--judge", server.url, "--judge-model", "j", *RAY]
        assert main([*judged, "--rpm", "10"]) == 2 and "each worker would count" in capsys.readouterr().err
        assert main(judged) == 0 and main(judged) == 0
        assert len(server.seen) == 3, "nothing is asked twice"
    assert [line["status"] for line in lines(tmp_path / "run" / "scores.jsonl") if line["id"] != "tone-00"] == [
        "ok"
    ] * 3
    assert len(lines(tmp_path / "run" / "transcripts.jsonl")) == 3
    with serve((401, {"error": {"message": "wrong key"}})) as server:
        judged = ["eval", "judge", run, "--judge", server.url, "--judge-model", "other", *ONE]
        assert main(judged) == 2 and "answers 401: wrong key" in capsys.readouterr().err


def test_wrong_calls(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["edit", str(drawn), "--workers", "2"], "--workers without --runner ray"),
        (["edit", str(drawn), "--outputs", str(drawn), "--runner", "ray"], "nothing is edited"),
        (["metrics", str(drawn), "--workers", "2"], "--workers without --runner ray"),
        (["edit", str(drawn), "--diffusers", "kontext:nowhere", *RAY], "no model_index.json in it"),
    ):
        assert main(["eval", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_the_best_of_several_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second seed of each edit gets the better scores, whoever edits."""
    torch.set_num_threads(1)
    for name in ("plain", "ray"):
        (tmp_path / name).mkdir()
        jobs = []
        for number in range(2):
            write_image(tmp_path / name / f"in{number}.png", np.full((64, 64, 3), 90 * number, np.uint8))
            jobs.append({"input": f"in{number}.png", "instruction": "make it grayscale", "output": f"out{number}.png"})
        (tmp_path / name / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    for name, options in (("plain", []), ("ray", ONE)):
        asked = Counter[str]()

        def better_and_better(request: dict[str, Any], asked: Counter[str] = asked) -> str:
            shown = request["messages"][1]["content"]
            source = next(part["image_url"]["url"] for part in shown if part["type"] == "image_url")
            asked[source] += 1
            return scores(4 + asked[source])

        with serve(better_and_better) as server:
            judge = ["--best-of", "2", "--judge", server.url, "--judge-model", "j"]
            jobs = ["edit", "--jobs", str(tmp_path / name / "jobs.jsonl"), "--steps", "1", "--device", "cpu"]
            assert main([*jobs, *judge, *options]) == 0
            assert len(server.seen) == 4
        assert capsys.readouterr().out.count("seed 1 of 2 kept by j") == 4, "in its line and in the table"
    for number in range(2):
        plain, ray = (tmp_path / name / f"out{number}.png" for name in ("plain", "ray"))
        assert plain.read_bytes() == ray.read_bytes()
