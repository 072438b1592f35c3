"""The benchmark of version 2: its groups, the table of targets, batches of one size, a resumed run, photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation import photos
from instructx_core.evaluation.batch import edit_samples, group_samples
from instructx_core.evaluation.groups import GROUPS, PLAIN, ROWS, SampleLook, build_groups
from instructx_core.evaluation.photos import PHOTOS, PhotoSet, crop
from instructx_core.evaluation.vae import psnr
from instructx_core.evaluation.world import Figure, WorldResult, WorldSettings, level_met, run_world
from instructx_core.world import TASKS, benchmark_samples, sample, score

SMALL = WorldSettings(images=6, clips=0, steps=1, batch_size=4, groups=("images", "words", "sizes", "photos", "vae"))


def of_the_truth(wrong: frozenset[str] = frozenset()) -> WorldResult:
    """A run whose edits are the truth, but for tasks of which they are the source."""
    settings = WorldSettings(images=12, clips=0, groups=("images", "photos", "grounds"))
    groups = build_groups(settings.groups, settings.look)
    scores = {}
    for part in (part for group in groups.values() for part in group.parts):
        for index in range(settings.count(part)):
            shown = part.samples[index]
            scores[part.name, index] = score(shown, shown.source_FHWC if shown.task in wrong else shown.target_FHWC)
    return WorldResult(scores, groups, settings, "truth")


def reached(result: WorldResult, title: str) -> Figure:
    (row,) = [row for row in ROWS if title in row.title]
    found = result.figure(row)
    assert found is not None
    return found


def test_the_table_of_targets() -> None:
    right, wrong = of_the_truth(), of_the_truth(frozenset({"add"}))
    assert [level_met(row, right.figure(row)) for row in ROWS].count("aim") == 4, "those that need these groups alone"
    assert reached(right, "images, mean").value == 100.0 and "not run" in right.targets()
    assert reached(wrong, "images, mean").value == pytest.approx(100.0 * 11 / 12)
    lowest = reached(wrong, "no kind")
    assert (lowest.value, lowest.detail, lowest.count) == (0.0, "add", 1) and "0.0 (add)" in wrong.targets()
    ground = reached(wrong, "as grounds")
    assert ground.value == 0.0 and "4 photos" in ground.detail, "the first four samples add, each to another photo"
    row = next(row for row in ROWS if row.floor == 90)
    assert [level_met(row, Figure(value, 0, 100, 1)) for value in (95.0, 94.9, 89.9)] == ["aim", "floor", "no"]
    assert json.loads(json.dumps(wrong.as_dict()))["targets"][0]["met"] == "floor"


def test_every_row_has_its_groups() -> None:
    groups = build_groups(GROUPS, SampleLook())
    parts = [part for group in groups.values() for part in group.parts]
    assert len({part.name for part in parts}) == len(parts) and set(groups) == set(GROUPS) - {"vae"}
    assert {part.name: len(part.samples) for part in parts if part.name in ("images", "clips")} == {
        "images": 600,
        "clips": 400,
    }
    words = build_groups(["words"], SampleLook())["words"].parts
    shown = benchmark_samples("image", 4, manner=PLAIN)
    for number in range(4):
        said = [part.samples[number] for part in words]
        assert len({each.instruction for each in (*said, shown[number])}) >= 4, "one edit, said otherwise"
        assert all(np.array_equal(each.target_FHWC, shown[number].target_FHWC) for each in said)
        assert said[0].held_out_words and said[1].instruction.isupper()


@pytest.mark.parametrize(
    ("groups", "look", "words"),
    [
        (("imagse",), SampleLook(), "unknown"),
        ((), SampleLook(), "unknown"),
        (("images", "words"), SampleLook(finish="flat"), "of words are fixed"),
        (("photos",), SampleLook(size=(96, 96)), "fixed"),
        (("images",), SampleLook(manner="loud"), "manner"),
    ],
)
def test_groups_that_cannot_be(groups: tuple[str, ...], look: SampleLook, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_groups(groups, look)


@pytest.mark.parametrize("change", [{"images": 601}, {"clips": -1}, {"images": 0, "clips": 0}, {"steps": 0}])
def test_bad_settings(change: dict[str, int]) -> None:
    with pytest.raises(InputError):
        WorldSettings(**change)


def test_batches_are_of_one_size(random_pipe: Any) -> None:
    shown = [
        sample("test", index, "image", task, size)
        for index, (task, size) in enumerate(
            [("color", (64, 64)), ("color", (64, 80)), ("reference_add", (64, 64)), ("add", (64, 64))]
        )
    ]
    assert list(group_samples(shown, 4)) == [[0, 3], [1], [2]]
    with pytest.raises(InputError, match="size"):
        edit_samples(random_pipe, shown[:2], steps=1)


def test_a_run_and_its_resumption(random_pipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.partial.jsonl"
    few = WorldSettings(images=6, clips=0, steps=1, batch_size=4, groups=("images",))
    run_world(random_pipe, few, path)
    assert len(path.read_text().splitlines()) == 7
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4][:40]]))  # a crash in the middle of the fourth sample
    result = run_world(random_pipe, SMALL, path, resume=True)
    parts = {name: summary.overall.count for name, summary in result.summaries().items()}
    assert parts == {
        "images": 6,
        "held-out wordings": 1,
        "upper case": 1,
        "two typos": 1,
        "fillers": 1,
        "96x96": 1,
        "128x128": 1,
        "photos": 2,
    }
    whole = run_world(random_pipe, few)
    for key, value in whole.scores.items():
        assert result.scores[key].success == value.success and result.scores[key].task == value.task
        assert result.scores[key].pixel_error == pytest.approx(value.pixel_error, abs=1e-3)
    assert len(result.psnr) == 1 and 0.0 < reached(result, "VAE").value < 20.0, "random weights"
    with pytest.raises(InputError, match="other settings"):
        other = WorldSettings(images=6, clips=0, steps=1, groups=("images",), look=SampleLook(finish="flat"))
        run_world(random_pipe, other, path, resume=True)


def test_intervals_are_over_photos() -> None:
    """One photo of ten that always fails is one piece of evidence, however many crops it has."""
    rows = {}
    for crops in (2, 20):
        numbers = [("photos", number) for number in range(crops * len(PHOTOS))]
        shown = sample("test", 0, "image", "tone", picture=crop(PHOTOS[0], 0, 64))
        good, bad = score(shown, shown.target_FHWC), score(shown, shown.source_FHWC)
        scores = {key: bad if key[1] % len(PHOTOS) == 3 else good for key in numbers}
        result = WorldResult(scores, build_groups(["photos"], SampleLook()), SMALL, "model")
        rows[crops] = reached(result, "tone and style")
    assert rows[2].value == rows[20].value == 90.0
    assert (rows[2].low, rows[2].high) == (rows[20].low, rows[20].high) == (70.0, 100.0)


def test_crops_of_photos() -> None:
    made = [crop(name, number) for name in PHOTOS for number in range(3)]
    assert len({picture.tobytes() for picture in made}) == len(made)
    assert all(picture.shape == (128, 128, 3) and picture.dtype == np.uint8 for picture in made)
    assert np.array_equal(made[1], crop(PHOTOS[0], 1))
    shown = PhotoSet(("tone", "style"), 40)
    assert {(number % 10, shown[number].task) for number in range(20)} == {
        (number, task) for number in range(10) for task in ("tone", "style")
    }
    assert set(PhotoSet(("noop",), 1)[0].task.split()) <= set(TASKS)


def test_no_photos_no_benchmark_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos.importlib.util, "find_spec", lambda name: None)
    photos._photo.cache_clear()
    with pytest.raises(InputError, match="pip install"):
        crop(PHOTOS[0], 0)


def test_signal_to_noise() -> None:
    flat = np.zeros((1, 8, 8, 3), np.uint8)
    assert psnr(flat, flat) == float("inf") and psnr(flat, flat + 51) == pytest.approx(13.979, abs=1e-3)
