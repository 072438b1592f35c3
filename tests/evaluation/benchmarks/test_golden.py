"""The authors' own aggregation, written out here after their scripts, on the same replies: ours gives their numbers.

Their scripts: ImgEdit step1_get_avgscore, step2_typescore; GEdit viescore, calculate_statistics; OpenVE *_benchmark;
Kiwi-Edit eval_refvie_gemini. Where theirs round in between, ours agree within what that can shift.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

import numpy as np
import pytest

from instructx_core.evaluation.benchmarks.gedit import GROUPS
from instructx_core.evaluation.benchmarks.imgedit import COUNTS
from instructx_core.evaluation.judge.replies import Unreadable, line_scores, list_scores
from instructx_core.evaluation.scores import Score
from instructx_core.evaluation.statistics.cells import Cell, cells, gather, overall
from instructx_core.evaluation.statistics.rules import OVERALL, rule_named

RNG = np.random.default_rng(7)
NAMES = ("Prompt Compliance", "Visual Naturalness", "Physical & Detail Integrity")


def lines(values: object) -> str:
    numbers = "\n".join(f"{name}: {value}" for name, value in zip(NAMES, values, strict=True))  # type: ignore[call-overload]
    return f"Brief reasoning: it is as asked.\n{numbers}"


def ours(name: str, scores: Mapping[str, Mapping[str, float]], groups: Mapping[str, str]) -> tuple[list[Cell], Cell]:
    rule = rule_named(name)
    (judged,) = gather([Score(item, "e", "j", values) for item, values in scores.items()], rule)
    return cells(judged, groups, rule), overall(judged, groups, rule)


def mean(cell: Cell, name: str = OVERALL) -> float:
    return cell.values[name].mean


def test_imgedit() -> None:
    groups = {f"{kind}{n}": kind for kind in COUNTS for n in range(9)}
    replies = {item: lines(RNG.integers(1, 6, 3)) for item in groups}
    average: dict[str, float] = {}  # step 1: lines "x: digits", rounded to two places
    for item, reply in replies.items():
        parts = [line.strip().split(": ") for line in reply.splitlines()]
        found = [int(part[1]) for part in parts if len(part) == 2 and part[1].isdigit()]
        average[item] = round(sum(found) / len(found), 2)
    kinds = defaultdict(list)
    for item, value in average.items():
        kinds[groups[item]].append(value)
    theirs = {kind: round(sum(values) / len(values), 2) for kind, values in kinds.items()}
    found_cells, whole = ours("imgedit", {i: line_scores(r, NAMES, 1, 5)[0] for i, r in replies.items()}, groups)
    for cell in found_cells:
        assert mean(cell) == pytest.approx(theirs[cell.group], abs=0.011)
    counted = [theirs[kind] for kind in theirs if kind != "extract"]
    assert mean(whole) == pytest.approx(fmean(counted), abs=0.011), "the paper's mean of eight"


def test_imgedits_parser_loses_what_ours_reads() -> None:
    reply = lines(("5", "4/5", "3.0"))
    parts = [line.strip().split(": ") for line in reply.splitlines()]
    theirs = [int(part[1]) for part in parts if len(part) == 2 and part[1].isdigit()]
    assert theirs == [5] and list(line_scores(reply, NAMES, 1, 5)[0].values()) == [5.0, 4.0, 3.0]


def test_gedit() -> None:
    groups = {f"{group}{n}": group for group in GROUPS for n in range(7)}
    replies = {item: [json.dumps({"score": RNG.integers(0, 11, 2).tolist()}) for _ in range(2)] for item in groups}
    rows = {item: [min(json.loads(reply)["score"]) for reply in both] for item, both in replies.items()}
    by_group = defaultdict(list)
    for item, (semantics, quality) in rows.items():
        by_group[groups[item]].append((semantics, quality, math.sqrt(semantics * quality)))
    theirs = {group: np.mean(values, axis=0) for group, values in by_group.items()}
    average = np.mean(list(theirs.values()), axis=0)
    scores = {}
    for item, (first, second) in replies.items():
        semantics, _ = list_scores(first, ("editing", "overediting"), 0, 10)
        quality, _ = list_scores(second, ("naturalness", "artifacts"), 0, 10)
        scores[item] = {"semantics": min(semantics.values()), "quality": min(quality.values())}
    found_cells, whole = ours("gedit", scores, groups)
    for cell in [*found_cells, whole]:
        expected = average if cell is whole else theirs[cell.group]
        assert [mean(cell, n) for n in ("semantics", "quality", OVERALL)] == pytest.approx(list(expected))


def test_openve() -> None:
    groups = {f"{kind}{n}": kind for kind, count in (("local_add", 9), ("global_style", 4)) for n in range(count)}
    replies = {item: lines(RNG.integers(1, 6, 3)) for item in groups}
    average = {}
    for item, reply in replies.items():
        found = [float(number) for number in re.findall(r":\s*(\d+\.?\d*)", reply)]
        average[item] = round(sum(found) / len(found), 2)
    found_cells, whole = ours("openve", {i: line_scores(r, NAMES, 1, 5)[0] for i, r in replies.items()}, groups)
    for cell in found_cells:
        values = [average[item] for item in groups if groups[item] == cell.group]
        assert mean(cell) == pytest.approx(round(sum(values) / len(values), 2), abs=0.011)
    assert mean(whole) == pytest.approx(round(fmean(average.values()), 2), abs=0.011), "over items, not over types"


def test_openves_parser_counts_the_reasoning() -> None:
    reply = lines((5, 5, 5)).replace("as asked", "done at 0: 2 frames flicker")
    theirs = [float(number) for number in re.findall(r":\s*(\d+\.?\d*)", reply)]
    assert theirs == [2.0, 5.0, 5.0, 5.0] and set(line_scores(reply, NAMES, 1, 5)[0].values()) == {5.0}


def test_refvie() -> None:
    groups = {f"{kind}{n}": kind for kind, count in (("subject", 5), ("background", 3)) for n in range(count)}
    values = {item: RNG.integers(1, 6, 3).tolist() for item in groups}
    theirs = {
        kind: fmean(value for item in groups if groups[item] == kind for value in values[item])
        for kind in ("subject", "background")
    }
    whole_of_theirs = fmean(value for each in values.values() for value in each)
    scores = {item: dict(zip(NAMES, map(float, each), strict=True)) for item, each in values.items()}
    found_cells, whole = ours("refvie", scores, groups)
    assert {cell.group: mean(cell) for cell in found_cells} == pytest.approx(theirs)
    assert mean(whole) == pytest.approx(whole_of_theirs)


def test_viescore_guesses_what_ours_counts() -> None:
    """It draws randint(0, 10) for a reply without JSON; ours has no score of it."""
    with pytest.raises(Unreadable):
        list_scores("The edit is quite good.", ("editing", "overediting"), 0, 10)
