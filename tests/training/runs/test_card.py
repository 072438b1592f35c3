"""The model card says what the runs' files and the evaluation say, and refuses to be written without them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from instructx_core.errors import InputError
from instructx_core.training.recipes.registry import RECIPES
from instructx_core.training.recipes.tiny import TINY
from instructx_core.training.runs.card import HISTORY, plotted_runs, run_facts, run_row, runs_before, write_card
from instructx_core.weights import SHIPPED


def rate(success: float) -> dict[str, Any]:
    return {"success": success, "low": success / 2, "high": 1.0, "count": 10}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for number, name in enumerate(TINY):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "recipe.json").write_text(json.dumps(RECIPES[name]().as_json()))
        rows = [{"step": i + 1, "loss": 1 / (i + 1), "bucket": "image", "seconds": 60.0} for i in range(number + 1)]
        rows.append({"step": number + 1, "validation": {"image loss": 0.5, "failed add": 0.25}})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "runs"


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    facts = {
        "model": "tiny-abc",
        "settings": {"images": 500, "clips": 200, "seed": 0, "steps": None},
        "image": {"add": rate(0.9), "mean over tasks": rate(0.8), "pixel_error": 0.0123},
        "video": {"add": rate(0.7), "mean over tasks": rate(0.6), "pixel_error": 0.0456},
        "groups": {"reference": rate(0.4)},
    }
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(facts))
    return path


def test_card(runs: Path, evaluation: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    write_card(runs, evaluation, "one abacus", target, "tiny_stage3")
    text = (target / "README.md").read_text()
    assert "| add | 90.0 [45.0, 100.0] | 70.0 [35.0, 100.0] |" in text
    assert "| reference tasks, both together | 40.0 [20.0, 100.0] | |" in text
    assert "| zero-shot: style and segment | | - |" in text  # not in this evaluation
    assert "images 0.012, clips 0.046" in text and "one abacus" in text
    row = next(line for line in text.splitlines() if line.startswith("| `tiny_stage1`"))
    assert row.endswith("| 4 | 32, 16 | 0.001 | 0 | 4 |")
    assert (target / "curves.png").stat().st_size > 10_000
    assert json.loads((target / HISTORY).read_text())["runs"][0]["recipe"] == "tiny_vae"


def test_the_runs_that_led_to_a_model_follow_from_what_each_required(runs: Path) -> None:
    assert runs_before(runs, "tiny_dit") == ["tiny_vae", "tiny_dit"]
    assert runs_before(runs, "tiny_stage3") == [*TINY]
    assert plotted_runs(runs, "tiny_stage3") == ["tiny_stage1", "tiny_stage2", "tiny_stage3"]
    assert plotted_runs(runs, "tiny_vae") == ["tiny_vae"]


def test_a_run_that_started_from_the_shipped_model_adds_a_row(runs: Path, evaluation: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    recipe = dataclasses.replace(RECIPES["tiny_stage3"](), requires=("shipped",))  # --from-shipped
    (runs / "tiny_stage3" / "recipe.json").write_text(json.dumps(recipe.as_json()))
    write_card(runs, evaluation, "one abacus", target, "tiny_stage3")
    shipped = json.loads((SHIPPED / HISTORY).read_text())
    rows = [line for line in (target / "README.md").read_text().splitlines() if line.startswith("| `tiny_")]
    assert rows == [run_row(run) for run in shipped["runs"]] + [run_row(run_facts(runs, "tiny_stage3"))]
    for plot in (*shipped["plots"], "curves-tiny_stage3.png"):
        assert f"]({plot})" in (target / "README.md").read_text() and (target / plot).is_file()


def test_card_without_a_run_or_an_evaluation(runs: Path, evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write it with"):
        write_card(runs, tmp_path / "none.json", "x", tmp_path, "tiny_stage3")
    (runs / "tiny_dit" / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="instructx train tiny_dit"):
        write_card(runs, evaluation, "x", tmp_path, "tiny_stage3")
    assert not (tmp_path / "README.md").exists()


def test_card_of_the_targets_of_version_2(runs: Path, tmp_path: Path) -> None:
    target = {"aim": 95.0, "floor": 90.0, "met": "floor"}
    reached = {"row": "images, mean of kinds", "value": 91.25, "low": 88.0, "high": 93.5, "count": 600, **target}
    facts = {
        "model": "tiny-abc",
        "settings": {"seed": 0, "steps": None},
        "targets": [reached, {"row": "Chinese", **target}],
    }
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(facts))
    write_card(runs, path, "x", tmp_path, "tiny_stage3")
    text = (tmp_path / "README.md").read_text()
    assert "| images, mean of kinds | 91.2 [88.0, 93.5] | 90 | 95 |\n| Chinese | - | 90 | 95 |" in text
    assert "`instructx eval world` (model `tiny-abc`, 4 steps, seed 0)" in text
