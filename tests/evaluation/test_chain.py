"""items -> editor -> outputs -> judge -> scores on the drawn world: resumed link by link, failures counted."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation.benchmarks.box import draw_box, truth_of
from instructx_core.evaluation.benchmarks.truth import TruthJudge
from instructx_core.evaluation.editors.run import EditTask, edit_items
from instructx_core.evaluation.item_outputs import collect_outputs
from instructx_core.evaluation.items import media_path
from instructx_core.evaluation.judge.run import judge_outputs
from instructx_core.evaluation.lines import LineFile
from instructx_core.evaluation.metrics.measure import METRICS, Weights, cases_to_measure, measure_outputs
from instructx_core.evaluation.outputs import OUTPUTS
from instructx_core.evaluation.run_folder import RunFolder, output_name
from instructx_core.evaluation.scores import SCORES, read_scores
from instructx_core.evaluation.table import score_table
from instructx_core.media.files import read_media, write_video

COUNTS = {"add": 2, "tone": 1, "reference_swap": 1}


class Copies:
    """An editor that gives back the truth, or the source; `refuses` items by their task."""

    def __init__(self, name: str, truth: bool, refuses: tuple[str, ...] = ()) -> None:
        self.name, self.truth, self.refuses, self.asked = name, truth, refuses, list[str]()

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"truth": self.truth}

    def edit(self, task: EditTask) -> None:
        self.asked.append(task.item.id)
        if task.item.task in self.refuses:
            raise InputError("not this one")
        assert task.item.target is not None
        source = task.source.parent.parent / task.item.target.path if self.truth else task.source
        shutil.copyfile(source, task.output)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("box") / "run")
    folder.prepare({"name": "box"})
    folder.write(draw_box(folder.path, COUNTS))
    return folder.path


@pytest.fixture
def run(drawn: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(drawn, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_the_chain(run: RunFolder) -> None:
    items = run.items()
    assert [item.task for item in items] == ["add", "add", "tone", "reference_swap"]
    for name, truth in (("right", True), ("idle", False)):
        edit_items(run, Copies(name, truth), items)
    assert run.editors() == ["idle", "right"]
    scores = judge_outputs(run, TruthJudge(), run.editors(), items)
    by_editor = {name: [s.dimensions["instruction"] for s in scores if s.editor == name] for name in run.editors()}
    assert min(by_editor["right"]) > 8 and max(by_editor["idle"]) < 2, "H.264 costs little, nothing done is nothing"
    assert sorted(map(str, read_scores(run.path / SCORES))) == sorted(map(str, scores))
    table = score_table(items, scores)
    assert (
        "right, judged by truth" in table
        and "Ref Base Swap" in table
        and "all items" in table
        and "without a score" not in table
    )


def test_masks_are_the_truths(run: RunFolder) -> None:
    for item in run.items():
        mask = media_path(item, "mask", run.path)
        assert mask is not None
        mask_FHW = read_media(mask).frames_FHWC[..., 0]
        assert (mask_FHW == np.where(truth_of(item).outside_FHW, 0, 255)).all(), item.id


def test_each_link_goes_on_where_it_was(run: RunFolder) -> None:
    items, first, again = run.items(), Copies("right", True, ("tone",)), Copies("right", True)
    edit_items(run, first, items[:3])
    outputs = edit_items(run, again, items)
    assert first.asked == ["add-00", "add-01", "tone-00"] and again.asked == ["tone-00", "reference_swap-00"]
    assert all(output.error is None for output in outputs)
    judge_outputs(run, TruthJudge(), ["right"], items)
    before = (run.path / SCORES).read_bytes()
    assert len(judge_outputs(run, TruthJudge(), ["right"], items)) == 4
    assert (run.path / SCORES).read_bytes() == before


def test_what_fails_is_counted_and_shown(run: RunFolder) -> None:
    items = run.items()
    outputs = edit_items(run, Copies("some", True, ("add",)), items)
    assert [output.error for output in outputs] == ["not this one", "not this one", None, None]
    (run.path / "some" / output_name(items[2])).unlink()
    scores = judge_outputs(run, TruthJudge(), ["some"], items)
    assert [(s.status, s.reason) for s in sorted(scores, key=lambda s: s.id)] == [
        ("missing", "not this one"),
        ("missing", "not this one"),
        ("ok", scores[-1].reason),
        ("missing", "its output tone-00.mp4 is not there any more"),
    ]
    assert "without a score: 3 missing" in score_table(items, scores)
    edit_items(run, Copies("some", True), items)
    assert {s.status for s in judge_outputs(run, TruthJudge(), ["some"], items)} == {"ok"}
    assert {s.status for s in read_scores(run.path / SCORES)} == {"ok"}, "the later line of an item counts"


def test_an_output_that_cannot_be_compared_is_no_output(run: RunFolder) -> None:
    items = run.items()
    edit_items(run, Copies("some", True), items)
    write_video(run.path / "some" / "tone-00.mp4", np.zeros((17, 32, 32, 3), np.uint8), 16)
    (run.path / "some" / "add-00.mp4").write_bytes(b"no clip")
    scores = {s.id: s for s in judge_outputs(run, TruthJudge(), ["some"], items)}
    assert scores["add-00"].status == "missing" and "add-00.mp4" in scores["add-00"].reason
    assert scores["tone-00"].status == "missing" and "must be (17, 64, 64, 3)" in scores["tone-00"].reason


def test_other_settings_are_not_mixed(run: RunFolder) -> None:
    items = run.items()
    edit_items(run, Copies("one", True), items[:1])
    with pytest.raises(InputError, match=r"of another truth; give this one another --name"):
        edit_items(run, Copies("one", False), items)
    with pytest.raises(InputError, match="another seed"):
        edit_items(run, Copies("one", True), items, seed=1)
    with pytest.raises(InputError, match="choose another folder"):
        run.prepare({"name": "vie"})


@pytest.mark.parametrize("stage", ["edit", "judge", "metrics"])
def test_a_second_process_in_the_folder_is_refused(run: RunFolder, stage: str) -> None:
    """It would do all work twice, and cut the line that the first one is writing."""
    items = run.items()
    edit_items(run, Copies("right", True), items[:1])
    cases = cases_to_measure(items, run.path, collect_outputs(run.path))
    calls: dict[str, tuple[Path, Callable[[], object]]] = {
        "edit": (run.path / "right" / OUTPUTS, lambda: edit_items(run, Copies("right", True), items)),
        "judge": (run.path / SCORES, lambda: judge_outputs(run, TruthJudge(), ["right"], items[:1])),
        "metrics": (run.path / METRICS, lambda: measure_outputs(cases, run.path, Weights())),
    }
    file, call = calls[stage]
    with LineFile(file).claim():
        before = file.read_bytes() if file.exists() else None
        with pytest.raises(InputError, match="another process is adding to it; run this again when it has ended"):
            call()
        assert (file.read_bytes() if file.exists() else None) == before
    call()
    assert file.stat().st_size and not list(file.parent.glob(".*.lock"))


def test_an_item_that_has_outputs_stays_what_it_is(run: RunFolder) -> None:
    """As after a manifest was mended in its place: what was made for the old words is no edit by the new ones."""
    items = run.items()
    mended = [dataclasses.replace(items[0], instruction="Mended."), *items[1:]]
    run.write(mended)
    run.write(items)  # nothing was made yet
    edit_items(run, Copies("right", True), items[:1])
    run.write([dataclasses.replace(item, meta={**item.meta, "group": "other"}) for item in items])
    run.write(items)
    with pytest.raises(InputError, match="holds outputs of other edits under the ids add-00; choose another folder"):
        run.write(mended)
    assert run.items() == items


@pytest.mark.parametrize("name", ["", "../x", "media", "..", "a/b", ".hidden", "CON"])
def test_names_that_no_folder_has(run: RunFolder, name: str) -> None:
    with pytest.raises(InputError, match="can be no folder"):
        run.editor_folder(name, {})


def test_names_of_outputs(run: RunFolder) -> None:
    item = run.items()[0]
    ids = ("a/b", "a_b", "a:b", "con", ".a", "x" * 300, "图", "图" * 90, "图" * 91)
    names = [output_name(dataclasses.replace(item, id=id)) for id in ids]
    assert names[1] == "a_b.mp4" and len(set(names)) == len(names)
    assert all("/" not in name and ":" not in name and len(name.encode()) < 120 and name[0] != "." for name in names)


def test_items_of_other_worlds_have_no_truth(run: RunFolder) -> None:
    item = dataclasses.replace(run.items()[0], meta={})
    with pytest.raises(InputError, match="not of the drawn world"):
        truth_of(item)


def test_a_folder_that_is_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make the items first"):
        RunFolder(tmp_path).benchmark()
    (tmp_path / "benchmark.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="no JSON object"):
        RunFolder(tmp_path).benchmark()
    assert RunFolder(tmp_path).editors() == []
