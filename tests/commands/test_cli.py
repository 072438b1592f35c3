"""The command line in this process, with random weights: every verb does its work and writes what it says."""

from __future__ import annotations

import argparse
import json
import runpy
from pathlib import Path

import pytest

from instructx_core.cli import VERBS, main
from instructx_core.commands.model import add_model_arguments
from instructx_core.media.files import read_image, read_media
from instructx_core.sampling.schedule import SCHEDULERS


def test_help_of_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], *([verb, "--help"] for verb in VERBS)):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    assert "instructx edit" in capsys.readouterr().out


def test_a_process_that_a_verb_starts_runs_no_verb_of_its_own() -> None:
    """It imports the file that was run once more, under another name (multiprocessing's spawn)."""
    runpy.run_module("instructx_core.__main__", run_name="__mp_main__")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("instructx ")


def test_unknown_verb_exits_with_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["paint"])
    assert caught.value.code == 2


def test_every_sampler_is_a_choice() -> None:
    """The parser has their names for itself: it starts without diffusers."""
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    for name in SCHEDULERS:
        assert parser.parse_args(["--scheduler", name]).scheduler == name
    choices = next(action.choices for action in parser._actions if action.dest == "scheduler")
    assert list(choices or ()) == list(SCHEDULERS)


@pytest.mark.parametrize("scheduler", list(SCHEDULERS))
def test_edit(
    random_checkpoint: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], scheduler: str
) -> None:
    output = tmp_path / "out.png"
    code = main(
        [
            "edit",
            "--model",
            str(random_checkpoint),
            "--input",
            str(photo),
            "--instruction",
            "make it red",
            "--steps",
            "2",
            "--output",
            str(output),
            "--size",
            "64x64",
            "--scheduler",
            scheduler,
            "--device",
            "cpu",
            "--dtype",
            "float32",
        ]
    )
    text, said = capsys.readouterr()
    assert said.count("tensors consumed") == 4, "what was read of each file"
    assert code == 0 and read_image(output).shape == (48, 64, 3)
    assert "600x400 -> 64x48" in text and str(output) in text


@pytest.mark.parametrize(
    ("benchmark", "options", "said", "count"),
    [
        ("shapes", ["--images", "11", "--clips", "1"], "mean over tasks", 12),
        ("world", ["--images", "6", "--clips", "0", "--groups", "images", "grounds", "vae"], "| no |", 8),
    ],
)
def test_eval(
    random_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    benchmark: str,
    options: list[str],
    said: str,
    count: int,
) -> None:
    numbers, sheet = tmp_path / "numbers.json", tmp_path / "worst.png"
    code = main(
        [
            "eval",
            benchmark,
            "--model",
            str(random_checkpoint),
            "--json",
            str(numbers),
            "--sheet",
            str(sheet),
            *options,
            "--steps",
            "1",
            "--device",
            "cpu",
        ]
    )
    assert code == 0 and said in capsys.readouterr().out
    assert len(json.loads(numbers.read_text())["samples"]) == count
    assert sorted(p.name for p in tmp_path.iterdir()) == ["numbers.json", "worst.png"], "no partial file is left"


def test_eval_box(random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole chain; run again it makes nothing anew."""
    options = ["--model", str(random_checkpoint), "--limit", "1", "--steps", "1", "--device", "cpu"]
    for _ in range(2):
        assert main(["eval", "box", "--out", str(tmp_path / "box"), *options]) == 0
        text = capsys.readouterr().out
        assert "Style / Tone Change" in text and "9 items in" in text and "0 failed" in text
        assert "report.html: 9 items of 1 editors" in text
    report = (tmp_path / "box" / "report.md").read_text()
    assert "Kling" not in report, "drawn clips beside the paper's rows"
    assert "### Metrics without a judge" in report and "PSNR outside" in report
    measured = {
        line["id"]: line for line in map(json.loads, (tmp_path / "box" / "metrics.jsonl").read_text().splitlines())
    }
    for task in ("add", "remove", "swap", "color", "hybrid", "reference_swap", "reference_add"):
        assert 0 < measured[f"{task}-00"]["metrics"]["outside_ssim"] < 1
    assert measured["style-00"]["not_measured"]["outside_psnr"] == "nothing lies outside of the edit"
    assert len(measured) == 9
    lines = [json.loads(line) for line in (tmp_path / "box" / "scores.jsonl").read_text().splitlines()]
    assert len(lines) == 9 and {line["status"] for line in lines} == {"ok"}


def test_demo(random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    code = main(["demo", "--model", str(random_checkpoint), "--output", str(folder), "--steps", "1", "--device", "cpu"])
    text = capsys.readouterr().out
    assert code == 0 and "0 of 11 edits succeeded" in text
    assert len(list(folder.glob("*_side_by_side.mp4"))) == 11
    assert len(list(folder.glob("image_*_edited.png"))) == 11
    assert read_image(folder / "sheet.png").shape[1] > 800
    clip = read_media(folder / "clip_color_edited.mp4")
    assert clip.frames_FHWC.shape == (17, 64, 64, 3) and clip.fps == 16


def test_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from instructx_core.commands import demo

    def interrupted(_args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert main(["demo", "--output", str(tmp_path)]) == 130
