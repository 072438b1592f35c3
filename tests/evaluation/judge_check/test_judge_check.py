"""The judge of the truth comes out right, a constant one at chance, and judges with a planted bias are found out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import scores, serve

from instructx_core.cli import main
from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.judge.run import JudgeCase, judge_outputs
from instructx_core.evaluation.judge_check.cases import plant_edits, real_edits, source_and_plant
from instructx_core.evaluation.judge_check.check import JudgeCheck, check_judge
from instructx_core.evaluation.judge_check.planted import CHAINS, WRONG_REFERENCE, Pair, planted_edits
from instructx_core.evaluation.report.contents import LEAST_ACCURACY
from instructx_core.evaluation.run_folder import RunFolder
from instructx_core.evaluation.scores import Score
from instructx_core.media.files import write_image, write_video
from instructx_core.world import sample

SOURCES = 4  # a picture and a clip of an edit without and of one with a reference


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with planted edits, and what the judge of the truth made of them by the command."""
    folder = tmp_path_factory.mktemp("evaluation")
    assert main(["eval", "judge-check", str(folder), "--sources", str(SOURCES)]) == 0
    return folder, json.loads((folder / "judge-check-truth.json").read_text())


class Said:
    """A judge that says what a function of the case says."""

    concurrency = 1

    def __init__(self, name: str, say: Callable[[JudgeCase], float | None]) -> None:
        self.name, self.say = name, say

    def judge(self, case: JudgeCase) -> tuple[Score, Mapping[str, Any] | None]:
        value = self.say(case)
        base = (case.item.id, case.editor, self.name)
        if value is None:
            return Score(*base, {}, "refused", "I would rather not", sample=case.sample), None
        return Score(*base, dict.fromkeys(CHAINS, value), sample=case.sample), None


def check_of(folder: Path, judge: Said, samples: int = 1) -> JudgeCheck:
    run = RunFolder(folder / "judge-check")
    items = {item.id: item for item in run.items()}
    scores: dict[tuple[str, str], list[Score]] = {}
    for plant in run.editors():
        lines = (run.path / plant / "outputs.jsonl").read_text().splitlines()
        of_plant = [items[json.loads(line)["id"]] for line in lines]
        for score in judge_outputs(run, judge, [plant], of_plant, samples):
            scores.setdefault(source_and_plant(score.id, score.editor), []).append(score)
    return check_judge(judge.name, scores)


def test_the_judge_of_the_truth_is_right(checked: tuple[Path, dict[str, Any]]) -> None:
    folder, found = checked
    assert found["judge"] == "truth" and found["sources"] == SOURCES and not found["lost"]
    for name, of in found["dimensions"].items():
        assert of["accuracy"] >= 0.98 > LEAST_ACCURACY, (name, of)
        assert of["correlation"] is None or of["correlation"] > 0.98, (name, of)
    assert {name: of["pairs"] for name, of in found["dimensions"].items()}["similarity"] == 2
    assert found["swapped"]["accuracy"] == 1.0 and found["longer"]["mean"] == 0.0
    plants = set(found["means"])
    assert {"right", "undone", "wrong colour", WRONG_REFERENCE, "wrong object", "damaged 3", "flickering 1"} <= plants
    kept = (folder / "judge-check" / "scores.jsonl").read_text()
    assert main(["eval", "judge-check", str(folder), "--sources", str(SOURCES)]) == 0
    assert (folder / "judge-check" / "scores.jsonl").read_text() == kept, "nothing is judged twice"


def test_a_constant_judge_is_at_chance(checked: tuple[Path, dict[str, Any]]) -> None:
    found = check_of(checked[0], Said("constant", lambda case: 7.0), samples=2)
    for of in (*found.dimensions.values(), found.swapped):
        assert of.accuracy == 0.5 and of.tied == of.pairs > 0 and of.correlation in (0.0, None)
    assert found.equal == 1.0 and found.spread == 0.0 and "| quality | 50.0 % |" in found.text()


def test_biases_and_moods_are_found_out(checked: tuple[Path, dict[str, Any]]) -> None:
    folder = checked[0]
    wordy = check_of(folder, Said("wordy", lambda case: 2.0 + min(8.0, len(case.item.instruction) / 40)))
    assert wordy.longer is not None and wordy.longer.low is not None and wordy.longer.low > 2.0
    blind = check_of(folder, Said("order-blind", lambda case: 5.0 if "undone" in case.editor else 8.0))
    assert blind.swapped.accuracy == 0.5, "swapped pictures score as the right edit"
    rng = np.random.default_rng(0)
    moody = check_of(folder, Said("moody", lambda case: float(rng.integers(1, 11))), samples=3)
    assert moody.equal is not None and moody.equal < 0.25 and moody.spread is not None and moody.spread > 2.0
    accuracy = moody.dimensions["quality"].accuracy
    assert accuracy is not None and 0.2 < accuracy < 0.8
    backwards = check_of(folder, Said("backwards", lambda case: 1.0 if case.editor == "right" else 5.0))
    assert backwards.dimensions["instruction"].accuracy is not None
    assert backwards.dimensions["instruction"].accuracy < 0.2 and backwards.dimensions["quality"].accuracy < 0.3
    shy = check_of(folder, Said("shy", lambda case: None if "damaged" in case.editor else 5.0))
    assert shy.lost == {"refused": 3 * SOURCES} and shy.dimensions["preservation"].pairs < 6 * SOURCES


def known_pair(modality: str) -> Pair:
    drawn = sample("test", 2, modality, "color", (64, 64))
    return Pair(drawn.source_FHWC, drawn.target_FHWC, ~drawn.outside_FHW, seed=1)


@pytest.mark.parametrize("modality", ["image", "video"])
def test_each_plant_is_wrong_where_it_should_be(modality: str) -> None:
    pair = known_pair(modality)
    made = dict(planted_edits(pair, has_reference=False))
    edit = pair.mask_FHW
    assert edit is not None and (made["right"] == pair.target_FHWC).all() and (made["undone"] == pair.source_FHWC).all()
    error = {name: np.abs(frames.astype(int) - pair.target_FHWC).mean(axis=-1) for name, frames in made.items()}
    assert error["wrong colour"][~edit].max() == 0 and error["wrong colour"][edit].mean() > 10
    for degree in (1, 2, 3):
        assert error[f"damaged {degree}"][edit].max() == 0
    for name in ("damaged", "blurred", *(["flickering"] if modality == "video" else [])):
        means = [error[f"{name} {degree}"].mean() for degree in (1, 2, 3)]
        assert 0 < means[0] < means[1] < means[2], name
    assert ("flickering 1" in made) == (modality == "video")
    unmasked = dict(planted_edits(Pair(pair.source_FHWC, pair.target_FHWC, None, 1), has_reference=False))
    assert not {"wrong colour", "wrong object", "damaged 1"} & set(unmasked) and "half done" in unmasked


def test_real_edits_get_the_same_plants(tmp_path: Path) -> None:
    clip, image = known_pair("video"), known_pair("image")
    assert clip.mask_FHW is not None
    write_video(tmp_path / "a.mp4", clip.source_FHWC, 8)
    write_video(tmp_path / "b.mp4", clip.target_FHWC, 8)
    write_video(tmp_path / "m.mp4", np.repeat(clip.mask_FHW[..., None], 3, -1).astype(np.uint8) * 255, 8)
    write_image(tmp_path / "a.png", image.source_FHWC[0])
    write_image(tmp_path / "b.png", image.target_FHWC[0])
    items = [
        EditRecord("film", "x", "video", "Do", Locator("a.mp4"), Locator("b.mp4"), mask=Locator("m.mp4")),
        EditRecord("photo", "x", "image", "Do", Locator("a.png"), Locator("b.png")),
    ]
    run = RunFolder(tmp_path / "planted")
    of_plant = plant_edits(run, {"name": "judge-check"}, real_edits(run.path, items, tmp_path))
    assert [item.id for item in of_plant["right"]] == [
        "film", "film+longer", "film+swapped", "photo", "photo+longer", "photo+swapped"
    ]  # fmt: skip
    assert [item.id for item in of_plant["wrong colour"]] == ["film"] and len(of_plant["blurred 2"]) == 2
    said = [
        score.status
        for score in judge_outputs(
            run, Said("any", lambda case: float(case.output.is_file())), ["right"], of_plant["right"]
        )
    ]
    assert said == ["ok"] * 6
    small = EditRecord("bad", "x", "image", "Do", Locator("a.png"), Locator("b.mp4"))
    with pytest.raises(InputError, match="differ in size"):
        list(real_edits(run.path, [small], tmp_path))
    with pytest.raises(InputError, match="has no target"):
        list(real_edits(run.path, [EditRecord("bad", "x", "image", "Do", Locator("a.png"))], tmp_path))


def test_dry_run_and_another_number_of_sources(
    checked: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "judge-check", str(checked[0]), "--sources", str(SOURCES), "--dry-run"]) == 0
    assert "cases, each judged 1 times; nothing was sent" in capsys.readouterr().out
    assert main(["eval", "judge-check", str(checked[0]), "--sources", "2"]) == 2
    said = capsys.readouterr().err
    assert "judge-check: holds items of judge-check, made otherwise; delete that folder to begin anew" in said
    assert "choose another folder" not in said, "it is always that folder"


def test_a_dimension_without_pairs_was_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two drawn sources have no reference, so nothing is known of similarity."""
    assert main(["eval", "judge-check", str(tmp_path), "--sources", "2"]) == 0
    said = capsys.readouterr().out
    assert "| similarity | - | - | - | 0 | 0 |" in said
    assert "Similarity was not checked, as there are no pairs" in said and "give --sources 4 or more" in said
    assert "uality was not checked" not in said


def test_a_judge_behind_an_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command, of drawn edits; the next run asks nothing again, a judge without a name is nobody."""
    pytest.importorskip("openai")
    command = ["eval", "judge-check", str(tmp_path), "--sources", "1", "--frames", "1"]
    assert main([*command, "--dry-run"]) == 0 and "nothing was sent" in capsys.readouterr().out
    with serve(scores()) as server:
        judge = ["--judge", server.url, "--judge-model", "j"]
        assert main([*command, "--judge", server.url]) == 2 and "--judge-model" in capsys.readouterr().err
        assert main([*command, *judge]) == 0 and main([*command, *judge]) == 0
        cases = int(capsys.readouterr().out.split(" cases in ")[0].split()[-1])
        assert len(server.seen) == cases
    result = json.loads((tmp_path / "judge-check-j.json").read_text())
    assert result["dimensions"]["instruction"]["accuracy"] == 0.5 and result["lost"] == {}
