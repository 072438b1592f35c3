"""Scores -> a plain table for the terminal: means by group of each editor, and what has no score.

Place: scores -> table. Intervals, differences and pages are the report's; this is what a run prints at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from ..data.record import EditRecord
from .scores import STATUSES, Score

ALL = "all items"  # their mean; a report's "all" weighs the groups alike


def score_table(items: Iterable[EditRecord], scores: Sequence[Score]) -> str:
    """A block an editor and judge: a line a group with the mean of every dimension; "-" where there is none."""
    groups = {item.id: str(item.meta.get("group", item.task)) for item in items}
    names = list(dict.fromkeys(name for score in scores for name in score.dimensions))
    width = max([len(ALL), *map(len, groups.values())])
    blocks = []
    for editor, judge in dict.fromkeys((score.editor, score.judge) for score in scores):
        chosen = [score for score in scores if (score.editor, score.judge) == (editor, judge)]
        lines = [f"{editor}, judged by {judge}", f"{'':<{width}} {'n':>4} " + " ".join(f"{n:>13}" for n in names)]
        for group in dict.fromkeys(groups.values()):
            lines.append(_line(group, [s for s in chosen if groups.get(s.id) == group], names, width))
        lines.append(_line(ALL, chosen, names, width))
        lost = {status: sum(score.status == status for score in chosen) for status in STATUSES if status != "ok"}
        if any(lost.values()):
            lines.append("without a score: " + ", ".join(f"{count} {name}" for name, count in lost.items() if count))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _line(group: str, scores: Sequence[Score], names: Sequence[str], width: int) -> str:
    cells = []
    for name in names:
        values = [score.dimensions[name] for score in scores if name in score.dimensions]
        cells.append(f"{fmean(values):>13.3f}" if values else f"{'-':>13}")
    return f"{group:<{width}} {sum(score.status == 'ok' for score in scores):>4} " + " ".join(cells)
