"""metrics.jsonl: what is measured, what is not and why, gone on with; VBench in a process of its own."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instructx_core.cli import main
from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.item_outputs import collect_outputs
from instructx_core.evaluation.items import read_items, write_items
from instructx_core.evaluation.lines import LineFile
from instructx_core.evaluation.metrics.measure import Weights, cases_to_measure, measure_outputs
from instructx_core.evaluation.metrics.metric_lines import METRICS, OutputMetrics, read_output_metrics
from instructx_core.evaluation.metrics.vbench import vbench_scores
from instructx_core.evaluation.outputs import Output, OutputFile
from instructx_core.evaluation.report.contents import read_report

# What `vbench evaluate` takes and writes (version 0.1.5), with scores out of the files' sizes.
VBENCH = """
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["evaluate"])
for name in ("--videos_path", "--dimension", "--mode", "--output_path"):
    parser.add_argument(name, required=True)
args = parser.parse_args()
if pathlib.Path(sys.argv[0]).with_name("broken").exists():
    print("CUDA is not there", file=sys.stderr)
    sys.exit(0)
assert args.mode == "custom_input" and args.dimension in ("motion_smoothness", "aesthetic_quality")
files = sorted(pathlib.Path(args.videos_path).iterdir())
lines = [{"video_path": str(file), "video_results": file.stat().st_size / 1e4} for file in files]
out = pathlib.Path(args.output_path)
out.mkdir()
results = {args.dimension: [0.5, lines]}
(out / "results_2025_eval_results.json").write_text(json.dumps(results))
"""


def masked(folder: Path) -> None:
    """Items get masks: the left half."""
    items = read_items(folder / "items.jsonl")
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    kept = [
        EditRecord(i.id, i.task, i.modality, i.instruction, i.source, mask=Locator("mask.png") if n else None)
        for n, i in enumerate(items)
    ]
    write_items(folder / "items.jsonl", kept)


def test_every_output_has_a_line_that_says_what_is_missing(benchmark_folder: Callable[..., Path]) -> None:
    folder = benchmark_folder(4, ("ours",), clips=(2,)).parent
    masked(folder)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "out0" / "003.png")
    file = OutputFile(folder / "out0")
    file.start()
    file.add([Output("item001", "ours", None, error="out of memory")])
    items = read_items(folder / "items.jsonl")
    cases = cases_to_measure(items, folder, collect_outputs(folder))

    def measured(**weights: Any) -> dict[str, OutputMetrics]:
        return {line.id: line for line in measure_outputs(cases, folder, Weights(**weights))}

    lines = measured()
    assert list(lines) == ["item000", "item002", "item003"], "an item without an output has nothing to measure"
    assert (
        lines["item000"].metrics == {}
        and lines["item000"].not_measured["flicker"] == "the item has no mask of its edit"
    )
    assert set(lines["item002"].metrics) == {"outside_psnr", "outside_ssim", "flicker", "smoothness_proxy"}
    assert lines["item003"].not_measured["outside_psnr"].startswith("the output is (1, 32, 32), the source (1, 48, 64)")
    kept = (folder / METRICS).read_text()
    assert measured() == lines
    assert (folder / METRICS).read_text() == kept, "what is measured is not measured again"
    seen = measured(lpips=lambda a, b: 0.5)["item002"]
    assert seen.metrics["outside_lpips"] == 0.5 and read_output_metrics(folder / METRICS)["item002", "ours"] == seen


def test_other_weights_and_other_outputs_are_measured_anew(benchmark_folder: Callable[..., Path]) -> None:
    folder = benchmark_folder(3, ("ours",)).parent
    masked(folder)
    items, asked = read_items(folder / "items.jsonl"), list[float]()

    def measured(key: str, value: float) -> list[float]:
        cases = cases_to_measure(items, folder, collect_outputs(folder))
        weights = Weights(lpips=lambda a, b: asked.append(value) or value, keys={"outside_lpips": key})
        lines = measure_outputs(cases, folder, weights)
        assert lines[1:] == [read_output_metrics(folder / METRICS)[each.id, "ours"] for each in items[1:]]
        return [line.metrics["outside_lpips"] for line in lines[1:]]

    assert measured("first", 0.5) == [0.5, 0.5] and len(asked) == 2
    assert measured("first", 0.9) == [0.5, 0.5] and len(asked) == 2
    assert measured("exchanged", 0.25) == [0.25, 0.25] and len(asked) == 4
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "out0" / "002.png")
    assert measured("exchanged", 0.125) == [0.25, 0.125] and len(asked) == 5
    kept = read_output_metrics(folder / METRICS)
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(folder / "out0" / "002.png")
    report = read_report(folder)
    assert report.metrics.keys() == {("item000", "ours"), ("item001", "ours")}
    assert any("1 scores and metrics of ours are left out: the outputs were made anew" in w for w in report.warnings())
    file = LineFile(folder / METRICS)
    file.add([dataclasses.replace(kept["item001", "ours"], weights={"outside_lpips": "first"}).as_json()])
    file.add([dataclasses.replace(kept["item002", "ours"], sha256=None).as_json()])
    assert any("outside_lpips was not measured with the same weights" in w for w in read_report(folder).warnings())


def test_what_a_network_cannot_see_is_not_measured(benchmark_folder: Callable[..., Path]) -> None:
    folder = benchmark_folder(3, ("ours",)).parent
    masked(folder)
    cases = cases_to_measure(read_items(folder / "items.jsonl"), folder, collect_outputs(folder))

    def too_small(a_HWC: np.ndarray, b_HWC: np.ndarray) -> float:
        raise InputError("a picture of 64x48 is too small")

    lines = measure_outputs(cases, folder, Weights(lpips=too_small))
    assert [line.not_measured["outside_lpips"] for line in lines[1:]] == ["a picture of 64x48 is too small"] * 2
    assert all("outside_psnr" in line.metrics for line in lines[1:])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "item000", "editor": "ours", "metrics": {"flicker": NaN}}', "flicker is nan; it must be a number"),
        ('{"id": "item000", "editor": "ours", "metrics": [1]}', "metrics is [1]; it must be an object"),
        ('{"id": "item000", "editor": "ours", "metrics": {}, "not_measured": 3}', "not_measured is 3"),
    ],
)
def test_lines_that_are_none(
    benchmark_folder: Callable[..., Path], line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = benchmark_folder(2, ("ours",)).parent
    (folder / METRICS).write_text(line + "\n")
    assert main(["eval", "metrics", str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{METRICS}: line 1: {said}" in error


def test_vbench_runs_in_its_own_process(
    benchmark_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = benchmark_folder(3, ("ours", "theirs"), clips=(0, 2)).parent
    script = folder / "vbench.py"
    script.write_text(VBENCH)
    command = f"{sys.executable} {script}"
    assert main(["eval", "metrics", str(folder), "--vbench", command]) == 0
    assert "smoothness" in capsys.readouterr().out
    found = read_output_metrics(folder / METRICS)
    for number in ("000", "002"):
        size = (folder / "out1" / f"{number}.mp4").stat().st_size
        assert found[f"item{number}", "theirs"].metrics["smoothness"] == size / 1e4
    assert (
        "smoothness" not in found["item001", "ours"].metrics and "smoothness_proxy" in found["item000", "ours"].metrics
    )
    capsys.readouterr()
    (folder / "broken").touch()
    assert main(["eval", "metrics", str(folder), "--vbench", command]) == 0, "nothing is measured twice"
    said = capsys.readouterr().out
    assert said.count("smoothness             ") == 2 and said.count("(2 outputs)") == 6
    clips = {"a": folder / "out0" / "000.mp4"}
    with pytest.raises(InputError, match="CUDA is not there"):
        vbench_scores(command, clips)
    with pytest.raises(InputError, match="cannot be run"):
        vbench_scores("no-such-command-here", clips)
    with pytest.raises(InputError, match="convert it first"):
        vbench_scores(command, {"a": folder / "out0" / "001.png"})
