"""Best of N: the seed with the highest mean is kept, with random weights and a judge behind an address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import completion, scores, serve

from instructx_core.cli import main
from instructx_core.editing.edit import edit
from instructx_core.editing.look import look_at
from instructx_core.editing.request import EditRequest
from instructx_core.errors import InputError
from instructx_core.evaluation.judge.best_of import BestOf
from instructx_core.evaluation.judge.chat import ClientSettings
from instructx_core.evaluation.judge.client import ModelJudge
from instructx_core.evaluation.judge.pictures import Viewing
from instructx_core.evaluation.judge.vie import Vie
from instructx_core.media.files import read_image, write_image

REFUSED = (200, completion(None, refusal="no"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_image(tmp_path / "in.png", np.full((32, 32, 3), 120, np.uint8))
    return tmp_path / "in.png"


def best_of(url: str, count: int = 3) -> BestOf:
    return BestOf(count, ModelJudge(ClientSettings(url=url, model="j", tries=1), Vie(), Viewing()))


def request(source: Path, name: str, seed: int = 5) -> EditRequest:
    return EditRequest(source=source, instruction="make it blue", output=source.with_name(name), seed=seed, steps=1)


@pytest.mark.parametrize(
    ("answers", "kept", "said"),
    [
        ((scores(2), scores(9), scores(4)), 6, "seed 6 of 3 kept by j: seed 5 6.00, seed 6 8.33, seed 7 6.67"),
        ((scores(5), scores(5), scores(5)), 5, "seed 5 of 3 kept"),
        ((REFUSED, "prose", scores(1, 1, 1)), 7, "seed 5 refused (no), seed 6 unparsed (no JSON object"),
        ((REFUSED,), 5, "none has a score, so this is the first"),
    ],
)
def test_the_best_is_kept(random_pipe: Any, source: Path, answers: tuple[Any, ...], kept: int, said: str) -> None:
    with serve(*answers) as server:
        report = best_of(server.url)(random_pipe, look_at(request(source, "best.png")))
    assert report.seed == kept and said in report.chosen[0] and report.chosen[0] in "\n".join(report.lines())
    edit(random_pipe, look_at(request(source, "alone.png", kept)))
    assert (read_image(report.output) == read_image(source.with_name("alone.png"))).all()
    assert sorted(path.name for path in source.parent.iterdir()) == ["alone.png", "best.png", "in.png"]
    assert len(server.seen) == 3


def test_a_judge_that_is_away_writes_nothing(random_pipe: Any, source: Path) -> None:
    source.with_name("best.png").write_bytes(b"old")
    with serve((401, {"error": {"message": "wrong key"}})) as server, pytest.raises(InputError, match="wrong key"):
        best_of(server.url)(random_pipe, look_at(request(source, "best.png")))
    assert source.with_name("best.png").read_bytes() == b"old"
    assert sorted(path.name for path in source.parent.iterdir()) == ["best.png", "in.png"]


def test_jobs(random_checkpoint: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = source.with_name("jobs.jsonl")
    jobs.write_text(json.dumps({"input": "in.png", "instruction": "make it blue", "output": "a.png"}) + "\n")
    model = ["--model", str(random_checkpoint), "--steps", "1", "--device", "cpu"]
    with serve(scores(2), scores(9)) as server:
        judge = ["--best-of", "2", "--judge", server.url, "--judge-model", "j"]
        assert main(["edit", "--jobs", str(jobs), *judge, *model]) == 0
        assert "seed 1 of 2 kept by j: seed 0 6.00, seed 1 8.33" in capsys.readouterr().out
        assert main(["edit", "--jobs", str(jobs), *judge, *model]) == 0
        assert "1 skipped" in capsys.readouterr().out and len(server.seen) == 2
        assert main(["edit", "--jobs", str(jobs), *judge, "--frames", "4", *model]) == 0
        assert "1 done" in capsys.readouterr().out, "judged otherwise is another job"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--best-of", "2"], "--best-of needs a judge; give --judge URL and --judge-model NAME"),
        (["--judge", "http://x/v1"], "--judge is for --best-of"),
        (["--best-of", "1", "--judge", "http://x/v1", "--judge-model", "j"], "use at least 2"),
        (
            ["--best-of", "2", "--judge", "http://x/v1", "--judge-model", "j", "--reference", "in.png"] * 2,
            "--best-of with several references",
        ),
    ],
)
def test_what_cannot_be(source: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [str(source) if option == "in.png" else option for option in options]
    given = ["--input", str(source), "--instruction", "x", "--output", str(source.with_name("o.png"))]
    assert main(["edit", *given, *options]) == 2
    assert said in capsys.readouterr().err
