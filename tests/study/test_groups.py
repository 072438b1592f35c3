"""Groups of test samples: how many of the usual ones each has, and those that are looked for beyond them."""

from __future__ import annotations

from pathlib import Path

import pytest

from instructx_core.data.cache import select_samples
from instructx_core.data.sources import open_data
from instructx_core.errors import InputError
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.findings import planned
from instructx_core.study.groups import FIRST, MODALITY, samples_of_group
from instructx_core.study.measures import GROUPS, about
from instructx_core.study.records import samples_of
from instructx_core.study.scales import SCALES
from instructx_core.study.schedule import Scale, all_runs


def counted(scale: Scale) -> dict[str, int]:
    source = open_data(scale.edit["data"])
    kinds = {("image", False): scale.images, ("video", False): scale.clips}
    records = [
        about(source.edit("test", number, each.bucket), each.bucket, number)
        for each in select_samples(source, "test", kinds)
        for number in range(each.start, each.start + each.count)
    ]
    return {name: sum(map(chosen, records)) for name, chosen in GROUPS.items()}


@pytest.mark.parametrize("name", ["shapes", pytest.param("tiny", marks=pytest.mark.slow)])
def test_how_many_of_the_usual_samples_a_group_has(name: str) -> None:
    scale = SCALES[name]
    found = counted(scale)
    assert {group: found[group] for group in scale.groups} == scale.groups
    assert found["image"] == scale.images


@pytest.mark.parametrize(("data", "group"), [("shapes", "zero-shot clips"), ("world", "appears in the middle")])
def test_samples_that_are_looked_for(data: str, group: str, tmp_path: Path) -> None:
    """All of the group, none of them a usual one, the same when they are read again."""
    source = open_data(data)
    chosen = samples_of_group(source, group, 2, tmp_path)
    selections = select_samples(chosen, "test", {(MODALITY[group], False): 2})
    assert sum(each.count for each in selections) == 2
    for each in selections:
        for number in range(each.count):
            assert GROUPS[group](about(chosen.edit("test", number, each.bucket), each.bucket, number))
    assert all(number >= FIRST for some in chosen.numbers.values() for number in some)
    assert samples_of_group(source, group, 2, tmp_path) == chosen


def test_what_a_world_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instructx_core.study.groups.SEARCHED", 3)
    with pytest.raises(InputError, match=r"shapes has no 1 test samples of .*'appears in the middle'"):
        samples_of_group(open_data("shapes"), "appears in the middle", 1, tmp_path)


def test_more_are_measured_of_the_runs_that_need_them() -> None:
    """Whichever experiments are asked for, so that a run that two of them have has one set of records."""
    scale = SCALES["tiny"]
    late = {run.name for run in all_runs(scale, [EXPERIMENTS["fig9b"]]) if run.measured}
    for name in EXPERIMENTS:
        for run in all_runs(scale, [EXPERIMENTS[name]]):
            assert ("appears in the middle" in samples_of(run)) == (run.name in late)
    blind = [reach for each, reach in planned(SCALES["shapes"], EXPERIMENTS["fig9b"]) if each.expects != "open"]
    assert blind == [float("inf")]


def test_every_comparison_of_the_paper_can_be_told_as_planned() -> None:
    """At the scale of the shipped model: samples and seeds are as many as the calculation asks for."""
    for experiment in EXPERIMENTS.values():
        for each, reach in planned(SCALES["tiny"], experiment):
            assert reach <= each.smallest, f"{experiment.name}: finds {reach:.3f}, {each.smallest} matters"
