"""Scores of items -> the cells of a table: by editor and group, each dimension with its interval, and what is missing.

Place: scores.jsonl -> cells -> report. Samples of one item are averaged first. An item without an output, with a reply
that could not be read, refused by the judge or never judged has no score: it is counted in the cell, not guessed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import InputError
from ..scores import STATUSES, Score
from .intervals import Estimate, mean_interval, mean_of_groups
from .rules import OVERALL, Averaging

ItemScores = Mapping[str, Mapping[str, float]]  # item -> dimension -> score


@dataclass(frozen=True, slots=True)
class Judgements:
    """Of one editor by one judge: scores of the items that have them, and the status of those that have not."""

    editor: str
    judge: str
    items: dict[str, dict[str, float]]
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """One editor in one group. values: by dimension, and `overall`; empty where no item has a score.

    lost: number of items by what they lack ("missing", "unparsed", "refused", "not judged").
    floor: the overall mean if each missing output had the lowest score; None where none is missing.
    absent: of a mean over groups, those without a single score: there is no such mean then.
    """

    editor: str
    judge: str
    group: str
    values: dict[str, Estimate]
    count: int
    lost: dict[str, int]
    floor: float | None = None
    absent: tuple[str, ...] = ()


def gather(scores: Iterable[Score], rule: Averaging) -> list[Judgements]:
    """By editor and judge, in the order of their first line: dimensions of each item, its overall score among them.

    Raises InputError where a score breaks the rule of the benchmark.
    """
    lines: dict[tuple[str, str], dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        lines[score.editor, score.judge][score.id].append(score)
    found = []
    for (editor, judge), of_items in lines.items():
        items, failed = {}, {}
        for item, samples in of_items.items():
            good = [_with_overall(sample, rule) for sample in samples if sample.status == "ok"]
            if good:
                names = [name for name in good[0] if all(name in each for each in good)]
                items[item] = {name: sum(each[name] for each in good) / len(good) for name in names}
            else:
                failed[item] = samples[0].status
        found.append(Judgements(editor, judge, items, failed))
    return found


def _with_overall(score: Score, rule: Averaging) -> dict[str, float]:
    try:
        return {**score.dimensions, OVERALL: rule.of_item(score.dimensions)}
    except InputError as error:
        raise InputError(f"score of item {score.id} of {score.editor} by {score.judge}: {error}") from None


def cells(judged: Judgements, groups: Mapping[str, str], rule: Averaging, method: str = "percentile") -> list[Cell]:
    """A cell a group, in the order of the groups' first items. groups: group of every item of the benchmark."""
    by_group: dict[str, list[str]] = defaultdict(list)
    for item, group in groups.items():
        by_group[group].append(item)
    return [_cell(judged, group, items, rule, method) for group, items in by_group.items()]


def _cell(judged: Judgements, group: str, items: Sequence[str], rule: Averaging, method: str) -> Cell:
    scored = [judged.items[item] for item in items if item in judged.items]
    lost = Counter(judged.failed.get(item, "not judged") for item in items if item not in judged.items)
    names = dict.fromkeys(name for each in scored for name in each)
    values = {name: mean_interval([each[name] for each in scored if name in each], method) for name in names}
    floor = None
    if lost["missing"] and scored:
        total = sum(each[OVERALL] for each in scored) + lost["missing"] * rule.scale[0]
        floor = total / (len(scored) + lost["missing"])
    named = {name: lost[name] for name in (*STATUSES, "not judged") if lost[name]}
    return Cell(judged.editor, judged.judge, group, values, len(scored), named, floor)


def overall(judged: Judgements, groups: Mapping[str, str], rule: Averaging, method: str = "percentile") -> Cell:
    """The mean over groups, each weighing the same, or over items, of every dimension that all of them have."""
    counted = {item: group for item, group in groups.items() if group not in rule.left_out}
    have = any
    if rule.over == "items":
        counted, have = dict.fromkeys(counted, OVERALL), all
    parts: dict[str, list[dict[str, float]]] = defaultdict(list)
    for item, group in counted.items():
        if item in judged.items:
            parts[group].append(judged.items[item])
    lost = Counter(judged.failed.get(item, "not judged") for item in counted if item not in judged.items)
    absent = tuple(dict.fromkeys(group for group in counted.values() if group not in parts))
    count, losses = sum(len(part) for part in parts.values()), {name: n for name, n in lost.items() if n}
    if absent:
        return Cell(judged.editor, judged.judge, OVERALL, {}, count, losses, absent=absent)
    names = dict.fromkeys(name for part in parts.values() for each in part for name in each)
    shared = [name for name in names if all(have(name in each for each in part) for part in parts.values())]
    values = {
        name: mean_of_groups([[each[name] for each in part if name in each] for part in parts.values()], method)
        for name in shared
    }
    return Cell(judged.editor, judged.judge, OVERALL, values, count, losses)
