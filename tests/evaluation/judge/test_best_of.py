"""Best of N: the seed with the highest mean is kept, with random weights and a judge behind an address."""

from __future__ import annotations

import dataclasses
import json
import signal as signals
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import completion, scores, serve

from instructx_core.cli import main
from instructx_core.editing.edit import edit
from instructx_core.editing.look import look_at
from instructx_core.editing.request import EditRequest
from instructx_core.editing.windows.options import WindowOptions
from instructx_core.errors import InputError
from instructx_core.evaluation.judge.best_of import BestOf
from instructx_core.evaluation.judge.chat import ClientSettings
from instructx_core.evaluation.judge.client import ModelJudge
from instructx_core.evaluation.judge.pictures import Viewing
from instructx_core.evaluation.judge.seed_store import seeds_folder
from instructx_core.evaluation.judge.vie import Vie
from instructx_core.media.files import read_image, write_image

REFUSED = (200, completion(None, refusal="no"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_image(tmp_path / "in.png", np.full((32, 32, 3), 120, np.uint8))
    return tmp_path / "in.png"


def best_of(url: str, count: int = 3) -> BestOf:
    return BestOf(count, ModelJudge(ClientSettings(url=url, model="j", tries=1), Vie(), Viewing()), lambda: "random")


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


def test_a_judge_that_is_away_leaves_the_output_and_keeps_the_edit(random_pipe: Any, source: Path) -> None:
    output = source.with_name("best.png")
    output.write_bytes(b"old")
    with serve((401, {"error": {"message": "wrong key"}})) as server, pytest.raises(InputError, match="wrong key"):
        best_of(server.url)(random_pipe, look_at(request(source, "best.png")))
    assert output.read_bytes() == b"old"
    assert sorted(path.name for path in seeds_folder(output).iterdir()) == ["5.png", "edits.jsonl", "scores.jsonl"]


def test_an_edit_that_fails_leaves_nothing(random_pipe: Any, source: Path) -> None:
    write_image(source, np.full((4, 4, 3), 120, np.uint8))
    with serve(scores()) as server, pytest.raises(InputError):
        best_of(server.url)(random_pipe, look_at(request(source, "best.png")))
    assert [path.name for path in source.parent.iterdir()] == ["in.png"]


@pytest.mark.parametrize("signal", [signals.SIGKILL, signals.SIGINT])
def test_a_killed_process_loses_no_seed_that_it_finished(
    random_checkpoint: Path, source: Path, signal: signals.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    output, processes = source.with_name("best.png"), list[subprocess.Popen[bytes]]()

    def kill(_: object) -> str:
        processes[0].send_signal(signal)
        processes[0].wait(60)
        return scores(9)  # to nobody

    def command(name: str, url: str) -> list[str]:
        files = ["--input", str(source), "--instruction", "make it blue", "--output", str(source.with_name(name))]
        judge = ["--best-of", "3", "--judge", url, "--judge-model", "j", "--seed", "5"]
        return ["edit", *files, *judge, "--model", str(random_checkpoint), "--steps", "1", "--device", "cpu"]

    with serve(scores(5), kill) as server:
        processes.append(subprocess.Popen([sys.executable, "-m", "instructx_core", *command("best.png", server.url)]))
        assert processes[0].wait(300) != 0 and len(server.seen) == 2, "killed while the second seed was judged"
    assert not output.exists() and seeds_folder(output).is_dir()
    with serve(scores(9), scores(4)) as server:
        assert main(command("best.png", server.url)) == 0
        assert len(server.seen) == 2, "the first seed is not judged again"
        said = capsys.readouterr().out
        assert "edited before and kept: seed 5, 6" in said
        assert "seed 6 of 3 kept by j: seed 5 7.00, seed 6 8.33, seed 7 6.67" in said
    with serve(scores(5), scores(9), scores(4)) as server:
        assert main(command("whole.png", server.url)) == 0
    assert (read_image(output) == read_image(source.with_name("whole.png"))).all()
    assert sorted(path.name for path in source.parent.glob("*.png")) == ["best.png", "in.png", "whole.png"]
    assert not [path.name for path in source.parent.iterdir() if "best-of" in path.name]


@pytest.mark.parametrize("change", ["model", "judge", "instruction", "source", "file", "cut line", "restart"])
def test_a_seed_counts_only_as_what_it_is(random_pipe: Any, source: Path, change: str) -> None:
    """An exchanged checkpoint, another judge, a source with other bytes: nothing of the run before passes for it."""
    asked, output = request(source, "best.png"), source.with_name("best.png")
    with serve(scores(5), (401, {"error": {"message": "away"}})) as server, pytest.raises(InputError, match="away"):
        best_of(server.url, 2)(random_pipe, look_at(asked))
    folder = seeds_folder(output)
    assert sorted(path.name for path in folder.glob("*.png")) == ["5.png", "6.png"]
    with serve(scores(3)) as server:
        several = best_of(server.url, 2)
        if change == "model":
            several = dataclasses.replace(several, model=lambda: "exchanged")
        elif change == "judge":
            several = BestOf(2, ModelJudge(ClientSettings(url=server.url, model="k"), Vie(), Viewing()), several.model)
        elif change == "instruction":
            asked = dataclasses.replace(asked, instruction="make it red")
        elif change == "source":
            write_image(source, np.full((32, 32, 3), 10, np.uint8))
        elif change == "file":
            (folder / "5.png").write_bytes((folder / "6.png").read_bytes())
        elif change == "cut line":
            whole = (folder / "edits.jsonl").read_text()
            (folder / "edits.jsonl").write_text(whole[: len(whole) * 3 // 4])
        else:
            asked = dataclasses.replace(asked, windows=WindowOptions(restart=True))
        report = several(random_pipe, look_at(asked))
        kept = {"judge": "seed 5, 6", "file": "seed 6", "cut line": "seed 5"}.get(change)
        assert [note for note in report.notes if "kept" in note] == (
            [f"edited before and kept: {kept}"] if kept else []
        )
        assert len(server.seen) == (1 if change in ("file", "cut line") else 2)
    assert not folder.exists()


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
